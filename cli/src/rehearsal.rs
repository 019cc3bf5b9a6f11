//! What the gate would find on a calibrated box: tried on the very pairs of the calibration.

use std::collections::BTreeMap;

use darwin_gate::rehearsal::{Rehearsed, rehearse};
use darwin_gate::{Block, Builds, Evidence, Observation, Policy, SeriesKey, Unit, order};
use darwin_proto::MAX_MESSAGE_BYTES;
use darwin_proto::v1::verdicts_client::VerdictsClient;
use darwin_proto::v1::{self, HistoryRequest};
use darwin_shared::spec::JobSpec;
use serde_json::{Value, json};

use crate::calibrations::series;
use crate::failure::{Failed, call};
use crate::session::Session;

/// Each series is asked for on its own.
const SERIES_MAX: usize = 64;

/// What the gate says of slower benches, by how much they are slower, in percent; or why that cannot be said.
#[derive(Debug)]
pub(crate) struct Rehearsal(Result<Vec<(u8, Rehearsed)>, String>);

impl Rehearsal {
    /// Rehearses jobs of `policy` on the pairs of the gated series of a calibration, every bench being slower by so many percent.
    pub(crate) async fn of(
        spec: &JobSpec,
        rows: &[v1::Calibration],
        policy: &Policy,
        percents: &[u8],
        session: &Session,
    ) -> Result<Self, Failed> {
        let gated: Vec<&v1::Calibration> = rows.iter().filter(|row| row.gated).collect();
        if gated.is_empty() || gated.len() > SERIES_MAX {
            return Ok(Self(Err(format!("{} series are gated, of 1 to {SERIES_MAX}", gated.len()))));
        }
        let mut rounds = BTreeMap::new();
        for row in &gated {
            gather(&mut rounds, points(spec, row, session).await?, row);
        }
        let pairs = whole(rounds, gated.len(), spec.seed);
        let of = |percent: &u8| {
            let log_effect = (f64::from(*percent) / 100.0).ln_1p();
            let rehearsed = rehearse(policy, &pairs, log_effect, spec.seed);
            rehearsed.map(|rehearsed| (*percent, rehearsed)).map_err(|why| why.to_string())
        };
        Ok(Self(percents.iter().map(of).collect()))
    }

    /// In a line; none if nothing could be rehearsed.
    pub(crate) fn line(&self, max_pairs: u32) -> Option<String> {
        let all = self.0.as_ref().ok()?;
        let trials = all.first()?.1.trials;
        let found: Vec<String> = all
            .iter()
            .map(|(percent, rehearsed)| format!("{percent}% in {:.0}%", 100.0 * rehearsed.rejects()))
            .collect();
        Some(format!(
            "Tried {trials} times on these pairs, the gate rejects within {max_pairs} pairs, if every bench is slower by: {} of \
             the jobs",
            found.join(", ")
        ))
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        match &self.0 {
            Ok(all) => all
                .iter()
                .map(|(percent, rehearsed)| {
                    json!({
                        "slower_percent": percent,
                        "trials": rehearsed.trials,
                        "rejected": rehearsed.rejected,
                        "approved": rehearsed.approved,
                        "reject_chance": rehearsed.rejects(),
                    })
                })
                .collect(),
            Err(why) => json!({ "not_rehearsed": why }),
        }
    }
}

/// What was measured of a calibrated series, by both sides in all rounds.
async fn points(
    spec: &JobSpec,
    row: &v1::Calibration,
    session: &Session,
) -> Result<Vec<v1::HistoryPoint>, Failed> {
    let request = HistoryRequest {
        project: spec.project.to_string(),
        suite: spec.suite.to_string(),
        bench: row.bench.clone(),
        metric: row.metric.clone(),
        limit: row.pairs.saturating_mul(2),
    };
    let mut client = VerdictsClient::new(session.channel()).max_decoding_message_size(MAX_MESSAGE_BYTES);
    Ok(client.history(request).await.map_err(call(session.url()))?.into_inner().points)
}

/// Both sides of a round.
type Sides = [BTreeMap<SeriesKey, Observation>; 2];

/// Puts a series' points into their rounds. Those of other jobs, and what no gate could take, are left out.
fn gather(rounds: &mut BTreeMap<u32, Sides>, points: Vec<v1::HistoryPoint>, row: &v1::Calibration) {
    let Some(series) = series(row) else { return };
    for point in points.into_iter().filter(|point| point.job_id == row.job_id) {
        let side = match point.arm() {
            v1::Arm::Baseline => 0,
            v1::Arm::Challenger => 1,
            v1::Arm::Unspecified => continue,
        };
        let Some(unit) = Unit::of_word(&point.unit) else { continue };
        // What kind of samples they were decided whether the series is gated, and it is.
        let seen = Observation { value: point.value, samples: point.samples, evidence: Evidence::A, unit };
        rounds.entry(point.round).or_default()[side].insert(series.clone(), seen);
    }
}

/// The rounds that have all series on both sides, as pairs.
fn whole(rounds: BTreeMap<u32, Sides>, series: usize, seed: u64) -> Vec<Block> {
    rounds
        .into_iter()
        .filter(|(_, sides)| sides.iter().all(|side| side.len() == series))
        .map(|(round, [baseline, challenger])| Block {
            round,
            order: order(seed, round),
            baseline,
            challenger,
            builds: Builds::default(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(round: u32, arm: v1::Arm, value: f64, job: &str) -> v1::HistoryPoint {
        v1::HistoryPoint {
            job_id: job.into(),
            round,
            arm: arm.into(),
            value,
            unit: "nanoseconds".into(),
            samples: 3_000,
            ..v1::HistoryPoint::default()
        }
    }

    fn row(bench: &str) -> v1::Calibration {
        v1::Calibration {
            bench: bench.into(),
            metric: "latency.p50".into(),
            job_id: "this".into(),
            gated: true,
            pairs: 3,
            ..v1::Calibration::default()
        }
    }

    #[test]
    fn rounds_are_put_together_from_the_series_of_one_job() {
        let mut rounds = BTreeMap::new();
        for bench in ["add", "match"] {
            let mut points = vec![point(0, v1::Arm::Baseline, 9.0, "earlier")];
            for round in 0..3 {
                points.push(point(round, v1::Arm::Challenger, 2.0, "this"));
                // The last round lacks a side of one bench.
                if bench == "add" || round < 2 {
                    points.push(point(round, v1::Arm::Baseline, 1.0, "this"));
                }
            }
            gather(&mut rounds, points, &row(bench));
        }
        let pairs = whole(rounds, 2, 7);
        assert_eq!(pairs.iter().map(|pair| pair.round).collect::<Vec<_>>(), [0, 1]);
        for pair in &pairs {
            assert_eq!(pair.order, order(7, pair.round));
            assert!(pair.baseline.values().all(|seen| (seen.value - 1.0).abs() < 1e-12));
            assert!(pair.challenger.values().all(|seen| (seen.value - 2.0).abs() < 1e-12));
        }
    }

    #[test]
    fn it_is_told_in_a_line_and_to_programs() {
        let rehearsed = |rejected| Rehearsed { trials: 400, approved: 0, rejected };
        let done = Rehearsal(Ok(vec![(1, rehearsed(12)), (5, rehearsed(390))]));
        insta::assert_snapshot!(done.line(40).unwrap(), @"Tried 400 times on these pairs, the gate rejects within 40 pairs, if every bench is slower by: 1% in 3%, 5% in 98% of the jobs");
        assert_eq!(done.json()[1]["reject_chance"], 0.975);
        let not = Rehearsal(Err("no pairs".to_owned()));
        assert_eq!(not.line(40), None);
        assert_eq!(not.json()["not_rehearsed"], "no pairs");
    }
}
