//! The report for programs: everything, with units in the names of fields, and no number that is not one.

use darwin_gate::{Finding, FindingClass, Unit, Verdict};
use serde_json::{Map, Value, json};

use super::hint::failure_hint;
use super::model::{Report, TakenFor};
use super::{lines, used};
use crate::state::{Failure, FailureCause, MeasuredSeries, Outcome};
use crate::void::{VoidCount, VoidRounds};

/// The schema's name: grows when a field changes its meaning or goes; new fields do not count.
pub const JSON_SCHEMA: &str = "darwin-report/1";

/// The report as JSON. Strings are as they were measured, not escaped for terminals.
pub fn json(report: &Report) -> Value {
    let header = &report.header;
    let isolation = header.isolation();
    let facts: Option<Vec<&str>> = isolation.map(|isolation| isolation.facts().collect());
    let mut out = json!({
        "schema": JSON_SCHEMA,
        "suite": header.suite,
        "project": header.project,
        "pool": header.pool,
        "agent": header.agent,
        "tier": header.tier,
        "isolation": isolation.map(|isolation| isolation.level.as_str()),
        "isolation_facts": facts.unwrap_or_default(),
        "cpus": header.cpus,
        "rounds": header.rounds,
        "plan": header.plan,
        "probes": header.probes,
        "void_rounds": voids_json(&header.voids),
        "elapsed_s": header.elapsed.map(|elapsed| elapsed.as_secs_f64()),
        "baseline": header.baseline,
        "challenger": header.challenger,
        "baseline_image": header.baseline_image,
        "challenger_image": header.challenger_image,
        "used": used::json(header),
        "job_id": header.job,
        "url": header.url,
        "exit_code": report.exit_code().number(),
        "inconclusive_taken_for": report.inconclusive.map(|taken| match taken {
            TakenFor::Pass => "pass",
            TakenFor::Fail => "fail",
        }),
    });
    let (outcome, key, value) = match &report.outcome {
        Outcome::Judged(verdict) => ("judged", "verdict", verdict_json(verdict)),
        Outcome::Measured(series) => ("measured", "measured", series.iter().map(measured_json).collect()),
        Outcome::Failed(failure) => ("failed", "failure", failure_json(failure)),
        Outcome::Cancelled { by } => ("cancelled", "cancelled", json!({ "by": by })),
        Outcome::Expired => ("expired", "expired", json!({})),
        Outcome::Parked { why } => ("parked", "parked", json!({ "why": why })),
    };
    out["outcome"] = outcome.into();
    out[key] = value;
    out
}

/// Void rounds by cause; each was measured again, but for the last of a job that was given up as disturbed.
fn voids_json(voids: &VoidRounds) -> Value {
    let of_cause = |count: &VoidCount| {
        json!({
            "cause": count.worst.name(),
            "cause_text": count.worst.words(),
            "rounds": count.rounds,
            "worst_text": count.worst.extent(),
        })
    };
    voids.counts().iter().map(of_cause).collect()
}

fn verdict_json(verdict: &Verdict) -> Value {
    let findings: Vec<Value> = lines::sorted(verdict).into_iter().map(finding_json).collect();
    json!({
        "decision": verdict.decision,
        "reason": verdict.reason,
        "reason_text": verdict.reason.to_string(),
        "findings": findings,
        "alpha": verdict.alpha,
        "interval_confidence": verdict.interval_confidence,
        "mode": verdict.mode,
        "pairs": verdict.pairs,
        "looks_taken": verdict.looks_taken,
        "looks_pairs": verdict.looks,
        // As text: a program that reads numbers as doubles would change the seed.
        "seed": verdict.seed.map(|seed| seed.to_string()),
        "assumption": verdict.assumption,
        "settle_with": verdict.settle_with,
        "notes": verdict.notes,
        "method": verdict.method,
    })
}

fn finding_json(finding: &Finding) -> Value {
    let unit = unit_suffix(finding.unit);
    let mut out = series_json(&finding.series.bench, &finding.series.metric.to_string(), finding.unit);
    out.insert(format!("baseline_{unit}"), finding.baseline.into());
    out.insert(format!("challenger_{unit}"), finding.challenger.into());
    let why = match &finding.class {
        FindingClass::NotGated { why } => Some(why),
        FindingClass::Faster
        | FindingClass::Slower
        | FindingClass::Same
        | FindingClass::NotSlower
        | FindingClass::Unclear => None,
    };
    let rest = json!({
        "better": finding.better,
        "delta_ratio": finding.delta,
        "interval_low_ratio": finding.interval.map(|(low, _)| low),
        "interval_high_ratio": finding.interval.map(|(_, high)| high),
        "class": finding.class.to_string().replace(' ', "_"),
        "not_gated_because": why,
        "margin_ratio": finding.margin,
        "floor_ratio": finding.floor,
        "gated": finding.gated,
        "primary": finding.primary,
        "pairs": finding.pairs,
        "samples_per_invocation": finding.samples_per_invocation,
        "evidence": finding.evidence,
    });
    if let Value::Object(rest) = rest {
        out.extend(rest);
    }
    Value::Object(out)
}

fn measured_json(series: &MeasuredSeries) -> Value {
    let unit = unit_suffix(series.unit);
    let mut out = series_json(&series.series.bench, &series.series.metric.to_string(), series.unit);
    for (name, value) in [("center", series.center), ("least", series.least), ("most", series.most)] {
        out.insert(format!("{name}_{unit}"), value.into());
    }
    out.insert("invocations".to_owned(), series.invocations.into());
    out.insert("samples".to_owned(), series.samples.into());
    Value::Object(out)
}

fn series_json(bench: &str, metric: &str, unit: Unit) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("bench".to_owned(), bench.into());
    out.insert("metric".to_owned(), metric.into());
    out.insert("unit".to_owned(), json!(unit));
    out
}

fn failure_json(failure: &Failure) -> Value {
    let mut out = json!({
        "stage": failure.stage,
        "arm": failure.arm,
        "variant": failure.variant,
        "cause_text": failure.cause.to_string(),
        "hint": failure_hint(failure),
        "log_tail": failure.log_tail,
    });
    let (key, value) = match &failure.cause {
        FailureCause::ExitCode(code) => ("exit_code", json!(code)),
        FailureCause::Signal(signal) => ("signal", json!(signal)),
        FailureCause::TimedOut(limit) => ("timed_out_s", json!(limit.as_secs_f64())),
        FailureCause::OutputTooLarge { limit_bytes } => ("output_limit_bytes", json!(limit_bytes)),
        FailureCause::NotStarted(why) => ("not_started", json!(why)),
        FailureCause::Unreadable(why) => ("unreadable", json!(why)),
        FailureCause::BadArtifact(why) => ("bad_artifact", json!(why)),
        FailureCause::NotSliced(why) => ("not_sliced", json!(why)),
    };
    out[key] = value;
    out
}

/// How a field that holds a value of this unit ends: `baseline_ns`, `center_bytes`.
pub const fn unit_suffix(unit: Unit) -> &'static str {
    match unit {
        Unit::Nanoseconds => "ns",
        Unit::Bytes => "bytes",
        Unit::PerSecond => "per_second",
        Unit::Count => "count",
        Unit::Ratio => "ratio",
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn every_report_has_its_fields() {
        for (name, report) in samples::all() {
            insta::assert_json_snapshot!(format!("json-{name}"), json(&report));
        }
    }

    #[test]
    fn no_number_is_infinite_or_none() {
        let mut verdict = samples::rejected_verdict();
        verdict.findings[0].baseline = f64::NAN;
        verdict.findings[0].challenger = f64::INFINITY;
        let report = Report { outcome: Outcome::Judged(Box::new(verdict)), ..samples::rejected() };
        let text = json(&report).to_string();
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        serde_json::from_str::<Value>(&text).unwrap();
    }
}
