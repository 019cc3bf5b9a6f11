//! What every report for people says, before it is laid out: rows in order of weight, and the sentences.

use std::collections::BTreeMap;

use darwin_gate::{Better, Decision, Finding, FindingClass, Method, Metric, Ratio, Reason, Unit, Verdict};

use super::isolation::Isolation;
use super::model::{Header, Report};
use super::text::{counted, elapsed};
use crate::formats::PROCESS_BENCH;
use crate::state::{Failure, MeasuredSeries, Outcome, Stage};
use crate::text::visible;
use crate::units::{format_change, format_pair, format_value};

/// A finding in words.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// `Latency p99`.
    pub(super) metric: String,
    /// The bench, whole, with control characters written out.
    pub(super) bench: String,
    /// `50.1us -> 40.2us`.
    pub(super) values: String,
    /// `-19.8%`.
    pub(super) delta: String,
    /// `[-20.9%, -18.6%]`.
    pub(super) interval: String,
    /// `faster`, `unclear, margin 1%`.
    pub(super) class: String,
    /// What is proven, for colours and marks.
    pub(super) tone: Tone,
}

/// How a row or a line should strike the eye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Bad,
    Open,
    Quiet,
}

/// The gated findings, those that decided first: what is slower, then what speaks for the decision.
pub(super) fn gated_rows(verdict: &Verdict) -> Vec<Row> {
    sorted(verdict).into_iter().filter(|finding| finding.gated).map(row).collect()
}

/// The findings that took no part.
pub(super) fn other_rows(verdict: &Verdict) -> Vec<Row> {
    sorted(verdict).into_iter().filter(|finding| !finding.gated).map(row).collect()
}

/// All findings, gated ones first, by their weight for the decision.
pub(super) fn sorted(verdict: &Verdict) -> Vec<&Finding> {
    let mut findings: Vec<&Finding> = verdict.findings.iter().collect();
    findings.sort_by(|a, b| {
        let key = |f: &Finding| (!f.gated, weight(&f.class, verdict.decision), !f.primary);
        let size = |f: &Finding| f.delta.ln_1p().abs();
        key(a).cmp(&key(b)).then_with(|| size(b).total_cmp(&size(a))).then_with(|| a.series.cmp(&b.series))
    });
    findings
}

fn weight(class: &FindingClass, decision: Decision) -> u8 {
    match (class, decision) {
        (FindingClass::Slower, _) => 0,
        (FindingClass::Unclear, Decision::Inconclusive) | (FindingClass::Faster, Decision::Approve) => 1,
        (FindingClass::Faster, _) | (FindingClass::Unclear, Decision::Approve) => 2,
        (FindingClass::Unclear, Decision::Reject) => 3,
        (FindingClass::NotSlower, _) => 4,
        (FindingClass::Same, _) => 5,
        (FindingClass::NotGated { .. }, _) => 6,
    }
}

pub(super) fn row(finding: &Finding) -> Row {
    let (metric, bench) = titles(&finding.series.metric, &finding.series.bench);
    Row {
        metric,
        bench,
        values: values(finding),
        delta: format_change(finding.delta.get()),
        interval: match finding.interval {
            Some((low, high)) => format!("[{}, {}]", format_change(low.get()), format_change(high.get())),
            None => "[open]".to_owned(),
        },
        class: class(finding),
        tone: tone(&finding.class),
    }
}

fn values(finding: &Finding) -> String {
    let (baseline, challenger) = format_pair(finding.baseline, finding.challenger, finding.unit);
    // Throughput reads as people say it: 10.0k -> 15.0k TPS.
    if finding.series.metric == Metric::Throughput
        && let (Some(left), Some(right)) = (baseline.strip_suffix("/s"), challenger.strip_suffix("/s"))
    {
        return format!("{left} -> {right} TPS");
    }
    format!("{baseline} -> {challenger}")
}

/// What is proven, with the margin where it was the margin that could not be met.
///
/// A proof is asked at a finding's share of alpha, the interval is shown at the whole of it: between the two lies what
/// is likely and not proven, and to call that unclear beside an interval far from zero would puzzle everybody.
fn class(finding: &Finding) -> String {
    match (&finding.class, leaning(finding)) {
        (FindingClass::Unclear, Some(leaning)) => format!("likely {leaning}, not proven"),
        (FindingClass::NotSlower, Some("faster")) => "not slower, likely faster".to_owned(),
        (class, _) => settled_class(finding, class),
    }
}

/// Which way the whole interval lies: the better one, or the worse one by more than the margin.
fn leaning(finding: &Finding) -> Option<&'static str> {
    let (low, high) = finding.interval?;
    let (best, worst) = match finding.better {
        Better::Smaller => (low.ln_1p(), high.ln_1p()),
        Better::Bigger => (-high.ln_1p(), -low.ln_1p()),
    };
    if worst < 0.0 { Some("faster") } else { (best > finding.margin.ln_1p()).then_some("slower") }
}

fn settled_class(finding: &Finding, class: &FindingClass) -> String {
    match class {
        FindingClass::Unclear | FindingClass::NotSlower => format!("{class}, margin {}", finding.margin),
        FindingClass::Slower if finding.floor > Ratio::ZERO => format!("slower, floor {}", finding.floor),
        FindingClass::NotGated { why } => format!("not gated: {}", visible(why)),
        FindingClass::Faster | FindingClass::Slower | FindingClass::Same => finding.class.to_string(),
    }
}

fn tone(class: &FindingClass) -> Tone {
    match class {
        FindingClass::Faster => Tone::Good,
        FindingClass::Slower => Tone::Bad,
        FindingClass::Unclear => Tone::Open,
        FindingClass::Same | FindingClass::NotSlower | FindingClass::NotGated { .. } => Tone::Quiet,
    }
}

/// The metric's and the bench's column. The peak memory of the whole process reads `Memory  peak`.
pub(super) fn titles(metric: &Metric, bench: &str) -> (String, String) {
    let title = match metric {
        Metric::Latency(stat) => format!("Latency {stat}"),
        Metric::Throughput => "Throughput".to_owned(),
        Metric::MemoryPeak if bench == PROCESS_BENCH => return ("Memory".to_owned(), "peak".to_owned()),
        Metric::MemoryPeak => "Memory peak".to_owned(),
        Metric::CpuTime => "CPU time".to_owned(),
        Metric::PageFaults => "Page faults".to_owned(),
        Metric::Instructions => "Instructions".to_owned(),
        Metric::Cycles => "Cycles".to_owned(),
        Metric::CacheMisses => "Cache misses".to_owned(),
        Metric::BranchMisses => "Branch misses".to_owned(),
        Metric::Custom { name, .. } => visible(name),
        Metric::WorstTenth(of) => format!("{}, worst tenth", titles(of, bench).0),
    };
    (title, visible(bench))
}

/// `hotpath · matching-engine · pool xeon-6 · box ny4-07 core 6 · tier shielded · isolated by cpuset · 14 rounds, 2m 10s`,
/// without what is not known.
pub(super) fn header_line(header: &Header) -> String {
    let mut parts: Vec<String> =
        [&header.suite, &header.project].into_iter().flatten().map(|s| visible(s)).collect();
    parts.extend(header.pool.as_deref().map(|pool| format!("pool {}", visible(pool))));
    if let Some(agent) = &header.agent {
        let cores = match header.cpus.as_deref() {
            None | Some("") => String::new(),
            Some(cpus) if cpus.contains([',', '-']) => format!(" cores {}", visible(cpus)),
            Some(cpu) => format!(" core {}", visible(cpu)),
        };
        parts.push(format!("box {}{cores}", visible(agent)));
    }
    parts.extend(header.tier.as_deref().map(|tier| format!("tier {}", visible(tier))));
    parts.extend(header.isolation().map(Isolation::in_short));
    let rounds = header.rounds.map(|rounds| counted(rounds, "round"));
    let took = header.elapsed.map(elapsed);
    let effort: Vec<String> = rounds.into_iter().chain(took).collect();
    if !effort.is_empty() {
        parts.push(effort.join(", "));
    }
    parts.join(" · ")
}

/// `main@1a2b3c4 -> faster@5d6e7f8`, if the variants are known.
pub(super) fn variants_line(header: &Header) -> Option<String> {
    let baseline = with_image(header.baseline.as_deref(), header.baseline_image.as_deref());
    let challenger = with_image(header.challenger.as_deref(), header.challenger_image.as_deref());
    match (baseline, challenger) {
        (Some(baseline), Some(challenger)) => Some(format!("{baseline} -> {challenger}")),
        (Some(only), None) | (None, Some(only)) => Some(only),
        (None, None) => None,
    }
}

/// A variant's label, and the beginning of the id of the image that it ran in: a name may mean another one tomorrow.
fn with_image(label: Option<&str>, image: Option<&str>) -> Option<String> {
    /// As many digits as Docker shows.
    const DIGITS: usize = 12;
    let label = visible(label?);
    let digits = image.and_then(|id| id.strip_prefix("sha256:")).map(visible);
    Some(match digits.as_deref().and_then(|digits| digits.get(..DIGITS)) {
        Some(digits) => format!("{label} ({digits})"),
        None => label,
    })
}

/// How the pairs were run, if that is known.
pub(super) fn plan_line(header: &Header) -> Option<String> {
    header.plan.as_deref().map(visible)
}

/// How many rounds were void, and why; none if none was. Where the rounds went on to the end, each of them was measured
/// again.
pub(super) fn voids_line(report: &Report) -> Option<String> {
    let voids = &report.header.voids;
    let to_the_end = match &report.outcome {
        Outcome::Judged(verdict) => !matches!(verdict.reason, Reason::Disturbed { .. }),
        Outcome::Measured(_) => true,
        Outcome::Failed(_) | Outcome::Cancelled { .. } | Outcome::Expired | Outcome::Parked { .. } => false,
    };
    let line = if to_the_end { voids.measured_again() } else { voids.sentence() };
    line.map(|line| visible(&line))
}

/// What took of the isolation, whole, if that is known.
pub(super) fn isolation_line(header: &Header) -> Option<String> {
    header.isolation().map(|isolation| format!("isolation: {isolation}"))
}

/// What probes saw of the box, if it was probed.
pub(super) fn probes_line(header: &Header) -> Option<String> {
    header.probes.as_deref().map(visible)
}

/// What follows the decision's word: the reason, and how sure it is.
pub(super) fn decision_text(verdict: &Verdict) -> String {
    let reason = visible(&verdict.reason.to_string());
    match sureness(verdict) {
        Some(sure) => format!("{reason} ({sure})"),
        None => reason,
    }
}

/// How likely the decision is wrong; none where nothing was tested.
fn sureness(verdict: &Verdict) -> Option<String> {
    let tested = matches!(
        verdict.reason,
        Reason::FasterProven { .. }
            | Reason::NotSlowerProven { .. }
            | Reason::SlowerProven { .. }
            | Reason::SlowProcesses { .. }
    );
    let chance = format_change(verdict.alpha);
    let chance = chance.trim_start_matches('+');
    let how = match verdict.method {
        Method::ClippedSignFlip | Method::AdaptiveSignFlip => "",
        Method::SignFlipEvidence => ", however often one looked",
        Method::BuildMeans | Method::FewPairs => ", if what it assumes holds",
    };
    tested.then(|| format!("wrong with probability at most {chance}{how}"))
}

/// A verdict in a few words for lists: the finding that decided, as it was measured. Where nothing is proven, `~` stands
/// before the change, for it is a guess.
pub fn in_a_line(verdict: &Verdict) -> String {
    let Some(finding) = deciding(verdict) else { return verdict.reason.to_string() };
    let (series, change) = (&finding.series, format_change(finding.delta.get()));
    match (&finding.class, leaning(finding)) {
        (FindingClass::Unclear, Some(leaning)) => {
            format!("{} of {} ~{change}, likely {leaning}", series.metric, series.bench)
        }
        (FindingClass::Unclear, None) => format!("{} of {} ~{change}, unclear", series.metric, series.bench),
        _ => format!("{} of {} {change}", series.metric, series.bench),
    }
}

/// The gated finding that made the decision; where none did, the primary one that is known best.
fn deciding(verdict: &Verdict) -> Option<&Finding> {
    let proof = match verdict.decision {
        Decision::Reject => Some(FindingClass::Slower),
        Decision::Approve => Some(FindingClass::Faster),
        Decision::Inconclusive => None,
    };
    let gated = || verdict.findings.iter().filter(|finding| finding.gated);
    let size = |finding: &&Finding| finding.delta.ln_1p().abs();
    let proven = gated()
        .filter(|finding| Some(&finding.class) == proof.as_ref())
        .max_by(|a, b| a.primary.cmp(&b.primary).then_with(|| size(a).total_cmp(&size(b))));
    let width =
        |finding: &Finding| finding.interval.map_or(f64::INFINITY, |(low, high)| high.ln_1p() - low.ln_1p());
    let best_known =
        || gated().min_by(|a, b| b.primary.cmp(&a.primary).then_with(|| width(a).total_cmp(&width(b))));
    proven.or_else(best_known)
}

/// What must be known beside the decision: what it assumes, what would settle it, what else was noticed.
pub(super) fn remarks(verdict: &Verdict) -> Vec<(&'static str, String)> {
    let mut remarks = Vec::new();
    if let Some(assumption) = &verdict.assumption {
        remarks.push(("It assumes", visible(assumption.strip_prefix("assumes ").unwrap_or(assumption))));
    }
    remarks.extend(verdict.settle_with.iter().map(|command| ("To settle it", visible(command))));
    remarks.extend(verdict.notes.iter().map(|note| ("Note", visible(note))));
    remarks
}

/// How the verdict was reached, for those who want to check it.
pub(super) fn method_line(verdict: &Verdict) -> String {
    let confidence = format_change(verdict.interval_confidence);
    let mut parts = vec![
        format!("method {}", verdict.method),
        format!("mode {}", verdict.mode),
        counted(verdict.pairs, "pair"),
        format!("intervals {}", confidence.trim_start_matches('+')),
    ];
    if !verdict.looks.is_empty() {
        let of = match verdict.method {
            // Where no end is planned, neither is a number of looks.
            Method::SignFlipEvidence => String::new(),
            Method::ClippedSignFlip | Method::AdaptiveSignFlip | Method::BuildMeans | Method::FewPairs => {
                format!(" of {}", verdict.looks.len())
            }
        };
        parts.push(format!("look {}{of}", verdict.looks_taken));
    }
    parts.extend(verdict.seed.map(|seed| format!("seed {seed}")));
    parts.join(" · ")
}

/// Why series are not gated, each reason with the number of series, the most frequent first. What follows a comma
/// is about one series alone, and would tell reasons apart that are the same.
pub(super) fn not_gated(verdict: &Verdict) -> Vec<(usize, String)> {
    let mut by_reason: BTreeMap<String, usize> = BTreeMap::new();
    for finding in verdict.findings.iter().filter(|finding| !finding.gated) {
        if let FindingClass::NotGated { why } = &finding.class {
            let reason = why.split_once(", ").map_or(why.as_str(), |(reason, _)| reason);
            *by_reason.entry(visible(reason)).or_default() += 1;
        }
    }
    let mut reasons: Vec<(usize, String)> = by_reason.into_iter().map(|(why, count)| (count, why)).collect();
    reasons.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    reasons
}

/// What failed, and what follows from it.
pub(super) fn failure_text(header: &Header, failure: &Failure) -> String {
    // With one side only, to call it the baseline would raise the question of the other one.
    if header.challenger.is_none() {
        let text = format!("{} of `{}` {}", failure.stage, failure.variant, failure.cause);
        return format!("{}; nothing was recorded", visible(&text));
    }
    let nothing = match failure.stage {
        Stage::Fetch | Stage::Setup | Stage::Check => "nothing was measured",
        Stage::Run | Stage::Read => "nothing was judged",
    };
    format!("{}; {nothing}", visible(&failure.to_string()))
}

/// A measured series in words: metric, bench, centre, range, and what stands behind it.
pub(super) fn measured_row(series: &MeasuredSeries) -> [String; 5] {
    let (metric, bench) = titles(&series.series.metric, &series.series.bench);
    let shown = |value: f64| match (&series.series.metric, series.unit) {
        (Metric::Throughput, Unit::PerSecond) => format_value(value, series.unit).replace("/s", " TPS"),
        _ => format_value(value, series.unit),
    };
    let effort =
        format!("{}, {}", counted(series.invocations, "invocation"), counted(series.samples, "sample"));
    [
        metric,
        bench,
        shown(series.center),
        format!("[{}, {}]", shown(series.least), shown(series.most)),
        effort,
    ]
}

#[cfg(test)]
mod tests {
    use super::super::{HumanOptions, human, json, markdown, samples};
    use super::class as class_of;
    use super::*;
    use crate::void::VoidCause;

    #[test]
    fn what_is_slower_comes_first_and_what_is_not_gated_last() {
        let verdict = samples::rejected_verdict();
        let classes: Vec<String> = sorted(&verdict).iter().map(|finding| finding.class.to_string()).collect();
        assert_eq!(classes, ["slower", "faster", "unclear", "same", "not gated"]);
    }

    #[test]
    fn evidence_that_holds_whenever_one_looks_says_so() {
        let verdict = Verdict { method: Method::SignFlipEvidence, ..samples::rejected_verdict() };
        assert_eq!(
            decision_text(&verdict),
            "slower on 1 of 4 (wrong with probability at most 1%, however often one looked)"
        );
        let line = method_line(&verdict);
        assert!(line.starts_with("method sign-flip-evidence/1 ") && line.contains(" · look 2 · "), "{line}");
    }

    #[test]
    fn what_leans_is_not_called_unclear() {
        let told = |metric: Metric, change: f64, class: FindingClass| {
            class_of(&samples::finding("b", metric, 1e3, change, 0.05, class))
        };
        let class_of_unclear = |metric, change| told(metric, change, FindingClass::Unclear);
        assert_eq!(class_of_unclear(samples::P50, 0.2), "likely slower, not proven");
        assert_eq!(class_of_unclear(samples::P50, -0.2), "likely faster, not proven");
        assert_eq!(class_of_unclear(Metric::Throughput, 0.2), "likely faster, not proven");
        assert_eq!(class_of_unclear(Metric::Throughput, -0.2), "likely slower, not proven");
        // Beyond zero is not enough for slower: the margin is accepted.
        assert_eq!(class_of_unclear(samples::P50, 0.055), "unclear, margin 1%");
        assert_eq!(class_of_unclear(samples::P50, 0.0), "unclear, margin 1%");
        assert_eq!(told(samples::P50, -0.2, FindingClass::NotSlower), "not slower, likely faster");
        assert_eq!(told(samples::P50, -0.2, FindingClass::Faster), "faster");
    }

    #[test]
    fn a_list_names_the_finding_that_decided() {
        let mut verdict = samples::rejected_verdict();
        assert!(
            in_a_line(&verdict).starts_with("latency.p99 of test_replace_order_"),
            "{}",
            in_a_line(&verdict)
        );
        assert!(in_a_line(&verdict).ends_with("+21.3%"));
        // Larger, and decides nothing: unclear, and not gated.
        let loud = |class| samples::finding("loud", Metric::Throughput, 1.0, 0.9, 0.0, class);
        verdict.findings.push(loud(FindingClass::Unclear));
        verdict.findings.push(loud(FindingClass::NotGated { why: "x".into() }));
        assert!(in_a_line(&verdict).ends_with("+21.3%"));
    }

    #[test]
    fn what_is_not_proven_is_marked_in_a_list() {
        let told = |decision, findings: Vec<Finding>| {
            in_a_line(&Verdict { decision, findings, ..samples::rejected_verdict() })
        };
        let unclear =
            |metric, change, half| samples::finding("b", metric, 1e3, change, half, FindingClass::Unclear);
        let findings = vec![
            unclear(Metric::Throughput, 0.9, 0.01),
            unclear(samples::P50, 0.5, 0.0),
            unclear(samples::P50, 0.002, 0.01),
        ];
        assert_eq!(told(Decision::Inconclusive, findings), "latency.p50 of b ~+0.2%, unclear");
        let leaning = vec![unclear(samples::P50, 0.2, 0.05)];
        assert_eq!(told(Decision::Inconclusive, leaning), "latency.p50 of b ~+20%, likely slower");
        let same = vec![samples::finding("b", samples::P50, 1e3, 0.001, 0.004, FindingClass::Same)];
        assert_eq!(told(Decision::Approve, same), "latency.p50 of b +0.1%");
        assert_eq!(told(Decision::Approve, Vec::new()), samples::rejected_verdict().reason.to_string());
    }

    #[test]
    fn the_header_leaves_out_what_is_not_known() {
        assert_eq!(header_line(&Header::default()), "");
        let header = Header {
            agent: Some("ny4-07".into()),
            cpus: Some("1,3-4".into()),
            rounds: Some(1),
            ..Header::default()
        };
        assert_eq!(header_line(&header), "box ny4-07 cores 1,3-4 · 1 round");
        let header = Header {
            baseline: Some("image:engine:1".into()),
            baseline_image: Some(format!("sha256:{}", "0123456789abcdef".repeat(4))),
            challenger: Some("image:engine:2".into()),
            ..Header::default()
        };
        let line = variants_line(&header);
        assert_eq!(line.as_deref(), Some("image:engine:1 (0123456789ab) -> image:engine:2"));
    }

    #[test]
    fn void_rounds_are_told_of_in_every_report() {
        let mut report = samples::rejected();
        assert_eq!(voids_line(&report), None);
        report.header.voids.add(VoidCause::Swapped { pages: 40 });
        report.header.voids.add(VoidCause::Foreign { share_ppm: 411_000 });
        let line = voids_line(&report).unwrap();
        assert_eq!(
            line,
            "2 rounds were void and measured again: 1 foreign work on the leased cores (worst 41% of a round), 1 swapping \
             (worst 40 pages in a round)"
        );
        assert!(human(&report, HumanOptions::default()).contains(&line));
        assert!(markdown(&report).contains("2 rounds were void and measured again"));
        let told = &json(&report)["void_rounds"];
        assert_eq!((&told[0]["cause"], &told[0]["rounds"]), (&"foreign".into(), &1.into()));
        assert_eq!(told[0]["worst_text"], "41% of a round");
        assert_eq!(told[1]["cause"], "swapped");
        report.outcome = Outcome::Cancelled { by: "ann".into() };
        assert!(voids_line(&report).unwrap().starts_with("2 rounds were void: 1 foreign"));
    }
}
