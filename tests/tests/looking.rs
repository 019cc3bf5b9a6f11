//! What a person finds who looks: at a job that failed, at one that waits, at the sensor, at the logs.

use anyhow::Result;
use darwin_tests::World;

/// The id of the newest job.
fn newest(world: &World) -> Result<String> {
    let list = world.darwin(&["job", "list", "--limit", "1", "--format", "json"])?;
    let (_, rest) = list.stdout.split_once("\"job_id\": \"").unwrap_or_default();
    Ok(rest.split('"').next().unwrap_or_default().to_owned())
}

#[test]
fn a_failed_job_says_what_failed_and_where_its_log_is() -> Result<()> {
    let world = World::new()?;
    let _coordinator = world.coordinator(&[])?;
    let _agent = world.agent("only", &[])?;
    let done = world.darwin(&["measure", "--shell", "echo first words; no-such-tool --fast"])?;
    assert_eq!(done.code, 5, "{done:?}");
    let job = newest(&world)?;
    for command in ["verdict", "job"] {
        let shown = world.darwin(&[command, "show", &job])?;
        assert_eq!(shown.code, 0, "{shown:?}");
        for wanted in
            ["run of", "exit code 127", "first words", "`no-such-tool` is not found", "darwin job logs"]
        {
            assert!(shown.stdout.contains(wanted), "{command} {wanted}: {}", shown.stdout);
        }
        assert!(
            shown.stdout.ends_with(&format!("verdict=NONE job={job} failed=run url=\n")),
            "{}",
            shown.stdout
        );
    }
    let good = world.darwin(&["measure", "--", "true"])?;
    assert_eq!(good.code, 0, "{good:?}");
    let logs = world.darwin(&["job", "logs", &newest(&world)?])?;
    assert_eq!((logs.code, logs.stdout.as_str()), (0, ""));
    assert!(logs.stderr.contains("kept only of a stage that failed"), "{}", logs.stderr);
    Ok(())
}

#[test]
fn a_job_that_nobody_can_take_says_so_and_what_helps() -> Result<()> {
    let world = World::new()?;
    let _coordinator = world.coordinator(&[])?;
    let mut agent = world.agent("only", &[])?;
    assert_eq!(world.darwin(&["agent", "drain", "only"])?.code, 0);
    let left = world.darwin(&["measure", "--detach", "--", "true"])?;
    assert_eq!(left.code, 0, "{left:?}");
    let job = left.stdout.trim();
    let shown = world.darwin(&["job", "show", job])?.stdout;
    assert!(
        shown.contains("nobody can take it now") && shown.contains("darwin agent resume only"),
        "{shown}"
    );
    assert!(!shown.contains("next in line"), "{shown}");
    let verdict = world.darwin(&["verdict", "show", job])?;
    assert_eq!(verdict.code, 2, "{verdict:?}");
    assert!(
        verdict.stderr.contains("no verdict yet: it is queued, nobody can take it now"),
        "{}",
        verdict.stderr
    );
    agent.kill_9()?;
    world.wait_until("the agent is away", || {
        Ok(world.darwin(&["job", "show", job])?.stdout.contains("only is away since 20"))
    })
}

#[test]
fn the_sensor_knows_shares_of_time_soon_after_the_start() -> Result<()> {
    let world = World::new()?;
    // The embedded agent, whose first reading has nothing to compare with.
    let checked = world.command(&["check", "--format", "json"]).env_remove("DARWIN_COORDINATOR").output()?;
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(text.contains("\"steal\""), "{text}");
    assert!(!text.contains("it takes two readings"), "{text}");
    Ok(())
}

#[test]
fn logs_in_a_file_have_no_colours() -> Result<()> {
    let world = World::new()?;
    let coordinator = world.coordinator(&[])?;
    let agent = world.agent("only", &[])?;
    let embedded =
        world.command(&["measure", "-vv", "--", "true"]).env_remove("DARWIN_COORDINATOR").output()?;
    let embedded = String::from_utf8_lossy(&embedded.stderr).into_owned();
    for log in [coordinator.log(), agent.log(), embedded] {
        assert!(log.contains("INFO") && !log.contains('\u{1b}'), "{log}");
    }
    Ok(())
}
