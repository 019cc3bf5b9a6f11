//! The program as people and CI meet it: exit codes, standard output, files. No coordinator is needed here.

#[path = "cli/files.rs"]
mod files;
#[path = "cli/gate.rs"]
mod gate;
#[path = "cli/usage.rs"]
mod usage;

use std::path::PathBuf;

use assert_cmd::Command;

/// `darwin` with nothing of this machine's in its environment, and state in a folder of its own.
fn darwin(home: &std::path::Path) -> Command {
    let mut command = Command::cargo_bin("darwin").expect("the binary is built with its tests");
    command.env_clear().env("HOME", home).env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("DARWIN_DATA_DIR", home.join("data")).current_dir(home);
    command
}

/// A real result file.
fn sample(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/tests/samples").join(name)
}

fn stdout(output: &std::process::Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("standard output is text")
}

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("standard error is text")
}
