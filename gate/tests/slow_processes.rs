//! The guard for rare slow processes, through the gate.

mod common;

use common::{Noise, P50, P99, SEED, block, key, run};
use darwin_gate::{
    Block, Decision, EndOfData, FindingClass, Gate, Metric, MetricPolicy, Policy, Ratio, Reason, Step,
};

/// 40 pairs with 1% noise a process; one challenger process in `every` is slower by `slow` (log).
fn blocks(seed: u64, every: u32, slow: f64) -> Vec<Block> {
    let mut noise = Noise::new(seed);
    (0..40)
        .map(|round| {
            let (a, b) = (0.02 * noise.normal(), 0.02 * noise.normal());
            let b = b + if round % every == every - 1 { slow } else { 0.0 };
            block(round, &[(key("b", P50), 1e3 * a.exp(), b - a), (key("b", P99), 4e3 * a.exp(), 0.0)])
        })
        .collect()
}

fn worst_tenth() -> Metric {
    Metric::WorstTenth(Box::new(P50))
}

#[test]
fn rare_slow_processes_are_found_at_the_end_and_named() {
    let verdict = run(Policy::default(), &blocks(1, 4, 0.3));
    assert_eq!((verdict.decision, verdict.pairs), (Decision::Reject, 40));
    let series = key("b", worst_tenth());
    assert_eq!(verdict.reason, Reason::SlowProcesses { series: series.clone(), count: 1 });
    let finding = verdict.findings.iter().find(|f| f.series == series).unwrap();
    assert_eq!((&finding.class, finding.gated, finding.primary), (&FindingClass::Slower, true, false));
    assert!((0.2..0.5).contains(&finding.delta.get()), "{}", finding.delta);
    assert!((finding.challenger / finding.baseline - 1.0 - finding.delta.get()).abs() < 1e-9);
    // The centre itself saw nothing.
    assert_ne!(
        verdict.findings.iter().find(|f| f.series == key("b", P50)).unwrap().class,
        FindingClass::Slower
    );
    insta::assert_snapshot!(verdict.reason);
}

#[test]
fn never_at_an_earlier_look() {
    let mut gate = Gate::new(Policy::default(), Some(SEED)).unwrap();
    for block in &blocks(1, 4, 0.3)[..39] {
        assert!(!matches!(gate.push(block).unwrap(), Step::Decided(_)));
    }
    // An end that does not depend on the data is a last look too; a cancelled job judges nothing.
    assert!(matches!(gate.finish(EndOfData::TimeBudget).reason, Reason::SlowProcesses { .. }));
    assert_eq!(gate.finish(EndOfData::Cancelled).reason, Reason::Cancelled { pairs: 39 });
}

#[test]
fn silent_without_slow_processes_or_when_told_to_be() {
    let quiet = run(Policy::default(), &blocks(2, 4, 0.0));
    assert!(!quiet.findings.iter().any(|f| f.series.metric == worst_tenth()));
    assert_ne!(quiet.decision, Decision::Reject);
    let loud = blocks(1, 4, 0.3);
    let off = Policy { guard_slow_processes: false, ..Policy::default() };
    assert_ne!(run(off, &loud).decision, Decision::Reject);
    // A suite that knows its slow processes names what it tolerates; no bench needs to measure that.
    let margin = Ratio::from_percent(60);
    let rule = MetricPolicy { margin, floor: Ratio::ZERO, gated: true };
    let tolerant = Policy { metrics: [(worst_tenth(), rule)].into(), ..Policy::default() };
    let verdict = run(tolerant, &loud);
    assert!(!matches!(verdict.reason, Reason::SlowProcesses { .. } | Reason::MetricMissing { .. }));
}

#[test]
fn slow_processes_of_the_baseline_are_no_fault_of_the_challenger() {
    let swapped: Vec<Block> = blocks(1, 4, 0.3)
        .into_iter()
        .map(|b| Block { baseline: b.challenger, challenger: b.baseline, ..b })
        .collect();
    assert_ne!(run(Policy::default(), &swapped).decision, Decision::Reject);
}

#[test]
fn replays_from_the_seed() {
    let json = || serde_json::to_string(&run(Policy::default(), &blocks(1, 4, 0.3))).unwrap();
    assert_eq!(json(), json());
}

#[test]
fn false_alarms_stay_at_their_share() {
    // A tenth of all processes is 20% slower in both: 600 gates at alpha 40%, of which the guard has a fifth: half a share
    // beside two series. At exactly that it fires 48 times; more than 76 has probability below 1e-4.
    let (mut noise, mut fired) = (Noise::new(5), 0);
    let policy = Policy { alpha: 0.4, looks: vec![40], ..Policy::default() };
    let tight = MetricPolicy { margin: Ratio::ZERO, floor: Ratio::ZERO, gated: true };
    let policy = Policy { metrics: [(worst_tenth(), tight)].into(), ..policy };
    for _ in 0..600 {
        let blocks: Vec<Block> = (0..40)
            .map(|round| {
                let mut process = || 0.02 * noise.normal() + if noise.uniform() < 0.1 { 0.18 } else { 0.0 };
                let (a, b) = (process(), process());
                block(round, &[(key("b", P50), 1e3 * a.exp(), b - a), (key("b", P99), 4e3 * a.exp(), b - a)])
            })
            .collect();
        let verdict = run(policy.clone(), &blocks);
        fired += u32::from(verdict.findings.iter().any(|f| f.series.metric == worst_tenth()));
    }
    println!("the guard fired in {fired} of 600 gates of identical builds; nominal 48");
    assert!((22..=76).contains(&fired), "{fired}");
}
