//! The plugin by which pytest-benchmark answers the slice protocol, so that no bench need be rewritten for it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The plugin's text, of the same version as the agent.
const PLUGIN: &str = include_str!("../../../slice/python/darwin_slice.py");
/// Its name as a module.
const MODULE: &str = "darwin_slice";

/// Puts the plugin into a folder below this one, unless it is there; the folder's path, absolute.
pub(crate) fn install(state_dir: &Path) -> io::Result<PathBuf> {
    let folder = std::path::absolute(state_dir)?.join("python");
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{MODULE}.py"));
    if fs::read(&path).is_ok_and(|there| there == PLUGIN.as_bytes()) {
        return Ok(folder);
    }
    // Beside and renamed: another process may be importing it.
    let mut beside = tempfile::Builder::new().prefix(MODULE).suffix(".new").tempfile_in(&folder)?;
    beside.write_all(PLUGIN.as_bytes())?;
    fs::set_permissions(beside.path(), fs::Permissions::from_mode(0o644))?;
    beside.persist(&path).map_err(|error| error.error)?;
    Ok(folder)
}

/// Has pytest load the plugin from this folder, beside what the job itself wants loaded.
pub(crate) fn load_into(env: &mut BTreeMap<String, String>, folder: &Path) {
    let folder = folder.to_string_lossy();
    let path = match env.get("PYTHONPATH").filter(|path| !path.is_empty()) {
        Some(path) => format!("{folder}:{path}"),
        None => folder.into_owned(),
    };
    env.insert("PYTHONPATH".to_owned(), path);
    let plugins = match env.get("PYTEST_PLUGINS").filter(|plugins| !plugins.is_empty()) {
        Some(plugins) => format!("{plugins},{MODULE}"),
        None => MODULE.to_owned(),
    };
    env.insert("PYTEST_PLUGINS".to_owned(), plugins);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_put_there_once_and_loaded_beside_what_the_job_has() {
        let folder = tempfile::tempdir().unwrap();
        let python = install(folder.path()).unwrap();
        let path = python.join("darwin_slice.py");
        assert_eq!(fs::read_to_string(&path).unwrap(), PLUGIN);
        fs::write(&path, "stale").unwrap();
        assert_eq!(install(folder.path()).unwrap(), python);
        assert_eq!(fs::read_to_string(&path).unwrap(), PLUGIN);
        assert_eq!(fs::read_dir(&python).unwrap().count(), 1);

        let mut env = BTreeMap::new();
        load_into(&mut env, Path::new("/p"));
        assert_eq!((env["PYTHONPATH"].as_str(), env["PYTEST_PLUGINS"].as_str()), ("/p", "darwin_slice"));
        let mut env: BTreeMap<String, String> = [("PYTHONPATH", "src"), ("PYTEST_PLUGINS", "mine")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into();
        load_into(&mut env, Path::new("/p"));
        assert_eq!(
            (env["PYTHONPATH"].as_str(), env["PYTEST_PLUGINS"].as_str()),
            ("/p:src", "mine,darwin_slice")
        );
    }
}
