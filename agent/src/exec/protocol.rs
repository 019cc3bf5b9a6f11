//! What agent and launcher say to each other: one JSON text per packet, files beside it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use darwin_shared::cpu::CpuSet;
use darwin_shared::usage::Usage;
use serde::{Deserialize, Serialize};

use super::cgroup::SlotCgroups;
use crate::measure::CountSource;

/// The largest packet: fits the kernel's default socket buffer (208 KiB), and a command with its environment is far
/// smaller.
pub(super) const MAX_MESSAGE_BYTES: usize = 128 << 10;

/// The number under which a bench finds the first file that is passed to it; the next one follows. Far above what a
/// launcher or a bench has open by itself, so that no number is ever taken for another file.
pub const FIRST_PASSED_FD: i32 = 100;

/// What the agent says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    /// The first packet: where the launcher itself lives, and its slot's cgroups. Beside it come files whose locks it
    /// holds with the agent, by keeping them open.
    Setup { housekeeping: Option<CpuSet>, cgroups: SlotCgroups, count: CountSource },
    /// Run this; beside it come stdout and stderr, and behind them the files that the bench gets from
    /// [`FIRST_PASSED_FD`] on.
    Launch(Box<Launch>),
    /// What is held in its place may become the bench.
    Release,
    /// End what runs: SIGTERM, and SIGKILL after the grace.
    Kill { grace: Duration },
}

/// What the launcher says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    /// It is set up; what it could not do is said, once.
    Ready { problem: Option<String> },
    /// The launch that is to be held is where it will run, and is everything but the program.
    Placed(Started),
    /// The bench's program has replaced the launcher's.
    Started(Started),
    /// The bench and everything it started are gone.
    Ended(Ended),
    /// The bench was not started.
    Failed(Failure),
}

/// One process tree to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The program and its arguments. A program without a slash is looked for in the `PATH` of `env`.
    pub argv: Vec<String>,
    /// The whole environment: nothing is inherited.
    pub env: BTreeMap<String, String>,
    /// The working directory.
    pub cwd: PathBuf,
    /// The CPUs that it may run on; none leaves it with the launcher's.
    pub cpus: Option<CpuSet>,
    /// The memory node that everything it asks for comes from.
    pub node: Option<u32>,
    /// `SCHED_FIFO` at this priority (1 to 49, below interrupt threads); its children get the ordinary class back.
    pub fifo_priority: Option<u8>,
    /// Whether to refuse what cannot be bound to its node or be `SCHED_FIFO`, instead of running without.
    pub strict: bool,
    /// Whether it is held in its place until the agent has looked at it.
    pub held: bool,
    /// The same addresses in every process (`ADDR_NO_RANDOMIZE`).
    pub fixed_layout: bool,
    /// No transparent huge pages.
    pub no_huge_pages: bool,
    /// Whether to count what the hypervisor takes from it.
    pub count_stolen: bool,
    /// The user that it runs as; none is the agent's own.
    pub user: Option<RunAs>,
    /// What it may use, and for how long.
    pub limits: LaunchLimits,
    /// What cgroups hold it back from.
    pub confine: Confine,
}

impl Launch {
    /// A command without placement, under the default limits.
    pub fn new(argv: Vec<String>, env: BTreeMap<String, String>, cwd: PathBuf) -> Self {
        Self {
            argv,
            env,
            cwd,
            cpus: None,
            node: None,
            fifo_priority: None,
            strict: false,
            held: false,
            fixed_layout: false,
            no_huge_pages: false,
            count_stolen: false,
            user: None,
            limits: LaunchLimits::default(),
            confine: Confine::default(),
        }
    }
}

/// A user and group by number; further groups are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunAs {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// Bounds of one launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchLimits {
    /// Wall time after which it gets SIGTERM.
    pub deadline: Duration,
    /// Time between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// What it may write to stdout, and as much to stderr, in bytes.
    pub output_max_bytes: u64,
    /// The largest file that it may write (`RLIMIT_FSIZE`), in bytes; counts as at least `output_max_bytes`.
    pub file_max_bytes: u64,
    /// Files it may have open at once.
    pub open_files_max: u64,
}

impl Default for LaunchLimits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_mins(10),
            grace: Duration::from_secs(2),
            output_max_bytes: 64 << 20,
            file_max_bytes: 64 << 20,
            open_files_max: 4096,
        }
    }
}

/// What cgroups are asked to do. On cgroup v1 each costs the launch some milliseconds; on v2 it is free.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Confine {
    /// A cpuset of the launch's CPUs and, if it has one, of its memory node.
    pub cpuset: bool,
    /// The most processes and threads at once.
    pub processes_max: Option<u64>,
    /// The most memory, in bytes.
    pub memory_max_bytes: Option<u64>,
    /// Refuse to run where one of them cannot be had, instead of running without.
    pub required: bool,
}

/// What took effect. Whether that is enough is the caller's policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Took {
    /// It runs in a cgroup of its own, which is killed as a whole.
    pub cgroup: bool,
    /// The cpuset of its CPUs.
    pub cpuset: bool,
    /// The limit on processes.
    pub processes: bool,
    /// The limit on memory.
    pub memory: bool,
    /// The affinity to its CPUs.
    pub affinity: bool,
    /// `SCHED_FIFO`.
    pub fifo: bool,
}

/// The bench runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Its first process, also its process group and session.
    pub pid: u32,
    /// When its program was seen to have started, on this box's monotonic clock, in nanoseconds.
    pub at_ns: u64,
    /// What took effect of what was asked.
    pub took: Took,
}

/// The bench is gone, with everything that it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How its first process ended, or why it was ended.
    pub status: EndStatus,
    /// From just before the fork, or from the release of a held bench, until the launcher saw the first process end, in nanoseconds.
    pub wall_ns: u64,
    /// What the whole tree used. The peak is at least the launcher's private memory, from which it was forked: below 1 MiB.
    pub usage: Usage,
    /// Processes that outlived the first one and were killed.
    pub leftovers_killed: u32,
    /// Processes that could not be killed in time (stuck in the kernel): the slot should not be used again.
    pub survivors: u32,
}

/// How a launch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndStatus {
    /// By itself, with this code.
    Exit(i32),
    /// By this signal, which was not ours.
    Signal(i32),
    /// At the deadline.
    TimedOut,
    /// Because the agent asked.
    Killed,
    /// It wrote more than it may to stdout or stderr.
    OutputTooLarge {
        /// The bound, in bytes.
        max_bytes: u64,
    },
    /// It wrote a larger file than it may.
    FileTooLarge {
        /// The bound, in bytes.
        max_bytes: u64,
    },
}

impl fmt::Display for EndStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exit(0) => write!(f, "ended well"),
            Self::Exit(code) => write!(f, "exited with code {code}"),
            Self::Signal(signal) => match nix::sys::signal::Signal::try_from(signal) {
                Ok(name) => write!(f, "was ended by {name}"),
                Err(_) => write!(f, "was ended by signal {signal}"),
            },
            Self::TimedOut => write!(f, "was ended at its deadline"),
            Self::Killed => write!(f, "was killed on request"),
            Self::OutputTooLarge { max_bytes } => {
                write!(f, "wrote more than {} to its output", mebibytes(max_bytes))
            }
            Self::FileTooLarge { max_bytes } => {
                write!(f, "wrote more than {} to a file", mebibytes(max_bytes))
            }
        }
    }
}

fn mebibytes(bytes: u64) -> String {
    if bytes >= 1 << 20 { format!("{} MiB", bytes >> 20) } else { format!("{bytes} bytes") }
}

/// What is done on the way to a running bench, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Step {
    /// Making sense of the request.
    Prepare,
    /// Setting limits on the slot's cgroups, and joining them.
    Cgroup,
    /// Making the process.
    Fork,
    /// A session of its own.
    Session,
    /// The memory node and huge pages.
    Memory,
    /// Resource limits.
    Limits,
    /// Being the first to go when memory runs out.
    OomScore,
    /// The same addresses in every process.
    Layout,
    /// Binding to its CPUs.
    Affinity,
    /// Becoming the user.
    User,
    /// Giving up ever gaining privileges.
    Privileges,
    /// Dying with the launcher.
    ParentDeath,
    /// stdin, stdout, stderr.
    Stdio,
    /// The working directory.
    Directory,
    /// Signals as a fresh process has them.
    Signals,
    /// Closing every other file.
    Descriptors,
    /// The scheduling class.
    Scheduler,
    /// Waiting to be looked at.
    Held,
    /// Becoming the program.
    Exec,
}

impl Step {
    /// Every step, in order; a step's number is its index.
    pub(super) const ALL: [Self; 19] = [
        Self::Prepare,
        Self::Cgroup,
        Self::Fork,
        Self::Session,
        Self::Memory,
        Self::Limits,
        Self::OomScore,
        Self::Layout,
        Self::Affinity,
        Self::User,
        Self::Privileges,
        Self::ParentDeath,
        Self::Stdio,
        Self::Directory,
        Self::Signals,
        Self::Descriptors,
        Self::Scheduler,
        Self::Held,
        Self::Exec,
    ];
}

/// Why the bench was not started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What failed.
    pub step: Step,
    /// The kernel's error number; 0 where it was not the kernel that refused.
    pub errno: i32,
    /// What happened and what would be right.
    pub message: String,
}

impl Failure {
    /// Whether the command itself is wrong, so that trying again or elsewhere will not help.
    pub const fn is_commands_fault(&self) -> bool {
        matches!(self.step, Step::Prepare | Step::Directory | Step::Exec)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steps_number_is_its_index() {
        for (index, step) in Step::ALL.into_iter().enumerate() {
            assert_eq!(step as usize, index);
        }
    }

    #[test]
    fn ends_are_told_in_words() {
        let told: Vec<_> = [
            EndStatus::Exit(0),
            EndStatus::Exit(3),
            EndStatus::Signal(11),
            EndStatus::Signal(63),
            EndStatus::TimedOut,
            EndStatus::Killed,
            EndStatus::OutputTooLarge { max_bytes: 64 << 20 },
            EndStatus::FileTooLarge { max_bytes: 4096 },
        ]
        .iter()
        .map(ToString::to_string)
        .collect();
        insta::assert_snapshot!(told.join("\n"));
    }

    #[test]
    fn messages_survive_the_socket() {
        let mut launch = Launch::new(vec!["x\u{1}\"".into()], BTreeMap::new(), "/".into());
        launch.cpus = Some("1-2".parse().unwrap());
        let request = Request::Launch(Box::new(launch));
        let text = serde_json::to_vec(&request).unwrap();
        assert_eq!(serde_json::from_slice::<Request>(&text).unwrap(), request);
    }
}
