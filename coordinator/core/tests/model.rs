//! The core in a hostile world: whatever is lost, doubled, cut, killed and restarted, the rules hold and every job ends.
//!
//! The rules: versions in the ledger never conflict; what is said was written before; no job has two live attempts, in
//! the ledger or on the boxes; epochs grow; what has finished never changes; a verdict is the one that the rounds lead
//! to; a request makes one job; once the faults stop, every job ends.

mod sim;

use proptest::prelude::*;
use sim::{Scenario, Tally, live_through};

/// Histories of the plain loops; more only make the suite slower.
const STORMS: u64 = 2_000;
const CALMS: u64 = 200;

#[test]
fn every_history_keeps_the_rules() {
    let mut tally = Tally::default();
    for seed in 0..STORMS {
        let scenario = Scenario::stormy(seed);
        match live_through(scenario) {
            Ok(lived) => tally += lived,
            Err(why) => panic!("{scenario:?}: {why}"),
        }
    }
    println!("{tally}");
    // The histories must be worth something: much goes wrong in them, and still most jobs are judged or measured.
    assert!(tally.core_crashes > STORMS / 2 && tally.agent_crashes > STORMS / 2, "{tally}");
    assert!(tally.judged + tally.measured > tally.jobs / 2, "{tally}");
    assert!(tally.failed > 0 && tally.cancelled > 0 && tally.parked > 0, "{tally}");
}

#[test]
fn when_nothing_fails_every_job_gets_its_verdict() {
    for seed in 0..CALMS {
        let (declines, stubborn) = (seed % 2 == 0, seed % 3 == 0);
        let scenario = Scenario { declines, stubborn, doubles: 100, ..Scenario::calm(seed) };
        let tally = live_through(scenario).unwrap_or_else(|why| panic!("{scenario:?}: {why}"));
        assert_eq!(tally.judged + tally.measured, tally.jobs, "{scenario:?}");
    }
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let world = (any::<u64>(), 1u64..=4, 1u32..=8, 10u32..=150);
    let links = (0u32..60, 0u32..60, 0u32..100);
    let deaths = (0u32..30, 0u32..40);
    let people = (0u32..40, 0u32..50, 0u32..50);
    let boxes = (0u32..40, any::<bool>(), any::<bool>(), prop::sample::select(vec![3usize, 1_000]));
    (world, links, deaths, people, boxes).prop_map(|(world, links, deaths, people, boxes)| Scenario {
        seed: world.0,
        agents: world.1,
        jobs: world.2,
        steps: world.3,
        cuts: links.0,
        losses: links.1,
        doubles: links.2,
        agent_crashes: deaths.0,
        core_crashes: deaths.1,
        cancels: people.0,
        drains: people.1,
        clock_steps: people.2,
        mishaps: boxes.0,
        declines: boxes.1,
        stubborn: boxes.2,
        recent_max: boxes.3,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// As above, but a failure is shrunk: the rates that are not 0 in it are the faults that it takes.
    #[test]
    fn any_scenario_keeps_the_rules(scenario in scenario()) {
        if let Err(why) = live_through(scenario) {
            return Err(TestCaseError::fail(why));
        }
    }
}
