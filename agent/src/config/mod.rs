//! What an operator may set: `agent.toml` and the flags that go before it.
//!
//! Every key is documented here; this is the reference. A key that is not here is an error that names the nearest one.

mod docker;
mod error;
mod file;
mod probe;
mod sensor;
mod tune;
mod void;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use darwin_agent_core::disturbance::VoidLimits;
use darwin_shared::cpu::CpuSet;
use darwin_shared::ids::{AgentId, PoolName};
use tonic::transport::Uri;

pub use self::docker::DockerConfig;
pub use self::error::ConfigError;
use self::file::FileConfig;
pub use self::probe::ProbeLengths;
pub use self::sensor::SensorConfig;
pub use self::tune::TuneConfig;
pub use darwin_shared::fleet::Tier;

/// Where a coordinator listens unless it is told otherwise.
pub const DEFAULT_COORDINATOR: &str = "http://127.0.0.1:7411";

/// Everything that an agent is told.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentConfig {
    /// Coordinators, tried in this order, again and again. Key `coordinator`: a URL or a list of URLs.
    pub coordinators: Vec<Uri>,
    /// Its id. Key `id`; the box's host name unless set.
    pub id: AgentId,
    /// Its pool. Key `pool`; `default` unless set.
    pub pool: PoolName,
    /// Labels that jobs may ask for. Table `[labels]`.
    pub labels: BTreeMap<String, String>,
    /// Spool, cache of artifacts, logs. Key `state_dir`.
    pub state_dir: PathBuf,
    /// CPUs to lease out, as in `"2-7"`. Key `lease_cpus`; unless set, all but the housekeeping cores.
    pub lease_cpus: Option<CpuSet>,
    /// A file by whose locks the agents of a box keep off each other's cores. Key `core_locks`; unless set, one that all
    /// agents find that share `/dev/shm`. Agents in containers of their own need a file that all of them can reach.
    pub core_locks: Option<PathBuf>,
    /// Attempts held ahead for each slot; short ones are held further ahead by themselves, with 0 none ever is. Key
    /// `stage_ahead`; 2 unless set.
    pub stage_ahead: u32,
    /// Attempts that are staged at once. Key `stagers`; 1 unless set.
    pub stagers: u32,
    /// What unpacked artifacts and their set-ups may take on disk. Key `cache_max`, as in `"20 GiB"`.
    pub cache_max_bytes: u64,
    /// What this box's numbers are good for. Key `tier`: `bare-metal-isolated`, `shielded` or `dev`; `dev` unless set.
    pub tier: Tier,
    /// What is asked of its sensor beyond the tier. Table `[sensor]`.
    pub sensor: SensorConfig,
    /// Whether variants may be folders on this box (`path:…`). Key `allow_paths`; false unless set.
    pub allow_paths: bool,
    /// How long a run may go on past its lease; must stay below the coordinator's own grace. Key `lease_grace`; none
    /// unless set.
    pub lease_grace: Duration,
    /// How long a drained agent on its way out waits for what has cores. Key `drain_max`; 10 minutes unless set.
    pub drain_max: Duration,
    /// Bounds on what a bench may use, whatever its job asks for. Table `[limits]`.
    pub limits: BenchLimits,
    /// How images are run. Table `[docker]`; none unless it has `enabled = true`.
    pub docker: Option<DockerConfig>,
    /// What makes a round void, to be measured again. Table `[void]`: its keys are in `void.rs` and in
    /// `docs/void-rounds.md`; what is not set is as the tier has it.
    pub void: VoidLimits,
    /// What is changed on the box while benches run. Table `[tune]`.
    pub tune: TuneConfig,
    /// How long the box is probed before and after the rounds of an attempt. Table `[probe]`.
    pub probe: ProbeLengths,
    /// The program that becomes a launcher: this very one, unless whoever embeds the agent says otherwise. It must
    /// call [`crate::exec::launcher_main_if_asked`] first thing. No key.
    pub launcher: PathBuf,
}

/// Bounds on what one process tree of a bench may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BenchLimits {
    /// What it may write to stdout, to stderr and to its result, each. Key `output_max`.
    pub output_max_bytes: u64,
    /// The largest other file that it may write. Key `file_max`.
    pub file_max_bytes: u64,
    /// The most memory, where the box can bound it. Key `memory_max`; no bound unless set.
    pub memory_max_bytes: Option<u64>,
    /// The most processes and threads, where the box can bound them. Key `processes_max`; no bound unless set.
    pub processes_max: Option<u64>,
    /// The longest that one step may take, however long its job allows. Key `time_max`; no bound unless set.
    pub time_max: Option<Duration>,
}

impl Default for BenchLimits {
    fn default() -> Self {
        Self {
            output_max_bytes: 64 << 20,
            file_max_bytes: 4 << 30,
            memory_max_bytes: None,
            processes_max: None,
            time_max: None,
        }
    }
}

impl AgentConfig {
    /// An agent with every default, for these coordinators and this folder.
    pub fn new(coordinators: &[&str], state_dir: impl Into<PathBuf>) -> Result<Self, ConfigError> {
        FileConfig::default().resolve(Overrides {
            coordinators: coordinators.iter().map(|url| (*url).to_owned()).collect(),
            state_dir: Some(state_dir.into()),
            ..Overrides::default()
        })
    }

    /// Reads `agent.toml`, if one is named; flags win over it.
    pub fn load(file: Option<&Path>, flags: Overrides) -> Result<Self, ConfigError> {
        match file {
            Some(path) => FileConfig::read(path)?.resolve(flags),
            None => FileConfig::default().resolve(flags),
        }
    }
}

/// The known word that was probably meant.
fn nearest(word: &str, known: &[&'static str]) -> Option<String> {
    // Below a similarity of one half another word was meant, and a wrong guess misleads.
    known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(candidate, word), *candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_owned())
}

/// What the command line says; wins over the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--coordinator`, any number of times.
    pub coordinators: Vec<String>,
    /// `--id`.
    pub id: Option<String>,
    /// `--pool`.
    pub pool: Option<String>,
    /// `--label NAME=VALUE`, any number of times.
    pub labels: BTreeMap<String, String>,
    /// `--state-dir`.
    pub state_dir: Option<PathBuf>,
    /// `--lease-cpus`.
    pub lease_cpus: Option<CpuSet>,
}

#[cfg(test)]
mod tests;
