//! Benches that hang, fork, ignore signals or flood their output, and users who change their minds.

use std::process::Child;

use anyhow::{Result, ensure};
use darwin_tests::{Finished, Suite, World, finish, proc_fs};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn compare(challenger: &str) -> [&str; 7] {
    ["compare", "--suite", "orders", "--baseline", "main", "--challenger", challenger]
}

fn left_over(marker: &str) -> Vec<proc_fs::Seen> {
    proc_fs::with_command(marker)
}

#[test]
fn bad_benches_are_ended_with_their_whole_tree() -> Result<()> {
    let world = World::new()?;
    let _coordinator = world.coordinator(&[])?;
    let _agent = world.agent("only", &[])?;
    let suite = Suite::create(world.folder(), "2s")?;
    // A number of seconds that nothing else on the machine sleeps for.
    let mark = format!("98701.{}", std::process::id());
    let cases = [
        ("hangs", format!("sleep {mark}"), "took longer than"),
        ("ignores-sigterm", format!("trap '' TERM; while :; do sleep {mark}; done"), "took longer than"),
        (
            "forks",
            format!("for i in 1 2 3 4 5 6 7 8; do setsid sleep {mark} & done; sleep {mark}"),
            "took longer than",
        ),
        ("floods", format!("yes {mark}"), ""),
        ("exits", "exit 7".to_owned(), "exit code 7"),
        ("dies", "kill -SEGV $$".to_owned(), "signal 11"),
    ];
    for (name, script, said) in cases {
        suite.branch(name, "cost", &format!("COST=100\nHANG=\"{}\"\n", script.replace('$', "\\$")))?;
        let done = world.darwin_in(&suite.folder, &compare(name))?;
        let all = format!("{}{}", done.stdout, done.stderr);
        assert_eq!(done.code, 5, "{name}: {all}");
        assert!(all.contains("run") && all.contains(said), "{name}: {all}");
    }
    world.wait_until("nothing is left", || Ok(left_over(&mark).is_empty()))?;
    // What stood before it still works.
    let done = world.darwin_in(&suite.folder, &compare("faster"))?;
    ensure!(done.code == 0, "{done:?}");
    Ok(())
}

fn interrupt(child: &Child) -> Result<()> {
    Ok(kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGINT)?)
}

#[test]
fn ctrl_c_cancels_the_job() -> Result<()> {
    let world = World::new()?;
    let _coordinator = world.coordinator(&[])?;
    let _agent = world.agent("only", &[])?;
    let suite = Suite::create(world.folder(), "10m")?;
    let bench = format!("sleep 98711.{}", std::process::id());
    suite.branch("endless", "cost", &format!("COST=100\nHANG=\"{bench}\"\n"))?;
    let child = world.spawn_in(&suite.folder, &compare("endless"))?;
    world.wait_until("the bench runs", || Ok(!left_over(&bench).is_empty()))?;
    interrupt(&child)?;
    let done = finish(child)?;
    assert_eq!(done.code, 6, "{done:?}");
    world.wait_until("nothing is left", || Ok(left_over(&bench).is_empty()))?;
    let list = world.darwin(&["job", "list"])?;
    assert!(list.stdout.contains("cancelled"), "{}", list.stdout);
    Ok(())
}

#[test]
fn an_unreachable_coordinator_is_said_so() -> Result<()> {
    let world = World::new()?;
    let done = world.darwin(&["job", "list"])?;
    assert_eq!(done.code, 7, "{done:?}");
    Ok(())
}

#[test]
fn neither_daemon_listens_or_connects_beyond_loopback() -> Result<()> {
    let world = World::new()?;
    let state = world.folder().join("state").display().to_string();
    let coordinator = ["--listen", "0.0.0.0:0", "--state-dir", &state];
    let agent = ["run", "--coordinator", "http://192.0.2.1:7411", "--state-dir", &state];
    for (program, arguments) in [("darwin-coordinator", coordinator.as_slice()), ("darwin-agent", &agent)] {
        let done = Finished::from(world.program(program).args(arguments).output()?);
        assert_ne!(done.code, 0, "{program}");
        assert!(done.stderr.contains("without TLS"), "{program}: {}", done.stderr);
    }
    Ok(())
}
