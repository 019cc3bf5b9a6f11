//! The program under test and the files that it is given.

use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;

/// `darwin` with nothing of this machine's in its environment, and state in a folder of its own.
pub(crate) fn darwin(home: &Path) -> Command {
    let mut command = Command::cargo_bin("darwin").unwrap();
    command.env_clear().env("HOME", home).env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("DARWIN_DATA_DIR", home.join("data")).current_dir(home);
    command
}

/// A real result file.
pub(crate) fn sample(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/tests/samples").join(name)
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
