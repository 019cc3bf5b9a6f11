//! Where things are: the coordinator, the user's config file, the data folder. Reads at most one small file.

use std::path::{Path, PathBuf};

use etcetera::app_strategy::{AppStrategy, AppStrategyArgs, choose_app_strategy};
use serde::Deserialize;

use crate::failure::Failed;

/// The user's config file holds a line or two.
const MAX_CONFIG_BYTES: u64 = 64 << 10;
/// The word for the coordinator in this process.
const EMBEDDED: &str = "embedded";

/// Which coordinator a command talks to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// One that runs already, at this URL.
    Remote(String),
    /// One in this process.
    Embedded,
}

/// `config.toml` in the user's config folder.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserConfig {
    coordinator: Option<String>,
}

impl Target {
    /// What the command line or the environment says, else the user's config file, else the embedded one.
    pub(crate) fn choose(given: Option<&str>) -> Result<Self, Failed> {
        match given {
            Some(text) if !text.trim().is_empty() => {
                Self::parse(text).map_err(|e| Failed::usage(format!("--coordinator: {e}")))
            }
            _ => match user_config()? {
                (Some(text), path) => Self::parse(&text)
                    .map_err(|e| Failed::usage(format!("`coordinator` in {}: {e}", path.display()))),
                (None, _) => Ok(Self::Embedded),
            },
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim().trim_end_matches('/');
        if text == EMBEDDED {
            return Ok(Self::Embedded);
        }
        if text.starts_with("https://") {
            return Err(
                "https is not yet available: coordinators listen on loopback, as http://127.0.0.1:PORT"
                    .to_owned(),
            );
        }
        let authority = text.strip_prefix("http://").unwrap_or(text);
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if !has_port || authority.contains(['/', ' ', '@', '?']) {
            let shown = darwin_shared::report::visible(text);
            return Err(format!("`{shown}` is not an address: write http://HOST:PORT, or `embedded`"));
        }
        Ok(Self::Remote(format!("http://{authority}")))
    }
}

fn user_config() -> Result<(Option<String>, PathBuf), Failed> {
    let Some(dirs) = project_dirs() else { return Ok((None, PathBuf::new())) };
    let path = dirs.config_dir().join("config.toml");
    let text = match read_small(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((None, path)),
        Err(e) => return Err(Failed::usage(format!("cannot read {}: {e}", path.display()))),
    };
    let config: UserConfig = toml::from_str(&text).map_err(|e| {
        Failed::usage(format!(
            "{} is not usable; it may hold `coordinator = \"http://HOST:PORT\"`:\n{e}",
            path.display()
        ))
    })?;
    Ok((config.coordinator, path))
}

/// The text of a file that must be small.
pub(crate) fn read_small(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_CONFIG_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_CONFIG_BYTES {
        return Err(std::io::Error::other("it is larger than 64 KiB"));
    }
    Ok(text)
}

fn project_dirs() -> Option<impl AppStrategy> {
    let args = AppStrategyArgs { app_name: "darwin".to_owned(), ..AppStrategyArgs::default() };
    choose_app_strategy(args).ok()
}

/// Where the embedded coordinator and agent keep their state: `DARWIN_DATA_DIR`, or the user's data folder.
pub(crate) fn data_dir() -> Result<PathBuf, Failed> {
    if let Some(dir) = std::env::var_os("DARWIN_DATA_DIR").filter(|dir| !dir.is_empty()) {
        return std::path::absolute(dir).map_err(|e| Failed::usage(format!("DARWIN_DATA_DIR: {e}")));
    }
    let dirs = project_dirs().ok_or_else(|| {
        Failed::usage("there is no home directory to keep state in: set DARWIN_DATA_DIR to a folder")
    })?;
    Ok(dirs.data_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_people_write_them() {
        let remote = |url: &str| Ok(Target::Remote(url.to_owned()));
        assert_eq!(Target::parse("http://127.0.0.1:7400/"), remote("http://127.0.0.1:7400"));
        assert_eq!(Target::parse(" localhost:7400"), remote("http://localhost:7400"));
        assert_eq!(Target::parse("[::1]:7400"), remote("http://[::1]:7400"));
        assert_eq!(Target::parse("embedded"), Ok(Target::Embedded));
        for bad in ["localhost", "http://x", "https://x:1", "ftp://x:1", "x:99999", ":7400", "http://a@b:1"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }
}
