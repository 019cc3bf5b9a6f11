//! What is changed on the box while benches run, and that it is put back whatever becomes of the agent; what a bench finds
//! around it.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use darwin_shared::attempt::AttemptEnd;
use darwin_shared::spec::{Arm, Budget, JobSpec, Layout, Source, Variant, Work};
use nix::sys::signal::Signal;

use crate::common::{Agent, Coordinator, attempt, eventually, job};

const STAT_INTERVAL: &str = "/proc/sys/vm/stat_interval";
const HUGE_PAGES: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
/// Seldom what anybody else sets.
const TUNED: &str =
    "[tune]\nstat_interval = \"23s\"\nthp = \"never\"\nwakeup_latency_max = \"50us\"\nkeep = \"1h\"";

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// Puts the box back if the test fails.
struct Found {
    stat_interval: String,
    huge_pages: String,
}

impl Found {
    fn now() -> Self {
        Self { stat_interval: read(STAT_INTERVAL), huge_pages: read(HUGE_PAGES) }
    }

    fn is_tuned() -> bool {
        read(STAT_INTERVAL) == "23" && (read(HUGE_PAGES).is_empty() || read(HUGE_PAGES).contains("[never]"))
    }

    fn is_as_found(&self) -> bool {
        read(STAT_INTERVAL) == self.stat_interval && read(HUGE_PAGES) == self.huge_pages
    }
}

impl Drop for Found {
    fn drop(&mut self) {
        if !self.is_as_found() {
            let _ = std::fs::write(STAT_INTERVAL, &self.stat_interval);
            let chosen = self.huge_pages.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
            let _ = chosen.map(|(chosen, _)| std::fs::write(HUGE_PAGES, chosen));
        }
    }
}

fn restore(state: &Path) -> Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_darwin-agent"));
    command.arg("restore").arg("--state-dir").arg(state).output().unwrap()
}

#[tokio::test]
async fn what_was_tuned_is_put_back_whatever_becomes_of_the_agent() {
    let found = Found::now();
    let writable = nix::unistd::access(STAT_INTERVAL, nix::unistd::AccessFlags::W_OK).is_ok();
    if !writable || found.stat_interval.parse::<u64>().is_ok_and(|seconds| seconds >= 23) {
        return println!("not run: {STAT_INTERVAL} cannot be changed, or is as wished already");
    }
    let state = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::start().await;

    // Killed while it measures: the next life puts it back.
    let mut agent = Agent::start_with(&coordinator, state.path(), "box", TUNED);
    let mut session = coordinator.welcome().await;
    assert!(found.is_as_found(), "nothing is changed before anything is measured");
    session.assign(attempt(1, 1), 1, &job("exec sleep 1000"), &[]).await;
    session.until_running(attempt(1, 1)).await;
    assert!(Found::is_tuned());
    let refused = restore(state.path());
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("an agent uses"), "{told}");
    agent.signal(Signal::SIGKILL);
    agent.exit_code().await;
    assert!(Found::is_tuned(), "nobody was left to put it back");
    let mut agent = Agent::start_with(&coordinator, state.path(), "box", TUNED);
    let mut session = coordinator.welcome().await;
    assert!(found.is_as_found());

    // Killed again, and put back by hand.
    session.assign(attempt(2, 1), 2, &job("exec sleep 1000"), &[]).await;
    session.until_running(attempt(2, 1)).await;
    assert!(Found::is_tuned());
    agent.signal(Signal::SIGKILL);
    agent.exit_code().await;
    let restored = restore(state.path());
    let told = String::from_utf8_lossy(&restored.stdout).into_owned();
    assert!(restored.status.success() && found.is_as_found(), "{told}");
    assert!(told.contains(&format!("{STAT_INTERVAL}: back at `{}`", found.stat_interval)), "{told}");
    let again = restore(state.path());
    let told = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(again.status.success() && told.starts_with("nothing to put back"), "{told}");

    // Told to end: it puts it back itself.
    let mut agent = Agent::start_with(&coordinator, state.path(), "box", TUNED);
    let mut session = coordinator.welcome().await;
    session.assign(attempt(3, 1), 3, &job("true"), &[]).await;
    let (_, _, end) = session.until_end(attempt(3, 1)).await;
    assert_eq!(end, AttemptEnd::Completed { rounds: 1 });
    assert!(Found::is_tuned(), "it stays between attempts");
    agent.signal(Signal::SIGTERM);
    assert_eq!(agent.exit_code().await, Some(0));
    assert!(found.is_as_found());

    // And when nothing measures for a while, of itself; what someone else changed stays.
    let soon = TUNED.replace("1h", "100ms");
    let _agent = Agent::start_with(&coordinator, state.path(), "box", &soon);
    let mut session = coordinator.welcome().await;
    session.assign(attempt(4, 1), 4, &job("exec sleep 1000"), &[]).await;
    session.until_running(attempt(4, 1)).await;
    assert!(Found::is_tuned());
    std::fs::write(STAT_INTERVAL, "31").unwrap();
    session.cancel(attempt(4, 1), 4).await;
    eventually("what is still ours is put back", || read(HUGE_PAGES) == found.huge_pages).await;
    assert_eq!(read(STAT_INTERVAL), "31");
}

#[tokio::test]
async fn both_sides_find_as_much_around_them() {
    let state = tempfile::tempdir().unwrap();
    let (short, long) = (state.path().join("s"), state.path().join("a-much-longer-name"));
    std::fs::create_dir_all(&short).unwrap();
    std::fs::create_dir_all(&long).unwrap();
    let mut coordinator = Coordinator::start().await;
    // What else runs on the box meanwhile is no matter here.
    let forgiving = "[void]\nforgive = [\"stolen\", \"foreign\", \"interrupts\", \"migrated\", \"switched\", \"swapped\", \
                     \"faulted\"]";
    let _agent = Agent::start_with(&coordinator, state.path(), "box", forgiving);
    let mut session = coordinator.welcome().await;
    for (number, layout) in [(1, Layout::Randomized), (2, Layout::Fixed)] {
        let sizes = state.path().join(format!("sizes-{number}"));
        let count = format!(
            ": {{variant_dir}} {{variant_dir}} {{round}}; cat /proc/$$/environ /proc/$$/cmdline | wc -c >> {}",
            sizes.display()
        );
        let variant = |label: &str, dir: &Path| Variant {
            label: label.to_owned(),
            source: Source::Path(dir.display().to_string()),
        };
        let work = Work::Compare { baseline: variant("main", &short), challenger: variant("better", &long) };
        let budget = Budget { rounds_min: 11, rounds_max: 11, time: Duration::from_mins(1) };
        let spec = JobSpec { work, layout, budget, ..job(&count) };
        session.assign(attempt(number, 1), number, &spec, &[]).await;
        let (rounds, _, end) = session.until_end(attempt(number, 1)).await;
        assert_eq!(end, AttemptEnd::Completed { rounds: 11 });
        let arms: Vec<Arm> = rounds[0].invocations.iter().map(|invocation| invocation.arm).collect();
        assert_eq!(arms.len(), 2);
        let text = std::fs::read_to_string(&sizes).unwrap();
        let seen: Vec<u32> = text.lines().map(|line| line.trim().parse().unwrap()).collect();
        assert_eq!(seen.len(), 22);
        assert!(seen.chunks(2).all(|pair| pair[0] == pair[1]), "{layout:?}: {seen:?}");
        let mut distinct = seen.clone();
        distinct.sort_unstable();
        distinct.dedup();
        match layout {
            // Round 10 has a digit more than the others.
            Layout::Fixed => assert_eq!(distinct.len(), 1, "{seen:?}"),
            Layout::Randomized => assert!(distinct.len() > 5, "{seen:?}"),
        }
    }
}
