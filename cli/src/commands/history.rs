//! `darwin history`: what the archive holds of a suite's benches, oldest first.

use darwin_gate::{Metric, Unit};
use darwin_proto::MAX_MESSAGE_BYTES;
use darwin_proto::v1::verdicts_client::VerdictsClient;
use darwin_proto::v1::{Arm, HistoryPoint, HistoryRequest};
use darwin_shared::exit_code::ExitCode;
use darwin_shared::report::{unit_suffix, visible};
use darwin_shared::units::{format_utc, format_value};
use serde_json::{Value, json};

use crate::args::HistoryArgs;
use crate::failure::{Failed, call};
use crate::session::Session;
use crate::suite::nearest_project;
use crate::ui::{Ui, table};

/// The project asked for, or that of the nearest `darwin.toml`.
pub(crate) fn project(args: &HistoryArgs) -> Result<String, Failed> {
    match &args.project {
        Some(project) => Ok(project.clone()),
        None => Ok(nearest_project()?.to_string()),
    }
}

/// Asks and shows.
pub(crate) async fn run(
    args: &HistoryArgs,
    project: String,
    session: &Session,
    ui: &Ui,
) -> Result<ExitCode, Failed> {
    let asked = visible(&format!("{project}/{}", args.suite));
    let request = HistoryRequest {
        project,
        suite: args.suite.clone(),
        bench: args.bench.clone().unwrap_or_default(),
        metric: args.metric.as_ref().map(Metric::to_string).unwrap_or_default(),
        limit: args.limit,
    };
    let mut client = VerdictsClient::new(session.channel()).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let points = client.history(request).await.map_err(call(session.url()))?.into_inner().points;
    let human = || {
        if points.is_empty() {
            return format!(
                "nothing is recorded of {asked} yet: `darwin compare` and `darwin measure` record what they measure\n"
            );
        }
        let head = [
            "RECORDED (UTC)",
            "JOB",
            "ROUND",
            "VARIANT",
            "BENCH",
            "METRIC",
            "VALUE",
            "SAMPLES",
            "BOX",
            "TIER",
        ];
        table(&head, points.iter().map(row).collect())
    };
    let json = || json!({ "schema": "darwin-history/1", "points": points.iter().map(point_json).collect::<Value>() });
    ui.show("history", human, json)?;
    Ok(ExitCode::Success)
}

fn row(point: &HistoryPoint) -> Vec<String> {
    let value = match Unit::of_word(&point.unit) {
        Some(unit) => format_value(point.value, unit),
        None => format!("{} {}", point.value, point.unit),
    };
    vec![
        format_utc(point.recorded_unix_ms),
        format!("{}.{}", point.job_id, point.attempt),
        (point.round + 1).to_string(),
        format!("{} ({})", point.variant, arm(point)),
        point.bench.clone(),
        point.metric.clone(),
        value,
        point.samples.to_string(),
        point.agent.clone(),
        point.tier.clone(),
    ]
}

fn arm(point: &HistoryPoint) -> &'static str {
    match point.arm() {
        Arm::Baseline => "baseline",
        Arm::Challenger => "challenger",
        Arm::Unspecified => "unknown",
    }
}

fn point_json(point: &HistoryPoint) -> Value {
    let suffix = Unit::of_word(&point.unit).map_or("value", unit_suffix);
    let mut out = json!({
        "job_id": point.job_id,
        "attempt": point.attempt,
        "round": point.round,
        "arm": arm(point),
        "variant": point.variant,
        "bench": point.bench,
        "metric": point.metric,
        "unit": point.unit,
        "samples": point.samples,
        "agent": point.agent,
        "tier": point.tier,
        "recorded_unix_ms": point.recorded_unix_ms,
    });
    out[format!("value_{suffix}")] = point.value.into();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_of_the_wire_are_known() {
        for word in ["nanoseconds", "bytes", "per_second", "count", "ratio"] {
            assert!(Unit::of_word(word).is_some(), "{word}");
        }
        assert_eq!(Unit::of_word("furlongs"), None);
    }
}
