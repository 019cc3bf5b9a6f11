//! What the clients submit, what a box would measure of it, and what must come out.

use std::collections::BTreeMap;
use std::time::Duration;

use darwin_gate::{
    Block, EndOfData, Evidence, Gate, LatencyStat, Metric, Observation, Order, Policy, SeriesKey, Step, Unit,
    Verdict, order,
};
use darwin_shared::fleet::{AgentFacts, IsolationLevel, Reading, ReadingStatus, SensorReport, Tier};
use darwin_shared::formats::Format;
use darwin_shared::ids::{AgentId, AttemptId, Epoch, PoolName, ProjectName, SuiteName};
use darwin_shared::round::{Invocation, RoundResult};
use darwin_shared::spec::{
    Arm, Budget, Command, CoreRequest, JobSpec, Layout, PairPlan, Source, Step as SpecStep, Steps, Variant,
    Work,
};
use darwin_shared::usage::Usage;
use darwin_shared::void::VoidRounds;

/// The jobs that clients draw from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shape {
    /// One variant, this many rounds.
    Measure(u32),
    /// A comparison of this many pairs at most, the challenger being faster or the same.
    Compare { pairs: u32, faster: bool },
}

/// A spec of this shape.
pub(crate) fn spec(shape: Shape, project: &str, priority: i32) -> JobSpec {
    let variant = |label: &str| Variant { label: label.to_owned(), source: Source::Nothing };
    let (work, rounds) = match shape {
        Shape::Measure(rounds) => (Work::Measure { variant: variant("one") }, rounds),
        Shape::Compare { pairs, faster } => {
            let challenger = variant(if faster { "fast" } else { "same" });
            (Work::Compare { baseline: variant("old"), challenger }, pairs)
        }
    };
    JobSpec {
        project: ProjectName::new(project).unwrap(),
        suite: SuiteName::new("suite").unwrap(),
        work,
        steps: Steps {
            setup: None,
            check: None,
            run: SpecStep { command: Command::Shell("true".to_owned()), timeout: Duration::from_secs(1) },
        },
        format: Format::Process,
        env: BTreeMap::new(),
        pool: None,
        labels: BTreeMap::new(),
        cores: CoreRequest::default(),
        plan: PairPlan::default(),
        layout: Layout::default(),
        policy: Policy::default().with_max_pairs(rounds),
        budget: Budget { rounds_min: 1, rounds_max: rounds, time: Duration::from_mins(1) },
        priority,
        attempts: 3,
        seed: 7,
    }
}

fn p50() -> SeriesKey {
    SeriesKey::new("bench", Metric::Latency(LatencyStat::P50))
}

fn observation(spec: &JobSpec, arm: Arm, round: u32) -> Observation {
    let faster = match &spec.work {
        Work::Compare { challenger, .. } => challenger.label == "fast",
        Work::Measure { .. } | Work::Probe { .. } => false,
    };
    let value = match (arm, faster) {
        (Arm::Baseline, _) | (Arm::Challenger, false) => 1_000.0,
        (Arm::Challenger, true) => 700.0,
    };
    Observation {
        value: value + f64::from(round),
        samples: 100,
        evidence: Evidence::A,
        unit: Unit::Nanoseconds,
    }
}

fn arms(spec: &JobSpec, round: u32) -> Vec<Arm> {
    match (&spec.work, order(spec.seed, round)) {
        (Work::Measure { .. } | Work::Probe { .. }, _) => vec![Arm::Baseline],
        (Work::Compare { .. }, Order::BaselineFirst) => vec![Arm::Baseline, Arm::Challenger],
        (Work::Compare { .. }, Order::ChallengerFirst) => vec![Arm::Challenger, Arm::Baseline],
    }
}

/// What any box measures in this round: always the same.
pub(crate) fn round(spec: &JobSpec, attempt: AttemptId, epoch: Epoch, round: u32) -> RoundResult {
    let invocation = |arm| Invocation {
        arm,
        observations: BTreeMap::from([(p50(), observation(spec, arm, round))]),
        wall: Duration::from_millis(1),
        usage: Usage::default(),
        samples: None,
        image: None,
        build: None,
    };
    RoundResult {
        attempt,
        epoch,
        round,
        invocations: arms(spec, round).into_iter().map(invocation).collect(),
        pairing: None,
        warm_ups: vec![],
        voids: VoidRounds::default(),
        probes: vec![],
    }
}

/// The one verdict that these rounds can lead to, however often they are lost, doubled and replayed.
pub(crate) fn expected_verdict(spec: &JobSpec) -> Verdict {
    let mut gate = Gate::new(spec.policy.clone(), Some(spec.seed)).unwrap();
    let side = |arm, round| BTreeMap::from([(p50(), observation(spec, arm, round))]);
    for round in 0..spec.budget.rounds_max {
        let block = Block {
            round,
            order: order(spec.seed, round),
            baseline: side(Arm::Baseline, round),
            challenger: side(Arm::Challenger, round),
            builds: darwin_gate::Builds::default(),
        };
        if let Step::Decided(verdict) = gate.push(&block).unwrap() {
            return *verdict;
        }
    }
    gate.finish(EndOfData::MaxPairs)
}

/// The facts of a box with so many cores.
pub(crate) fn facts(agent: &AgentId, cores: u32, incarnation: u32) -> AgentFacts {
    AgentFacts {
        pool: PoolName::new("pool").unwrap(),
        labels: BTreeMap::new(),
        version: "0.1.0".to_owned(),
        hostname: agent.to_string(),
        lease_cpus: format!("1-{cores}"),
        lease_cores: cores,
        housekeeping_cpus: "0".to_owned(),
        kernel: "6.12".to_owned(),
        cpu_model: "a model".to_owned(),
        isolation: IsolationLevel::Affinity,
        incarnation: incarnation.to_string(),
        boot_id: "boot".to_owned(),
        tier: Tier::Shielded,
        docker: None,
    }
}

/// What the sensor says.
pub(crate) fn sensor(healthy: bool) -> SensorReport {
    SensorReport::of(vec![Reading {
        name: "load".to_owned(),
        status: if healthy { ReadingStatus::Ok } else { ReadingStatus::Fail },
        value: "1".to_owned(),
        why: "noise".to_owned(),
        remedy: String::new(),
    }])
}
