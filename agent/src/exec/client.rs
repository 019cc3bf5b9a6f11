//! The agent's side of a launcher.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use darwin_shared::cpu::CpuSet;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use thiserror::Error;
use tokio::io::unix::AsyncFd;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout, timeout_at};

use super::cgroup::{CgroupError, CgroupRoots, SlotCgroups};
use super::launcher::LAUNCHER_ARG;
use super::output::OutputFile;
use super::packet::{Inbox, PacketError, Received, send};
use super::protocol::{Ended, Failure, Launch, Reply, Request, Started};
use super::sys;
use crate::measure::CountSource;

/// The longest that a launcher may take to be there: it is one exec away.
const START_BOUND: Duration = Duration::from_secs(10);
/// How much longer than deadline and grace a launcher may take to answer: its own bound on killing, and as much again.
const ANSWER_SLACK: Duration = Duration::from_secs(20);
/// The longest that a launcher is waited for once its socket is closed and nothing runs.
const STOP_BOUND: Duration = Duration::from_secs(15);
/// A deadline that a clock cannot hold counts as this one.
const FAR_OFF: Duration = Duration::from_hours(365 * 24);

/// How a slot's launcher is set up.
#[derive(Debug, Clone)]
pub struct LauncherConfig {
    /// The binary that becomes the launcher; it must call `launcher_main_if_asked` first thing.
    pub program: PathBuf,
    /// The agent's name, for its cgroups.
    pub agent: String,
    /// The slot's name, for its cgroups.
    pub slot: String,
    /// The name of the lease that its cgroups are gathered under, if they may become a partition together.
    pub lease: Option<String>,
    /// Where the launcher itself runs; none leaves it where the agent is.
    pub housekeeping: Option<CpuSet>,
    /// The cgroups to use.
    pub cgroups: CgroupRoots,
    /// What counters count.
    pub count: CountSource,
    /// Files that the launcher keeps open as long as it lives, two at most: their locks then end only when nothing that
    /// it ran is left, even if the agent dies.
    pub keeps: Vec<Arc<OwnedFd>>,
}

impl LauncherConfig {
    /// The running binary itself as launcher, even if its file was replaced by an upgrade meanwhile.
    pub fn new(agent: impl Into<String>, slot: impl Into<String>) -> Self {
        Self {
            program: PathBuf::from("/proc/self/exe"),
            agent: agent.into(),
            slot: slot.into(),
            lease: None,
            housekeeping: None,
            cgroups: CgroupRoots::none(),
            count: CountSource::default(),
            keeps: Vec::new(),
        }
    }
}

/// Why a launch gave no result.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// The bench could not be started; the failure says whether its command is at fault.
    #[error("{0}")]
    NotStarted(Failure),
    /// It was not where it should be, and never became the bench.
    #[error("{0}")]
    Misplaced(String),
    /// The command and its environment do not fit a message.
    #[error("the command with its environment takes {bytes} bytes; the most is {max_bytes}")]
    TooLarge {
        /// What it takes.
        bytes: usize,
        /// The bound.
        max_bytes: usize,
    },
    /// The launcher is gone; its slot was cleaned and can be started again.
    #[error("the launcher of slot {slot} is gone ({how}); what it ran was killed, start it again")]
    Gone {
        /// The slot.
        slot: String,
        /// How it went.
        how: String,
    },
    /// The launcher does not answer.
    #[error("the launcher of slot {slot} did not answer within {bound:?}; it was killed with what it ran")]
    Hung {
        /// The slot.
        slot: String,
        /// How long it was waited for.
        bound: Duration,
    },
    /// The slot's cgroups could not be made or cleaned.
    #[error("the slot's cgroups: {0}")]
    Cgroup(#[from] CgroupError),
    /// The launcher could not be started or talked to.
    #[error("the launcher could not be reached: {0}")]
    Io(#[from] io::Error),
}

/// A launcher: runs one process tree at a time. The two processes of a sliced pair have one each.
#[derive(Debug)]
pub struct Launcher {
    slot: String,
    cgroups: SlotCgroups,
    child: Child,
    socket: Option<AsyncFd<OwnedFd>>,
    inbox: Inbox,
    /// A launch whose end was not waited for.
    abandoned: bool,
}

impl Launcher {
    /// Starts a slot's launcher and waits until it is ready.
    pub async fn start(config: &LauncherConfig) -> Result<Self, LaunchError> {
        let (cgroups, problems) =
            config.cgroups.open_slot(&config.agent, config.lease.as_deref(), &config.slot)?;
        for problem in problems {
            tracing::debug!(slot = config.slot, %problem, "the slot goes without a cgroup");
        }
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).map_err(io::Error::from)?;
        let child = Command::new(&config.program)
            .arg0("darwin-launcher")
            .arg(LAUNCHER_ARG)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        let socket = sys::watch(ours)?;
        let mut launcher = Self {
            slot: config.slot.clone(),
            cgroups,
            child,
            socket: Some(socket),
            inbox: Inbox::new(),
            abandoned: false,
        };
        let setup = Request::Setup {
            housekeeping: config.housekeeping.clone(),
            cgroups: launcher.cgroups.clone(),
            count: config.count,
        };
        let keeps: Vec<RawFd> = config.keeps.iter().map(AsRawFd::as_raw_fd).collect();
        launcher.send(&setup, &keeps).await?;
        match launcher.reply_within(Instant::now() + START_BOUND, START_BOUND).await? {
            Reply::Ready { problem } => {
                if let Some(problem) = problem {
                    tracing::warn!(slot = config.slot, "{problem}");
                }
                Ok(launcher)
            }
            odd @ (Reply::Placed(_) | Reply::Started(_) | Reply::Ended(_) | Reply::Failed(_)) => {
                Err(unexpected(&odd))
            }
        }
    }

    /// The launcher's process.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Starts a bench; returns when its program runs. What it writes goes to the two files.
    ///
    /// Dropping the `Run` kills the bench; so does ending the agent.
    pub async fn run(
        &mut self,
        launch: &Launch,
        stdout: &OutputFile,
        stderr: &OutputFile,
    ) -> Result<Run<'_>, LaunchError> {
        self.run_passing(launch, stdout, stderr, &[]).await
    }

    /// The same, with up to two files that the bench finds open from [`FIRST_PASSED_FD`](super::FIRST_PASSED_FD) on.
    pub async fn run_passing(
        &mut self,
        launch: &Launch,
        stdout: &OutputFile,
        stderr: &OutputFile,
        passed: &[BorrowedFd<'_>],
    ) -> Result<Run<'_>, LaunchError> {
        self.run_judged(launch, stdout, stderr, passed, |_| Ok(())).await
    }

    /// The same; if the launch is to be held, `judge` sees it in its place before it becomes the bench, and says why it
    /// must not.
    pub async fn run_judged(
        &mut self,
        launch: &Launch,
        stdout: &OutputFile,
        stderr: &OutputFile,
        passed: &[BorrowedFd<'_>],
        judge: impl FnOnce(&Started) -> Result<(), String>,
    ) -> Result<Run<'_>, LaunchError> {
        self.settle_abandoned().await?;
        let mut files = vec![stdout.as_fd().as_raw_fd(), stderr.as_fd().as_raw_fd()];
        files.extend(passed.iter().map(AsRawFd::as_raw_fd));
        let limits = &launch.limits;
        let bound = limits.deadline.saturating_add(limits.grace).saturating_add(ANSWER_SLACK).min(FAR_OFF);
        let answer_by = Instant::now() + bound;
        self.send(&Request::Launch(Box::new(launch.clone())), &files).await?;
        // Set before waiting: a caller that gives up in the middle leaves a bench behind.
        self.abandoned = true;
        let mut reply = self.reply_within(answer_by, bound).await?;
        if let Reply::Placed(placed) = &reply {
            if let Err(why) = judge(placed) {
                self.settle_abandoned().await?;
                return Err(LaunchError::Misplaced(why));
            }
            self.send(&Request::Release, &[]).await?;
            reply = self.reply_within(answer_by, bound).await?;
        }
        match reply {
            Reply::Started(started) => Ok(Run { launcher: self, started, answer_by, bound, ended: None }),
            Reply::Failed(failure) => {
                self.abandoned = false;
                Err(LaunchError::NotStarted(failure))
            }
            odd @ (Reply::Ready { .. } | Reply::Placed(_) | Reply::Ended(_)) => Err(unexpected(&odd)),
        }
    }

    /// Ends the launcher and removes its cgroups. A bench that still runs is killed.
    pub async fn stop(mut self) {
        self.socket = None;
        if timeout(STOP_BOUND, self.child.wait()).await.is_err() {
            // It is stuck; what it ran is killed by its cgroup and by its death.
            let _ = self.child.kill().await;
            let _ = self.kill_slot().await;
        }
        self.cgroups.remove();
    }

    /// Kills a launch that nobody waited for, so that the next one starts on a free slot.
    async fn settle_abandoned(&mut self) -> Result<(), LaunchError> {
        if !self.abandoned {
            return Ok(());
        }
        self.send(&Request::Kill { grace: Duration::ZERO }, &[]).await?;
        let answer_by = Instant::now() + ANSWER_SLACK;
        loop {
            match self.reply_within(answer_by, ANSWER_SLACK).await? {
                Reply::Placed(_) | Reply::Started(_) => {}
                Reply::Ended(_) | Reply::Failed(_) => break,
                odd @ Reply::Ready { .. } => return Err(unexpected(&odd)),
            }
        }
        self.abandoned = false;
        Ok(())
    }

    async fn send(&mut self, request: &Request, files: &[RawFd]) -> Result<(), LaunchError> {
        let Some(socket) = &self.socket else {
            return Err(self.gone().await);
        };
        match send(socket.get_ref().as_fd(), request, files) {
            Ok(()) => Ok(()),
            Err(PacketError::TooLarge { bytes }) => {
                Err(LaunchError::TooLarge { bytes, max_bytes: super::protocol::MAX_MESSAGE_BYTES })
            }
            Err(PacketError::Os(Errno::EPIPE | Errno::ECONNRESET)) => Err(self.gone().await),
            Err(error) => Err(io::Error::from(error).into()),
        }
    }

    async fn reply_within(&mut self, until: Instant, bound: Duration) -> Result<Reply, LaunchError> {
        match timeout_at(until, self.reply()).await {
            Ok(Ok(Some(reply))) => Ok(reply),
            Ok(Ok(None)) => Err(self.gone().await),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => {
                tracing::error!(slot = self.slot, "the launcher does not answer and is killed");
                // Killing what is dead already does no harm.
                let _ = self.child.start_kill();
                self.clean_up().await?;
                Err(LaunchError::Hung { slot: self.slot.clone(), bound })
            }
        }
    }

    /// The next reply; none if the launcher is gone. Giving up waiting loses nothing.
    async fn reply(&mut self) -> io::Result<Option<Reply>> {
        let Some(socket) = &self.socket else {
            return Ok(None);
        };
        loop {
            let mut ready = socket.readable().await?;
            match self.inbox.receive(socket.get_ref().as_fd()) {
                Ok(Received::Message(reply, _)) => return Ok(Some(reply)),
                Ok(Received::Closed) => return Ok(None),
                Err(PacketError::Os(Errno::EAGAIN)) => ready.clear_ready(),
                Err(PacketError::Os(Errno::EINTR)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The launcher ended on its own: cleans up, and says how it went.
    async fn gone(&mut self) -> LaunchError {
        match self.clean_up().await {
            Ok(status) => {
                let how = status.map_or_else(|| "it does not end".to_owned(), |status| status.to_string());
                LaunchError::Gone { slot: self.slot.clone(), how }
            }
            Err(error) => error,
        }
    }

    /// Without its launcher, the slot's cgroup is what knows the bench's processes.
    async fn clean_up(&mut self) -> Result<Option<ExitStatus>, LaunchError> {
        self.socket = None;
        let status = timeout(STOP_BOUND, self.child.wait()).await.ok().transpose()?;
        self.kill_slot().await?;
        Ok(status)
    }

    async fn kill_slot(&self) -> Result<(), LaunchError> {
        let cgroups = self.cgroups.clone();
        let killed =
            tokio::task::spawn_blocking(move || cgroups.kill()).await.map_err(io::Error::other)??;
        if killed > 0 {
            tracing::warn!(slot = self.slot, killed, "killed what the launcher left behind");
        }
        Ok(())
    }
}

fn unexpected(reply: &Reply) -> LaunchError {
    LaunchError::Io(io::Error::other(format!("the launcher said {reply:?} where that makes no sense")))
}

/// A bench that runs.
#[derive(Debug)]
pub struct Run<'a> {
    launcher: &'a mut Launcher,
    started: Started,
    answer_by: Instant,
    bound: Duration,
    ended: Option<Ended>,
}

impl Run<'_> {
    /// Its process, when it started, and what took effect.
    pub const fn started(&self) -> &Started {
        &self.started
    }

    /// Waits until it and everything that it started are gone. Giving up waiting loses nothing: wait again.
    pub async fn wait(&mut self) -> Result<Ended, LaunchError> {
        if let Some(ended) = self.ended {
            return Ok(ended);
        }
        match self.launcher.reply_within(self.answer_by, self.bound).await? {
            Reply::Ended(ended) => {
                self.ended = Some(ended);
                self.launcher.abandoned = false;
                Ok(ended)
            }
            odd @ (Reply::Ready { .. } | Reply::Placed(_) | Reply::Started(_) | Reply::Failed(_)) => {
                Err(unexpected(&odd))
            }
        }
    }

    /// Ends it: SIGTERM to its group, and after the grace SIGKILL to the whole tree; a grace of zero kills at once.
    /// `wait` says when it is gone.
    pub async fn kill(&mut self, grace: Duration) -> Result<(), LaunchError> {
        if self.ended.is_some() {
            return Ok(());
        }
        self.launcher.send(&Request::Kill { grace }, &[]).await
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let Some(socket) = self.launcher.socket.as_ref().filter(|_| self.ended.is_none()) else {
            return;
        };
        // At once, not only at the next run, which then takes the answer. If it does not get through, the launcher is
        // gone, and that is noticed then.
        let _ = send(socket.get_ref().as_fd(), &Request::Kill { grace: Duration::ZERO }, &[]);
    }
}
