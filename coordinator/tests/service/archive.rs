//! The archive: a round counts once however often it comes, and history comes oldest first, the newest of it.

use std::path::Path;
use std::sync::Arc;

use darwin_coordinator::stores::{Archive, ArchiveQueue, HistoryPoint, HistoryQuery, SqliteArchive};
use darwin_coordinator_core::action::ArchiveRound;
use darwin_gate::{Metric, SeriesKey};
use darwin_shared::ids::{AgentId, AttemptId, Epoch, JobId, PoolName};

use crate::support::{compare, jobs};

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
        recorded_unix_ms: 1_764_000_000_000 + u64::from(number),
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

fn rounds_of(points: &[HistoryPoint]) -> Vec<(String, u32)> {
    points.iter().map(|point| (point.variant.clone(), point.round)).collect()
}

#[test]
fn a_round_counts_once_however_often_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let mut archive = open(folder.path());
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
    // And after a restart, where everything is replayed.
    drop(archive);
    let mut archive = open(folder.path());
    archive.put(&rounds).unwrap();
    assert_eq!(archive.history(&query(100)).unwrap(), once);
    // Another attempt at the same job is another measurement.
    let mut second = round(1, 0);
    second.attempt.number = 2;
    archive.put(&[second]).unwrap();
    assert_eq!(archive.history(&query(100)).unwrap().len(), 6);
}

#[test]
fn history_is_oldest_first_and_keeps_the_newest_within_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let mut archive = open(folder.path());
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
}

#[test]
fn history_is_of_one_suite_and_as_asked_of_one_bench_and_metric() {
    let folder = tempfile::tempdir().unwrap();
    let mut archive = open(folder.path());
    let mut mixed = round(1, 0);
    for invocation in &mut mixed.invocations {
        let seen = *invocation.observations.values().next().unwrap();
        invocation.observations.insert(SeriesKey::new("another", Metric::Throughput), seen);
        invocation.observations.insert(SeriesKey::new("bench", Metric::Throughput), seen);
    }
    archive.put(&[mixed]).unwrap();
    let count = |archive: &mut SqliteArchive, bench: &str, metric: &str| {
        let query = HistoryQuery { bench: bench.to_owned(), metric: metric.to_owned(), ..query(100) };
        archive.history(&query).unwrap().len()
    };
    assert_eq!(count(&mut archive, "", ""), 6);
    assert_eq!(count(&mut archive, "bench", ""), 4);
    assert_eq!(count(&mut archive, "", "throughput"), 4);
    assert_eq!(count(&mut archive, "bench", "latency.p50"), 2);
    assert_eq!(count(&mut archive, "nothing", ""), 0);
    for (project, suite) in [("orders", "another"), ("another", "suite")] {
        let query = HistoryQuery { project: project.to_owned(), suite: suite.to_owned(), ..query(100) };
        assert_eq!(archive.history(&query).unwrap(), []);
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
