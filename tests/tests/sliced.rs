//! Pairs whose two processes take turns in slices: those that do, those that cannot, and those that break off.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use darwin_tests::{Finished, World, proc_fs};

const BENCH: &str = env!("CARGO_BIN_EXE_slice-bench");

const DARWIN_TOML: &str = r#"project = "e2e"

[suite.orders]
run     = ["BENCH", "{output}"]
format  = "darwin-samples"
timeout = "20s"
plan    = "PLAN"

[suite.orders.cores]
isolation = "none"

[suite.orders.gate.metric."latency.p50"]
margin = "1%"

[suite.orders.budget]
rounds = { min = 1, max = 14 }
"#;

/// Two folders that are compared, and the suite's own with its `darwin.toml`.
struct Sides {
    folder: PathBuf,
}

impl Sides {
    fn new(world: &World, plan: &str) -> Result<Self> {
        let folder = world.folder().join("suite");
        let sides = Self { folder };
        for side in ["a", "b"] {
            std::fs::create_dir_all(sides.folder.join(side))?;
        }
        sides.plan(plan)?;
        Ok(sides)
    }

    fn plan(&self, plan: &str) -> Result<()> {
        let text = DARWIN_TOML.replace("PLAN", plan).replace("BENCH", BENCH);
        Ok(std::fs::write(self.folder.join("darwin.toml"), text)?)
    }

    fn behave(&self, baseline: &str, challenger: &str) -> Result<()> {
        for (side, behaviour) in [("a", baseline), ("b", challenger)] {
            std::fs::write(self.folder.join(side).join("behaviour"), behaviour)?;
        }
        Ok(())
    }

    fn arguments(&self) -> [String; 7] {
        let dir = |side: &str| format!("dir:{}", self.folder.join(side).display());
        ["compare", "--suite", "orders", "--baseline", &dir("a"), "--challenger", &dir("b")]
            .map(str::to_owned)
    }

    fn compare(&self, world: &World, more: &[&str]) -> Result<Finished> {
        let arguments = self.arguments();
        let all: Vec<&str> = arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
        world.darwin_in(&self.folder, &all)
    }
}

fn benches() -> Vec<proc_fs::Seen> {
    proc_fs::with_command(BENCH)
}

#[test]
fn benches_that_answer_take_turns_and_the_report_says_so() -> Result<()> {
    let world = World::new()?;
    let _coordinator = world.coordinator(&[])?;
    let _agent = world.agent("only", &[])?;
    let sides = Sides::new(&world, "auto")?;
    sides.behave("cost 100000\nbenches add,cancel\n", "cost 80000\nbenches add,cancel\n")?;
    let done = sides.compare(&world, &[])?;
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains("sliced pairs: 30 slices of 5ms or more"), "{done:?}");
    assert!(done.stdout.contains("APPROVE"), "{done:?}");
    let done = sides.compare(&world, &["--format", "json"])?;
    assert!(done.stdout.contains("\"plan\": \"sliced pairs: 30 slices of 5ms or more\""), "{done:?}");
    assert!(benches().is_empty());

    sides.plan("pairs")?;
    let done = sides.compare(&world, &[])?;
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains("plain pairs: `plan` says so"), "{done:?}");
    Ok(())
}

#[test]
fn who_cannot_take_turns_is_measured_plainly_or_refused() -> Result<()> {
    let world = World::new()?;
    let _coordinator = world.coordinator(&[])?;
    let _agent = world.agent("only", &[])?;
    let sides = Sides::new(&world, "auto")?;
    let able = "cost 100000\n";
    let cases = [
        ("cost 80000\nsilent\n", "the challenger's harness does not answer the slice protocol"),
        ("cost 80000\nbenches add,new\n", "only the challenger has the bench `new`"),
        ("cost 80000\nbenches new,add\n", "where the baseline has the bench `add`, the challenger has `new`"),
        ("cost 80000\ngarbles\n", "the challenger wrote byte 0x77"),
        ("cost 80000\nhangs\n", "the challenger did not end a slice within 1."),
    ];
    for (challenger, why) in cases {
        sides.plan("auto")?;
        sides.behave(able, challenger)?;
        let done = sides.compare(&world, &[])?;
        assert_eq!(done.code, 0, "{challenger}: {done:?}");
        assert!(done.stdout.contains(&format!("plain pairs: {why}")), "{challenger}: {done:?}");
        sides.plan("sliced")?;
        let done = sides.compare(&world, &[])?;
        assert_eq!(done.code, 5, "{challenger}: {done:?}");
        let all = format!("{}{}", done.stdout, done.stderr);
        assert!(all.contains("cannot be measured in slices") && all.contains(why), "{challenger}: {all}");
    }
    sides.behave("silent\n", "silent\n")?;
    sides.plan("auto")?;
    let done = sides.compare(&world, &[])?;
    assert!(done.stdout.contains("plain pairs: the harness does not answer the slice protocol"), "{done:?}");
    // A death is the candidate's own, as ever.
    sides.behave(able, "dies\n")?;
    let done = sides.compare(&world, &[])?;
    assert_eq!(done.code, 5, "{done:?}");
    assert!(done.stdout.contains("run of the challenger") && done.stdout.contains("exit code 3"), "{done:?}");
    assert!(benches().is_empty());
    Ok(())
}

#[test]
fn nothing_is_left_of_a_pair_whose_agent_is_killed_or_whose_job_is_cancelled() -> Result<()> {
    let world = World::new()?;
    let _coordinator = world.coordinator(&["--lease", "3s", "--grace", "1s"])?;
    let mut agent = world.agent("only", &[])?;
    let sides = Sides::new(&world, "sliced")?;
    sides.behave("", "naps\n")?;
    let arguments = sides.arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut job = world.spawn_in(&sides.folder, &arguments)?;
    world.wait_until("both processes are alive", || Ok(benches().len() == 2))?;
    agent.kill_9()?;
    world.wait_until("nothing is left of them", || Ok(benches().is_empty()))?;
    job.kill()?;
    job.wait()?;

    let _agent = world.agent("other", &[])?;
    world.wait_until("both processes are alive again", || Ok(benches().len() == 2))?;
    let list = world.darwin(&["job", "list", "--format", "json"])?;
    let id = job_id(&list.stdout)?;
    let done = world.darwin(&["job", "cancel", &id])?;
    ensure!(done.code == 0, "{done:?}");
    world.wait_until("nothing is left of them", || Ok(benches().is_empty()))?;
    Ok(())
}

fn job_id(list: &str) -> Result<String> {
    let at = list.find("\"job_id\"").context("no job is listed")?;
    let id = list[at..].split('"').nth(3).context("a job without an id")?;
    Ok(id.to_owned())
}

/// The real thing: pytest-benchmark with the plugin that the agent loads. Needs Python with pytest-benchmark.
#[test]
fn pytest_benchmark_answers_by_the_agents_plugin() -> Result<()> {
    let Some(python) = python_with_pytest_benchmark() else {
        eprintln!("not run: no python3 with pytest-benchmark (set DARWIN_TEST_PYTHON to one)");
        return Ok(());
    };
    let world = World::new()?;
    let _coordinator = world.coordinator(&[])?;
    let _agent = world.agent("only", &[])?;
    let sides = Sides::new(&world, "sliced")?;
    let toml = DARWIN_TOML
        .replace("PLAN", "sliced")
        .replace(
            "[\"BENCH\", \"{output}\"]",
            &format!("\"{python} -m pytest -q --benchmark-json={{output}}\""),
        )
        .replace("darwin-samples", "pytest-benchmark");
    std::fs::write(sides.folder.join("darwin.toml"), toml)?;
    for (side, calls) in [("a", 3000), ("b", 1000)] {
        let bench = format!("def test_sum(benchmark):\n    benchmark(lambda: sum(range({calls})))\n");
        std::fs::write(sides.folder.join(side).join("test_sum.py"), bench)?;
    }
    let done = sides.compare(&world, &[])?;
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains("sliced pairs"), "{done:?}");
    Ok(())
}

fn python_with_pytest_benchmark() -> Option<String> {
    let python = std::env::var("DARWIN_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let found =
        Command::new(&python).args(["-c", "import pytest_benchmark"]).current_dir(Path::new("/")).output();
    found.ok()?.status.success().then_some(python)
}
