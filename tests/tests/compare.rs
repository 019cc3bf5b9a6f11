//! A coordinator and two agents on loopback, a user's git repository, and what comes back from `darwin compare`.

use anyhow::{Result, ensure};
use darwin_tests::{Suite, World, finish, proc_fs};

const QUICK: [&str; 4] = ["--lease", "3s", "--grace", "1s"];

fn compare(challenger: &str) -> [&str; 7] {
    ["compare", "--suite", "orders", "--baseline", "main", "--challenger", challenger]
}

#[test]
fn verdicts_arrive_and_everything_can_be_looked_at() -> Result<()> {
    let world = World::new()?;
    let _coordinator = world.coordinator(&QUICK)?;
    let _first = world.agent("first", &[])?;
    let _second = world.agent("second", &[])?;
    let suite = Suite::create(world.folder(), "30s")?;

    let faster = world.darwin_in(&suite.folder, &compare("faster"))?;
    ensure!(faster.code == 0, "{faster:?}");
    assert!(faster.stdout.contains("APPROVE"), "{}", faster.stdout);
    assert!(
        faster.stdout.lines().last().is_some_and(|line| line.starts_with("verdict=APPROVE job=")),
        "{faster:?}"
    );

    let slower = world.darwin_in(&suite.folder, &compare("slower"))?;
    ensure!(slower.code == 1, "{slower:?}");
    assert!(slower.stdout.contains("REJECT") && slower.stdout.contains("+20"), "{}", slower.stdout);

    let list = world.darwin(&["job", "list"])?;
    assert!(list.stdout.contains("approve") && list.stdout.contains("reject"), "{}", list.stdout);
    let agents = world.darwin(&["agent", "list"])?;
    assert!(agents.stdout.contains("first") && agents.stdout.contains("second"), "{}", agents.stdout);
    let check = world.darwin(&["check"])?;
    assert!(check.code == 0 || check.code == 4, "{check:?}");

    let job =
        slower.stdout.lines().last().and_then(|line| line.split_whitespace().nth(1)).unwrap_or_default();
    let job = job.trim_start_matches("job=");
    let shown = world.darwin(&["verdict", "show", job])?;
    assert!(shown.stdout.contains("REJECT"), "{shown:?}");
    let history =
        world.darwin(&["history", "--suite", "orders", "--project", "e2e", "--metric", "latency.p50"])?;
    assert!(history.stdout.contains("orders/add"), "{history:?}");
    Ok(())
}

#[test]
fn a_change_that_breaks_a_unit_test_is_not_measured() -> Result<()> {
    let world = World::new()?;
    let _coordinator = world.coordinator(&QUICK)?;
    let _agent = world.agent("only", &[])?;
    let suite = Suite::create(world.folder(), "30s")?;
    let broken = world.darwin_in(&suite.folder, &compare("broken"))?;
    assert_eq!(broken.code, 5, "{broken:?}");
    let all = format!("{}{}", broken.stdout, broken.stderr);
    assert!(all.contains("check") && all.contains("assert best_bid == 101"), "{all}");
    let history = world.darwin(&["history", "--suite", "orders", "--project", "e2e"])?;
    assert!(!history.stdout.contains("orders/add"), "it was measured: {}", history.stdout);
    Ok(())
}

#[test]
fn a_bench_runs_on_its_leased_core_alone() -> Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    let world = World::new()?;
    let _coordinator = world.coordinator(&QUICK)?;
    let _agent = world.agent("only", &[])?;
    let suite = Suite::create(world.folder(), "30s")?;
    let child = world.spawn_in(&suite.folder, &compare("faster"))?;
    let mut seen = Vec::new();
    world.wait_until("a bench is seen", || {
        seen = proc_fs::with_command("bench.sh /");
        Ok(!seen.is_empty())
    })?;
    for bench in &seen {
        // One CPU, and where there are more than one not the first, which is the housekeeping's.
        assert!(bench.cpus_allowed.parse::<u32>().is_ok_and(|cpu| cores == 1 || cpu != 0), "{bench:?}");
    }
    let done = finish(child)?;
    ensure!(done.code == 0, "{done:?}");
    Ok(())
}
