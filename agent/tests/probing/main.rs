//! What follows from bad probes around the rounds of an attempt.
//!
//! What a real probe sees is the machine's own. So this program is the agent, and with it its launchers; started as the loop
//! of a probe, it reads what the test wants.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test they are how it fails")]

#[expect(dead_code, reason = "it serves tests of the agent's own program too")]
#[path = "../agent/common.rs"]
mod common;
mod stub;

use std::path::Path;

use darwin_agent::{AgentConfig, AgentError, Overrides};
use darwin_shared::attempt::AttemptEnd;
use darwin_shared::probe::ProbeMoment;
use darwin_shared::round::RoundResult;
use darwin_shared::spec::{Budget, JobSpec};
use darwin_shared::void::VoidCause;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use common::{Coordinator, attempt, job};
use stub::{AFTER, BAD_GAP_NS, BEFORE, Script};

/// What else this machine is and does must not decide these tests, and it stays as it is.
const CONFIG: &str = r#"
[sensor]
forgive = ["smt", "clock", "competition", "steal", "memory", "disk"]

[void]
forgive = ["stolen", "foreign", "throttled", "interrupts", "migrated", "swapped", "faulted", "switched"]

[tune]
knobs = false
partition = false
wakeup_latency_max = "keep"
"#;

#[expect(clippy::print_stdout, reason = "without a harness nobody else says what ran")]
fn main() {
    stub::main_if_asked();
    darwin_agent::exec::launcher_main_if_asked();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        a_round_before_a_bad_probe_is_void_and_measured_again().await;
        a_box_that_stays_bad_gives_up_as_disturbed().await;
        a_dev_box_only_tells_of_it().await;
        a_box_that_is_bad_before_measures_nothing().await;
    });
    println!("probing: 4 passed, 0 failed");
}

/// An agent in this very process.
struct Agent {
    stop: CancellationToken,
    task: JoinHandle<Result<(), AgentError>>,
}

impl Agent {
    fn start(coordinator: &Coordinator, state: &Path, tier: &str) -> Self {
        let probe = format!("[probe]\nbefore = \"{BEFORE:?}\"\nafter = \"{AFTER:?}\"\n");
        let locks = state.join("cores");
        let text = format!("core_locks = \"{}\"\ntier = \"{tier}\"\n{CONFIG}\n{probe}", locks.display());
        let file = state.join("agent.toml");
        std::fs::write(&file, text).unwrap();
        let overrides = Overrides {
            coordinators: vec![coordinator.url.clone()],
            id: Some("box".to_owned()),
            state_dir: Some(state.to_owned()),
            ..Overrides::default()
        };
        let config = AgentConfig::load(Some(&file), overrides).unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(darwin_agent::run(config, stop.clone()));
        Self { stop, task }
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// What an attempt of two rounds came to on a box of this tier, and how many benches ran for it.
async fn measured(tier: &str) -> (Vec<RoundResult>, AttemptEnd, usize) {
    let state = tempfile::tempdir().unwrap();
    let ran = state.path().join("ran");
    let mut coordinator = Coordinator::start().await;
    let agent = Agent::start(&coordinator, state.path(), tier);
    let mut session = coordinator.welcome().await;
    let budget = Budget { rounds_min: 2, rounds_max: 2, ..Budget::default() };
    let spec = JobSpec { budget, ..job(&format!("echo bench >> {}", ran.display())) };
    session.assign(attempt(1, 1), 1, &spec, &[]).await;
    let (rounds, _, end) = session.until_end(attempt(1, 1)).await;
    agent.end().await;
    let benches = std::fs::read_to_string(&ran).unwrap_or_default().lines().count();
    (rounds, end, benches)
}

async fn a_round_before_a_bad_probe_is_void_and_measured_again() {
    let script = Script::write(0, 1);
    let (rounds, end, benches) = measured("shielded").await;
    assert_eq!((end, script.left()), (AttemptEnd::Completed { rounds: 2 }, 0));
    let [first, last] = rounds.as_slice() else { panic!("{rounds:?}") };
    assert_eq!(first.voids.total(), 0, "only what may be the last round is probed after");
    assert!(matches!(first.probes.as_slice(), [probe] if probe.moment == ProbeMoment::Before));
    let [void] = last.voids.counts() else { panic!("{:?}", last.voids) };
    assert_eq!((&void.worst, void.rounds), (&VoidCause::Gaps { longest_ns: BAD_GAP_NS }, 1));
    let [after] = last.probes.as_slice() else { panic!("{:?}", last.probes) };
    assert_eq!((after.moment, after.worse.as_str()), (ProbeMoment::After, ""), "the second look was good");
    assert_eq!(benches, 3, "two rounds, and one of them once more");
}

async fn a_box_that_stays_bad_gives_up_as_disturbed() {
    let _script = Script::write(0, u32::MAX);
    let (rounds, end, benches) = measured("shielded").await;
    let AttemptEnd::Disturbed { voids, .. } = &end else { panic!("{end:?}") };
    let [void] = voids.counts() else { panic!("{voids:?}") };
    assert_eq!((void.worst.name(), void.rounds as usize), ("gaps", benches - 1));
    assert_eq!(rounds.len(), 1, "the first round counts");
}

async fn a_dev_box_only_tells_of_it() {
    let script = Script::write(0, 1);
    let (rounds, end, benches) = measured("dev").await;
    assert_eq!((end, script.left()), (AttemptEnd::Completed { rounds: 2 }, 0));
    let last = rounds.last().unwrap();
    assert!(last.voids.is_empty() && last.probes[0].worse.contains("of before"), "{last:?}");
    assert_eq!(benches, 2);
}

async fn a_box_that_is_bad_before_measures_nothing() {
    let _script = Script::write(1, 0);
    let (rounds, end, benches) = measured("shielded").await;
    let AttemptEnd::Box(why) = &end else { panic!("{end:?}") };
    assert!(why.contains("a probe before the first round says that the box is not fit"), "{why}");
    assert_eq!((rounds.len(), benches), (0, 0));
}
