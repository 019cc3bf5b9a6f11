//! What processes write: bounded, and readable at any time.

use darwin_agent::exec::{EndStatus, OutputFile};

use super::common::{Bench, config, shell, until};
#[tokio::test]
async fn a_flood_of_output_is_bounded() {
    let mut bench = Bench::start(&config("flood")).await;
    for script in ["exec yes", "yes", "yes >&2"] {
        let mut launch = shell(script);
        launch.limits.output_max_bytes = 1 << 20;
        launch.limits.file_max_bytes = 0;
        let (out, err) = (OutputFile::create("stdout").unwrap(), OutputFile::create("stderr").unwrap());
        let ended = bench.launcher.run(&launch, &out, &err).await.unwrap().wait().await.unwrap();
        assert_eq!(ended.status, EndStatus::OutputTooLarge { max_bytes: 1 << 20 });
        assert_eq!(ended.status.to_string(), "wrote more than 1 MiB to its output");
        assert!(out.len().unwrap() <= 1 << 20 && err.len().unwrap() <= (1 << 20) + 100);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut launch = shell(&format!("exec yes > {}/file", dir.path().display()));
    launch.limits.file_max_bytes = 2 << 20;
    launch.limits.output_max_bytes = 1 << 20;
    assert_eq!(bench.run(&launch).await.ended.status, EndStatus::FileTooLarge { max_bytes: 2 << 20 });
    bench.stop().await;
}

#[tokio::test]
async fn output_can_be_read_while_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let mut bench = Bench::start(&config("live")).await;
    let (out, err) = (OutputFile::create("stdout").unwrap(), OutputFile::create("stderr").unwrap());
    let launch = shell(&format!("echo one; while [ ! -e {} ]; do sleep 0.01; done; echo two", go.display()));
    let mut run = bench.launcher.run(&launch, &out, &err).await.unwrap();
    until("the first line is there", || out.len().unwrap() == 4).await;
    assert_eq!(out.read_from(0, 100).unwrap(), b"one\n");
    std::fs::write(&go, "").unwrap();
    assert_eq!(run.wait().await.unwrap().status, EndStatus::Exit(0));
    drop(run);
    assert_eq!(out.read_from(4, 100).unwrap(), b"two\n");
    bench.stop().await;
}
