//! Strict mode: relinked builds as the unit of evidence.

mod common;

use common::{Noise, P50, SEED, block, key, run};
use darwin_gate::{
    Block, BlockError, Builds, Decision, EndOfData, Gate, Method, Policy, Reason, Step, build,
};

/// The effect of a relink on one build (log), as measured: 0.7%.
const LAYOUT: f64 = 0.007;

fn strict(builds: u32) -> Policy {
    Policy { builds, ..Policy::default() }
}

/// 40 pairs of `builds` builds a side, each build with its own layout luck, 0.3% noise a process.
fn job(noise: &mut Noise, builds: u32, effect: f64) -> Vec<Block> {
    let luck: Vec<f64> = (0..builds).map(|_| LAYOUT * (noise.normal() - noise.normal())).collect();
    (0..40)
        .map(|round| {
            let build = build(builds, round);
            let d = effect + luck[build as usize] + 0.003 * (noise.normal() - noise.normal());
            Block { builds: Builds::both(build), ..block(round, &[(key("b", P50), 1e3, d)]) }
        })
        .collect()
}

#[test]
fn a_round_must_say_its_builds() {
    let round = |builds| Block { builds, ..block(0, &[(key("b", P50), 1e3, 0.0)]) };
    let builds = |baseline, challenger| Builds { baseline, challenger };
    let texts: Vec<String> =
        [builds(None, None), builds(Some(1), None), builds(Some(4), Some(4)), builds(Some(0), Some(1))]
            .into_iter()
            .map(|builds| {
                let mut gate = Gate::new(strict(4), Some(SEED)).unwrap();
                let refused = gate.push(round(builds)).unwrap_err();
                assert_eq!(gate.pairs(), 0);
                refused.to_string()
            })
            .collect();
    insta::assert_snapshot!(texts.join("\n"));
    assert!(matches!(Gate::new(strict(4), None).unwrap().push(round(Builds::both(3))), Ok(Step::Continue)));
    // Outside strict mode the builds are only kept.
    assert!(!matches!(
        Gate::new(Policy::default(), None).unwrap().push(round(builds(Some(7), None))),
        Err(BlockError::BuildUnknown { .. })
    ));
}

#[test]
fn fewer_builds_than_asked_for_prove_nothing() {
    let mut noise = Noise::new(1);
    let mut blocks = job(&mut noise, 4, 0.3);
    for block in &mut blocks {
        block.builds = Builds::both(block.round % 3);
    }
    let verdict = run(strict(4), &blocks);
    assert_eq!((verdict.decision, verdict.pairs), (Decision::Inconclusive, 40));
    assert_eq!(verdict.reason, Reason::TooFewBuilds { ran: 3, asked: 4 });
    insta::assert_snapshot!(format!("{}\n{}", verdict.reason, verdict.settle_with.unwrap()));
    // Nor do few pairs: an assumed noise says nothing of layouts.
    let mut gate = Gate::new(strict(4), Some(SEED)).unwrap();
    for block in &job(&mut noise, 4, 0.5)[..9] {
        gate.push(block).unwrap();
    }
    let ended = gate.finish(EndOfData::TimeBudget);
    assert_eq!(ended.reason, Reason::NotEnoughPairs { pairs: 9, max: 40 });
}

#[test]
fn clear_changes_are_judged_by_the_builds() {
    let verdict = run(strict(8), &job(&mut Noise::new(2), 8, 0.05));
    assert_eq!((verdict.decision, verdict.method), (Decision::Reject, Method::BuildMeans));
    let finding = &verdict.findings[0];
    let (low, high) = finding.interval.unwrap();
    assert!(low < finding.delta && finding.delta < high && (0.04..0.06).contains(&finding.delta.get()));
    insta::assert_snapshot!(verdict.assumption.unwrap());
    assert_eq!(run(strict(8), &job(&mut Noise::new(3), 8, -0.05)).decision, Decision::Approve);
}

/// The share of rebuilt identical sources that are called slower or faster, and of 3% that is found.
#[test]
fn relinks_are_told_from_changes() {
    const TRIALS: u32 = 1_000;
    let count = |policy: &Policy, builds, effect, seed| {
        let mut noise = Noise::new(seed);
        let (mut approved, mut rejected) = (0, 0);
        for _ in 0..TRIALS {
            match run(policy.clone(), &job(&mut noise, builds, effect)).decision {
                Decision::Approve => approved += 1,
                Decision::Reject => rejected += 1,
                Decision::Inconclusive => {}
            }
        }
        (approved, rejected)
    };
    for builds in [4, 8] {
        let (approved, rejected) = count(&strict(builds), builds, 0.0, 4);
        let (_, found) = count(&strict(builds), builds, 0.03, 5);
        println!("{builds} builds: {approved} approved, {rejected} rejected, 3% found {found}, of {TRIALS}");
        // Nominal 10 of 1,000 each; 26 at exactly that has probability below 1e-4.
        assert!(approved <= 25 && rejected <= 25, "{approved} {rejected}");
        assert!(found >= if builds == 4 { 550 } else { 980 }, "{found}");
    }
    // The same with one layout a side and no strict mode: this luck is called a change in a third of all gates.
    let mut noise = Noise::new(6);
    let lucky = (0..200).filter(|_| {
        let luck = LAYOUT * (noise.normal() - noise.normal());
        let pairs: Vec<f64> = (0..40).map(|_| luck + 0.003 * (noise.normal() - noise.normal())).collect();
        run(Policy::default(), &common::p50_blocks(&pairs)).decision == Decision::Reject
    });
    let lucky = lucky.count();
    println!("one build: {lucky} of 200 rejected");
    assert!(lucky > 20, "{lucky}");
}
