//! One container from its creation to its removal.
//!
//! Each has a task of its own, so that nobody who stops waiting leaves one behind: whoever drops a [`Run`] ends it.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::errors::Error;
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, CreateContainerOptionsBuilder, EventsOptionsBuilder,
    KillContainerOptionsBuilder, WaitContainerOptionsBuilder,
};
use darwin_shared::ids::AttemptId;
use futures::StreamExt;
use nix::time::{ClockId, clock_gettime};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::images::StagedImage;
use super::usage::Ends;
use super::{ContainerError, create, output, processes};
use crate::exec::{EndStatus, Ended, Launch, Started, Took};
use crate::host::HostFs;
use crate::logs::Written;
use crate::measure::nanoseconds;

/// A process that is gone, or was never seen: no kernel gives this number.
const NOBODY: u32 = u32::MAX;
/// How long a container may take to be gone once it was killed.
const KILL_BOUND: Duration = Duration::from_secs(20);
/// How long what a container wrote may be on its way once it is gone.
const DRAIN_BOUND: Duration = Duration::from_secs(5);
/// How long a container may take to be removed, and how often that is tried.
const REMOVE_BOUND: Duration = Duration::from_secs(30);
const REMOVE_TRIES: u32 = 3;
/// How long the daemon may take to tell what happened to a container.
const EVENTS_BOUND: Duration = Duration::from_secs(10);
/// What, done to a container by somebody else, makes its result worth nothing.
const MEDDLING: [&str; 6] = ["kill", "pause", "unpause", "update", "exec_create", "exec_start"];
/// The code that stands for a signal is this and the signal's number.
const SIGNAL_BASE: i64 = 128;

/// Where a container runs and for whom.
#[derive(Debug)]
pub(crate) struct Place {
    /// The attempt.
    pub(crate) attempt: AttemptId,
    /// The memory node of its CPUs; none leaves it to the daemon.
    pub(crate) node: Option<u32>,
    /// The folder on the box that it finds as [`HOME`](super::HOME); made for it, and must not be there yet.
    pub(crate) folder: PathBuf,
}

/// A container that runs.
#[derive(Debug)]
pub(crate) struct Run {
    started: Started,
    kills: mpsc::Sender<Duration>,
    ending: oneshot::Receiver<Result<Ended, ContainerError>>,
    ended: Option<Ended>,
}

impl Run {
    /// Its first process but its init, when it started, and what took effect.
    pub(crate) const fn started(&self) -> &Started {
        &self.started
    }

    /// Waits until it is gone and removed. Giving up waiting loses nothing: wait again.
    pub(crate) async fn wait(&mut self) -> Result<Ended, ContainerError> {
        if let Some(ended) = self.ended {
            return Ok(ended);
        }
        let ended = (&mut self.ending).await.unwrap_or_else(|_| Err(vanished()))?;
        self.ended = Some(ended);
        Ok(ended)
    }

    /// Ends it: SIGTERM, and after the grace SIGKILL to all of it; a grace of zero kills at once.
    pub(crate) fn kill(&mut self, grace: Duration) {
        // Full, it has been told already; closed, it is gone.
        let _ = self.kills.try_send(grace);
    }
}

fn vanished() -> ContainerError {
    ContainerError::Box("the task that watched a container broke down; the agent's log says why".to_owned())
}

impl StagedImage {
    /// Starts a container of the image; returns when its command runs. What it writes goes to the two files.
    ///
    /// Dropping the `Run`, or giving up waiting for it, ends the container.
    pub(crate) async fn start(
        self: &Arc<Self>,
        launch: Launch,
        place: Place,
        written: &Written,
    ) -> Result<Run, ContainerError> {
        let (kills, told) = mpsc::channel(1);
        let (started_tx, started_rx) = oneshot::channel();
        let (ended_tx, ending) = oneshot::channel();
        let name = format!("darwin-{}-{:016x}", self.daemon.state, rand::random::<u64>());
        let life = Life {
            name,
            image: Arc::clone(self),
            launch,
            place,
            written: written.clone(),
            told,
            first: None,
        };
        self.daemon.tasks.spawn(life.live(started_tx, ended_tx));
        let started = started_rx.await.unwrap_or_else(|_| Err(vanished()))?;
        Ok(Run { started, kills, ending, ended: None })
    }
}

/// A container's life, from before its creation on.
struct Life {
    name: String,
    image: Arc<StagedImage>,
    launch: Launch,
    place: Place,
    written: Written,
    /// The graces of those who want it ended; closed once nobody waits for it.
    told: mpsc::Receiver<Duration>,
    /// Its first process, once it was seen.
    first: Option<u32>,
}

type Told<T> = oneshot::Sender<Result<T, ContainerError>>;

/// How a container ended, before it is asked why.
struct Gone {
    code: i64,
    wall: Duration,
    /// Why we ended it, if we did.
    ours: Option<EndStatus>,
}

impl Life {
    async fn live(mut self, started: Told<Started>, ended: Told<Ended>) {
        let mut started = Some(started);
        let end = self.go_through(&mut started).await;
        self.remove().await;
        // Whoever does not wait any more does not need to know.
        match (end, started) {
            (Err(error), Some(started)) => drop(started.send(Err(error))),
            (end, _) => drop(ended.send(end)),
        }
    }

    async fn go_through(&mut self, started: &mut Option<Told<Started>>) -> Result<Ended, ContainerError> {
        self.prepare_folder()
            .map_err(|error| ContainerError::Box(format!("the container's folder: {error}")))?;
        let image = Arc::clone(&self.image);
        let client = &image.daemon.client;
        let since = since_1970();
        let body = create::container(&image.daemon, &image, &self.launch, &self.place);
        let options = CreateContainerOptionsBuilder::default().name(&self.name).build();
        let created = client.create_container(Some(options), body).await;
        for warning in created.map_err(|error| not_started("create a container", &error))?.warnings {
            tracing::debug!(warning, "the Docker daemon warns");
        }
        let options = AttachContainerOptionsBuilder::default().stream(true).stdout(true).stderr(true).build();
        let attached = client.attach_container(&self.name, Some(options)).await;
        let attached = attached.map_err(|error| ContainerError::daemon("attach to a container", &error))?;
        let full = Arc::new(Notify::new());
        let most = self.launch.limits.output_max_bytes;
        let taking = tokio::spawn(output::take(attached, self.written.clone(), most, Arc::clone(&full)));
        let taking = AbortOnDropHandle::new(taking);

        let ends = self.listen();
        let begin = Instant::now();
        client
            .start_container(&self.name, None)
            .await
            .map_err(|error| not_started("start a container", &error))?;
        let gone = self.watch(begin, &full, started).await?;
        let uid = image.daemon.config.user.uid;
        let used = ends.and_then(|ends| ends.used_by(self.first, uid)).unwrap_or_default();
        if timeout(DRAIN_BOUND, taking).await.is_err() {
            tracing::warn!("the end of what a container wrote did not arrive");
        }
        Ok(Ended {
            status: self.judge(&gone, since).await?,
            wall_ns: nanoseconds(gone.wall),
            usage: used,
            leftovers_killed: 0,
            survivors: 0,
        })
    }

    /// Listens to what its processes use, if it runs on leased CPUs: elsewhere many others end too.
    fn listen(&self) -> Option<Ends> {
        let cpus = self.launch.cpus.as_ref().filter(|_| self.place.node.is_some())?;
        match Ends::listen(cpus) {
            Ok(ends) => Some(ends),
            Err(error) => {
                tracing::debug!(%error, "the kernel does not tell what containers use");
                None
            }
        }
    }

    /// The folder that the container may write to, for its user alone where the agent may give folders away.
    fn prepare_folder(&self) -> io::Result<()> {
        fs::create_dir_all(&self.place.folder)?;
        let user = self.image.daemon.config.user;
        let mode = if nix::unistd::geteuid().is_root() {
            chown(&self.place.folder, Some(user.uid), Some(user.gid))?;
            0o700
        } else {
            0o777
        };
        fs::set_permissions(&self.place.folder, fs::Permissions::from_mode(mode))
    }

    /// Looks where it runs and tells that it does, and waits for its end, or sees to it.
    async fn watch(
        &mut self,
        begin: Instant,
        full: &Notify,
        started: &mut Option<Told<Started>>,
    ) -> Result<Gone, ContainerError> {
        let image = Arc::clone(&self.image);
        let client = &image.daemon.client;
        let name = self.name.clone();
        let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
        let mut waiting = pin!(client.wait_container(&name, Some(options)));
        let mut over = pin!(async { (waiting.next().await, begin.elapsed()) });
        let (cpus, limits) = (self.launch.cpus.clone(), self.launch.limits);
        let mut look = pin!(look(client, &name, cpus));
        let (mut ours, mut kill_at, mut give_up_at) = (None, None, None);
        let (mut listening, mut looking) = (true, true);
        let deadline = begin + limits.deadline.min(FAR_OFF);
        loop {
            let mut end = None;
            tokio::select! {
                biased;
                (code, wall) = &mut over => {
                    if let Some(started) = started.take() {
                        // It was over before it was seen.
                        let _ = started.send(Ok(started_as(NOBODY)));
                    }
                    return Ok(Gone { code: exit_code(code)?, wall, ours });
                }
                pid = &mut look, if looking => {
                    looking = false;
                    let told = pid.map(|seen| {
                        self.first = seen.as_ref().map(|seen| seen.first);
                        started_as(seen.map_or(NOBODY, |seen| seen.bench))
                    });
                    let failed = told.is_err();
                    if let Some(started) = started.take() {
                        let _ = started.send(told);
                    }
                    if failed {
                        end = Some((EndStatus::Killed, Duration::ZERO));
                    }
                }
                () = sleep_until(deadline), if ours.is_none() => {
                    end = Some((EndStatus::TimedOut, limits.grace));
                }
                () = full.notified(), if ours.is_none() => {
                    let max_bytes = limits.output_max_bytes;
                    end = Some((EndStatus::OutputTooLarge { max_bytes }, Duration::ZERO));
                }
                grace = self.told.recv(), if listening => {
                    listening = grace.is_some();
                    end = Some((EndStatus::Killed, grace.unwrap_or_default()));
                }
                () = until(kill_at) => {
                    kill_at = None;
                    self.signal("SIGKILL").await;
                }
                () = until(give_up_at) => {
                    return Err(ContainerError::Box(format!("a container does not die within {KILL_BOUND:?}")));
                }
            }
            if let Some((status, grace)) = end {
                ours = ours.or(Some(status));
                give_up_at = give_up_at.or_else(|| Some(Instant::now() + grace + KILL_BOUND));
                if grace.is_zero() {
                    self.signal("SIGKILL").await;
                } else {
                    kill_at = Some(Instant::now() + grace);
                    self.signal("SIGTERM").await;
                }
            }
        }
    }

    async fn signal(&self, signal: &str) {
        let options = KillContainerOptionsBuilder::default().signal(signal).build();
        // One that is gone needs no signal; of one that is not, its end is waited for with a bound.
        if let Err(error) = self.image.daemon.client.kill_container(&self.name, Some(options)).await {
            tracing::debug!(%error, signal, "a container took no signal");
        }
    }

    /// What its end means.
    async fn judge(&self, gone: &Gone, since: Duration) -> Result<EndStatus, ContainerError> {
        let client = &self.image.daemon.client;
        if let Some(status) = gone.ours {
            return Ok(status);
        }
        if let Some(what) = self.meddled(since).await? {
            return Err(ContainerError::Box(format!(
                "its container was ended or changed by somebody else (`{what}`), so that its result is worth nothing"
            )));
        }
        let found = client.inspect_container(&self.name, None).await;
        let state =
            found.map_err(|error| ContainerError::daemon("tell how a container ended", &error))?.state;
        if state.is_some_and(|state| state.oom_killed == Some(true)) {
            self.note(&format!(
                "[the container needed more memory than the {} MiB that it may have: `memory_max` in `[docker]` of \
                 agent.toml]\n",
                self.image.daemon.memory_bytes >> 20
            ));
        }
        let limits = self.launch.limits;
        if gone.code == SIGNAL_BASE + i64::from(libc::SIGXFSZ) {
            let max_bytes = limits.file_max_bytes.max(limits.output_max_bytes);
            return Ok(EndStatus::FileTooLarge { max_bytes });
        }
        Ok(EndStatus::Exit(i32::try_from(gone.code).unwrap_or(i32::MAX)))
    }

    /// Says something at the end of what the container wrote to stderr.
    fn note(&self, text: &str) {
        let file = self.written.stderr.as_fd().try_clone_to_owned();
        // Only a hint: without it the failure is told all the same.
        let _ = file.and_then(|file| fs::File::from(file).write_all(text.as_bytes()));
    }

    /// What somebody else did to the container since its creation, if anything.
    async fn meddled(&self, since: Duration) -> Result<Option<String>, ContainerError> {
        let filter = HashMap::from([
            ("container".to_owned(), vec![self.name.clone()]),
            ("event".to_owned(), MEDDLING.map(str::to_owned).to_vec()),
        ]);
        let stamp = |at: Duration| format!("{}.{:09}", at.as_secs(), at.subsec_nanos());
        let options = EventsOptionsBuilder::default()
            .since(&stamp(since))
            .until(&stamp(since_1970()))
            .filters(&filter)
            .build();
        let mut events = pin!(self.image.daemon.client.events(Some(options)));
        let first = timeout(EVENTS_BOUND, events.next()).await.unwrap_or(None).transpose();
        let first =
            first.map_err(|error| ContainerError::daemon("tell what happened to a container", &error))?;
        Ok(first.map(|event| event.action.unwrap_or_default()))
    }

    async fn remove(&self) {
        for _ in 0..REMOVE_TRIES {
            match timeout(REMOVE_BOUND, self.image.daemon.remove(&self.name)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => tracing::warn!(%error, container = self.name, "a container is not removed"),
                Err(_) => tracing::warn!(container = self.name, "a container is not removed in time"),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        tracing::error!(container = self.name, "a container stays until the agent's next start");
    }
}

/// A deadline that a clock cannot hold counts as this one.
const FAR_OFF: Duration = Duration::from_hours(365 * 24);

/// Processes of a container.
struct Seen {
    /// Its first one.
    first: u32,
    /// The first but its init.
    bench: u32,
}

/// The container's processes, once all are seen to be where they should be; none if it is over already.
async fn look(
    client: &bollard::Docker,
    name: &str,
    cpus: Option<darwin_shared::cpu::CpuSet>,
) -> Result<Option<Seen>, ContainerError> {
    let found = client.inspect_container(name, None).await;
    let state = found.map_err(|error| ContainerError::daemon("tell where a container runs", &error))?.state;
    let pid =
        state.and_then(|state| state.pid).and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0);
    let Some(pid) = pid else { return Ok(None) };
    let host = HostFs::default();
    let processes = processes::tree(&host, pid);
    if let Some(cpus) = &cpus
        && let Err(error @ crate::exec::PlacementError::Astray { .. }) =
            processes::verify(&host, &processes, cpus)
    {
        return Err(ContainerError::Box(format!(
            "the measurement was discarded, as it was not where it should be: {error}"
        )));
    }
    Ok(Some(Seen { first: pid, bench: processes.get(1).copied().unwrap_or(pid) }))
}

fn started_as(pid: u32) -> Started {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    let took =
        Took { cgroup: true, cpuset: true, processes: true, memory: true, affinity: true, fifo: false };
    Started { pid, at_ns: nanoseconds(now), took }
}

/// The code from the daemon's answer: it is an error for our library if it is not 0.
fn exit_code(
    answer: Option<Result<bollard::models::ContainerWaitResponse, Error>>,
) -> Result<i64, ContainerError> {
    match answer {
        Some(Ok(answer)) => Ok(answer.status_code),
        Some(Err(Error::DockerContainerWaitError { code, error })) if error.is_empty() => Ok(code),
        Some(Err(error)) => Err(ContainerError::daemon("tell how a container ended", &error)),
        None => Err(ContainerError::Box("the Docker daemon stopped telling of a container".to_owned())),
    }
}

/// Whose fault it is that a container does not start.
fn not_started(doing: &str, error: &Error) -> ContainerError {
    /// What the runtime says when the command is at fault.
    const COMMANDS: [&str; 5] = [
        "no such file or directory",
        "not found in $PATH",
        "permission denied",
        "exec format error",
        "is a directory",
    ];
    match error {
        Error::DockerResponseServerError { status_code: 400 | 404 | 500, message }
            if message.contains("exec") && COMMANDS.iter().any(|words| message.contains(words)) =>
        {
            ContainerError::Command(format!("its command cannot be run in the image: {}", message.trim()))
        }
        error => ContainerError::daemon(doing, error),
    }
}

/// For the daemon's record of events only; nothing is compared with it.
fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status_code: u16, message: &str) -> ContainerError {
        let message = message.to_owned();
        not_started("start a container", &Error::DockerResponseServerError { status_code, message })
    }

    #[test]
    fn only_the_commands_own_faults_are_the_candidates() {
        let missing =
            "OCI runtime create failed: exec: \"/bench\": stat /bench: no such file or directory: unknown";
        assert!(matches!(answered(400, missing), ContainerError::Command(_)));
        assert!(matches!(answered(500, "no space left on device"), ContainerError::Box(_)));
        assert!(matches!(answered(500, "cpuset.cpus: permission denied"), ContainerError::Box(_)));
        assert!(matches!(not_started("x", &Error::RequestTimeoutError), ContainerError::Box(_)));
    }

    #[test]
    fn a_code_is_no_error_and_an_error_no_code() {
        let coded =
            |error: &str| Some(Err(Error::DockerContainerWaitError { error: error.to_owned(), code: 3 }));
        assert_eq!(exit_code(coded("")).unwrap(), 3);
        assert!(exit_code(coded("daemon is shutting down")).is_err());
        assert!(exit_code(None).is_err());
    }
}
