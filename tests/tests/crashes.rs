//! `kill -9` of either side in the middle of a compare: one verdict, and nothing left behind.

use anyhow::{Result, ensure};
use darwin_tests::{Suite, World, finish, proc_fs};

const QUICK: [&str; 4] = ["--lease", "3s", "--grace", "1s"];
const SLOWER: [&str; 7] = ["compare", "--suite", "orders", "--baseline", "main", "--challenger", "slower"];

#[test]
fn a_compare_outlives_its_coordinator() -> Result<()> {
    let world = World::new()?;
    let mut coordinator = world.coordinator(&QUICK)?;
    let _agent = world.agent("only", &[])?;
    let suite = Suite::create(world.folder(), "30s")?;
    let child = world.spawn_in(&suite.folder, &SLOWER)?;
    world.wait_until("some rounds are in", || {
        Ok(world.darwin(&["history", "--suite", "orders", "--project", "e2e"])?.stdout.contains("orders/add"))
    })?;
    coordinator.kill_9()?;
    std::thread::sleep(std::time::Duration::from_millis(500));
    let _again = world.coordinator(&QUICK)?;
    let done = finish(child)?;
    ensure!(done.code == 1, "{done:?}");
    assert!(done.stdout.contains("REJECT"), "{}", done.stdout);
    let rejected = world.darwin(&["job", "list", "--state", "reject"])?;
    assert_eq!(rejected.stdout.matches("compare").count(), 1, "one verdict: {}", rejected.stdout);
    Ok(())
}

#[test]
fn another_agent_takes_over_from_a_dead_one() -> Result<()> {
    let world = World::new()?;
    let _coordinator = world.coordinator(&QUICK)?;
    let mut first = world.agent("first", &[])?;
    let suite = Suite::create(world.folder(), "30s")?;
    let child = world.spawn_in(&suite.folder, &SLOWER)?;
    let its_folder = world.folder().join("first");
    world.wait_until("the first agent measures", || {
        Ok(proc_fs::working_below(&its_folder).iter().any(|seen| seen.command.contains("bench.sh")))
    })?;
    let _second = world.agent("second", &[])?;
    first.kill_9()?;
    world.wait_until("nothing of the first agent runs", || {
        Ok(proc_fs::working_below(&its_folder).is_empty())
    })?;
    let done = finish(child)?;
    ensure!(done.code == 1, "{done:?}");
    let shown = world.darwin(&["job", "list"])?;
    assert!(shown.stdout.contains("second"), "{}", shown.stdout);
    Ok(())
}
