//! From the pairs to the verdict: tests every series, asks the decision table, writes the findings and the notes.

use std::collections::{BTreeMap, BTreeSet};

use crate::anytime::{PairsInOrder, Stopping};
use crate::build_means;
use crate::decide::{Levels, Tested, Yardstick, decide, faster_but_unsafe, test};
use crate::family;
use crate::few_pairs::{FewPairs, SETTLE_WITH, assumption};
use crate::gate::Leading;
use crate::ledger::{Ledger, Roster, Rule, Series, gate_or_why};
use crate::metric::{Better, SeriesKey};
use crate::plan::{TOO_MANY_PAIRS, pairs_needed, robust_sd};
use crate::policy::{MetricPolicy, Mode, Policy};
use crate::ratio::Ratio;
use crate::resolution::{NoiseSource, Unresolved, in_a_line};
use crate::score::{Pairs, Score};
use crate::slow_processes::slow_processes;
use crate::stats::median;
use crate::verdict::{Decision, Finding, FindingClass, Method, Reason, Verdict};

/// Nobody runs more rounds than this, nor does a suite's budget take more.
const SENSIBLE_PAIRS: u32 = 1000;
/// Steps that find what a family is worth.
const WORTH_STEPS: u32 = 2;
/// Names listed in one note before it says "and so many more": a note is a line, not a page.
const NAMES_PER_NOTE: usize = 5;

/// Everything that one look found; the findings are written only when it becomes a verdict.
pub(crate) struct Judgement {
    pub(crate) outcome: Option<(Decision, Reason)>,
    /// Whether this was a last look outside the plan.
    pub(crate) ended_early: bool,
    method: Method,
    measured: BTreeMap<SeriesKey, Measured>,
    roster: Roster,
    /// What the guard for rare slow processes found.
    slow: Vec<Finding>,
}

struct Measured {
    yardstick: Yardstick,
    levels: Levels,
    /// What a gated series' tests say.
    tested: Option<Tested>,
}

/// Judges at a look whose critical value for an alpha is `boundary(alpha)`.
pub(crate) fn judge(
    policy: &Policy,
    ledger: &Ledger,
    roster: &Roster,
    boundary: impl Fn(f64) -> f64,
) -> Judgement {
    let z = |tests: f64| boundary(policy.alpha / tests.max(1.0));
    let reject = match (policy.stopping, policy.score) {
        _ if policy.is_strict() => z(f64::from(roster.tests())),
        // What agreeing series are worth rests on normal scores at one look.
        (Stopping::Anytime, _) | (Stopping::Planned, Score::Clipped) => z(roster.weighted_tests(policy)),
        (Stopping::Planned, Score::Adaptive) => shared_level(policy, ledger, roster, &z),
    };
    let level = |z| if policy.is_strict() { build_means::level(z, policy.builds) } else { z };
    let levels =
        Levels { reject: level(reject), gain: level(z(f64::from(roster.primaries))), full: level(z(1.0)) };
    let mut measured = BTreeMap::new();
    for (key, series) in ledger.series.iter().filter(|(_, s)| !s.effects.is_empty()) {
        let (yardstick, levels) = yardstick(policy, series, levels);
        let tested = gated(key, series, ledger, roster).map(|metric| {
            test(&yardstick, levels, metric, ledger.rule(policy, key).primary, policy.min_gain)
        });
        measured.insert(key.clone(), Measured { yardstick, levels, tested });
    }
    let method = match (policy.stopping, policy.score) {
        _ if policy.is_strict() => Method::BuildMeans,
        (Stopping::Anytime, _) => Method::SignFlipEvidence,
        (Stopping::Planned, Score::Clipped) => Method::ClippedSignFlip,
        (Stopping::Planned, Score::Adaptive) => Method::AdaptiveSignFlip,
    };
    Judgement::new(method, policy, ledger, roster, measured)
}

/// The level of a REJECT where series that agree share their part of alpha.
fn shared_level(policy: &Policy, ledger: &Ledger, roster: &Roster, z: &impl Fn(f64) -> f64) -> f64 {
    let mut benches: BTreeMap<&str, Vec<Vec<f64>>> = BTreeMap::new();
    for (key, metric) in &roster.gated {
        let Some(series) = ledger.series.get(key).filter(|s| s.presence.gap(ledger.blocks).is_none()) else {
            continue;
        };
        let pairs = Pairs::scored(&series.effects, policy.score);
        benches.entry(&key.bench).or_default().push(pairs.scores(&series.effects, metric.floor.ln_1p()));
    }
    let correlations: Vec<f64> = benches.values().flat_map(|scores| family::tree(scores)).collect();
    let tests = roster.weighted_tests(policy);
    let mut level = z(tests);
    // What the family is worth depends on the level and the other way round; the second step moves it by little.
    for _ in 0..WORTH_STEPS {
        level = z(family::on_grid(family::worth(tests, &correlations, level)).min(tests));
    }
    level
}

/// What a series is measured by, and its levels: out of reach in strict mode while a build of it has not run.
fn yardstick(policy: &Policy, series: &Series, levels: Levels) -> (Yardstick, Levels) {
    if !policy.is_strict() {
        return (by_pairs(policy, series), levels);
    }
    match build_means::yardstick(&series.effects, &series.builds, policy.builds) {
        Some(builds) => (builds, levels),
        None => (by_pairs(policy, series), Levels::UNREACHABLE),
    }
}

fn by_pairs(policy: &Policy, series: &Series) -> Yardstick {
    match policy.stopping {
        Stopping::Planned => Yardstick::Score(Pairs::scored(&series.effects, policy.score)),
        Stopping::Anytime => Yardstick::Evidence(PairsInOrder::new(&series.effects, policy.score)),
    }
}

/// Judges by the few-pairs rule.
pub(crate) fn judge_few(policy: &Policy, ledger: &Ledger, roster: &Roster) -> Judgement {
    let few = FewPairs::new(policy, roster, ledger.blocks);
    let mut measured = BTreeMap::new();
    for (key, series) in &ledger.series {
        let Some(yard) = few.measure(key, series) else {
            continue;
        };
        let tested = gated(key, series, ledger, roster)
            .map(|metric| few.test(&yard, metric, ledger.rule(policy, key).primary));
        let (yardstick, levels) = yard;
        measured.insert(key.clone(), Measured { yardstick, levels, tested });
    }
    Judgement::new(Method::FewPairs, policy, ledger, roster, measured)
}

/// How a series takes part in the decision; none if it does not, or was absent in some round.
fn gated(key: &SeriesKey, series: &Series, ledger: &Ledger, roster: &Roster) -> Option<MetricPolicy> {
    let complete = series.presence.gap(ledger.blocks).is_none();
    roster.gated.get(key).copied().filter(|_| complete)
}

/// The primary series whose pairs lie furthest from no change.
pub(crate) fn leading(policy: &Policy, ledger: &Ledger, boundary: f64) -> Option<Leading> {
    let mut best: Option<(f64, &SeriesKey, Yardstick)> = None;
    for (key, series) in &ledger.series {
        if series.effects.is_empty() || !ledger.rule(policy, key).primary {
            continue;
        }
        let pairs = by_pairs(policy, series);
        let distance = pairs.z(0.0).abs();
        if best.as_ref().is_none_or(|(furthest, ..)| distance > *furthest) {
            best = Some((distance, key, pairs));
        }
    }
    let (_, key, pairs) = best?;
    let better = key.metric.better();
    let interval = pairs.interval(boundary).map(|interval| natural_interval(better, interval));
    Some(Leading { series: key.clone(), delta: natural(better, pairs.centre()), interval })
}

/// The change of the value itself from an effect that is positive when worse.
fn natural(better: Better, effect: f64) -> Ratio {
    Ratio::from_log(match better {
        Better::Smaller => effect,
        Better::Bigger => -effect,
    })
}

fn natural_interval(better: Better, (low, high): (f64, f64)) -> (Ratio, Ratio) {
    match better {
        Better::Smaller => (natural(better, low), natural(better, high)),
        Better::Bigger => (natural(better, high), natural(better, low)),
    }
}

impl Judgement {
    fn new(
        method: Method,
        policy: &Policy,
        ledger: &Ledger,
        roster: &Roster,
        measured: BTreeMap<SeriesKey, Measured>,
    ) -> Self {
        let tests: Vec<(&SeriesKey, Tested)> =
            measured.iter().filter_map(|(key, m)| Some((key, m.tested?))).collect();
        let outcome = decide(policy.mode, &tests, ledger.missing(policy, roster));
        Self { outcome, ended_early: false, method, measured, roster: roster.clone(), slow: Vec::new() }
    }

    /// Whether the verdict's validity comes from the coin.
    fn by_the_coin(&self) -> bool {
        match self.method {
            Method::ClippedSignFlip | Method::AdaptiveSignFlip | Method::SignFlipEvidence => true,
            Method::BuildMeans | Method::FewPairs => false,
        }
    }

    /// At the last look: rare slow processes are a REJECT, whatever the centres say.
    pub(crate) fn guard(&mut self, policy: &Policy, ledger: &Ledger, seed: Option<u64>) {
        // Without a coin no seed makes the swaps valid; any fixed one makes them replay.
        self.slow = slow_processes(policy, ledger, &self.roster, seed.unwrap_or(0));
        let rejected = matches!(self.outcome, Some((Decision::Reject, _)));
        if let (Some(first), false) = (self.slow.first(), rejected) {
            let count = u32::try_from(self.slow.len()).unwrap_or(u32::MAX);
            let reason = Reason::SlowProcesses { series: first.series.clone(), count };
            self.outcome = Some((Decision::Reject, reason));
        }
    }

    /// Writes the verdict; what nothing decided is INCONCLUSIVE.
    pub(crate) fn into_verdict(
        self,
        policy: &Policy,
        ledger: &Ledger,
        seed: Option<u64>,
        looks_taken: u32,
    ) -> Verdict {
        let open = self.outcome.is_none().then(|| self.open_reason(policy, ledger));
        let settle_with = open.as_ref().map(|reason| settle_with(reason, self.method, seed));
        let inconclusive = open.map(|reason| (Decision::Inconclusive, reason));
        let findings = self.findings(policy, ledger);
        let mut notes = self.notes(policy, ledger, seed, looks_taken, &findings);
        let told = matches!(inconclusive, Some((_, Reason::TooNoisy { .. })));
        notes.extend(self.what_is_not_resolved(policy, ledger, told));
        let (decision, reason) =
            self.outcome.or(inconclusive).unwrap_or((Decision::Inconclusive, Reason::NothingComparable));
        // Where something is absent that must be there, nothing is assumed and no more pairs would help.
        let absent = ledger.missing(policy, &self.roster).is_some() && decision != Decision::Reject;
        let few = self.method == Method::FewPairs && !absent;
        let assumed = match self.method {
            Method::ClippedSignFlip | Method::AdaptiveSignFlip | Method::SignFlipEvidence => None,
            Method::BuildMeans => Some(build_means::assumption(policy.builds)),
            Method::FewPairs => few.then(|| assumption(policy, &self.roster, ledger.blocks)),
        };
        Verdict {
            decision,
            reason,
            findings,
            alpha: policy.alpha,
            interval_confidence: 1.0 - 2.0 * policy.alpha,
            mode: policy.mode,
            pairs: ledger.blocks,
            looks_taken,
            looks: policy.looks.clone(),
            seed,
            assumption: assumed,
            settle_with: settle_with.or_else(|| few.then(|| SETTLE_WITH.to_owned())),
            notes,
            method: self.method,
        }
    }

    /// Why nothing is decided at the end of the data.
    fn open_reason(&self, policy: &Policy, ledger: &Ledger) -> Reason {
        let tests: Vec<(&SeriesKey, Tested)> =
            self.measured.iter().filter_map(|(key, m)| Some((key, m.tested?))).collect();
        let pairs = ledger.blocks;
        let max = match policy.stopping {
            Stopping::Planned => policy.max_pairs.max(pairs),
            Stopping::Anytime => pairs,
        };
        let not_enough = Reason::NotEnoughPairs { pairs, max };
        if let Some(reason) = faster_but_unsafe(&tests) {
            return reason;
        }
        let ran = u32::try_from(ledger.builds.len()).unwrap_or(u32::MAX);
        match self.method {
            Method::BuildMeans if ran < policy.builds => {
                return Reason::TooFewBuilds { ran, asked: policy.builds };
            }
            // More pairs do not make the noise between builds smaller, few pairs cannot measure theirs, and how many pairs
            // are needed is known of planned looks only.
            Method::BuildMeans | Method::FewPairs | Method::SignFlipEvidence => return not_enough,
            Method::ClippedSignFlip | Method::AdaptiveSignFlip => {}
        }
        let needs = |key: &SeriesKey| {
            let (series, metric) = (ledger.series.get(key)?, self.roster.gated.get(key)?);
            let sd = robust_sd(&series.effects);
            let needs = pairs_needed(sd, metric.margin.ln_1p(), policy.alpha, self.roster.tests());
            Some((needs, key.clone()))
        };
        let noisiest = tests.iter().filter(|(_, t)| !t.not_worse).filter_map(|(key, _)| needs(key)).max();
        match noisiest {
            Some((needs, series)) if needs > policy.max_pairs && needs < TOO_MANY_PAIRS => {
                Reason::TooNoisy { series, pairs, needs }
            }
            _ => not_enough,
        }
    }

    /// Which open series' margins the policy's pairs cannot resolve: by a calibration if there is one, else by these pairs
    /// unless the reason has told so.
    fn what_is_not_resolved(&self, policy: &Policy, ledger: &Ledger, told: bool) -> Option<String> {
        let by_pairs = matches!(self.method, Method::ClippedSignFlip | Method::AdaptiveSignFlip);
        if !by_pairs || self.outcome.is_some() {
            return None;
        }
        let tests = self.roster.tests();
        let open = self.measured.iter().filter(|(_, m)| m.tested.is_some_and(|tested| !tested.not_worse));
        let unresolved: Vec<Unresolved> = open
            .filter_map(|(key, _)| match policy.known_noise_of(key) {
                Some(known) => Unresolved::find(policy, key, known.robust_sd, tests, known.source()),
                None if told => None,
                None => {
                    let sd = robust_sd(&ledger.series.get(key)?.effects);
                    Unresolved::find(policy, key, sd, tests, NoiseSource::ThesePairs)
                }
            })
            .collect();
        in_a_line(&unresolved)
    }

    fn findings(&self, policy: &Policy, ledger: &Ledger) -> Vec<Finding> {
        let of_series = |(key, m)| Some(Self::finding(policy, ledger, key, m, ledger.series.get(key)?));
        let mut findings: Vec<Finding> = self.measured.iter().filter_map(of_series).collect();
        findings.extend(self.slow.iter().cloned());
        findings.sort_by(|a, b| a.series.cmp(&b.series));
        findings
    }

    fn finding(
        policy: &Policy,
        ledger: &Ledger,
        key: &SeriesKey,
        measured: &Measured,
        series: &Series,
    ) -> Finding {
        let better = key.metric.better();
        let effect = measured.yardstick.centre();
        let interval = measured.yardstick.interval(measured.levels.full);
        let (baseline, challenger) = central_values(series, better, effect);
        let Rule { metric, primary, .. } = ledger.rule(policy, key);
        let class = measured.tested.map_or_else(
            || FindingClass::NotGated { why: Self::why_not(policy, ledger, key, series) },
            Tested::class,
        );
        Finding {
            series: key.clone(),
            unit: series.unit,
            better,
            baseline,
            challenger,
            delta: natural(better, effect),
            interval: interval.map(|interval| natural_interval(better, interval)),
            pairs: series.pairs(),
            class,
            margin: metric.margin,
            floor: metric.floor,
            gated: measured.tested.is_some(),
            primary,
            samples_per_invocation: series.min_samples,
            evidence: series.evidence,
        }
    }

    fn why_not(policy: &Policy, ledger: &Ledger, key: &SeriesKey, series: &Series) -> String {
        if let Some((round, absent)) = series.presence.gap(ledger.blocks) {
            return format!("missing in {absent} in round {}", round + 1);
        }
        let why = gate_or_why(ledger.rule(policy, key), key, series).err();
        why.unwrap_or_else(|| "it could not be gated at the first look".to_owned())
    }

    fn notes(
        &self,
        policy: &Policy,
        ledger: &Ledger,
        seed: Option<u64>,
        looks_taken: u32,
        findings: &[Finding],
    ) -> Vec<String> {
        let mut notes = Vec::new();
        let new = ledger.new_benches();
        if !new.is_empty() {
            notes.push(format!("new in the challenger, nothing to compare with: {}", some_names(&new)));
        }
        if seed.is_none() && self.by_the_coin() {
            let drift = "no coin drew the order of these pairs: a drift between the variants would look like a change";
            notes.push(drift.to_owned());
        }
        if self.ended_early {
            let pairs = ledger.blocks;
            notes.push(format!(
                "the data ended early: look {looks_taken} was taken at {pairs} pairs with all of alpha"
            ));
        }
        let ungated: Vec<String> = findings
            .iter()
            .filter(|f| matches!(f.class, FindingClass::NotGated { .. }))
            .filter(|f| matches!(policy.for_metric(&f.series.metric), (metric, true) if metric.gated))
            .map(|f| f.series.to_string())
            .collect();
        if !ungated.is_empty() {
            let names: Vec<&str> = ungated.iter().map(String::as_str).collect();
            notes
                .push(format!("the policy gates these, but they could not be gated: {}", some_names(&names)));
        }
        if self.by_the_coin() && self.roster.guard_is_too_small(policy) {
            notes.push(format!(
                "rare slow processes were not looked for: {} gated series leave that test too small a share of alpha",
                self.roster.series()
            ));
        }
        if self.roster.gated.is_empty() {
            notes.extend(what_could_be_gated(findings));
        } else if policy.mode == Mode::Faster && self.roster.primaries == 0 {
            notes.push(format!(
                "no bench has the primary metric {}, so no gain can be proven",
                policy.primary_metric()
            ));
        }
        notes
    }
}

/// What would settle an open question.
fn settle_with(reason: &Reason, method: Method, seed: Option<u64>) -> String {
    match reason {
        // Without a coin these are files that somebody saved: there is no budget to raise.
        _ if seed.is_none() => SETTLE_WITH.to_owned(),
        Reason::TooNoisy { needs, .. } if *needs <= SENSIBLE_PAIRS => {
            format!("rounds = {{ max = {needs} }} in the suite's budget, a quieter box, or a wider margin")
        }
        Reason::TooNoisy { .. } => {
            "a quieter box, a bench that does more in an invocation, or a wider margin; rounds alone would not do"
                .to_owned()
        }
        Reason::TooFewBuilds { asked, .. } => format!("rounds with all {asked} relinked builds of both variants"),
        _ if method == Method::BuildMeans => {
            "more relinked builds of each variant: with few, only a change far beyond their luck is told from it"
                .to_owned()
        }
        _ if method == Method::FewPairs => SETTLE_WITH.to_owned(),
        _ if method == Method::SignFlipEvidence => {
            "a longer `time` in the suite's budget, a quieter box, or a wider margin".to_owned()
        }
        _ => "more rounds: a larger `rounds.max` or `time` in the suite's budget".to_owned(),
    }
}

/// Which metrics the user could name, if there are any at all.
fn what_could_be_gated(findings: &[Finding]) -> Option<String> {
    let metrics: BTreeSet<String> = findings.iter().map(|f| f.series.metric.to_string()).collect();
    let metrics: Vec<&str> = metrics.iter().map(String::as_str).collect();
    (!metrics.is_empty()).then(|| {
        format!("none of their metrics is gated by default; name one as `primary`: {}", some_names(&metrics))
    })
}

fn some_names(names: &[&str]) -> String {
    let shown = names.iter().take(NAMES_PER_NOTE).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMES_PER_NOTE) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The centre of the pairs minus and plus half the effect; with one pair the two values themselves.
fn central_values(series: &Series, better: Better, effect: f64) -> (f64, f64) {
    if series.effects.len() == 1 {
        return series.first_pair;
    }
    let middle = median(&series.log_middles).unwrap_or(0.0);
    let half = match better {
        Better::Smaller => effect / 2.0,
        Better::Bigger => -effect / 2.0,
    };
    // A product near the edge of the numbers may overflow; the first pair is finite by the block's check.
    let (baseline, challenger) = ((middle - half).exp(), (middle + half).exp());
    if baseline.is_finite() && challenger.is_finite() { (baseline, challenger) } else { series.first_pair }
}
