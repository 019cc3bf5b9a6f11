//! What is written and read of the user's own: `darwin init`, `darwin.toml`, the config file.

use super::program::{darwin, stderr, stdout};

#[test]
fn init_writes_a_file_that_reads_and_never_overwrites() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("requirements.txt"), "pytest-benchmark\n").unwrap();
    let output = darwin(home.path()).arg("init").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = std::fs::read_to_string(home.path().join("darwin.toml")).unwrap();
    assert!(text.contains("pytest-benchmark") && text.contains('#'), "{text}");
    // It is good enough to be submitted: what is missing is only a commit to compare.
    let compare = darwin(home.path())
        .args(["compare", "--baseline", "dir:a", "--challenger", "dir:b"])
        .output()
        .unwrap();
    assert!(stderr(&compare).contains("cannot read a"), "{}", stderr(&compare));

    std::fs::write(home.path().join("darwin.toml"), "mine").unwrap();
    let again = darwin(home.path()).arg("init").output().unwrap();
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("left as it is"));
    assert_eq!(std::fs::read_to_string(home.path().join("darwin.toml")).unwrap(), "mine");
}

#[test]
fn a_bad_darwin_toml_is_shown_with_its_line() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("darwin.toml"), "project = \"p\"\n[suite.a]\nrunn = \"true\"\n").unwrap();
    let output =
        darwin(home.path()).args(["compare", "--baseline", "main", "--challenger", "HEAD"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.contains("runn = \"true\"") && text.contains("darwin.toml"), "{text}");
    assert!(!home.path().join("data").exists(), "nothing is started for a bad file");
}

#[test]
fn without_darwin_toml_it_says_how_to_get_one() {
    let home = tempfile::tempdir().unwrap();
    let output =
        darwin(home.path()).args(["compare", "--baseline", "main", "--challenger", "HEAD"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("darwin init"), "{}", stderr(&output));
}

#[test]
fn the_suite_and_the_commits_are_looked_up_before_anything_is_started() {
    let home = tempfile::tempdir().unwrap();
    let toml = "project = \"p\"\n[suite.a]\nrun = \"true\"\nformat = \"process\"\n";
    std::fs::write(home.path().join("darwin.toml"), toml).unwrap();
    let compare = |suite: &str, baseline: &str| {
        let args = ["compare", "--suite", suite, "--baseline", baseline, "--challenger", "HEAD"];
        let output = darwin(home.path()).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        stderr(&output)
    };
    assert!(compare("b", "HEAD").contains('a'));
    assert!(compare("a", "main").contains("not in a git repository"));
    assert!(compare("a", "champion").contains("not yet available"));
    assert!(compare("a", "path:relative").contains("must start with `/`"));
    assert!(!home.path().join("data").exists());
}

#[test]
fn the_users_config_file_names_the_coordinator() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join(".config/darwin");
    std::fs::create_dir_all(&folder).unwrap();
    // Port 1 is reserved: nobody answers there.
    std::fs::write(folder.join("config.toml"), "coordinator = \"http://127.0.0.1:1\"\n").unwrap();
    let output = darwin(home.path()).args(["job", "list"]).output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert!(stderr(&output).contains("http://127.0.0.1:1"), "{}", stderr(&output));

    std::fs::write(folder.join("config.toml"), "coordinater = \"x\"\n").unwrap();
    let output = darwin(home.path()).args(["job", "list"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("coordinater"), "{}", stderr(&output));
    // What needs no coordinator does not care.
    assert_eq!(darwin(home.path()).args(["completions", "bash"]).output().unwrap().status.code(), Some(0));
    assert!(!stdout(&output).contains("verdict"));
}
