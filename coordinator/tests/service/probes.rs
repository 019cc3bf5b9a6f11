//! The archive's probes, the same for every engine.

use std::sync::Arc;

use darwin_coordinator::stores::{Archive, MemoryArchive, ProbeQuery, SqliteArchive};
use darwin_coordinator_core::action::ArchiveRound;
use darwin_shared::fleet::Tier;
use darwin_shared::ids::{AgentId, AttemptId, JobId, PoolName};
use darwin_shared::probe::{BoxProbe, CpuProbe, GapSummary, ProbeLevel, ProbeMoment, RoundProbe};

use crate::support::compare;

/// So many of a box and kind are kept.
const KEPT: usize = 1_000;

fn probe(moment: ProbeMoment, rate_per_s: f64) -> RoundProbe {
    let gaps = GapSummary {
        observed_ns: 1_000_000_000,
        threshold_ns: 1_000,
        count: 3,
        count_over_1us: 3,
        rate_per_s,
        rate_over_1us_per_s: rate_per_s,
        p50_ns: 1,
        p90_ns: 2,
        p99_ns: 3,
        p99_9_ns: 4,
        max_ns: 5,
        stolen_share: 0.1,
        top: vec![],
        signatures: vec![],
        involuntary_switches: 0,
        steal_share: None,
        causes: vec![],
    };
    let cpu = CpuProbe { cpu: 1, gaps, capacity: None, usual: None, level: ProbeLevel::Ok, reasons: vec![] };
    let probe = BoxProbe {
        tier: Tier::Shielded,
        boot_id: "boot".to_owned(),
        length_ns: 1,
        fifo: false,
        tsc: true,
        cpus: vec![cpu],
    };
    RoundProbe { moment, probe, worse: String::new() }
}

fn round(job: u64, agent: &str, pool: &str, probes: Vec<RoundProbe>) -> ArchiveRound {
    ArchiveRound {
        attempt: AttemptId { job: JobId::from_parts(job, 0), number: 1 },
        round: 0,
        invocations: vec![],
        spec: Arc::new(compare()),
        agent: AgentId::new(agent).expect("a name"),
        pool: PoolName::new(pool).expect("a name"),
        tier: Tier::Shielded,
        recorded_unix_ms: 1_764_000_000_000 + job,
        probes,
    }
}

fn each(test: fn(&mut dyn Archive)) {
    test(&mut MemoryArchive::default());
    let folder = tempfile::tempdir().unwrap();
    test(&mut SqliteArchive::open(&folder.path().join("archive.sqlite")).expect("an archive"));
}

/// The rates of the probes that are asked for.
fn rates(archive: &mut dyn Archive, query: &ProbeQuery) -> Vec<f64> {
    let found = archive.probes(query).unwrap();
    found.iter().map(|kept| kept.probe.probe.cpus[0].gaps.rate_per_s).collect()
}

#[test]
fn probes_come_back_as_asked_the_newest_first() {
    each(|archive| {
        let (before, after) = (probe(ProbeMoment::Before, 2.0), probe(ProbeMoment::After, 3.0));
        let rounds = [
            round(1, "a", "x", vec![probe(ProbeMoment::Job, 1.0)]),
            round(2, "a", "x", vec![before, after]),
            round(3, "b", "y", vec![probe(ProbeMoment::Job, 4.0)]),
            round(4, "b", "y", vec![]),
        ];
        archive.put(&rounds).unwrap();
        archive.put(&rounds).unwrap();
        let all = ProbeQuery { limit: 100, ..ProbeQuery::default() };
        assert_eq!(rates(archive, &all), [4.0, 3.0, 2.0, 1.0], "each counts once");
        assert_eq!(rates(archive, &ProbeQuery { jobs_only: true, ..all.clone() }), [4.0, 1.0]);
        assert_eq!(rates(archive, &ProbeQuery { agent: "a".into(), ..all.clone() }), [3.0, 2.0, 1.0]);
        assert_eq!(rates(archive, &ProbeQuery { pool: "y".into(), ..all.clone() }), [4.0]);
        let job = JobId::from_parts(2, 0).to_string();
        assert_eq!(rates(archive, &ProbeQuery { job, ..all.clone() }), [3.0, 2.0]);
        assert_eq!(rates(archive, &ProbeQuery { limit: 0, ..all.clone() }), [4.0]);
        let newest = archive.probes(&all).unwrap().remove(0);
        assert_eq!((newest.agent.as_str(), newest.pool.as_str(), newest.attempt), ("b", "y", 1));
        assert_eq!(newest.recorded_unix_ms, 1_764_000_000_003);
        assert_eq!(newest.probe, probe(ProbeMoment::Job, 4.0));
    });
}

#[test]
fn the_oldest_of_a_box_and_kind_go() {
    each(|archive| {
        archive.put(&[round(1, "b", "x", vec![probe(ProbeMoment::Job, 0.5)])]).unwrap();
        archive.put(&[round(2, "a", "x", vec![probe(ProbeMoment::Before, 0.25)])]).unwrap();
        let rounds: Vec<ArchiveRound> = (0..KEPT as u64 + 5)
            .map(|n| round(10 + n, "a", "x", vec![probe(ProbeMoment::Job, 10.0 + n as f64)]))
            .collect();
        archive.put(&rounds).unwrap();
        let of_a =
            ProbeQuery { agent: "a".into(), jobs_only: true, limit: u32::MAX, ..ProbeQuery::default() };
        let kept = rates(archive, &of_a);
        assert_eq!((kept.len(), kept[0], kept[KEPT - 1]), (KEPT, 1_014.0, 15.0));
        let others = ProbeQuery { agent: "b".into(), limit: 10, ..ProbeQuery::default() };
        assert_eq!(rates(archive, &others), [0.5]);
        let before =
            ProbeQuery { job: JobId::from_parts(2, 0).to_string(), limit: 10, ..ProbeQuery::default() };
        assert_eq!(rates(archive, &before), [0.25], "another kind is counted by itself");
    });
}
