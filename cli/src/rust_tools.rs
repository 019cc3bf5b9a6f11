//! Where Rust's tools are on this machine, for the small environment that commands get.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where every command finds programs, whoever runs the agent.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// The variables with which commands find `cargo` and its folders; none if the system's own folders have it, or if it is
/// nowhere to be found. `variable` tells what this process has in its environment.
pub(crate) fn environment(variable: &dyn Fn(&str) -> Option<OsString>) -> BTreeMap<String, String> {
    let path = variable("PATH").unwrap_or_default();
    let Some(folder) = std::env::split_paths(&path).find(|folder| folder.join("cargo").is_file()) else {
        return BTreeMap::new();
    };
    if SYSTEM_FOLDERS.iter().any(|system| folder == Path::new(system)) {
        return BTreeMap::new();
    }
    let home = variable("HOME").map(PathBuf::from);
    let own = |name: &str, usual: &str| {
        let said = variable(name).filter(|said| !said.is_empty()).map(PathBuf::from);
        said.or_else(|| Some(home.as_ref()?.join(usual))).filter(|folder| folder.is_dir())
    };
    let folders = std::iter::once(folder).chain(SYSTEM_FOLDERS.iter().map(PathBuf::from));
    let found = [
        ("PATH", std::env::join_paths(folders).ok().map(PathBuf::from)),
        ("CARGO_HOME", own("CARGO_HOME", ".cargo")),
        ("RUSTUP_HOME", own("RUSTUP_HOME", ".rustup")),
    ];
    let text = |path: PathBuf| path.to_str().map(str::to_owned);
    found.into_iter().filter_map(|(name, value)| Some((name.to_owned(), text(value?)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(variables: &[(&str, &Path)]) -> BTreeMap<String, String> {
        environment(&|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.as_os_str().to_owned())
        })
    }

    #[test]
    fn tools_below_a_home_are_named_and_the_systems_are_not() {
        let home = tempfile::tempdir().unwrap();
        let (bin, rustup) = (home.path().join(".cargo/bin"), home.path().join(".rustup"));
        std::fs::create_dir_all(&bin).unwrap();
        assert_eq!(told(&[("HOME", home.path()), ("PATH", &bin)]), BTreeMap::new(), "no cargo yet");
        std::fs::write(bin.join("cargo"), "").unwrap();
        let env = told(&[("HOME", home.path()), ("PATH", &bin)]);
        assert_eq!(env["PATH"], format!("{}:/usr/local/bin:/usr/bin:/bin", bin.display()));
        assert_eq!(env["CARGO_HOME"], home.path().join(".cargo").display().to_string());
        assert!(!env.contains_key("RUSTUP_HOME"), "it is not there");
        std::fs::create_dir(&rustup).unwrap();
        let elsewhere = told(&[("RUSTUP_HOME", &rustup), ("PATH", &bin)]);
        assert_eq!(elsewhere["RUSTUP_HOME"], rustup.display().to_string());
        assert!(!elsewhere.contains_key("CARGO_HOME"), "there is no home");
        assert_eq!(told(&[]), BTreeMap::new());
    }
}
