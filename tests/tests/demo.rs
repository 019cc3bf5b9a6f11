//! The demo, as a newcomer starts it: real pytest-benchmark runs, one APPROVE, one REJECT.

use std::process::Command;

use anyhow::{Result, ensure};
use darwin_tests::{Finished, World};

#[test]
fn the_demo_ends_with_both_verdicts() -> Result<()> {
    let python = Command::new("python3").args(["-c", "import venv, ensurepip"]).output();
    if !python.is_ok_and(|output| output.status.success()) {
        eprintln!("not run: python3 with venv is needed");
        return Ok(());
    }
    let world = World::new()?;
    let mut demo = world.command(&["demo"]);
    let done = Finished::from(demo.env_remove("DARWIN_COORDINATOR").output()?);
    ensure!(done.code == 0, "{}\n{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("APPROVE") && done.stdout.contains("REJECT"), "{}", done.stdout);
    Ok(())
}
