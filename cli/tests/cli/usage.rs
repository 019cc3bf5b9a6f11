//! The command line itself: help, completions, and the exit codes of what cannot work.

use super::program::{darwin, stderr, stdout};

fn run(args: &[&str]) -> std::process::Output {
    let home = tempfile::tempdir().unwrap();
    darwin(home.path()).args(args).output().unwrap()
}

#[test]
fn help_reads_well() {
    insta::assert_snapshot!("help", stdout(&run(&["--help"])));
    insta::assert_snapshot!("help-compare", stdout(&run(&["compare", "--help"])));
    insta::assert_snapshot!("help-gate", stdout(&run(&["gate", "--help"])));
    insta::assert_snapshot!("help-measure", stdout(&run(&["measure", "--help"])));
}

#[test]
fn wrong_usage_is_code_2_and_on_standard_error() {
    for args in [
        &["nonsense"][..],
        &[],
        &["compare"],
        &["gate", "only-one.json"],
        &["measure", "--count", "0", "--", "true"],
        &["measure", "--rounds", "0", "--", "true"],
        &["job"],
        &["job", "show"],
        &["check", "--format", "yaml"],
        &["check", "--quiet", "--verbose"],
        &["check", "--coordinator", "https://example.com:1"],
        &["check", "--coordinator", "nonsense"],
        &["measure", "--detach", "--", "true"],
        &["measure", "--", ""],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        let said = stdout(&output);
        assert!(
            said.is_empty() || (said.lines().count() == 1 && said.contains("error=2")),
            "{args:?}: {said}"
        );
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn an_unknown_state_is_refused_with_those_that_there_are() {
    let output = run(&["job", "list", "--state", "running"]);
    assert_eq!(output.status.code(), Some(2));
    let told = stderr(&output);
    for state in [
        "queued",
        "active",
        "approve",
        "reject",
        "inconclusive",
        "measured",
        "failed",
        "cancelled",
        "expired",
        "parked",
    ] {
        assert!(told.contains(state), "{state}: {told}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for args in [&["--version"][..], &["-h"], &["job", "--help"], &["gate", "-h"]] {
        assert_eq!(run(args).status.code(), Some(0), "{args:?}");
    }
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains("compare"), "{shell}");
    }
}

#[test]
fn a_reader_that_has_had_enough_is_no_bug() {
    let home = tempfile::tempdir().unwrap();
    for args in [&["completions", "bash"][..], &["--help"], &["gate", "--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = std::process::Command::new(assert_cmd::cargo::cargo_bin("darwin"))
            .args(args)
            .current_dir(home.path())
            .stdout(writer)
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(0), "{args:?}");
    }
}

#[test]
fn an_absent_coordinator_is_code_7_and_says_what_to_do() {
    // Port 1 is reserved: nobody answers there.
    for args in [
        &["job", "list"][..],
        &["agent", "list"],
        &["check"],
        &["verdict", "show", "x"],
        &["measure", "--", "true"],
    ] {
        let output = run(&[&["--coordinator", "127.0.0.1:1"], args].concat());
        assert_eq!(output.status.code(), Some(7), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("http://127.0.0.1:1") && stderr(&output).contains("--coordinator"));
    }
}

#[test]
fn looking_where_nothing_was_run_is_code_7_and_makes_no_folder() {
    let home = tempfile::tempdir().unwrap();
    let output = darwin(home.path()).args(["job", "list"]).output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert!(stderr(&output).contains("DARWIN_COORDINATOR"), "{}", stderr(&output));
    assert!(!home.path().join("data").exists());
}

#[test]
fn an_empty_variable_means_no_coordinator() {
    let home = tempfile::tempdir().unwrap();
    let output = darwin(home.path()).args(["job", "list"]).env("DARWIN_COORDINATOR", "").output().unwrap();
    assert!(stderr(&output).contains("nothing was run here yet"), "{}", stderr(&output));
}
