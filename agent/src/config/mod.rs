//! What an operator may set: `agent.toml` and the flags that go before it.
//!
//! Every key is documented here; this is the reference. A key that is not here is an error that names the nearest one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use darwin_shared::cpu::CpuSet;
use darwin_shared::ids::{AgentId, IdError, PoolName};
use darwin_shared::units::ByteSize;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tonic::transport::Uri;

/// Where a coordinator listens unless it is told otherwise.
pub const DEFAULT_COORDINATOR: &str = "http://127.0.0.1:7411";
/// The largest `agent.toml` that is read: a configuration, not a data set.
const MAX_CONFIG_BYTES: u64 = 256 << 10;
/// The most coordinators that one agent tries in turn.
const MAX_COORDINATORS: usize = 16;
/// The most attempts that are staged at once: more would only fight for the housekeeping cores.
const MAX_STAGERS: u32 = 16;
/// The most attempts held ahead for each slot by configuration.
const MAX_STAGE_AHEAD: u32 = 64;

/// Which numbers this box is good for: what its sensor forgives, and whether it may refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// A box whose numbers must stand: a sensor that is `down` stops all measuring.
    BareMetal,
    /// A laptop or virtual machine: the sensor tells and never forbids.
    #[default]
    Dev,
}

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
    /// What this box's numbers are good for. Key `tier`: `dev` or `bare-metal`.
    pub tier: Tier,
    /// Whether variants may be folders on this box (`path:…`). Key `allow_paths`; false unless set.
    pub allow_paths: bool,
    /// How long a run may go on past its lease; must stay below the coordinator's own grace. Key `lease_grace`; none
    /// unless set.
    pub lease_grace: Duration,
    /// How long a drained agent on its way out waits for what has cores. Key `drain_max`; 10 minutes unless set.
    pub drain_max: Duration,
    /// Bounds on what a bench may use, whatever its job asks for. Table `[limits]`.
    pub limits: BenchLimits,
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

/// Why an agent cannot be configured like this.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML, or a value is of the wrong kind.
    #[error("{}: {message}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its line.
        message: String,
    },
    /// A key that there is not.
    #[error("{}: `{key}` is not a key of {table}{}", path.display(), suggestion(.nearest.as_deref(), known))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The refused key.
        key: String,
        /// Where it stands.
        table: &'static str,
        /// The key that was probably meant.
        nearest: Option<String>,
        /// The keys that there are.
        known: &'static [&'static str],
    },
    /// A coordinator that cannot be talked to safely.
    #[error("coordinator `{url}` is refused: {why}")]
    Coordinator {
        /// As given.
        url: String,
        /// What is wrong, and what would be right.
        why: &'static str,
    },
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] IdError),
    /// A value out of its range.
    #[error("`{key}` is {got}; it must be {range}")]
    Range {
        /// The key.
        key: &'static str,
        /// The refused value.
        got: String,
        /// What would be right.
        range: &'static str,
    },
    /// The host name is no id, and none was set.
    #[error("the box's host name {0} cannot be an agent's id; set `id`, or pass --id")]
    NoId(String),
}

fn suggestion(nearest: Option<&str>, known: &[&str]) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => format!("; it knows {}", known.join(", ")),
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

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// `agent.toml` as it is written. Unknown keys are found before serde sees it, for a better message.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FileConfig {
    coordinator: Option<OneOrMany>,
    id: Option<String>,
    pool: Option<String>,
    labels: BTreeMap<String, String>,
    state_dir: Option<PathBuf>,
    lease_cpus: Option<CpuSet>,
    core_locks: Option<PathBuf>,
    stage_ahead: Option<u32>,
    stagers: Option<u32>,
    cache_max: Option<ByteSize>,
    tier: Tier,
    allow_paths: bool,
    lease_grace: Option<Written>,
    drain_max: Option<Written>,
    limits: FileLimits,
}

/// The table `[limits]` as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_field_names, reason = "the names are the keys of the file")]
struct FileLimits {
    output_max: Option<ByteSize>,
    file_max: Option<ByteSize>,
    memory_max: Option<ByteSize>,
    processes_max: Option<u64>,
    time_max: Option<Written>,
}

/// A duration as people write it: `90s`, `5m`.
#[derive(Debug, Clone, Copy)]
struct Written(Duration);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map(Self).map_err(|error| {
            serde::de::Error::custom(format!("`{text}` is not a time like \"90s\" or \"5m\": {error}"))
        })
    }
}

const KEYS: &[&str] = &[
    "coordinator",
    "id",
    "pool",
    "labels",
    "state_dir",
    "lease_cpus",
    "core_locks",
    "stage_ahead",
    "stagers",
    "cache_max",
    "tier",
    "allow_paths",
    "lease_grace",
    "drain_max",
    "limits",
];
const LIMIT_KEYS: &[&str] = &["output_max", "file_max", "memory_max", "processes_max", "time_max"];

impl FileConfig {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > MAX_CONFIG_BYTES {
            let message = format!("it has {size} bytes; a configuration may have {MAX_CONFIG_BYTES}");
            return Err(ConfigError::Toml { path: path.to_owned(), message });
        }
        Self::parse(path, &std::fs::read_to_string(path).map_err(unreadable)?)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let bad =
            |error: toml::de::Error| ConfigError::Toml { path: path.to_owned(), message: error.to_string() };
        let table: toml::Table = text.parse().map_err(bad)?;
        check_keys(path, &table, KEYS, "agent.toml")?;
        if let Some(toml::Value::Table(limits)) = table.get("limits") {
            check_keys(path, limits, LIMIT_KEYS, "[limits]")?;
        }
        toml::from_str(text).map_err(bad)
    }

    fn resolve(self, flags: Overrides) -> Result<AgentConfig, ConfigError> {
        let written = match self.coordinator {
            _ if !flags.coordinators.is_empty() => flags.coordinators,
            Some(OneOrMany::One(url)) => vec![url],
            Some(OneOrMany::Many(urls)) => urls,
            None => vec![DEFAULT_COORDINATOR.to_owned()],
        };
        if written.is_empty() || written.len() > MAX_COORDINATORS {
            return Err(out_of_range("coordinator", &written.len(), "from 1 to 16 URLs"));
        }
        let id = match flags.id.or(self.id) {
            Some(id) => AgentId::new(id)?,
            None => default_id()?,
        };
        let mut labels = self.labels;
        labels.extend(flags.labels);
        let defaults = BenchLimits::default();
        let bytes = |size: Option<ByteSize>| size.map(ByteSize::bytes);
        let config = AgentConfig {
            coordinators: written.iter().map(|url| coordinator(url)).collect::<Result<_, _>>()?,
            id,
            pool: PoolName::new(flags.pool.or(self.pool).unwrap_or_else(|| "default".to_owned()))?,
            labels,
            state_dir: flags
                .state_dir
                .or(self.state_dir)
                .unwrap_or_else(|| PathBuf::from("/var/lib/darwin-agent")),
            lease_cpus: flags.lease_cpus.or(self.lease_cpus),
            core_locks: self.core_locks,
            stage_ahead: self.stage_ahead.unwrap_or(2),
            stagers: self.stagers.unwrap_or(1),
            cache_max_bytes: bytes(self.cache_max).unwrap_or(20 << 30),
            tier: self.tier,
            allow_paths: self.allow_paths,
            lease_grace: self.lease_grace.map_or(Duration::ZERO, |written| written.0),
            drain_max: self.drain_max.map_or(Duration::from_mins(10), |written| written.0),
            launcher: PathBuf::from("/proc/self/exe"),
            limits: BenchLimits {
                output_max_bytes: bytes(self.limits.output_max).unwrap_or(defaults.output_max_bytes),
                file_max_bytes: bytes(self.limits.file_max).unwrap_or(defaults.file_max_bytes),
                memory_max_bytes: bytes(self.limits.memory_max),
                processes_max: self.limits.processes_max,
                time_max: self.limits.time_max.map(|written| written.0),
            },
        };
        config.check()
    }
}

impl AgentConfig {
    fn check(self) -> Result<Self, ConfigError> {
        if self.stage_ahead > MAX_STAGE_AHEAD {
            return Err(out_of_range("stage_ahead", &self.stage_ahead, "from 0 to 64"));
        }
        if self.stagers == 0 || self.stagers > MAX_STAGERS {
            return Err(out_of_range("stagers", &self.stagers, "from 1 to 16"));
        }
        if self.lease_grace > Duration::from_mins(1) {
            return Err(out_of_range(
                "lease_grace",
                &humantime::format_duration(self.lease_grace),
                "at most 1m",
            ));
        }
        if self.limits.output_max_bytes == 0 {
            return Err(out_of_range("limits.output_max", &0, "at least 1 byte"));
        }
        Ok(self)
    }
}

fn out_of_range(key: &'static str, got: &dyn ToString, range: &'static str) -> ConfigError {
    ConfigError::Range { key, got: got.to_string(), range }
}

fn check_keys(
    path: &Path,
    table: &toml::Table,
    known: &'static [&'static str],
    name: &'static str,
) -> Result<(), ConfigError> {
    let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) else { return Ok(()) };
    // Below a similarity of one half another word was meant, and a wrong guess misleads.
    let nearest = known
        .iter()
        .map(|candidate| (strsim::jaro_winkler(candidate, key), *candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_owned());
    Err(ConfigError::UnknownKey {
        path: path.to_owned(),
        key: key.escape_default().to_string(),
        table: name,
        nearest,
        known,
    })
}

fn default_id() -> Result<AgentId, ConfigError> {
    let name =
        nix::unistd::gethostname().map_err(|error| ConfigError::NoId(format!("(unreadable: {error})")))?;
    let name = name.to_string_lossy().into_owned();
    AgentId::new(name.clone()).map_err(|_| ConfigError::NoId(format!("`{}`", name.escape_default())))
}

/// The coordinator's address, if it can be talked to safely.
fn coordinator(url: &str) -> Result<Uri, ConfigError> {
    let refuse = |why| ConfigError::Coordinator { url: url.escape_default().to_string(), why };
    let uri: Uri = url.parse().map_err(|_| refuse("it is not a URL like http://127.0.0.1:7411"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return Err(refuse("TLS is not there yet; use http:// to a loopback address")),
        Some(_) | None => return Err(refuse("it must start with http://")),
    }
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if !loopback {
        return Err(refuse(
            "without TLS an agent talks to its own box only (127.0.0.1, ::1, localhost), for whoever can pose as its \
             coordinator can run programs here",
        ));
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<AgentConfig, ConfigError> {
        FileConfig::parse(Path::new("agent.toml"), text)?
            .resolve(Overrides { id: Some("box".to_owned()), ..Overrides::default() })
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let config = parse("").unwrap();
        assert_eq!(config.coordinators, [DEFAULT_COORDINATOR.parse::<Uri>().unwrap()]);
        assert_eq!((config.stage_ahead, config.stagers, config.tier), (2, 1, Tier::Dev));
        assert_eq!(config.limits, BenchLimits::default());
    }

    #[test]
    fn every_key_is_read_and_flags_win() {
        let text = r#"
            coordinator = ["http://localhost:1", "http://[::1]:2"]
            pool = "xeon"
            state_dir = "/tmp/x"
            lease_cpus = "2-3"
            core_locks = "/run/darwin/cores"
            stage_ahead = 4
            stagers = 2
            cache_max = "1 GiB"
            tier = "bare-metal"
            allow_paths = true
            lease_grace = "1s"
            drain_max = "1m"
            [labels]
            nic = "x710"
            [limits]
            output_max = "1 MiB"
            file_max = "2 GiB"
            memory_max = "4 GiB"
            processes_max = 100
            time_max = "5m"
        "#;
        let config = parse(text).unwrap();
        assert_eq!(config.coordinators.len(), 2);
        assert_eq!(config.core_locks, Some(PathBuf::from("/run/darwin/cores")));
        assert_eq!((config.cache_max_bytes, config.limits.memory_max_bytes), (1 << 30, Some(4 << 30)));
        assert_eq!(config.limits.time_max, Some(Duration::from_mins(5)));
        assert_eq!((config.tier, config.allow_paths, config.labels.len()), (Tier::BareMetal, true, 1));
        let file = FileConfig::parse(Path::new("agent.toml"), text).unwrap();
        let flags = Overrides { id: Some("b".into()), pool: Some("epyc".into()), ..Overrides::default() };
        assert_eq!(file.resolve(flags).unwrap().pool.as_str(), "epyc");
    }

    #[test]
    fn mistakes_are_named() {
        let messages: Vec<String> = [
            "stage_ahed = 3",
            "colour = \"red\"",
            "[limits]\nmemory = 3",
            "stage_ahead = 1000",
            "stagers = \"two\"",
            "pool = \"a b\"",
            "coordinator = \"http://10.0.0.1:7411\"",
            "coordinator = \"https://localhost:7411\"",
            "coordinator = \"localhost:7411\"",
            "lease_cpus = \"3-1\"",
        ]
        .into_iter()
        .map(|text| parse(text).unwrap_err().to_string())
        .collect();
        insta::assert_snapshot!(messages.join("\n---\n"));
    }
}
