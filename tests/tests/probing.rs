//! `darwin job probe` against real daemons, and the probes around the rounds of a measurement.

use anyhow::{Context, Result, ensure};
use darwin_tests::World;
use serde_json::Value;

/// The probes of a report.
fn probes(report: &Value) -> Result<&Vec<Value>> {
    ensure!(report["schema"] == "darwin-probes/1", "{report}");
    report["probes"].as_array().context("no list of probes")
}

#[test]
fn a_box_is_probed_and_remembered() -> Result<()> {
    let world = World::new()?;
    let _coordinator = world.coordinator(&[])?;
    let _agent = world.agent("quiet-1", &[])?;
    let table = world.darwin(&["job", "probe", "--seconds", "1"])?;
    assert_eq!(table.code, 0, "{table:?}");
    println!("{}", table.stdout);
    for wanted in ["quiet-1", "GAPS/S", "STOLEN", "CAPACITY", "the first probe", "tier dev", "watched for 1s"]
    {
        assert!(table.stdout.contains(wanted), "{wanted}: {}", table.stdout);
    }

    let json = world.darwin(&["job", "probe", "--agent", "quiet-1", "--seconds", "1", "--format", "json"])?;
    assert_eq!(json.code, 0, "{json:?}");
    let report = json.json()?;
    let [probe] = probes(&report)?.as_slice() else { anyhow::bail!("not one probe: {report}") };
    assert_eq!((&probe["agent"], &probe["moment"]), (&Value::from("quiet-1"), &Value::from("job")));
    assert_eq!(probe["probe"]["tier"], "dev");
    let cpus = probe["probe"]["cpus"].as_array().context("no CPUs")?;
    assert!(!cpus.is_empty());
    for cpu in cpus {
        let number = |value: &Value| value.as_f64().with_context(|| format!("no number in {cpu}"));
        assert!(number(&cpu["gaps"]["rate_per_s"])? > 0.0, "{cpu}");
        assert!((0.0..=1.0).contains(&number(&cpu["gaps"]["stolen_share"])?), "{cpu}");
        assert!(number(&cpu["capacity"]["width_of_best"])? >= 1.0, "{cpu}");
        assert_eq!(cpu["usual"]["probes"], 1, "{cpu}");
    }

    let history = world.darwin(&["job", "probe", "--history", "--format", "json"])?;
    let report = history.json()?;
    let kept = probes(&report)?;
    assert_eq!(kept.len(), 2, "{report}");
    assert_eq!(kept[0]["job_id"], probe["job_id"], "the newest first");
    let told = world.darwin(&["job", "probe", "--history", "--agent", "quiet-1"])?;
    assert!(told.stdout.matches("quiet-1").count() == 2 && told.stdout.contains("TIER"), "{}", told.stdout);
    let nobody = world.darwin(&["job", "probe", "--history", "--agent", "loud-2"])?;
    assert!(nobody.stdout.contains("no probe is recorded yet"), "{}", nobody.stdout);

    let list = world.darwin(&["job", "list"])?;
    assert!(list.stdout.contains("probe") && list.stdout.contains("the box"), "{}", list.stdout);
    let line = world.darwin(&["history", "--project", "boxes", "--suite", "probe"])?;
    assert!(line.stdout.contains("custom.gaps") && line.stdout.contains("custom.width"), "{}", line.stdout);
    Ok(())
}

#[test]
fn a_box_that_is_not_there_is_not_waited_for() -> Result<()> {
    let world = World::new()?;
    let _coordinator = world.coordinator(&[])?;
    let _agent = world.agent("quiet-1", &[])?;
    let none = world.darwin(&["job", "probe", "--agent", "loud-2"])?;
    assert_eq!(none.code, 4, "{none:?}");
    assert!(none.stderr.contains("no box can be probed now: there is none"), "{}", none.stderr);
    assert_eq!(world.darwin(&["agent", "drain", "quiet-1"])?.code, 0);
    let drained = world.darwin(&["job", "probe"])?;
    assert_eq!(drained.code, 4, "{drained:?}");
    assert!(drained.stderr.contains("quiet-1 is drained"), "{}", drained.stderr);
    Ok(())
}

#[test]
fn a_measurement_in_rounds_says_what_its_box_was_like() -> Result<()> {
    let world = World::new()?;
    let _coordinator = world.coordinator(&[])?;
    let agent = world.agent("quiet-1", &[])?;
    let measured = world.darwin(&["measure", "--verbose", "--rounds", "3", "--", "true"])?;
    assert_eq!(measured.code, 0, "{measured:?}");
    println!("{}", measured.stdout);
    for wanted in ["box: before ", "; after ", "isolated", "\nisolation: "] {
        assert!(measured.stdout.contains(wanted), "{wanted}: {}", measured.stdout);
    }
    let single = world.darwin(&["measure", "--", "true"])?;
    assert!(single.code == 0 && !single.stdout.contains("box: "), "{}", single.stdout);

    // The archive is written a moment behind.
    world.wait_until("both probes are recorded", || {
        let all = world.darwin(&["job", "probe", "--history", "--verbose", "--format", "json"])?.json()?;
        let moments: Vec<&str> = probes(&all)?.iter().filter_map(|probe| probe["moment"].as_str()).collect();
        Ok(moments == ["after", "before"])
    })?;
    let jobs = world.darwin(&["job", "probe", "--history", "--format", "json"])?.json()?;
    assert!(probes(&jobs)?.is_empty(), "{jobs}");

    let switched_off = world.folder().join("off.toml");
    std::fs::write(&switched_off, "[probe]\nbefore = \"0s\"\n")?;
    drop(agent);
    let config = switched_off.to_string_lossy().into_owned();
    let _other = world.agent("plain-1", &["--config", &config])?;
    let plain = world.darwin(&["measure", "--rounds", "3", "--", "true"])?;
    assert!(plain.code == 0 && !plain.stdout.contains("box: "), "{}", plain.stdout);
    Ok(())
}
