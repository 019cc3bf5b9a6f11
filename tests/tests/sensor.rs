//! What is required of a box stops its jobs, with the reason and what mends it; and the tier goes with every result.

use anyhow::{Context, Result};
use darwin_tests::World;
use serde_json::Value;

/// The whole sensor of this box, as `darwin-agent sensor --json` shows it.
fn sensor(world: &World) -> Result<Value> {
    let output = world.program("darwin-agent").args(["sensor", "--json"]).output()?;
    serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))
}

/// The text of an agent's configuration, as a file.
fn config(world: &World, name: &str, text: &str) -> Result<String> {
    let path = world.folder().join(format!("{name}.toml"));
    std::fs::write(&path, text)?;
    Ok(path.display().to_string())
}

#[test]
fn a_required_check_that_is_unknown_stops_the_job_with_its_own_reason() -> Result<()> {
    let world = World::new()?;
    let seen = sensor(&world)?;
    let lasting = ["governor", "frequency_range", "power", "memory_errors", "nohz_full"];
    let unknown = |name: &&&str| {
        let readings = seen["readings"].as_array().into_iter().flatten();
        readings.into_iter().any(|reading| reading["name"] == **name && reading["status"] == "unknown")
    };
    let Some(name) = lasting.iter().find(unknown) else {
        println!("not run: this box tells all of {lasting:?}");
        return Ok(());
    };
    let _coordinator = world.coordinator(&[])?;
    let strict = config(&world, "strict", &format!("[sensor]\nrequire = [\"{name}\"]\n"))?;
    let mut agent = world.agent_in_state("box", &["--config", &strict], "unhealthy")?;
    let done = world.darwin(&["measure", "--", "true"])?;
    assert_eq!(done.code, 4, "{done:?}");
    assert!(done.stdout.trim_end().ends_with("ended=parked url="), "{}", done.stdout);
    let told = format!("{}{}", done.stdout, done.stderr);
    for wanted in [
        "no agent's policy allows it",
        &format!("cannot verify `{name}`: "),
        &format!("forgive = [\"{name}\"]"),
    ] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    assert!(!told.contains("fails"), "unknown is not broken: {told}");
    let json = world.darwin(&["measure", "--format", "json", "--", "true"])?.json()?;
    assert_eq!((&json["outcome"], &json["exit_code"]), (&"parked".into(), &4.into()));
    let checked = world.darwin(&["check"])?;
    assert_eq!(checked.code, 4, "{checked:?}");
    assert!(checked.stdout.contains("box measures nothing: "), "{}", checked.stdout);
    assert!(checked.stdout.trim_end().ends_with("status=down"), "{}", checked.stdout);

    agent.kill_9()?;
    let kind = config(&world, "kind", &format!("[sensor]\nforgive = [\"{name}\"]\n"))?;
    let _agent = world.agent("box", &["--config", &kind])?;
    let done = world.darwin(&["measure", "--", "true"])?;
    assert_eq!(done.code, 0, "{done:?}");
    Ok(())
}

#[test]
fn a_required_check_that_fails_stops_the_job_and_another_box_may_take_it() -> Result<()> {
    let world = World::new()?;
    let _coordinator = world.coordinator(&[])?;
    let changed = "[sensor]\nrequire = [\"fingerprint\"]\napproved = \"0000000000000000\"\n";
    let changed = config(&world, "changed", changed)?;
    let _strict = world.agent_in_state("changed", &["--config", &changed], "unhealthy")?;
    let done = world.darwin(&["measure", "--", "true"])?;
    let told = format!("{}{}", done.stdout, done.stderr);
    assert_eq!(done.code, 4, "{told}");
    assert!(
        told.contains("`fingerprint` fails: ") && told.contains("approved is 0000000000000000"),
        "{told}"
    );
    let _kind = world.agent("kind", &[])?;
    let done = world.darwin(&["measure", "--", "true"])?;
    assert_eq!(done.code, 0, "{done:?}");
    Ok(())
}

#[test]
fn the_tier_goes_with_every_result() -> Result<()> {
    let world = World::new()?;
    let _coordinator = world.coordinator(&[])?;
    // What this machine is busy with is not the point.
    let text = "tier = \"shielded\"\n[sensor]\nforgive = [\"smt\", \"clock\", \"competition\", \"steal\", \"memory\", \"disk\"]\n";
    let shielded = config(&world, "shielded", text)?;
    let mut agent = world.agent("box", &["--config", &shielded])?;
    let done = world.darwin(&["measure", "--", "true"])?;
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains("tier shielded"), "{}", done.stdout);
    let json = world.darwin(&["measure", "--format", "json", "--", "true"])?.json()?;
    assert_eq!(json["tier"], "shielded");
    agent.kill_9()?;
    let _agent = world.agent("box", &[])?;
    let json = world.darwin(&["measure", "--format", "json", "--", "true"])?.json()?;
    assert_eq!(json["tier"], "dev");
    let (project, suite) =
        (json["project"].as_str().unwrap_or_default(), json["suite"].as_str().unwrap_or_default());
    // The archive is written behind.
    world.wait_until("history has both tiers", || {
        let history =
            world.darwin(&["history", "--project", project, "--suite", suite, "--format", "json"])?.json()?;
        let points = history["points"].as_array().cloned().unwrap_or_default();
        let of = |tier: &str| points.iter().filter(|point| point["tier"] == tier).count();
        assert_eq!(points.len(), of("shielded") + of("dev"), "{history}");
        Ok(of("shielded") > 0 && of("dev") > 0)
    })?;
    let shown = world.darwin(&["agent", "show", "box", "--format", "json"])?.json()?;
    assert_eq!(shown["tier"], "dev");
    Ok(())
}

#[test]
fn a_name_that_is_no_check_is_refused_with_the_nearest_one() -> Result<()> {
    let world = World::new()?;
    let typo = config(&world, "typo", "[sensor]\nrequire = [\"govenor\"]\n")?;
    let output = world.program("darwin-agent").args(["sensor", "--config", &typo]).output()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("`govenor` is not a check of the sensor; did you mean `governor`?"), "{told}");
    Ok(())
}
