//! What the blocks said so far: the pairs of every series, and who was absent when.

use std::collections::{BTreeMap, BTreeSet};

use crate::block::{Block, BlockError, Evidence, Observation, Variant};
use crate::guard;
use crate::metric::{Better, LatencyStat, Metric, SeriesKey, Unit};
use crate::policy::{MetricPolicy, Policy};
use crate::score::Score;
use crate::verdict::{Absent, Reason};

/// In which rounds a bench or a series was there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Presence {
    both: u32,
    baseline_only: u32,
    next_round: u32,
    first_gap: Option<(u32, Absent)>,
}

impl Presence {
    fn note(&mut self, round: u32, baseline: bool, challenger: bool) {
        if round > self.next_round {
            self.first_gap.get_or_insert((self.next_round, Absent::Both));
        }
        match (baseline, challenger) {
            (true, true) => self.both += 1,
            (true, false) => {
                self.baseline_only += 1;
                self.first_gap.get_or_insert((round, Absent::Challenger));
            }
            (false, true) => {
                self.first_gap.get_or_insert((round, Absent::Baseline));
            }
            (false, false) => return,
        }
        self.next_round = round + 1;
    }

    /// Only ever seen in the challenger.
    pub(crate) fn is_new(&self) -> bool {
        self.both == 0 && self.baseline_only == 0
    }

    /// Where it was first absent among `blocks` rounds; none if it was always there, or is new.
    pub(crate) fn gap(&self, blocks: u32) -> Option<(u32, Absent)> {
        if self.is_new() {
            return None;
        }
        self.first_gap.or_else(|| (self.next_round < blocks).then_some((self.next_round, Absent::Both)))
    }
}

/// The pairs of one series.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub(crate) unit: Unit,
    /// The weakest evidence of any invocation.
    pub(crate) evidence: Evidence,
    /// The fewest samples of any invocation.
    pub(crate) min_samples: u64,
    /// `ln(challenger / baseline)` per pair, negated where bigger is better: positive is worse.
    pub(crate) effects: Vec<f64>,
    /// `(ln challenger + ln baseline) / 2` per pair.
    pub(crate) log_middles: Vec<f64>,
    /// The build that each pair was measured with; empty outside strict mode.
    pub(crate) builds: Vec<u32>,
    /// The values of the first pair.
    pub(crate) first_pair: (f64, f64),
    pub(crate) presence: Presence,
}

impl Series {
    fn new(unit: Unit) -> Self {
        Self {
            unit,
            // The strongest: the first observation sets it.
            evidence: Evidence::D,
            min_samples: u64::MAX,
            effects: Vec::new(),
            log_middles: Vec::new(),
            builds: Vec::new(),
            first_pair: (0.0, 0.0),
            presence: Presence::default(),
        }
    }

    fn add(&mut self, better: Better, baseline: &Observation, challenger: &Observation) {
        let (low, high) = (baseline.value.ln(), challenger.value.ln());
        if self.effects.is_empty() {
            self.first_pair = (baseline.value, challenger.value);
        }
        self.effects.push(match better {
            Better::Smaller => high - low,
            Better::Bigger => low - high,
        });
        self.log_middles.push(f64::midpoint(low, high));
        for seen in [baseline, challenger] {
            self.min_samples = self.min_samples.min(seen.samples);
            self.evidence = weaker(self.evidence, seen.evidence);
        }
    }

    /// The logs of the baseline's and the challenger's values per pair, turned so that larger is worse.
    pub(crate) fn worse_upward(&self, better: Better) -> (Vec<f64>, Vec<f64>) {
        let turn = match better {
            Better::Smaller => 1.0,
            Better::Bigger => -1.0,
        };
        let pairs = self.effects.iter().zip(&self.log_middles);
        pairs.map(|(effect, middle)| (turn * middle - effect / 2.0, turn * middle + effect / 2.0)).unzip()
    }

    /// Pairs of this series.
    pub(crate) fn pairs(&self) -> u32 {
        u32::try_from(self.effects.len()).unwrap_or(u32::MAX)
    }
}

/// The weaker of two kinds of evidence: exact counters are the strongest, summaries the weakest.
fn weaker(a: Evidence, b: Evidence) -> Evidence {
    let rank = |e: Evidence| match e {
        Evidence::D => 0,
        Evidence::A => 1,
        Evidence::B => 2,
        Evidence::C => 3,
    };
    if rank(a) >= rank(b) { a } else { b }
}

/// Everything that the blocks said.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    pub(crate) blocks: u32,
    pub(crate) benches: BTreeMap<String, Presence>,
    pub(crate) series: BTreeMap<SeriesKey, Series>,
    /// The builds that ran; empty outside strict mode.
    pub(crate) builds: BTreeSet<u32>,
}

impl Ledger {
    /// Takes in the next block, or refuses it and changes nothing.
    pub(crate) fn push(&mut self, policy: &Policy, block: &Block) -> Result<(), BlockError> {
        block.validate()?;
        let build = if policy.is_strict() { Some(block.strict_build(policy.builds)?) } else { None };
        self.check_units(block)?;
        self.builds.extend(build);
        let round = block.round;
        let benches = |variant| block.side(variant).keys().map(|k| k.bench.as_str()).collect::<BTreeSet<_>>();
        let (baseline, challenger) = (benches(Variant::Baseline), benches(Variant::Challenger));
        for bench in baseline.union(&challenger) {
            let presence = self.benches.entry((*bench).to_owned()).or_default();
            presence.note(round, baseline.contains(bench), challenger.contains(bench));
        }
        for (key, seen) in &block.baseline {
            let other = block.challenger.get(key);
            let series = self.series_mut(key, seen.unit);
            series.presence.note(round, true, other.is_some());
            if let Some(other) = other {
                series.add(key.metric.better(), seen, other);
                series.builds.extend(build);
            }
        }
        for (key, seen) in block.challenger.iter().filter(|(key, _)| !block.baseline.contains_key(*key)) {
            self.series_mut(key, seen.unit).presence.note(round, false, true);
        }
        self.blocks += 1;
        Ok(())
    }

    fn series_mut(&mut self, key: &SeriesKey, unit: Unit) -> &mut Series {
        self.series.entry(key.clone()).or_insert_with(|| Series::new(unit))
    }

    fn check_units(&self, block: &Block) -> Result<(), BlockError> {
        for variant in [Variant::Baseline, Variant::Challenger] {
            for (key, seen) in block.side(variant) {
                let known = self.series.get(key).map(|s| s.unit);
                let expected = known.or_else(|| block.baseline.get(key).map(|s| s.unit)).unwrap_or(seen.unit);
                if seen.unit != expected {
                    let series = key.clone();
                    return Err(BlockError::UnitMismatch {
                        round: block.round,
                        variant,
                        series,
                        expected,
                        got: seen.unit,
                    });
                }
            }
        }
        Ok(())
    }

    /// Names of benches that only the challenger has.
    pub(crate) fn new_benches(&self) -> Vec<&str> {
        self.benches.iter().filter(|(_, p)| p.is_new()).map(|(bench, _)| bench.as_str()).collect()
    }

    /// What holds for a series. Only here is it known whether its bench has a median, which the mean may stand in for.
    pub(crate) fn rule(&self, policy: &Policy, key: &SeriesKey) -> Rule {
        let (metric, named) = policy.for_metric(&key.metric);
        let median = || SeriesKey::new(key.bench.as_str(), Metric::Latency(LatencyStat::P50));
        let stands_in = policy.stands_in(&key.metric) && !self.series.contains_key(&median());
        let gated = metric.gated || (stands_in && !named);
        let primary = stands_in || policy.is_primary(&key.metric);
        Rule { metric: MetricPolicy { gated, ..metric }, named, primary }
    }

    /// What is absent and must not be: a bench of the baseline, a gated series, or a metric that was asked for.
    pub(crate) fn missing(&self, policy: &Policy, roster: &Roster) -> Option<Reason> {
        let mut gaps = self
            .benches
            .iter()
            .filter_map(|(bench, p)| p.gap(self.blocks).map(|gap| (bench, gap)))
            .peekable();
        if let Some((bench, (round, absent))) = gaps.peek().copied() {
            let bench = bench.clone();
            let count = u32::try_from(gaps.count()).unwrap_or(u32::MAX);
            return Some(Reason::BenchMissing { bench, absent, round, count });
        }
        let gap =
            self.series.iter().filter(|(key, _)| self.rule(policy, key).metric.gated).find_map(|(key, s)| {
                s.presence.gap(self.blocks).map(|(round, absent)| (key.clone(), round, absent))
            });
        if let Some((series, round, absent)) = gap {
            return Some(Reason::SeriesMissing { series, absent, round });
        }
        // No bench measures a worst tenth: naming one only sets what the guard tolerates.
        let measured = |metric: &Metric| !matches!(metric, Metric::WorstTenth(_));
        let asked = policy.metrics.iter().filter(|(m, p)| p.gated && measured(m)).map(|(metric, _)| metric);
        let unseen = |metric: &&Metric| {
            !self.series.iter().any(|(key, s)| key.metric.same_quantity(metric) && !s.effects.is_empty())
        };
        if let Some(metric) = asked.into_iter().find(unseen) {
            return Some(Reason::MetricMissing { metric: metric.clone() });
        }
        roster.gated.is_empty().then_some(Reason::NothingComparable)
    }
}

/// The series that take part in the decision. Fixed once, for alpha is split over them.
#[derive(Debug, Clone)]
pub(crate) struct Roster {
    pub(crate) gated: BTreeMap<SeriesKey, MetricPolicy>,
    pub(crate) primaries: u32,
    /// Whether rare slow processes are looked for in the primary series, as one more test.
    pub(crate) guard: bool,
}

impl Roster {
    /// Everything that can be gated by what was seen so far.
    pub(crate) fn new(policy: &Policy, ledger: &Ledger) -> Self {
        let gated: BTreeMap<_, _> = ledger
            .series
            .iter()
            .filter(|(_, series)| !series.effects.is_empty())
            .filter_map(|(key, series)| {
                Some((key.clone(), gate_or_why(ledger.rule(policy, key), key, series).ok()?))
            })
            .collect();
        let primaries = gated.keys().filter(|key| ledger.rule(policy, key).primary).count();
        let primaries = u32::try_from(primaries).unwrap_or(u32::MAX);
        let mut roster = Self { gated, primaries, guard: false };
        // A guard that cannot fire must not cost the others their share of alpha.
        roster.guard = roster.wants_guard(policy) && !roster.guard_is_too_small(policy);
        roster
    }

    fn wants_guard(&self, policy: &Policy) -> bool {
        policy.guard_slow_processes && !policy.is_strict() && self.primaries > 0
    }

    /// Whether the guard is wanted, and so many series share alpha that it could never fire.
    pub(crate) fn guard_is_too_small(&self, policy: &Policy) -> bool {
        self.wants_guard(policy) && !guard::can_fire(self.guard_alpha(policy))
    }

    /// The guard's part of alpha, spent at once at the last look.
    pub(crate) fn guard_alpha(&self, policy: &Policy) -> f64 {
        let weight = guard_weight(policy.score);
        policy.alpha * weight / (self.gated.len() as f64 + weight)
    }

    /// How many equal tests share alpha on the side of REJECT: the series, and the guard by its weight.
    pub(crate) fn weighted_tests(&self, policy: &Policy) -> f64 {
        f64::from(self.series()) + if self.guard { guard_weight(policy.score) } else { 0.0 }
    }

    /// How many series are gated.
    pub(crate) fn series(&self) -> u32 {
        u32::try_from(self.gated.len()).unwrap_or(u32::MAX)
    }

    /// How many tests there are on the side of REJECT: the series, and the guard. Plans take them for equal, which asks for
    /// a few pairs too many.
    pub(crate) fn tests(&self) -> u32 {
        self.series().saturating_add(u32::from(self.guard))
    }
}

/// What the guard weighs beside one series when alpha is shared. It answers a question that is asked seldom, and at a full
/// share it cost the others up to five points of power (docs/decisions/0005-a-sharper-score.md); records of the first
/// rule gave it that.
const fn guard_weight(score: Score) -> f64 {
    match score {
        Score::Clipped => 1.0,
        Score::Adaptive => 0.5,
    }
}

/// What the policy means for one series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rule {
    pub(crate) metric: MetricPolicy,
    /// Whether the user named the metric.
    pub(crate) named: bool,
    pub(crate) primary: bool,
}

/// How a series is gated, or why it is not.
pub(crate) fn gate_or_why(rule: Rule, key: &SeriesKey, series: &Series) -> Result<MetricPolicy, String> {
    let Rule { metric: metric_policy, named, .. } = rule;
    if !metric_policy.gated {
        let why = if named { "the policy only reports it" } else { "the policy does not name it" };
        return Err(why.to_owned());
    }
    if let Metric::Latency(stat) = key.metric {
        let Some(needed) = stat.samples_to_gate() else {
            return Err(format!("the {stat} of an invocation is one sample, whatever its number of samples"));
        };
        if series.min_samples < needed {
            return Err(format!(
                "{stat} needs {needed} samples per invocation, and one had {}",
                series.min_samples
            ));
        }
        let of = match series.evidence {
            Evidence::A | Evidence::D => None,
            Evidence::B => Some("batch means"),
            Evidence::C => Some("a summary"),
        };
        let in_tail = needed > 1;
        if let (true, Some(of), false) = (in_tail, of, named) {
            return Err(format!("it is a {stat} of {of}; name {} in the policy to gate on it", key.metric));
        }
    }
    Ok(metric_policy)
}
