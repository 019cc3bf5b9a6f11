//! Jobs without a planned end: what holds at whatever pair one looks.
#![expect(clippy::unwrap_used, reason = "test code")]

mod common;

use common::{Noise, P50, SEED, binomial_bound, block, key, p50_blocks, run};
use darwin_gate::eprocess::SignFlipEvidence;
use darwin_gate::policy::FIRST_LOOK_PAIRS;
use darwin_gate::{
    Block, Decision, EndOfData, Gate, Method, Order, Policy, Reason, Step, Stopping, Verdict, order,
};

/// Jobs go on for so long at most, with looks at 10, 14, 20, 28, 40, 56, 80, 112, 160, 224 and 320 pairs.
const PAIRS: u32 = 320;

fn anytime() -> Policy {
    Policy { stopping: Stopping::Anytime, ..Policy::default() }.with_max_pairs(PAIRS)
}

/// The guard has its own share of alpha; without it all that is judged is the evidence.
fn without_guard(policy: Policy) -> Policy {
    Policy { guard_slow_processes: false, ..policy }
}

/// Student's t with 2 degrees of freedom, held where its exponential is still a number.
fn heavy(noise: &mut Noise) -> f64 {
    (noise.normal() / (-noise.uniform().ln()).sqrt()).clamp(-100.0, 100.0)
}

/// A pair of identical builds: heavy tails from process to process, on a box that is up to 3% slower, or faster, for
/// the second process than for the first. The coin decides whom that hits.
fn identical(noise: &mut Noise, seed: u64, round: u32) -> Block {
    let (first, second) = (0.01 * heavy(noise), 0.01 * heavy(noise));
    let second = second + 0.03 * (f64::from(round) / 25.0).sin();
    let order = order(seed, round);
    let (baseline, challenger) = match order {
        Order::BaselineFirst => (first, second),
        Order::ChallengerFirst => (second, first),
    };
    Block { order, ..block(round, &[(key("b", P50), 1e3 * baseline.exp(), challenger - baseline)]) }
}

/// How many of `jobs` jobs are approved and rejected.
fn tally(jobs: u32, mut pair: impl FnMut(u64, u32) -> Block) -> (u32, u32) {
    let (mut approved, mut rejected) = (0, 0);
    for seed in 0..u64::from(jobs) {
        let mut gate = Gate::new(anytime(), Some(seed)).unwrap();
        let decided = (0..PAIRS).find_map(|round| match gate.push(pair(seed, round)).unwrap() {
            Step::Continue | Step::Look(_) => None,
            Step::Decided(verdict) => Some(verdict.decision),
        });
        match decided.unwrap() {
            Decision::Approve => approved += 1,
            Decision::Reject => rejected += 1,
            Decision::Inconclusive => {}
        }
    }
    (approved, rejected)
}

#[test]
fn identical_builds_are_rarely_judged_however_often_one_looks() {
    const JOBS: u32 = 1_000;
    let mut noise = Noise::new(41);
    let (approved, rejected) = tally(JOBS, |seed, round| identical(&mut noise, seed, round));
    // Nominal: 1% wrong APPROVE and 1% wrong REJECT over all looks. A gate at exactly that, with its 10 of 1,000 on
    // average, exceeds this bound of some 28 with probability 1e-6.
    let bound = binomial_bound(JOBS, 0.01, 1e-6);
    assert!((20..40).contains(&bound), "the bound is {bound}");
    assert!(approved.max(rejected) <= bound, "{approved} approved, {rejected} rejected, bound {bound}");
    println!("identical builds: {approved} approved, {rejected} rejected of {JOBS}");
}

#[test]
fn five_percent_is_found_and_never_mistaken() {
    let mut noise = Noise::new(42);
    let mut shifted = |shift: f64| {
        tally(100, |_, round| block(round, &[(key("b", P50), 1e3, shift + 0.03 * noise.normal())]))
    };
    let (approved, rejected) = shifted(0.05);
    assert!(approved == 0 && rejected >= 98, "{approved} approved, {rejected} rejected of 100");
    let (approved, rejected) = shifted(-0.05);
    assert!(approved >= 98 && rejected == 0, "{approved} approved, {rejected} rejected of 100");
}

#[test]
fn a_verdict_is_the_evidence_at_whatever_pair_one_looks() {
    let effects = Noise::new(43).normals(160, 0.02, 0.03);
    let blocks = p50_blocks(&effects);
    // One look at the end, so that the gate itself does not stop before.
    let policy = Policy { looks: vec![PAIRS], ..without_guard(anytime()) };
    let mut gate = Gate::new(policy.clone(), Some(SEED)).unwrap();
    let mut slower = SignFlipEvidence::against(0.0);
    let mut proven_since = None;
    for (block, effect) in blocks.iter().zip(&effects) {
        assert_eq!(gate.push(block).unwrap(), Step::Continue);
        slower.push(*effect);
        let proven = gate.pairs() >= FIRST_LOOK_PAIRS && slower.proves(policy.alpha);
        let verdict = gate.finish(EndOfData::TimeBudget);
        assert_eq!(verdict.decision == Decision::Reject, proven, "{} pairs", gate.pairs());
        // Nothing was asked of the gate: the same pairs at its usual looks say the same, at the next of them.
        if proven {
            proven_since.get_or_insert(gate.pairs());
        }
    }
    let since = proven_since.unwrap();
    let usual = run(without_guard(anytime()), &blocks);
    let next_look = anytime().looks.into_iter().find(|look| *look >= since);
    assert_eq!((usual.decision, Some(usual.pairs)), (Decision::Reject, next_look));
}

#[test]
fn the_interval_holds_the_truth_at_all_looks_at_once() {
    const JOBS: u32 = 300;
    const TRUTH: f64 = 0.02;
    let policy = without_guard(anytime()).with_max_pairs(80);
    let mut noise = Noise::new(44);
    let mut missed = 0;
    for _ in 0..JOBS {
        let mut gate = Gate::new(policy.clone(), Some(SEED)).unwrap();
        let mut is_outside = false;
        for round in 0..80 {
            let pair = TRUTH + 0.02 * heavy(&mut noise);
            let interval = match gate.push(block(round, &[(key("b", P50), 1e3, pair)])).unwrap() {
                Step::Continue => continue,
                Step::Look(look) => look.leading.unwrap().interval,
                Step::Decided(verdict) => verdict.findings[0].interval,
            };
            is_outside |= interval.is_some_and(|(low, high)| TRUTH < low.ln_1p() || high.ln_1p() < TRUTH);
            if gate.verdict().is_some() {
                break;
            }
        }
        missed += u32::from(is_outside);
    }
    let bound = binomial_bound(JOBS, 0.02, 1e-6);
    assert!(missed <= bound, "the interval missed the truth in {missed} of {JOBS} jobs, bound {bound}");
}

#[test]
fn what_is_the_same_in_every_pair_is_judged_at_the_first_look() {
    let same = run(anytime(), &p50_blocks(&[0.0; 40]));
    assert_eq!((same.reason, same.pairs), (Reason::NoChangeProven, 10));
    let slower = run(anytime(), &p50_blocks(&[0.05; 40]));
    assert_eq!((slower.decision, slower.pairs), (Decision::Reject, 10));
    let (low, high) = slower.findings[0].interval.unwrap();
    assert!((low.ln_1p() - 0.05).abs() < 1e-9 && (high.ln_1p() - 0.05).abs() < 1e-9, "{low} {high}");
}

/// What stands when the time is over after these pairs.
fn ended(pairs: &[f64]) -> Verdict {
    let mut gate = Gate::new(anytime(), Some(SEED)).unwrap();
    for block in &p50_blocks(pairs) {
        gate.push(block).unwrap();
    }
    gate.finish(EndOfData::TimeBudget)
}

#[test]
fn what_is_open_speaks_of_time_and_not_of_a_number_of_pairs() {
    let open = ended(&Noise::new(45).normals(60, 0.0, 0.03));
    assert_eq!((open.decision, open.method), (Decision::Inconclusive, Method::SignFlipEvidence));
    assert_eq!(open.reason.to_string(), "nothing proven in 60 pairs");
    assert!(open.settle_with.unwrap().starts_with("a longer `time` in the suite's budget"));
    assert_eq!((open.notes, open.assumption), (vec![], None));
    let mut gate = Gate::new(anytime(), Some(SEED)).unwrap();
    let steps: Vec<Step> = p50_blocks(&Noise::new(45).normals(10, 0.0, 0.03))
        .iter()
        .map(|block| gate.push(block).unwrap())
        .collect();
    let Some(Step::Look(look)) = steps.last() else { panic!("{steps:?}") };
    assert!(look.to_string().ends_with(", 10 pairs, next look at 14"), "{look}");
}

#[test]
fn fewer_pairs_than_a_first_look_prove_nothing() {
    let few = ended(&[0.5; 9]);
    assert_eq!((few.decision, few.method), (Decision::Inconclusive, Method::SignFlipEvidence));
    assert_eq!((few.reason, few.assumption), (Reason::NotEnoughPairs { pairs: 9, max: 9 }, None));
    assert_eq!(few.findings[0].interval, None);
    assert_eq!(ended(&[]).reason, Reason::NothingComparable);
}

#[test]
fn replays() {
    let blocks = p50_blocks(&Noise::new(46).normals(60, 0.01, 0.03));
    let json = |policy: Policy| serde_json::to_string(&run(policy, &blocks)).unwrap();
    let stored: Policy = serde_json::from_str(&serde_json::to_string(&anytime()).unwrap()).unwrap();
    assert_eq!(json(anytime()), json(stored));
    assert_ne!(json(anytime()), json(Policy::default().with_max_pairs(PAIRS)));
}
