//! What pairs of the same code say: kept for each box, the newest in place of older ones, and audited.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use darwin_coordinator::stores::{AaJob, Archive, ArchiveQueue, CalibrationQuery, SqliteArchive};
use darwin_coordinator_core::action::ArchiveRound;
use darwin_gate::{Block, Builds, EndOfData, Gate, Metric, SeriesKey, Verdict, order};
use darwin_proto::v1;
use darwin_shared::fleet::Tier;
use darwin_shared::ids::{AgentId, AttemptId, Epoch, JobId, PoolName};
use darwin_shared::round::Pairing;
use darwin_shared::spec::{Arm, JobSpec};

use crate::support::jobs::{self, Shape};
use crate::support::{FakeAgent, Place, compare, hello, soon};

const PAIRS: u32 = 20;

/// An A/A job that looks once, at its end.
fn spec() -> JobSpec {
    let mut spec = compare();
    spec.budget.rounds_max = PAIRS;
    spec.policy.max_pairs = PAIRS;
    spec.policy.looks = vec![PAIRS];
    assert!(spec.is_calibration());
    spec
}

/// Rounds in which the challenger takes `1 + off` times as long, and both go up and down by a percent.
fn rounds(spec: &JobSpec, job: u64, agent: &str, off: f64) -> Vec<ArchiveRound> {
    let attempt = AttemptId { job: JobId::from_parts(job, 0), number: 1 };
    (0..PAIRS)
        .map(|round| {
            let mut invocations = jobs::round(spec, attempt, Epoch::default(), round).invocations;
            for invocation in &mut invocations {
                let noise =
                    1.0 + 0.01 * f64::from((round * 7 + u32::from(invocation.arm == Arm::Baseline) * 3) % 5);
                let level = if invocation.arm == Arm::Challenger { 1000.0 * (1.0 + off) } else { 1000.0 };
                for seen in invocation.observations.values_mut() {
                    seen.value = level * noise;
                }
                let seen = *invocation.observations.values().next().unwrap();
                invocation.observations.insert(SeriesKey::new("bench", Metric::Throughput), seen);
            }
            ArchiveRound {
                attempt,
                round,
                spec: Arc::new(spec.clone()),
                agent: AgentId::new(agent).unwrap(),
                pool: PoolName::new("pool").unwrap(),
                tier: Tier::Dev,
                recorded_unix_ms: 1,
                invocations,
                probes: vec![],
            }
        })
        .collect()
}

fn verdict(spec: &JobSpec, rounds: &[ArchiveRound]) -> Verdict {
    let mut gate = Gate::new(spec.policy.clone(), Some(spec.seed)).unwrap();
    for round in rounds {
        let side = |arm| {
            let found = round.invocations.iter().find(|invocation| invocation.arm == arm);
            found.map(|invocation| invocation.observations.clone()).unwrap()
        };
        let (baseline, challenger) = (side(Arm::Baseline), side(Arm::Challenger));
        let order = order(spec.seed, round.round);
        gate.push(Block { round: round.round, order, baseline, challenger, builds: Builds::default() })
            .unwrap();
    }
    gate.finish(EndOfData::MaxPairs)
}

fn aa(spec: &JobSpec, rounds: &[ArchiveRound], finished_unix_ms: u64) -> AaJob {
    AaJob {
        attempt: rounds[0].attempt,
        spec: Arc::new(spec.clone()),
        agent: rounds[0].agent.clone(),
        tier: rounds[0].tier,
        pairing: None,
        fingerprint: "a box".to_owned(),
        verdict: Box::new(verdict(spec, rounds)),
        finished_unix_ms,
    }
}

fn open(folder: &Path) -> SqliteArchive {
    SqliteArchive::open(&folder.join("archive.sqlite")).unwrap()
}

fn all() -> CalibrationQuery {
    CalibrationQuery { limit: 100, ..CalibrationQuery::default() }
}

#[test]
fn a_calibration_is_kept_for_its_box_and_the_newest_stands() {
    let folder = tempfile::tempdir().unwrap();
    let mut archive = open(folder.path());
    let spec = spec();
    for (job, agent, finished) in [(1, "first", 5), (2, "second", 6), (3, "first", 7)] {
        let rounds = rounds(&spec, job, agent, 0.0);
        archive.put(&rounds).unwrap();
        archive.put_aa(&aa(&spec, &rounds, finished)).unwrap();
        // However often it comes.
        archive.put_aa(&aa(&spec, &rounds, finished)).unwrap();
    }
    let found = archive.calibrations(&all()).unwrap();
    let seen: BTreeMap<(String, String), (u64, bool)> = found
        .series
        .iter()
        .map(|row| {
            let key = (row.agent.clone(), row.series.metric.to_string());
            (key, (row.calibration.measured_unix_ms, row.gated))
        })
        .collect();
    let key = |agent: &str, metric: &str| (agent.to_owned(), metric.to_owned());
    let want = [
        (key("first", "latency.p50"), (7, true)),
        (key("first", "throughput"), (7, false)),
        (key("second", "latency.p50"), (6, true)),
        (key("second", "throughput"), (6, false)),
    ];
    assert_eq!(seen, want.into());
    let row = &found.series[0];
    assert_eq!((row.calibration.pairs, row.calibration.fingerprint.as_str()), (PAIRS, "a box"));
    assert!((0.005..0.05).contains(&row.calibration.sd), "{row:?}");
    assert_eq!((found.audit.verdicts(), found.audit.false_verdicts()), (3, 0));

    let second = CalibrationQuery { agent: "second".to_owned(), ..all() };
    assert_eq!(archive.calibrations(&second).unwrap().series.len(), 2);
    let other = CalibrationQuery { project: "another".to_owned(), ..all() };
    assert_eq!(archive.calibrations(&other).unwrap().series, []);
    let one = archive.calibrations(&CalibrationQuery { limit: 0, ..all() }).unwrap();
    assert_eq!(one.series.len(), 1);
    assert!(one.series[0].gated, "gated series come first");
}

#[test]
fn false_verdicts_are_counted_and_raise_the_alarm() {
    let folder = tempfile::tempdir().unwrap();
    let mut archive = open(folder.path());
    let spec = spec();
    for job in 1..=2 {
        // The same code, and yet a tenth slower: something is wrong with how the pairs are made.
        let rounds = rounds(&spec, job, "first", 0.1);
        archive.put(&rounds).unwrap();
        archive.put_aa(&aa(&spec, &rounds, job)).unwrap();
    }
    let audit = archive.calibrations(&all()).unwrap().audit;
    assert_eq!((audit.verdicts(), audit.false_verdicts()), (2, 2));
    assert!(audit.alarms(), "{audit:?}");
}

#[test]
fn an_a_a_that_stops_early_is_audited_but_calibrates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut archive = open(folder.path());
    let looks_early = JobSpec { policy: spec().policy.with_max_pairs(PAIRS), ..spec() };
    assert!(!looks_early.is_calibration() && looks_early.work.is_same_on_both_sides());
    let rounds = rounds(&looks_early, 1, "first", 0.0);
    archive.put(&rounds).unwrap();
    let mut job = aa(&looks_early, &rounds, 1);
    archive.put_aa(&job).unwrap();
    let found = archive.calibrations(&all()).unwrap();
    assert_eq!((found.series.len(), found.audit.verdicts()), (0, 1));
    // Rounds that never came: what the job itself said counts, and there is nothing to calibrate by.
    job.spec = Arc::new(spec());
    job.attempt = AttemptId { job: JobId::from_parts(9, 0), number: 1 };
    archive.put_aa(&job).unwrap();
    let found = archive.calibrations(&all()).unwrap();
    assert_eq!((found.series.len(), found.audit.verdicts()), (0, 2));
}

#[test]
fn a_verdict_waits_in_the_queue_behind_its_rounds() {
    let folder = tempfile::tempdir().unwrap();
    let (writing, reading) = (Box::new(open(folder.path())), Box::new(open(folder.path())));
    let (queue, reader, thread) = ArchiveQueue::start(writing, reading).unwrap();
    let spec = spec();
    let rounds = rounds(&spec, 1, "first", 0.0);
    let job = aa(&spec, &rounds, 1);
    for round in rounds {
        queue.put(round);
    }
    queue.put_aa(job);
    drop(queue);
    thread.join().unwrap();
    assert_eq!(reader.calibrations(&all()).unwrap().series.len(), 2);
}

async fn asked(place: &Place) -> v1::CalibrationsResponse {
    place.verdicts().calibrations(v1::CalibrationsRequest::default()).await.unwrap().into_inner()
}

/// The answer once it has so many calibrations: the archive gathers rounds before it writes them.
async fn written(place: &Place, count: usize) -> v1::CalibrationsResponse {
    soon("the archive", async {
        loop {
            let found = asked(place).await;
            if found.calibrations.len() == count {
                return found;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// A job that calibrates by the one series that a fake agent measures.
fn submitted() -> JobSpec {
    let mut spec = jobs::spec(Shape::Compare { pairs: PAIRS, faster: false }, "orders", 0);
    spec.policy.looks = vec![PAIRS];
    spec
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_measures_the_same_on_both_sides_calibrates_its_box() {
    let place = Place::new().await;
    let empty = asked(&place).await;
    let audit = empty.audit.unwrap();
    assert_eq!((empty.calibrations.len(), audit.verdicts, audit.alarm), (0, 0, false));

    let (mut agent, _) = FakeAgent::join(&place, hello("box", vec![], 1)).await;
    let job = place.submit(submitted()).await;
    let task = agent.task().await;
    assert_eq!(agent.measures_to_the_end(&task, 0).await, PAIRS, "no look before its end");
    place.finished(&job).await;
    let found = written(&place, 1).await;
    let [row] = found.calibrations.as_slice() else { panic!("{found:?}") };
    assert_eq!((row.agent.as_str(), row.project.as_str(), row.suite.as_str()), ("box", "orders", "suite"));
    assert_eq!((row.bench.as_str(), row.metric.as_str(), row.gated), ("bench", "latency.p50", true));
    assert_eq!((row.pairs, row.job_id.as_str()), (PAIRS, job.as_str()));
    assert!(row.robust_sd.abs() < f64::EPSILON && row.kurtosis.is_none() && row.lag_1.is_none());
    assert!(row.fingerprint.contains("kernel") && row.measured_unix_ms > 0, "{row:?}");
    let audit = found.audit.unwrap();
    assert_eq!((audit.verdicts, audit.false_verdicts, audit.alarm), (1, 0, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_and_sliced_pairs_calibrate_a_box_side_by_side() {
    let place = Place::new().await;
    let (mut agent, _) = FakeAgent::join(&place, hello("box", vec![], 2)).await;
    let mut done = Vec::new();
    for pairing in [None, Some(Pairing::Sliced { slices: 30, slice: Duration::from_millis(5) })] {
        agent.pairing = pairing;
        let job = place.submit(submitted()).await;
        let task = agent.task().await;
        agent.measures_to_the_end(&task, 0).await;
        place.finished(&job).await;
        done.push(job);
    }
    let found = written(&place, 2).await.calibrations;
    let told: Vec<(&str, &str)> =
        found.iter().map(|row| (row.pairing.as_str(), row.job_id.as_str())).collect();
    assert_eq!(told, [("plain", done[0].as_str()), ("sliced", done[1].as_str())]);
}
