//! Counts of verdicts, and what they say about a chance.

use std::collections::BTreeMap;

use darwin_gate::{Decision, Metric, Reason, Verdict};
use statrs::distribution::{Beta, ContinuousCDF};

/// The confidence of the one-sided bounds.
const CONFIDENCE: f64 = 0.95;

/// So many of so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// How many.
    pub count: u32,
    /// Of how many.
    pub of: u32,
}

impl Share {
    /// The share in percent; zero of nothing.
    pub fn percent(self) -> f64 {
        100.0 * f64::from(self.count) / f64::from(self.of.max(1))
    }

    /// The upper end of the exact one-sided 95% interval of the chance, in percent (Clopper and Pearson 1934).
    pub fn upper_percent(self) -> f64 {
        if self.count >= self.of {
            return 100.0;
        }
        100.0 * beta_quantile(CONFIDENCE, self.count + 1, self.of - self.count)
    }

    /// The lower end of the exact one-sided 95% interval of the chance, in percent.
    pub fn lower_percent(self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        100.0 * beta_quantile(1.0 - CONFIDENCE, self.count, self.of - self.count + 1)
    }

    /// Both counts together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { count: self.count + other.count, of: self.of + other.of }
    }

    /// Counts one more.
    pub fn note(&mut self, hit: bool) {
        self.count += u32::from(hit);
        self.of += 1;
    }
}

fn beta_quantile(level: f64, a: u32, b: u32) -> f64 {
    Beta::new(f64::from(a), f64::from(b)).map_or(f64::NAN, |beta| beta.inverse_cdf(level))
}

/// What the interval and the estimate of one metric did over the trials.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Estimates {
    /// How often the interval at the stopping look held the true change.
    pub covered: Share,
    /// The sum of the estimated changes.
    pub sum: f64,
}

impl Estimates {
    /// The mean of the estimated changes.
    pub fn mean(&self) -> f64 {
        self.sum / f64::from(self.covered.of.max(1))
    }
}

/// The verdicts of one cell: one kind of noise, one true change, one policy.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tally {
    /// Verdicts.
    pub trials: u32,
    /// APPROVE.
    pub approved: u32,
    /// REJECT.
    pub rejected: u32,
    /// INCONCLUSIVE because no change is proven.
    pub no_change: u32,
    /// The sum of the pairs.
    pub pairs: u64,
    /// Verdicts that say something (all but the other INCONCLUSIVE), by the number of pairs they took.
    pub decided_at: BTreeMap<u32, u32>,
    /// By metric.
    pub estimates: BTreeMap<Metric, Estimates>,
}

impl Tally {
    /// Counts a verdict. `truth` are the true changes of the metrics whose intervals are checked.
    pub fn note(&mut self, verdict: &Verdict, truth: &[(Metric, f64)]) {
        self.trials += 1;
        let no_change = verdict.reason == Reason::NoChangeProven;
        match verdict.decision {
            Decision::Approve => self.approved += 1,
            Decision::Reject => self.rejected += 1,
            Decision::Inconclusive => self.no_change += u32::from(no_change),
        }
        self.pairs += u64::from(verdict.pairs);
        if verdict.decision != Decision::Inconclusive || no_change {
            *self.decided_at.entry(verdict.pairs).or_default() += 1;
        }
        for (metric, change) in truth {
            let Some(finding) = verdict.findings.iter().find(|f| f.series.metric == *metric) else {
                continue;
            };
            let estimates = self.estimates.entry(metric.clone()).or_default();
            // An unbounded interval holds everything.
            let holds = |(low, high): (f64, f64)| low <= *change && *change <= high;
            estimates.covered.note(finding.interval.is_none_or(|(a, b)| holds((a.get(), b.get()))));
            estimates.sum += finding.delta.get();
        }
    }

    /// Adds the counts of more trials of the same cell.
    pub fn add(&mut self, other: &Self) {
        self.trials += other.trials;
        self.approved += other.approved;
        self.rejected += other.rejected;
        self.no_change += other.no_change;
        self.pairs += other.pairs;
        for (pairs, count) in &other.decided_at {
            *self.decided_at.entry(*pairs).or_default() += count;
        }
        for (metric, more) in &other.estimates {
            let estimates = self.estimates.entry(metric.clone()).or_default();
            estimates.covered = estimates.covered.plus(more.covered);
            estimates.sum += more.sum;
        }
    }

    /// The share of APPROVE.
    pub fn approvals(&self) -> Share {
        Share { count: self.approved, of: self.trials }
    }

    /// The share of REJECT.
    pub fn rejections(&self) -> Share {
        Share { count: self.rejected, of: self.trials }
    }

    /// The share of verdicts that name a change, either way.
    pub fn named_changes(&self) -> Share {
        self.approvals().plus(Share { count: self.rejected, of: 0 })
    }

    /// The mean number of process invocations, two for each pair.
    pub fn mean_invocations(&self) -> f64 {
        2.0 * self.pairs as f64 / f64::from(self.trials.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_equal_the_tables() {
        // From scipy: beta.ppf(.95, 29, 3972), beta.ppf(.95, 1, 4000), beta.ppf(.05, 28, 3973).
        let near = |got: f64, want: f64| assert!((got - want).abs() < 1e-6, "{got} {want}");
        near(Share { count: 28, of: 4_000 }.upper_percent(), 0.958_475_265);
        near(Share { count: 0, of: 4_000 }.upper_percent(), 0.074_865_269);
        near(Share { count: 28, of: 4_000 }.lower_percent(), 0.497_958_556);
        near(Share { count: 4_000, of: 4_000 }.upper_percent(), 100.0);
        near(Share { count: 0, of: 4_000 }.lower_percent(), 0.0);
    }
}
