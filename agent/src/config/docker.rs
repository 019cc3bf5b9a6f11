//! The table `[docker]`: whether images are run here, which, and as whom.

use std::path::PathBuf;

use darwin_shared::units::ByteSize;
use serde::Deserialize;

use super::{BenchLimits, ConfigError};
use crate::exec::RunAs;

/// Where the daemon listens unless it is told otherwise.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// The user and group of a container when the agent is root: numbers that no distribution gives to anybody.
const NOBODY: u32 = 65_532;
/// The least that Docker takes for a limit on memory.
const LEAST_MEMORY_BYTES: u64 = 6 << 20;
/// The most processes of a container unless a bound is set.
const PROCESSES: u64 = 4096;
/// The most patterns in `images`.
const MAX_PATTERNS: usize = 1000;

/// How images are run on this box. Table `[docker]`; none unless it has `enabled = true`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerConfig {
    /// The daemon's socket. Key `socket`; `/var/run/docker.sock` unless set.
    pub socket: PathBuf,
    /// Patterns of the images' names that may be run, such as `"engine*"`: one must match the name as it was given, or
    /// the name without tag and digest. Key `images`; any image unless set.
    pub images: Option<Vec<String>>,
    /// Whether images may come along as archives, whose names nobody vouches for. Key `archives`; true unless `images`
    /// is set.
    pub archives: bool,
    /// Whom processes in containers run as. Key `user`, as in `"65532:65532"`; 65532 unless set, or the agent's own
    /// user where that is not root.
    pub user: RunAs,
    /// The most memory of a container, with all that it writes to `/tmp` and its result, in bytes. Key `memory_max`;
    /// that of `[limits]` unless set, else half of the box's.
    pub memory_max_bytes: Option<u64>,
    /// The most processes and threads in a container. Key `processes_max`; that of `[limits]` unless set, else 4096.
    pub processes_max: u64,
    /// Whether an image that is not here is pulled from its registry. Key `pull`; false unless set.
    pub pull: bool,
}

/// The table as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FileDocker {
    enabled: bool,
    socket: Option<PathBuf>,
    images: Option<Vec<String>>,
    archives: Option<bool>,
    user: Option<String>,
    memory_max: Option<ByteSize>,
    processes_max: Option<u64>,
    pull: bool,
}

/// The table's keys.
pub(super) const DOCKER_KEYS: &[&str] =
    &["enabled", "socket", "images", "archives", "user", "memory_max", "processes_max", "pull"];

impl FileDocker {
    /// What the table comes to, checked also where nothing is enabled by it.
    pub(super) fn resolve(self, limits: &BenchLimits) -> Result<Option<DockerConfig>, ConfigError> {
        let config = DockerConfig {
            socket: self.socket.unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET)),
            archives: self.archives.unwrap_or(self.images.is_none()),
            images: self.images,
            user: self.user.as_deref().map_or_else(|| Ok(own_user()), user)?,
            memory_max_bytes: self.memory_max.map(ByteSize::bytes).or(limits.memory_max_bytes),
            processes_max: self.processes_max.or(limits.processes_max).unwrap_or(PROCESSES),
            pull: self.pull,
        };
        if let Some(bytes) = config.memory_max_bytes.filter(|bytes| *bytes < LEAST_MEMORY_BYTES) {
            return Err(ConfigError::range("docker.memory_max", &bytes, "at least 6 MiB"));
        }
        // One is the container's own init.
        if config.processes_max < 2 {
            return Err(ConfigError::range("docker.processes_max", &config.processes_max, "at least 2"));
        }
        for pattern in config.images.iter().flatten() {
            if globset::Glob::new(pattern).is_err() {
                let got = pattern.escape_default();
                return Err(ConfigError::range("docker.images", &got, "a list of patterns like \"engine*\""));
            }
        }
        if config.images.as_ref().is_some_and(|patterns| patterns.len() > MAX_PATTERNS) {
            return Err(ConfigError::range("docker.images", &"too long", "at most 1000 patterns"));
        }
        Ok(self.enabled.then_some(config))
    }
}

/// The agent's own user, unless that is root.
fn own_user() -> RunAs {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    if uid.is_root() {
        RunAs { uid: NOBODY, gid: NOBODY }
    } else {
        RunAs { uid: uid.as_raw(), gid: gid.as_raw() }
    }
}

/// `UID` or `UID:GID`: an image's names of users mean nothing to the box.
fn user(text: &str) -> Result<RunAs, ConfigError> {
    let refuse = || {
        let got: String = text.escape_default().take(60).collect();
        ConfigError::range(
            "docker.user",
            &got,
            "a user's number other than 0, with its group's as in \"65532:65532\"",
        )
    };
    let (uid, gid) = text.split_once(':').unwrap_or((text, text));
    let number = |text: &str| text.parse::<u32>().ok().filter(|id| *id > 0).ok_or_else(refuse);
    Ok(RunAs { uid: number(uid)?, gid: number(gid)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<DockerConfig>, ConfigError> {
        let file: FileDocker = toml::from_str(text).unwrap();
        file.resolve(&BenchLimits { memory_max_bytes: Some(1 << 30), ..BenchLimits::default() })
    }

    #[test]
    fn nothing_is_run_unless_it_is_enabled() {
        assert_eq!(read("").unwrap(), None);
        assert_eq!(read("pull = true").unwrap(), None);
        let config = read("enabled = true").unwrap().unwrap();
        assert_eq!(config.socket, PathBuf::from(DEFAULT_SOCKET));
        assert!(config.archives && config.images.is_none() && !config.pull && config.user.uid != 0);
        assert_eq!((config.memory_max_bytes, config.processes_max), (Some(1 << 30), PROCESSES));
    }

    #[test]
    fn an_allow_list_does_not_let_archives_past_it() {
        let config = read("enabled = true\nimages = [\"engine*\"]").unwrap().unwrap();
        assert!(!config.archives);
        let config = read("enabled = true\nimages = [\"engine*\"]\narchives = true").unwrap().unwrap();
        assert!(config.archives);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, said) in [
            ("user = \"root\"", "docker.user"),
            ("user = \"0\"", "docker.user"),
            ("user = \"1000:0\"", "docker.user"),
            ("memory_max = \"1 MiB\"", "at least 6 MiB"),
            ("processes_max = 1", "at least 2"),
            ("images = [\"a[\"]", "docker.images"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        let user = read("enabled = true\nuser = \"1000:1001\"").unwrap().unwrap().user;
        assert_eq!(user, RunAs { uid: 1000, gid: 1001 });
    }
}
