//! `agent.toml` as it is written, and what it comes to.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use darwin_shared::cpu::CpuSet;
use darwin_shared::ids::{AgentId, PoolName};
use darwin_shared::units::ByteSize;
use serde::Deserialize;
use tonic::transport::Uri;

use super::docker::{DOCKER_KEYS, FileDocker};
use super::probe::{FileProbe, PROBE_KEYS};
use super::sensor::{FileSensor, SENSOR_KEYS};
use super::tune::{FileTune, TUNE_KEYS};
use super::void::{FileVoid, VOID_KEYS};
use super::{AgentConfig, BenchLimits, ConfigError, DEFAULT_COORDINATOR, Overrides, Tier, nearest};

/// The largest `agent.toml` that is read: a configuration, not a data set.
const MAX_CONFIG_BYTES: u64 = 256 << 10;
/// The most coordinators that one agent tries in turn.
const MAX_COORDINATORS: usize = 16;
/// The most attempts that are staged at once: more would only fight for the housekeeping cores.
const MAX_STAGERS: u32 = 16;
/// The most attempts held ahead for each slot by configuration.
const MAX_STAGE_AHEAD: u32 = 64;

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// `agent.toml` as it is written. Unknown keys are found before serde sees it, for a better message.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FileConfig {
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
    docker: FileDocker,
    tune: FileTune,
    void: FileVoid,
    sensor: FileSensor,
    probe: FileProbe,
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
pub(super) struct Written(pub(super) Duration);

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
    "docker",
    "tune",
    "void",
    "sensor",
    "probe",
];
const LIMIT_KEYS: &[&str] = &["output_max", "file_max", "memory_max", "processes_max", "time_max"];

impl FileConfig {
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > MAX_CONFIG_BYTES {
            let message = format!("it has {size} bytes; a configuration may have {MAX_CONFIG_BYTES}");
            return Err(ConfigError::Toml { path: path.to_owned(), message });
        }
        Self::parse(path, &std::fs::read_to_string(path).map_err(unreadable)?)
    }

    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let bad =
            |error: toml::de::Error| ConfigError::Toml { path: path.to_owned(), message: error.to_string() };
        let table: toml::Table = text.parse().map_err(bad)?;
        check_keys(path, &table, KEYS, "agent.toml")?;
        for (key, known, name) in TABLES {
            if let Some(toml::Value::Table(table)) = table.get(*key) {
                check_keys(path, table, known, name)?;
            }
        }
        toml::from_str(text).map_err(bad)
    }

    pub(super) fn resolve(self, flags: Overrides) -> Result<AgentConfig, ConfigError> {
        let written = match self.coordinator {
            _ if !flags.coordinators.is_empty() => flags.coordinators,
            Some(OneOrMany::One(url)) => vec![url],
            Some(OneOrMany::Many(urls)) => urls,
            None => vec![DEFAULT_COORDINATOR.to_owned()],
        };
        if written.is_empty() || written.len() > MAX_COORDINATORS {
            return Err(ConfigError::range("coordinator", &written.len(), "from 1 to 16 URLs"));
        }
        let id = match flags.id.or(self.id) {
            Some(id) => AgentId::new(id)?,
            None => default_id()?,
        };
        let mut labels = self.labels;
        labels.extend(flags.labels);
        let defaults = BenchLimits::default();
        let bytes = |size: Option<ByteSize>| size.map(ByteSize::bytes);
        let limits = BenchLimits {
            output_max_bytes: bytes(self.limits.output_max).unwrap_or(defaults.output_max_bytes),
            file_max_bytes: bytes(self.limits.file_max).unwrap_or(defaults.file_max_bytes),
            memory_max_bytes: bytes(self.limits.memory_max),
            processes_max: self.limits.processes_max,
            time_max: self.limits.time_max.map(|written| written.0),
        };
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
            sensor: self.sensor.resolve()?,
            allow_paths: self.allow_paths,
            lease_grace: self.lease_grace.map_or(Duration::ZERO, |written| written.0),
            drain_max: self.drain_max.map_or(Duration::from_mins(10), |written| written.0),
            tune: self.tune.resolve(self.tier)?,
            void: self.void.resolve(self.tier)?,
            probe: self.probe.resolve(self.tier),
            launcher: PathBuf::from("/proc/self/exe"),
            docker: self.docker.resolve(&limits)?,
            limits,
        };
        config.check()
    }
}

impl AgentConfig {
    fn check(self) -> Result<Self, ConfigError> {
        self.check_probe()?;
        if self.stage_ahead > MAX_STAGE_AHEAD {
            return Err(ConfigError::range("stage_ahead", &self.stage_ahead, "from 0 to 64"));
        }
        if self.stagers == 0 || self.stagers > MAX_STAGERS {
            return Err(ConfigError::range("stagers", &self.stagers, "from 1 to 16"));
        }
        if self.lease_grace > Duration::from_mins(1) {
            return Err(ConfigError::range(
                "lease_grace",
                &humantime::format_duration(self.lease_grace),
                "at most 1m",
            ));
        }
        if self.limits.output_max_bytes == 0 {
            return Err(ConfigError::range("limits.output_max", &0, "at least 1 byte"));
        }
        Ok(self)
    }
}

/// The tables of the file, each with its keys and its name for people.
const TABLES: &[(&str, &[&str], &str)] = &[
    ("limits", LIMIT_KEYS, "[limits]"),
    ("docker", DOCKER_KEYS, "[docker]"),
    ("tune", TUNE_KEYS, "[tune]"),
    ("void", VOID_KEYS, "[void]"),
    ("sensor", SENSOR_KEYS, "[sensor]"),
    ("probe", PROBE_KEYS, "[probe]"),
];

fn check_keys(
    path: &Path,
    table: &toml::Table,
    known: &'static [&'static str],
    name: &'static str,
) -> Result<(), ConfigError> {
    let Some(key) = table.keys().find(|key| !known.contains(&key.as_str())) else { return Ok(()) };
    Err(ConfigError::UnknownKey {
        path: path.to_owned(),
        key: key.escape_default().to_string(),
        table: name,
        nearest: nearest(key, known),
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
