//! The gate's statement on a job, and on every series of it. Never holds a NaN or an infinity.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::block::Evidence;
use crate::metric::{Better, Metric, SeriesKey, Unit};
use crate::policy::Mode;
use crate::ratio::Ratio;

/// What the gate says. All but APPROVE keep the champion; only REJECT calls the challenger worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Decision {
    /// The challenger is better, by the policy's measure.
    Approve,
    /// The challenger is worse.
    Reject,
    /// Neither is proven; the reason says why.
    Inconclusive,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Approve => "APPROVE",
            Self::Reject => "REJECT",
            Self::Inconclusive => "INCONCLUSIVE",
        })
    }
}

/// On which side something is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Absent {
    /// The baseline lacks it.
    Baseline,
    /// The challenger lacks it.
    Challenger,
    /// Both lack it.
    Both,
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Baseline => "the baseline",
            Self::Challenger => "the challenger",
            Self::Both => "both variants",
        })
    }
}

/// Why the decision is what it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reason {
    /// APPROVE: proven faster on a primary series, and no gated series is slower.
    FasterProven {
        /// Gated series that are faster.
        faster: u32,
        /// Gated series.
        of: u32,
    },
    /// APPROVE in mode no-slower: every gated series is proven not slower than its margin.
    NotSlowerProven {
        /// Gated series.
        series: u32,
    },
    /// REJECT: proven slower.
    SlowerProven {
        /// Gated series that are slower.
        slower: u32,
        /// Gated series.
        of: u32,
    },
    /// REJECT: the worst tenth of the challenger's invocations is worse than the baseline's, beyond the margin. The
    /// finding of the same series has the numbers.
    SlowProcesses {
        /// The worst tenth of which metric of which bench.
        series: SeriesKey,
        /// How many such series there are.
        count: u32,
    },
    /// REJECT: too many of the challenger's invocations failed.
    ChallengerFailed {
        /// Its invocations that failed.
        failed: u32,
        /// Its invocations.
        of: u32,
    },
    /// INCONCLUSIVE: neither better nor worse than the margin, and that is proven.
    NoChangeProven,
    /// INCONCLUSIVE: faster, but a slowdown elsewhere cannot be excluded.
    FasterNotSafe {
        /// Primary series that are proven faster.
        faster: u32,
        /// A series on which a slowdown cannot be excluded.
        unproven: SeriesKey,
        /// How many such series there are.
        unproven_count: u32,
    },
    /// INCONCLUSIVE: the data ended before anything was proven.
    NotEnoughPairs {
        /// Pairs that were measured.
        pairs: u32,
        /// Pairs that the policy allows; as many as `pairs` where it plans no end.
        max: u32,
    },
    /// INCONCLUSIVE: the policy is strict, and fewer builds ran than it asks for.
    TooFewBuilds {
        /// Builds a side that ran.
        ran: u32,
        /// Builds a side that the policy asks for.
        asked: u32,
    },
    /// INCONCLUSIVE: the noise is too large for the margin in the pairs that the policy allows.
    TooNoisy {
        /// The series that needs the most pairs.
        series: SeriesKey,
        /// Pairs that were measured.
        pairs: u32,
        /// Pairs that would resolve its margin.
        needs: u32,
    },
    /// INCONCLUSIVE: a bench of the comparison is absent.
    BenchMissing {
        /// The bench.
        bench: String,
        /// Where it is absent.
        absent: Absent,
        /// In which round first.
        round: u32,
        /// How many benches are absent in some round.
        count: u32,
    },
    /// INCONCLUSIVE: a bench is there, but a gated metric of it is not.
    SeriesMissing {
        /// The series.
        series: SeriesKey,
        /// Where it is absent.
        absent: Absent,
        /// In which round first.
        round: u32,
    },
    /// INCONCLUSIVE: the policy gates a metric that no bench has.
    MetricMissing {
        /// The metric.
        metric: Metric,
    },
    /// INCONCLUSIVE: no series can be gated on both sides.
    NothingComparable,
    /// INCONCLUSIVE: the job was cancelled.
    Cancelled {
        /// Pairs that were measured.
        pairs: u32,
    },
    /// INCONCLUSIVE: too many rounds were void because something outside the bench disturbed them.
    Disturbed {
        /// Void rounds.
        voided: u32,
        /// Rounds.
        of: u32,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FasterProven { faster, of } => write!(f, "faster on {faster} of {of}, slower on none"),
            Self::NotSlowerProven { series } => {
                write!(f, "proven not slower than the margin on all {series} gated series")
            }
            Self::SlowerProven { slower, of } => write!(f, "slower on {slower} of {of}"),
            Self::SlowProcesses { series, count } => write!(
                f,
                "rare slow processes: the worst tenth of the challenger's invocations is slower, {} of {}{}",
                of_which(&series.metric),
                series.bench,
                and_others(*count)
            ),
            Self::ChallengerFailed { failed, of } => {
                write!(f, "{failed} of {of} invocations of the challenger failed")
            }
            Self::NoChangeProven => {
                f.write_str("no change proven: nothing gained, nothing lost beyond the margins")
            }
            Self::FasterNotSafe { faster, unproven, unproven_count } => write!(
                f,
                "faster on {faster}, but a slowdown beyond the margin cannot be excluded on {unproven}{}",
                and_others(*unproven_count)
            ),
            Self::NotEnoughPairs { pairs, max } if pairs == max => {
                write!(f, "nothing proven in {pairs} {}", plural(*pairs, "pair"))
            }
            Self::NotEnoughPairs { pairs, max } => {
                write!(f, "nothing proven in {pairs} of at most {max} {}", plural(*max, "pair"))
            }
            Self::TooFewBuilds { ran, asked } => {
                write!(f, "only {ran} of the {asked} builds a side that strict mode asks for were compared")
            }
            Self::TooNoisy { series, pairs, needs } => write!(
                f,
                "too noisy: {series} needs about {needs} pairs to resolve its margin, and {pairs} were measured"
            ),
            Self::BenchMissing { .. }
            | Self::SeriesMissing { .. }
            | Self::MetricMissing { .. }
            | Self::NothingComparable => f.write_str(&self.what_is_absent()),
            Self::Cancelled { pairs } => write!(f, "cancelled after {pairs} {}", plural(*pairs, "pair")),
            Self::Disturbed { voided, of } => {
                write!(f, "{voided} of {of} rounds were void: the box was disturbed while it measured")
            }
        }
    }
}

impl Reason {
    /// The text of the reasons that speak of something absent; empty for all others.
    fn what_is_absent(&self) -> String {
        match self {
            Self::BenchMissing { bench, absent, round, count } => {
                // People count rounds from 1.
                format!("{bench} is missing in {absent} in round {}{}", round + 1, and_others(*count))
            }
            Self::SeriesMissing { series, absent, round } => {
                format!("{series} is missing in {absent} in round {}", round + 1)
            }
            Self::MetricMissing { metric } => {
                format!("the policy gates {metric}, but no bench reported it on both sides")
            }
            Self::NothingComparable => {
                "nothing comparable: no gated metric of any bench was measured on both sides".to_owned()
            }
            Self::FasterProven { .. }
            | Self::NotSlowerProven { .. }
            | Self::SlowerProven { .. }
            | Self::SlowProcesses { .. }
            | Self::TooFewBuilds { .. }
            | Self::ChallengerFailed { .. }
            | Self::NoChangeProven
            | Self::FasterNotSafe { .. }
            | Self::NotEnoughPairs { .. }
            | Self::TooNoisy { .. }
            | Self::Cancelled { .. }
            | Self::Disturbed { .. } => String::new(),
        }
    }
}

/// The metric that a worst tenth is of.
fn of_which(metric: &Metric) -> &Metric {
    match metric {
        Metric::WorstTenth(of) => of,
        Metric::Latency(_)
        | Metric::Throughput
        | Metric::MemoryPeak
        | Metric::CpuTime
        | Metric::PageFaults
        | Metric::Instructions
        | Metric::Cycles
        | Metric::CacheMisses
        | Metric::BranchMisses
        | Metric::Custom { .. } => metric,
    }
}

fn and_others(count: u32) -> String {
    match count.saturating_sub(1) {
        0 => String::new(),
        others => format!(" (and {others} more)"),
    }
}

fn plural(count: u32, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

/// What is proven about one series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum FindingClass {
    /// Better.
    Faster,
    /// Worse, by more than the floor, and not proven within the margin.
    Slower,
    /// Neither better nor worse by more than the margin.
    Same,
    /// Not worse by more than the margin; perhaps better.
    NotSlower,
    /// Nothing.
    Unclear,
    /// It takes no part in the decision.
    NotGated {
        /// Why not.
        why: String,
    },
}

impl fmt::Display for FindingClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Faster => "faster",
            Self::Slower => "slower",
            Self::Same => "same",
            Self::NotSlower => "not slower",
            Self::Unclear => "unclear",
            Self::NotGated { .. } => "not gated",
        })
    }
}

/// The gate's statement on one metric of one bench.
///
/// `baseline` and `challenger` are the centre of the pairs (the median, over pairs, of the geometric middle of
/// the two values) minus and plus half the effect, so they differ by exactly `delta`. With one pair they are
/// the two values themselves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Which metric of which bench.
    pub series: SeriesKey,
    /// The unit of `baseline` and `challenger`.
    pub unit: Unit,
    /// Which direction is good.
    pub better: Better,
    /// The baseline's central value.
    pub baseline: f64,
    /// The challenger's central value.
    pub challenger: f64,
    /// The change of the value itself: negative is a smaller value, whether or not that is good.
    pub delta: Ratio,
    /// The repeated interval of `delta`, low to high; none while it is unbounded.
    pub interval: Option<(Ratio, Ratio)>,
    /// Pairs behind it.
    pub pairs: u32,
    /// What is proven.
    pub class: FindingClass,
    /// The largest worsening that is accepted.
    pub margin: Ratio,
    /// The systematic floor that a REJECT must clear.
    pub floor: Ratio,
    /// Whether it takes part in the decision.
    pub gated: bool,
    /// Whether it is a primary series, one that may prove the gain.
    pub primary: bool,
    /// The fewest samples that any invocation had.
    pub samples_per_invocation: u64,
    /// The weakest evidence that any invocation had.
    pub evidence: Evidence,
}

/// How a verdict was reached. The number grows when the same blocks may give another verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Method {
    /// The clipped sign-flip score at planned looks.
    #[serde(rename = "clipped-sign-flip/1")]
    ClippedSignFlip,
    /// The adaptive sign-flip score at planned looks, alpha shared by what the series are worth.
    #[serde(rename = "adaptive-sign-flip/1")]
    AdaptiveSignFlip,
    /// The evidence of the sign-flip e-process, which holds whenever one looks.
    #[serde(rename = "sign-flip-evidence/1")]
    SignFlipEvidence,
    /// Student's t over the means of relinked builds, at planned looks.
    #[serde(rename = "build-means/1")]
    BuildMeans,
    /// Normal theory under an assumed noise.
    #[serde(rename = "few-pairs/1")]
    FewPairs,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClippedSignFlip => "clipped-sign-flip/1",
            Self::AdaptiveSignFlip => "adaptive-sign-flip/1",
            Self::SignFlipEvidence => "sign-flip-evidence/1",
            Self::BuildMeans => "build-means/1",
            Self::FewPairs => "few-pairs/1",
        })
    }
}

/// The gate's statement on a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// What it says.
    pub decision: Decision,
    /// Why.
    pub reason: Reason,
    /// One for every series that was measured on both sides at least once, by bench and metric.
    pub findings: Vec<Finding>,
    /// The chance of a wrong REJECT, and of a wrong APPROVE, over all findings.
    pub alpha: f64,
    /// The confidence of every interval: `1 - 2 alpha`.
    pub interval_confidence: f64,
    /// What the policy approves.
    pub mode: Mode,
    /// Pairs that were measured.
    pub pairs: u32,
    /// Looks that were taken.
    pub looks_taken: u32,
    /// The looks that were planned; where no end is, those at which the gate would have looked.
    pub looks: Vec<u32>,
    /// The seed of the coin; none if no coin drew the order (saved files).
    pub seed: Option<u64>,
    /// What had to be taken for granted; only few pairs and strict mode need that.
    pub assumption: Option<String>,
    /// What would settle an open question, as a command.
    pub settle_with: Option<String>,
    /// What else the reader should know.
    pub notes: Vec<String>,
    /// How it was reached.
    pub method: Method,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::LatencyStat;

    #[test]
    fn reasons_read_well() {
        let series = SeriesKey::new("match[1000]", Metric::Latency(LatencyStat::P99));
        let reasons = [
            Reason::FasterProven { faster: 2, of: 4 },
            Reason::NotSlowerProven { series: 3 },
            Reason::SlowerProven { slower: 1, of: 4 },
            Reason::SlowProcesses {
                series: SeriesKey::new(
                    "cancel",
                    Metric::WorstTenth(Box::new(Metric::Latency(LatencyStat::P50))),
                ),
                count: 1,
            },
            Reason::TooFewBuilds { ran: 3, asked: 4 },
            Reason::ChallengerFailed { failed: 3, of: 12 },
            Reason::NoChangeProven,
            Reason::FasterNotSafe { faster: 1, unproven: series.clone(), unproven_count: 3 },
            Reason::NotEnoughPairs { pairs: 1, max: 1 },
            Reason::NotEnoughPairs { pairs: 12, max: 40 },
            Reason::TooNoisy { series: series.clone(), pairs: 40, needs: 207 },
            Reason::BenchMissing { bench: "cancel".into(), absent: Absent::Challenger, round: 3, count: 1 },
            Reason::SeriesMissing { series, absent: Absent::Both, round: 0 },
            Reason::MetricMissing { metric: Metric::MemoryPeak },
            Reason::NothingComparable,
            Reason::Cancelled { pairs: 7 },
            Reason::Disturbed { voided: 9, of: 30 },
        ];
        let texts: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(texts.join("\n"));
        for reason in reasons {
            let json = serde_json::to_string(&reason).unwrap();
            assert_eq!(serde_json::from_str::<Reason>(&json).unwrap(), reason);
        }
    }
}
