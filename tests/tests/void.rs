//! A round that others disturb is void: it is measured again, and told of.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use darwin_tests::{Suite, World, finish};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::Value;

/// So many neighbours on the leased core leave the bench less than a tenth of it. A machine that builds something beside
/// the test takes less than what the limit below forgives.
const NEIGHBOURS: usize = 16;
const AGENT_TOML: &str = "[void]\nforeign_percent = 80.0\nforgive = [\"stolen\"]\n";
/// Computes for some tenths of a second.
const WORKS: &str = "HANG='awk \"BEGIN { for (i = 0; i < 3000000; i++) x += i }\"'\n";

/// Processes that compute without end, each pinned on the same CPU; ended when they are dropped.
struct Neighbours(Vec<Child>);

impl Neighbours {
    fn on(cpu: usize) -> Result<Self> {
        let mut neighbours = Self(Vec::new());
        let mut there = CpuSet::new();
        there.set(cpu)?;
        // Where the kernel shares out time by session, each needs one of its own.
        let autogroup =
            std::fs::read_to_string("/proc/sys/kernel/sched_autogroup_enabled").unwrap_or_default();
        for _ in 0..NEIGHBOURS {
            let mut command =
                if autogroup.trim() == "1" { Command::new("setsid") } else { Command::new("env") };
            command.args(["sh", "-c", "while :; do :; done"]).stdin(Stdio::null()).stdout(Stdio::null());
            let child = command.spawn().context("cannot start a neighbour")?;
            let pid = Pid::from_raw(i32::try_from(child.id())?);
            neighbours.0.push(child);
            sched_setaffinity(pid, &there)?;
        }
        Ok(neighbours)
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may have been ended by somebody else.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn agent_toml(world: &World) -> Result<String> {
    let path = world.folder().join("agent.toml");
    std::fs::write(&path, AGENT_TOML)?;
    Ok(path.display().to_string())
}

/// The newest job, as `darwin job show` tells it; null while there is none.
fn newest(world: &World, folder: &Path) -> Result<Value> {
    let list = world.darwin_in(folder, &["job", "list", "--format", "json"])?;
    let Some(id) = list.json().ok().and_then(|list| list["jobs"][0]["job_id"].as_str().map(str::to_owned))
    else {
        return Ok(Value::Null);
    };
    Ok(world.darwin_in(folder, &["job", "show", &id, "--format", "json"])?.json().unwrap_or(Value::Null))
}

#[test]
fn a_disturbed_round_is_measured_again_and_the_verdict_stands() -> Result<()> {
    let world = World::new()?;
    let _coordinator = world.coordinator(&[])?;
    let agent = world.agent("only", &["--config", &agent_toml(&world)?])?;
    let suite = Suite::create(world.folder(), "50s")?;
    suite.branch("steady", "cost", &format!("COST=100\n{WORKS}"))?;
    suite.branch("quicker", "cost", &format!("COST=80\n{WORKS}"))?;
    let compare = ["compare", "--suite", "orders", "--baseline", "steady", "--challenger", "quicker"];
    let child = world.spawn_in(&suite.folder, &[&compare[..], &["--format", "json"]].concat())?;

    let mut cpu = None;
    world
        .wait_until("a round is measured", || {
            let progress = &newest(&world, &suite.folder)?["progress"];
            cpu = progress["cpus"].as_str().and_then(|cpus| cpus.parse().ok());
            Ok(progress["rounds_done"].as_u64() > Some(0) && cpu.is_some())
        })
        .with_context(|| agent.log())?;
    let neighbours = Neighbours::on(cpu.context("the job has no core")?)?;
    let mut shown = Value::Null;
    world
        .wait_until("a round is void", || {
            shown = newest(&world, &suite.folder)?;
            Ok(shown["progress"]["void_rounds"].as_u64() > Some(0))
        })
        .with_context(|| agent.log())?;
    drop(neighbours);
    let told = shown["progress"]["void_rounds_text"].to_string();
    assert!(told.contains("foreign work on the leased cores"), "{shown}");

    let done = finish(child)?;
    assert_eq!(done.code, 0, "{done:?}");
    let report = done.json()?;
    assert_eq!(report["verdict"]["decision"], "APPROVE", "{report}");
    let void = &report["void_rounds"][0];
    assert_eq!(void["cause"], "foreign", "{report}");
    assert!(void["rounds"].as_u64() > Some(0), "{report}");
    assert!(void["worst_text"].as_str().is_some_and(|worst| worst.ends_with("% of a round")), "{report}");
    // Whatever was void, each pair counts once.
    assert_eq!(report["rounds"], report["verdict"]["pairs"], "{report}");

    let id = report["job_id"].as_str().context("no job id")?;
    let human = world.darwin(&["job", "show", id])?.stdout;
    assert!(human.contains("void and measured again: "), "{human}");
    assert!(human.contains("foreign work on the leased cores (worst "), "{human}");
    assert!(agent.log().contains("a round is void"), "{}", agent.log());
    Ok(())
}

#[test]
fn a_box_that_does_not_come_to_rest_ends_inconclusive_and_blames_nobody() -> Result<()> {
    let world = World::new()?;
    let _coordinator = world.coordinator(&[])?;
    // Whatever runs beside the bench is too much, and so is nothing.
    let path = world.folder().join("agent.toml");
    std::fs::write(
        &path,
        "[void]\nswitches_per_second = 0\nforeign_percent = 0.0\nforeign_least = \"0s\"\n",
    )?;
    let agent = world.agent("only", &["--config", &path.display().to_string()])?;
    let suite = Suite::create(world.folder(), "50s")?;
    let compare = ["compare", "--suite", "orders", "--baseline", "main", "--challenger", "faster"];
    let child = world.spawn_in(&suite.folder, &[&compare[..], &["--format", "json"]].concat())?;
    let mut cpu = None;
    world
        .wait_until("its core is known", || {
            cpu = newest(&world, &suite.folder)?["progress"]["cpus"]
                .as_str()
                .and_then(|cpus| cpus.parse().ok());
            Ok(cpu.is_some())
        })
        .with_context(|| agent.log())?;
    let neighbours = Neighbours::on(cpu.context("the job has no core")?)?;
    let done = finish(child)?;
    drop(neighbours);
    let report = done.json()?;
    assert_eq!(report["verdict"]["decision"], "INCONCLUSIVE", "{report}");
    assert!(report["verdict"]["reason_text"].as_str().is_some_and(|why| why.contains("void")), "{report}");
    assert!(report["void_rounds"][0]["rounds"].as_u64() > Some(3), "{report}");
    assert_eq!(done.code, 3, "{done:?}");
    Ok(())
}
