//! One suite for every archive: a round counts once however often it comes, and history comes oldest first, the newest
//! of it. What the model in memory does, each engine must do.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use darwin_coordinator::stores::{
    AaJob, Archive, ArchiveQueue, CalibrationQuery, HistoryPoint, HistoryQuery, MemoryArchive, SqliteArchive,
};
use darwin_coordinator_core::action::ArchiveRound;
use darwin_gate::{Metric, SeriesKey};
use darwin_shared::fleet::Tier;
use darwin_shared::ids::{AgentId, AttemptId, Epoch, JobId, PoolName};
use darwin_shared::round::Pairing;
use darwin_shared::usage::{Count, Counters, Uncounted, Usage};

use crate::support::compare;
use crate::support::jobs::{self, Shape};

fn round(job: u64, number: u32) -> ArchiveRound {
    let spec = compare();
    let attempt = AttemptId { job: JobId::from_parts(job, 0), number: 1 };
    ArchiveRound {
        attempt,
        round: number,
        invocations: jobs::round(&spec, attempt, Epoch::default(), number).invocations,
        spec: Arc::new(spec),
        agent: AgentId::new("box").expect("a name"),
        pool: PoolName::new("pool").expect("a name"),
        tier: Tier::Shielded,
        recorded_unix_ms: 1_764_000_000_000 + u64::from(number),
        probes: vec![],
    }
}

fn query(limit: u32) -> HistoryQuery {
    HistoryQuery {
        project: "orders".to_owned(),
        suite: "suite".to_owned(),
        bench: String::new(),
        metric: String::new(),
        limit,
    }
}

fn open(folder: &Path) -> SqliteArchive {
    SqliteArchive::open(&folder.join("archive.sqlite")).expect("an archive")
}

/// Runs one test of the suite against every engine.
fn each(test: fn(&mut dyn Archive)) {
    test(&mut MemoryArchive::default());
    let folder = tempfile::tempdir().unwrap();
    test(&mut open(folder.path()));
}

fn rounds_of(points: &[HistoryPoint]) -> Vec<(String, u32)> {
    points.iter().map(|point| (point.variant.clone(), point.round)).collect()
}

#[test]
fn a_round_counts_once_however_often_it_comes() {
    each(|archive| {
        let rounds = [round(1, 0), round(1, 1), round(1, 0)];
        archive.put(&rounds).unwrap();
        let once = archive.history(&query(100)).unwrap();
        assert_eq!(once.len(), 4, "two rounds of two variants");
        // Also with other values: what was written first stands, for verdicts rest on it.
        let mut other = round(1, 1);
        for observation in
            other.invocations.iter_mut().flat_map(|invocation| invocation.observations.values_mut())
        {
            observation.value = 1.0;
        }
        archive.put(&[other]).unwrap();
        assert_eq!(archive.history(&query(100)).unwrap(), once);
        // Another attempt at the same job is another measurement.
        let mut second = round(1, 0);
        second.attempt.number = 2;
        archive.put(&[second]).unwrap();
        assert_eq!(archive.history(&query(100)).unwrap().len(), 6);
    });
}

#[test]
fn what_is_replayed_after_a_restart_counts_once_too() {
    let folder = tempfile::tempdir().unwrap();
    let rounds = [round(1, 0), round(1, 1)];
    let mut archive = open(folder.path());
    archive.put(&rounds).unwrap();
    let once = archive.history(&query(100)).unwrap();
    drop(archive);
    let mut archive = open(folder.path());
    archive.put(&rounds).unwrap();
    assert_eq!(archive.history(&query(100)).unwrap(), once);
}

#[test]
fn history_is_oldest_first_and_keeps_the_newest_within_its_limit() {
    each(|archive| {
        for number in 0..5 {
            archive.put(&[round(1, number)]).unwrap();
        }
        let all = archive.history(&query(100)).unwrap();
        assert_eq!(all.len(), 10);
        assert!(all.windows(2).all(|pair| pair[0].recorded_unix_ms <= pair[1].recorded_unix_ms));
        let last = archive.history(&query(3)).unwrap();
        assert_eq!(last, all[7..]);
        // Beyond all sense the limit is the most that there may be, and 0 is one.
        assert_eq!(archive.history(&query(u32::MAX)).unwrap(), all);
        assert_eq!(archive.history(&query(0)).unwrap(), all[9..]);
        let point = &all[0];
        assert_eq!(
            (point.bench.as_str(), point.metric.as_str(), point.unit.as_str()),
            ("bench", "latency.p50", "nanoseconds")
        );
        assert_eq!((point.agent.as_str(), point.samples, point.attempt), ("box", 100, 1));
        let first: std::collections::BTreeSet<_> = rounds_of(&all[..2]).into_iter().collect();
        assert_eq!(first, [("old".to_owned(), 0), ("fast".to_owned(), 0)].into());
    });
}

#[test]
fn history_is_of_one_suite_and_as_asked_of_one_bench_and_metric() {
    each(|archive| {
        let mut mixed = round(1, 0);
        for invocation in &mut mixed.invocations {
            let seen = *invocation.observations.values().next().unwrap();
            invocation.observations.insert(SeriesKey::new("another", Metric::Throughput), seen);
            invocation.observations.insert(SeriesKey::new("bench", Metric::Throughput), seen);
        }
        archive.put(&[mixed]).unwrap();
        let count = |archive: &mut dyn Archive, bench: &str, metric: &str| {
            let query = HistoryQuery { bench: bench.to_owned(), metric: metric.to_owned(), ..query(100) };
            archive.history(&query).unwrap().len()
        };
        assert_eq!(count(archive, "", ""), 6);
        assert_eq!(count(archive, "bench", ""), 4);
        assert_eq!(count(archive, "", "throughput"), 4);
        assert_eq!(count(archive, "bench", "latency.p50"), 2);
        assert_eq!(count(archive, "nothing", ""), 0);
        for (project, suite) in [("orders", "another"), ("another", "suite")] {
            let query = HistoryQuery { project: project.to_owned(), suite: suite.to_owned(), ..query(100) };
            assert_eq!(archive.history(&query).unwrap(), []);
        }
    });
}

/// An A/A job of so many pairs that is a calibration, with its rounds.
fn aa(job: u64, agent: &str, pairs: u32) -> (AaJob, Vec<ArchiveRound>) {
    let mut spec = jobs::spec(Shape::Compare { pairs, faster: false }, "orders", 0);
    spec.policy.looks = vec![pairs];
    let spec = Arc::new(spec);
    let agent = AgentId::new(agent).unwrap();
    let rounds = (0..pairs).map(|number| ArchiveRound {
        spec: spec.clone(),
        agent: agent.clone(),
        invocations: jobs::round(&spec, round(job, 0).attempt, Epoch::default(), number).invocations,
        ..round(job, number)
    });
    let rounds: Vec<ArchiveRound> = rounds.collect();
    let aa = AaJob {
        attempt: rounds[0].attempt,
        verdict: Box::new(jobs::expected_verdict(&spec)),
        spec,
        agent,
        tier: Tier::Shielded,
        pairing: None,
        fingerprint: "a box".to_owned(),
        finished_unix_ms: 1_764_000_001_000,
    };
    (aa, rounds)
}

#[test]
fn calibrations_are_of_the_newest_job_of_each_suite_and_box_and_count_once() {
    each(|archive| {
        let every = CalibrationQuery { limit: 100, ..CalibrationQuery::default() };
        assert!(archive.calibrations(&every).unwrap().series.is_empty());
        for (job, agent, pairs) in [(1, "box", 20), (2, "another", 20), (3, "box", 30)] {
            let (aa, rounds) = aa(job, agent, pairs);
            archive.put(&rounds).unwrap();
            for _ in 0..2 {
                archive.put_aa(&aa).unwrap();
            }
        }
        let known = archive.calibrations(&every).unwrap();
        let told: Vec<(&str, u32)> =
            known.series.iter().map(|series| (series.agent.as_str(), series.calibration.pairs)).collect();
        assert_eq!(told, [("another", 20), ("box", 30)]);
        let of = |agent: &str| CalibrationQuery { agent: agent.to_owned(), ..every.clone() };
        assert_eq!(archive.calibrations(&of("box")).unwrap().series, known.series[1..]);
        assert!(archive.calibrations(&of("nobody")).unwrap().series.is_empty());
        let first = CalibrationQuery { limit: 0, ..every };
        assert_eq!(archive.calibrations(&first).unwrap().series, known.series[..1]);
    });
}

#[test]
fn a_box_in_another_tier_has_calibrations_and_points_of_their_own() {
    each(|archive| {
        for (job, tier) in [(1, Tier::Shielded), (2, Tier::Dev), (3, Tier::Dev)] {
            let (aa, mut rounds) = aa(job, "box", 20);
            for round in &mut rounds {
                round.tier = tier;
            }
            archive.put(&rounds).unwrap();
            archive.put_aa(&AaJob { tier, ..aa }).unwrap();
        }
        let every = CalibrationQuery { limit: 100, ..CalibrationQuery::default() };
        let known = archive.calibrations(&every).unwrap().series;
        let told: Vec<(&str, &str)> =
            known.iter().map(|series| (series.agent.as_str(), series.tier.as_str())).collect();
        assert_eq!(told, [("box", "dev"), ("box", "shielded")]);
        let points = archive.history(&query(1_000)).unwrap();
        let of = |tier: &str| points.iter().filter(|point| point.tier == tier).count();
        assert_eq!((of("shielded"), of("dev")), (points.len() / 3, points.len() / 3 * 2));
    });
}

/// How an agent says that it sliced its pairs.
fn sliced() -> Pairing {
    Pairing::Sliced { slices: 30, slice: Duration::from_millis(5) }
}

#[test]
fn plain_and_sliced_pairs_have_calibrations_of_their_own() {
    each(|archive| {
        let plain = Pairing::Plain { why: "`plan` says so".to_owned() };
        // An agent that says nothing knows plain pairs only.
        let runs = [(1, Some(sliced()), 12), (2, Some(plain), 20), (3, None, 25), (4, Some(sliced()), 30)];
        for (job, pairing, pairs) in runs {
            let (aa, rounds) = aa(job, "box", pairs);
            archive.put(&rounds).unwrap();
            archive.put_aa(&AaJob { pairing, ..aa }).unwrap();
        }
        let every = CalibrationQuery { limit: 100, ..CalibrationQuery::default() };
        let known = archive.calibrations(&every).unwrap().series;
        let told: Vec<(&str, u32)> =
            known.iter().map(|series| (series.pairing.as_str(), series.calibration.pairs)).collect();
        assert_eq!(told, [("plain", 25), ("sliced", 30)], "the newest of each");
    });
}

#[test]
fn the_engine_says_what_the_model_says() {
    let folder = tempfile::tempdir().unwrap();
    let (mut model, mut engine) = (MemoryArchive::default(), open(folder.path()));
    for archive in [&mut model as &mut dyn Archive, &mut engine] {
        let runs = [(1, "box", 12, None), (2, "another", 25, None), (3, "box", 20, Some(sliced()))];
        for (job, agent, pairs, pairing) in runs {
            let (aa, rounds) = aa(job, agent, pairs);
            archive.put(&rounds).unwrap();
            archive.put_aa(&AaJob { pairing, ..aa }).unwrap();
        }
        archive.put(&[round(4, 0), round(4, 1)]).unwrap();
    }
    for limit in [1, 7, 1_000] {
        assert_eq!(model.history(&query(limit)).unwrap(), engine.history(&query(limit)).unwrap());
        let wanted = CalibrationQuery { limit, ..CalibrationQuery::default() };
        assert_eq!(model.calibrations(&wanted).unwrap(), engine.calibrations(&wanted).unwrap());
    }
}

#[test]
fn all_that_was_put_into_the_queue_is_written_when_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (writing, reading) = (Box::new(open(folder.path())), Box::new(open(folder.path())));
    let (queue, reader, thread) = ArchiveQueue::start(writing, reading).unwrap();
    for number in 0..600 {
        queue.put(round(1, number));
    }
    drop(queue);
    thread.join().unwrap();
    assert_eq!(reader.history(&query(10_000)).unwrap().len(), 1_200);
}

#[test]
fn what_a_process_used_is_kept_as_far_as_it_was_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut counted = round(1, 0);
    let counters = Counters { instructions: Count::Known(u64::MAX), ..Counters::unknown(Uncounted::Shared) };
    counted.invocations[0].usage = Usage { minor_faults: 5, major_faults: 2, counters, ..Usage::default() };
    counted.invocations.truncate(1);
    open(folder.path()).put(&[counted]).unwrap();
    let archive = rusqlite::Connection::open(folder.path().join("archive.sqlite")).unwrap();
    let mut rows = archive.prepare("SELECT quantity, value FROM usage ORDER BY quantity").unwrap();
    let rows = rows.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))).unwrap();
    let told: Vec<(String, i64)> = rows.map(Result::unwrap).collect();
    let wanted = [("instructions", i64::MAX), ("major_faults", 2), ("page_faults", 7)];
    assert_eq!(told, wanted.map(|(name, value)| (name.to_owned(), value)));
}
