//! What the coordinator's archive knows of the boxes' noise, asked before a job and told by `darwin check`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use darwin_gate::calibration::CALIBRATION_IS_OLD_AFTER_MS;
use darwin_gate::plan::{Question, TOO_MANY_PAIRS};
use darwin_gate::policy::{FIRST_LOOK_PAIRS, MAX_KNOWN_NOISE};
use darwin_gate::resolution::{Unresolved, in_a_line};
use darwin_gate::{KnownNoise, Metric, SeriesKey};
use darwin_proto::MAX_MESSAGE_BYTES;
use darwin_proto::v1::verdicts_client::VerdictsClient;
use darwin_proto::v1::{self, CalibrationsRequest, CalibrationsResponse};
use darwin_shared::report::visible;
use darwin_shared::round::Pairing;
use darwin_shared::spec::{JobSpec, PairPlan};
use tonic::Code;

use crate::failure::{Failed, call};
use crate::session::Session;
use crate::ui::Ui;

/// Series that are asked for: as many as the coordinator gives.
const SERIES: u32 = 5_000;

/// All calibrations of this project and suite, any if empty. An older coordinator knows none.
pub(crate) async fn fetch(
    session: &Session,
    project: &str,
    suite: &str,
) -> Result<CalibrationsResponse, Failed> {
    let mut client = VerdictsClient::new(session.channel()).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let request = CalibrationsRequest {
        project: project.to_owned(),
        suite: suite.to_owned(),
        agent: String::new(),
        limit: SERIES,
    };
    match client.calibrations(request).await {
        Ok(answer) => Ok(answer.into_inner()),
        Err(status) if status.code() == Code::Unimplemented => Ok(CalibrationsResponse::default()),
        Err(status) => Err(call(session.url())(status)),
    }
}

/// Lets the job's policy know what the boxes' calibrations say, and tells what the job cannot resolve.
pub(crate) async fn apply(session: &Session, spec: &mut JobSpec, ui: &Ui) -> Result<(), Failed> {
    let found = fetch(session, spec.project.as_str(), spec.suite.as_str()).await?;
    spec.policy.known_noise = known_noise(&found.calibrations, spec, now_unix_ms());
    if let Some(line) = in_a_line(&Unresolved::by_calibration(&spec.policy)) {
        ui.hint(&visible(&line));
    }
    Ok(())
}

/// The noise of every gated series in pairs run as the job's will be; of several boxes the noisiest, for which will
/// measure is not known yet. Calibrations that are old are left out.
fn known_noise(calibrations: &[v1::Calibration], spec: &JobSpec, now_unix_ms: u64) -> Vec<KnownNoise> {
    let is_fresh = |found: &&v1::Calibration| {
        now_unix_ms.saturating_sub(found.measured_unix_ms) <= CALIBRATION_IS_OLD_AFTER_MS
    };
    let sliced = calibrations.iter().filter(is_fresh).filter(|found| pairing(found) == Pairing::SLICED);
    let sliced_at: BTreeSet<&str> = sliced.map(|found| found.agent.as_str()).collect();
    let mut noisiest: BTreeMap<SeriesKey, KnownNoise> = BTreeMap::new();
    for found in calibrations.iter().filter(is_fresh) {
        let Some(series) = series(found) else { continue };
        let named = matches!(spec.policy.for_metric(&series.metric), (metric, true) if metric.gated);
        let is_alike = pairing(found) == pairing_to_come(spec, sliced_at.contains(found.agent.as_str()));
        let is_spread = found.robust_sd.is_finite() && found.sd.is_finite() && found.robust_sd >= 0.0;
        if !is_alike || !is_spread || !(found.gated || named) {
            continue;
        }
        let known = KnownNoise {
            series: series.clone(),
            robust_sd: found.robust_sd,
            sd: found.sd,
            pairs: found.pairs,
            agent: found.agent.clone(),
        };
        let before = noisiest.get(&series).map_or(-1.0, |known| known.robust_sd);
        if known.robust_sd > before {
            noisiest.insert(series, known);
        }
    }
    noisiest.into_values().take(MAX_KNOWN_NOISE).collect()
}

/// How a box will run the job's pairs, in a word. What its plan leaves open is told by a calibration: where pairs of the
/// suite were sliced, its benches have answered.
fn pairing_to_come(spec: &JobSpec, sliced_before: bool) -> &'static str {
    if spec.may_be_sliced() && (spec.plan == PairPlan::Sliced || sliced_before) {
        Pairing::SLICED
    } else {
        Pairing::PLAIN
    }
}

/// How a calibration's pairs were run, in a word. A coordinator that says nothing does not tell them apart.
pub(crate) fn pairing(found: &v1::Calibration) -> &str {
    if found.pairing.is_empty() { Pairing::PLAIN } else { &found.pairing }
}

/// The series of a calibration; none if this darwin does not know its metric.
pub(crate) fn series(found: &v1::Calibration) -> Option<SeriesKey> {
    let metric: Metric = found.metric.parse().ok()?;
    Some(SeriesKey::new(found.bench.as_str(), metric))
}

/// Now, by this machine's clock, in milliseconds since 1970; for people only.
pub(crate) fn now_unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// The pairs that a change needs, as a share, in words. The gate never looks before the tenth pair.
pub(crate) fn rounds_needed(question: Question, robust_sd: f64, effect: f64) -> String {
    match question.pairs_needed(robust_sd, effect.ln_1p()) {
        TOO_MANY_PAIRS => "too many".to_owned(),
        pairs => pairs.max(FIRST_LOOK_PAIRS).to_string(),
    }
}

/// `just now`, `3h ago`, `2 days ago`.
pub(crate) fn age(then_unix_ms: u64, now_unix_ms: u64) -> String {
    let minutes = Duration::from_millis(now_unix_ms.saturating_sub(then_unix_ms)).as_secs() / 60;
    match (minutes, minutes / 60, minutes / (24 * 60)) {
        (0, ..) => "just now".to_owned(),
        (minutes, 0, _) => format!("{minutes}m ago"),
        (_, hours, 0) => format!("{hours}h ago"),
        (_, _, 1) => "1 day ago".to_owned(),
        (_, _, days) => format!("{days} days ago"),
    }
}

/// An effect on the log scale, as the change that it stands for: `2.1%`, `0.03%`.
pub(crate) fn percent(log_effect: f64) -> String {
    spread(log_effect.exp_m1())
}

/// A standard deviation of log ratios, which for small ones is that of the ratios: `2.1%`, `0.03%`.
pub(crate) fn spread(sd: f64) -> String {
    let percent = sd * 100.0;
    if !percent.is_finite() {
        return "n/a".to_owned();
    }
    match percent.abs() {
        size if size >= 9.95 => format!("{percent:.0}%"),
        size if size >= 0.095 => format!("{percent:.1}%"),
        size if size < 0.000_5 => "0%".to_owned(),
        _ => format!("{percent:.2}%"),
    }
}

#[cfg(test)]
mod tests {
    use darwin_gate::{LatencyStat, Policy};
    use darwin_shared::config::Config;
    use darwin_shared::image::{Image, ImageName};
    use darwin_shared::spec::{Source, Variant, Work};

    use super::*;

    fn found(agent: &str, bench: &str, robust_sd: f64, gated: bool) -> v1::Calibration {
        v1::Calibration {
            agent: agent.into(),
            bench: bench.into(),
            metric: "latency.p50".into(),
            gated,
            robust_sd,
            sd: robust_sd,
            pairs: 60,
            measured_unix_ms: 1_000,
            ..v1::Calibration::default()
        }
    }

    /// A job of a suite with these settings.
    fn spec(settings: &str) -> JobSpec {
        let text = format!("project = \"p\"\n[suite.a]\n{settings}\n");
        let config = Config::parse("darwin.toml", &text).unwrap();
        let (name, suite) = config.suite("a").unwrap();
        let variant = Variant { label: "x".into(), source: Source::Nothing };
        suite.to_spec(&config.project, name, Work::Measure { variant }, 1).unwrap()
    }

    #[test]
    fn of_several_boxes_the_noisiest_counts_and_the_old_do_not() {
        let mut spec = spec("run = \"true\"\nformat = \"process\"");
        let rows = [
            found("quiet", "match", 0.01, true),
            found("noisy", "match", 0.03, true),
            found("noisy", "ungated", 0.5, false),
            found("broken", "nan", f64::NAN, true),
            v1::Calibration { metric: "of.another.version".into(), ..found("x", "y", 0.1, true) },
        ];
        let known = known_noise(&rows, &spec, 2_000);
        assert_eq!(known.len(), 1, "{known:?}");
        assert_eq!(known[0].agent, "noisy");
        assert_eq!(known[0].series, SeriesKey::new("match", Metric::Latency(LatencyStat::P50)));
        spec.policy = Policy { known_noise: known, ..Policy::default() };
        spec.check().unwrap();
        assert_eq!(known_noise(&rows, &spec, 1_001 + CALIBRATION_IS_OLD_AFTER_MS), []);
    }

    #[test]
    fn a_job_takes_the_noise_of_pairs_that_were_run_as_its_own_will_be() {
        // A bench for each box, so that each is told.
        let of = |agent: &str, pairing: &str, robust_sd: f64| v1::Calibration {
            pairing: pairing.into(),
            ..found(agent, agent, robust_sd, true)
        };
        let rows = [
            of("both", "plain", 0.05),
            of("both", "sliced", 0.01),
            of("never", "plain", 0.04),
            v1::Calibration { measured_unix_ms: 0, ..of("once", "sliced", 0.02) },
            of("once", "plain", 0.03),
            of("only", "sliced", 0.02),
            of("silent", "", 0.06),
            of("to come", "of another version", 0.07),
        ];
        let taken = |spec: &JobSpec| -> Vec<(String, f64)> {
            let known = known_noise(&rows, spec, 1 + CALIBRATION_IS_OLD_AFTER_MS);
            known.into_iter().map(|known| (known.agent, known.robust_sd)).collect()
        };
        let want = |all: &[(&str, f64)]| -> Vec<(String, f64)> {
            all.iter().map(|(agent, robust_sd)| ((*agent).to_owned(), *robust_sd)).collect()
        };
        let plain = want(&[("both", 0.05), ("never", 0.04), ("once", 0.03), ("silent", 0.06)]);
        let of_plan = |plan: &str| {
            spec(&format!("run = \"b {{output}}\"\nformat = \"darwin-samples\"\nplan = \"{plan}\""))
        };
        assert_eq!(taken(&of_plan("pairs")), plain);
        assert_eq!(taken(&of_plan("sliced")), want(&[("both", 0.01), ("only", 0.02)]));
        assert_eq!(
            taken(&of_plan("auto")),
            want(&[("both", 0.01), ("never", 0.04), ("once", 0.03), ("only", 0.02), ("silent", 0.06)])
        );
        assert_eq!(taken(&spec("run = \"true\"\nformat = \"process\"")), plain);
        let mut in_images = of_plan("auto");
        let source = Source::Image(Image::Named(ImageName::new("engine:1.4").unwrap()));
        in_images.work = Work::Measure { variant: Variant { label: "x".into(), source } };
        assert_eq!(taken(&in_images), plain);
    }

    #[test]
    fn ages_and_shares_read_well() {
        let hour = 3_600_000;
        let ages = [0, hour / 2, 3 * hour, 30 * hour, 80 * hour].map(|now| age(0, now));
        assert_eq!(ages, ["just now", "30m ago", "3h ago", "1 day ago", "3 days ago"]);
        assert_eq!(age(5, 0), "just now");
        let shares = [0.0, 0.0002, 0.004, 0.03, 0.2, f64::INFINITY].map(percent);
        assert_eq!(shares, ["0%", "0.02%", "0.4%", "3.0%", "22%", "n/a"]);
    }
}
