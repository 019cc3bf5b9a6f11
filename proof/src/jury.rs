//! The gate under test: the product's own, with its real policy, blocks, coin and stopping. Nothing is imitated here.

use std::collections::BTreeMap;

use darwin_gate::{
    Block, BlockError, Builds, EndOfData, Evidence, Gate, LatencyStat, Metric, MetricPolicy, Mode,
    Observation, Policy, PolicyError, Ratio, RatioError, SeriesKey, Step, Unit, Verdict,
};

use crate::noise::ITERATIONS;
use crate::variants::{Round, Values};

/// The median.
pub const P50: Metric = Metric::Latency(LatencyStat::P50);
/// The mean.
pub const MEAN: Metric = Metric::Latency(LatencyStat::Mean);
/// The 99th percentile.
pub const P99: Metric = Metric::Latency(LatencyStat::P99);

/// Why the gate could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum JuryError {
    /// The policy is not one.
    #[error("the gate refused the policy: {0}")]
    Policy(#[from] PolicyError),
    /// A block is not one.
    #[error("the gate refused a round: {0}")]
    Block(#[from] BlockError),
    /// A margin is not one.
    #[error("a margin of the proof: {0}")]
    Margin(#[from] RatioError),
}

/// Margins of p50, mean and p99, as relative changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Margins {
    /// Of the median.
    pub p50: f64,
    /// Of the mean.
    pub mean: f64,
    /// Of the 99th percentile.
    pub p99: f64,
}

impl Margins {
    /// On synthetic noise: 1%, 1% and 5%.
    pub const SYNTHETIC: Self = Self { p50: 0.01, mean: 0.01, p99: 0.05 };
    /// On recordings of a shared machine: 2%, 2% and 10%.
    pub const RECORDED: Self = Self { p50: 0.02, mean: 0.02, p99: 0.10 };
}

/// A policy that gates p50 (primary), mean and p99 by these margins.
pub fn policy(margins: Margins, max_pairs: u32, mode: Mode) -> Result<Policy, JuryError> {
    let mut policy = Policy { mode, ..Policy::default().with_max_pairs(max_pairs) };
    for (metric, margin) in [(P50, margins.p50), (MEAN, margins.mean), (P99, margins.p99)] {
        policy.metrics.insert(metric, gated(margin)?);
    }
    Ok(policy)
}

/// A policy that gates nothing but the mean.
pub fn mean_only(margin: f64, max_pairs: u32) -> Result<Policy, JuryError> {
    let mut policy = Policy { primary: Some(MEAN), ..Policy::default().with_max_pairs(max_pairs) };
    policy.metrics.insert(MEAN, gated(margin)?);
    Ok(policy)
}

fn gated(margin: f64) -> Result<MetricPolicy, JuryError> {
    Ok(MetricPolicy { margin: Ratio::new(margin)?, floor: Ratio::ZERO, gated: true })
}

/// The series of one bench, made once: a bench's name is copied into every block.
#[derive(Debug, Clone)]
pub struct Bench {
    series: Vec<(SeriesKey, Metric)>,
}

impl Bench {
    /// A bench that reports these metrics.
    pub fn new(name: &str, metrics: &[Metric]) -> Self {
        Self { series: metrics.iter().map(|m| (SeriesKey::new(name, m.clone()), m.clone())).collect() }
    }

    fn observe(&self, values: &Values, into: &mut BTreeMap<SeriesKey, Observation>) {
        /// Latencies are in units of a median; the gate only forms ratios, and a microsecond reads well.
        const UNIT_NS: f64 = 1_000.0;
        for (key, metric) in &self.series {
            let value = match metric {
                Metric::Latency(LatencyStat::P50) => values.p50,
                Metric::Latency(LatencyStat::P99) => values.p99,
                _ => values.mean,
            };
            let samples = ITERATIONS as u64;
            let seen = Observation {
                value: value * UNIT_NS,
                samples,
                evidence: Evidence::A,
                unit: Unit::Nanoseconds,
            };
            into.insert(key.clone(), seen);
        }
    }
}

/// One block of several benches; each round is the same round of another bench.
pub fn block(round: u32, seen: &[(&Bench, Round)]) -> Option<Block> {
    let order = seen.first()?.1.order;
    let (mut baseline, mut challenger) = (BTreeMap::new(), BTreeMap::new());
    for (bench, values) in seen {
        bench.observe(&values.baseline, &mut baseline);
        bench.observe(&values.challenger, &mut challenger);
    }
    Some(Block { round, order, builds: Builds::default(), baseline, challenger })
}

/// Runs the gate over the blocks until its verdict stands.
pub fn verdict(
    policy: &Policy,
    coin: u64,
    blocks: impl Iterator<Item = Block>,
) -> Result<Verdict, JuryError> {
    let mut gate = Gate::new(policy.clone(), Some(coin))?;
    for block in blocks {
        if let Step::Decided(verdict) = gate.push(block)? {
            return Ok(*verdict);
        }
    }
    Ok(gate.finish(EndOfData::MaxPairs))
}

/// Runs the gate over the rounds of one bench.
pub fn judge(
    policy: &Policy,
    coin: u64,
    bench: &Bench,
    rounds: impl Iterator<Item = Round>,
) -> Result<Verdict, JuryError> {
    let blocks = (0..).zip(rounds).filter_map(|(number, round)| block(number, &[(bench, round)]));
    verdict(policy, coin, blocks)
}
