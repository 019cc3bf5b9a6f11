use std::fs;
use std::path::Path;

use darwin_proto::v1;
use darwin_shared::attempt::AttemptEnd;
use darwin_shared::ids::{AttemptId, Epoch, JobId};
use proptest::prelude::*;

use super::{COMPACT_FROM_BYTES, Recovered, Spool};

fn attempt(job: u64) -> AttemptId {
    AttemptId { job: JobId::from_parts(job, 0), number: 1 }
}

fn epoch(counter: u64) -> Epoch {
    Epoch { generation: 3, counter }
}

fn round(attempt: AttemptId, round: u32, bytes: usize) -> v1::RoundResult {
    let invocation = v1::Invocation { samples: vec![7; bytes].into(), ..v1::Invocation::default() };
    v1::RoundResult {
        attempt_id: attempt.to_string(),
        epoch: Some(epoch(1).into()),
        round,
        invocations: vec![invocation],
        pairing: None,
        warm_ups: vec![],
        voids: None,
        probes: vec![],
    }
}

fn open(folder: &Path) -> (Spool, Recovered) {
    Spool::open(folder).unwrap()
}

/// What may happen to the attempt of this number.
#[derive(Debug, Clone, Copy)]
enum Change {
    Intent(u64),
    Round(u64),
    End(u64),
    Forget(u64),
}

fn change() -> impl Strategy<Value = Change> {
    let job = 0..4u64;
    prop_oneof![
        job.clone().prop_map(Change::Intent),
        job.clone().prop_map(Change::Round),
        job.clone().prop_map(Change::Round),
        job.clone().prop_map(Change::End),
        job.prop_map(Change::Forget),
    ]
}

/// Applies what makes sense, as the driver would.
fn apply(spool: &mut Spool, change: Change) {
    match change {
        Change::Intent(job) if !spool.held.contains_key(&attempt(job)) => {
            spool.intent(attempt(job), epoch(job));
        }
        Change::Round(job) => {
            if let Some(entry) = spool.held.get(&attempt(job))
                && entry.end.is_none()
            {
                let next = u32::try_from(entry.rounds.len()).unwrap();
                spool.round(attempt(job), &round(attempt(job), next, 20));
            }
        }
        Change::End(job) => spool.end(attempt(job), AttemptEnd::Cancelled),
        Change::Forget(job) => spool.forget(attempt(job)),
        Change::Intent(_) => {}
    }
}

proptest! {
    #[test]
    fn any_prefix_of_a_journal_recovers_to_a_state_that_once_was(
        changes in prop::collection::vec(change(), 1..40),
        cut in 0..1000usize,
        garbage in prop::collection::vec(any::<u8>(), 0..30),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (mut spool, _) = open(folder.path());
        // After each change: the journal's length and what a new life should find there.
        let mut states = vec![(0, Vec::new())];
        for change in changes {
            apply(&mut spool, change);
            spool.write_out().unwrap();
            let held = spool.held.iter().map(|(id, entry)| (*id, entry.rounds.len(), entry.end.clone())).collect();
            states.push((spool.written, held));
        }
        let journal = folder.path().join("journal");
        let bytes = fs::read(&journal).unwrap();
        let keep = bytes.len() * cut / 1000;
        let torn = [&bytes[..keep], &garbage].concat();
        fs::write(&journal, &torn).unwrap();
        // Garbage may be just what was cut off.
        let keep = torn.iter().zip(&bytes).take_while(|(found, written)| found == written).count();

        let (spool, recovered) = open(folder.path());
        let (length, held) = states.iter().rev().find(|(length, _)| *length <= keep as u64).unwrap();
        prop_assert_eq!(spool.written, *length);
        let found: Vec<_> = recovered
            .attempts
            .iter()
            .map(|a| (a.attempt, a.rounds as usize, a.end.clone()))
            .collect();
        prop_assert_eq!(&found, held);
        prop_assert_eq!(recovered.quarantined.is_some(), torn.len() as u64 > *length);
        for (id, rounds, _) in found {
            prop_assert_eq!(spool.rounds(id, 0).unwrap().len(), rounds);
        }
        let (_, again) = open(folder.path());
        prop_assert_eq!(again.quarantined, None, "the second life finds a whole journal");
    }
}

#[test]
fn rounds_are_given_back_as_they_were_before_and_after_they_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(folder.path());
    spool.intent(attempt(1), epoch(1));
    for number in 0..3 {
        spool.round(attempt(1), &round(attempt(1), number, 5));
    }
    let expected: Vec<_> = (1..3).map(|number| round(attempt(1), number, 5)).collect();
    assert_eq!(spool.rounds(attempt(1), 1).unwrap(), expected, "pending");
    spool.flush().unwrap();
    assert_eq!(spool.rounds(attempt(1), 1).unwrap(), expected, "written");
    assert_eq!(spool.rounds(attempt(9), 0).unwrap(), []);
}

#[test]
fn a_long_life_does_not_make_a_long_journal() {
    let folder = tempfile::tempdir().unwrap();
    let (mut spool, _) = open(folder.path());
    spool.intent(attempt(0), epoch(1));
    spool.round(attempt(0), &round(attempt(0), 0, 1000));
    for job in 1..200 {
        spool.intent(attempt(job), epoch(job));
        spool.round(attempt(job), &round(attempt(job), 0, 100_000));
        spool.end(attempt(job), AttemptEnd::Completed { rounds: 1 });
        spool.forget(attempt(job));
        spool.flush().unwrap();
    }
    spool.write_out().unwrap();
    assert!(spool.written < COMPACT_FROM_BYTES + 200_000, "{}", spool.written);
    assert_eq!(spool.rounds(attempt(0), 0).unwrap(), [round(attempt(0), 0, 1000)]);
    drop(spool);
    let (spool, recovered) = open(folder.path());
    assert_eq!(recovered.attempts.len(), 1);
    assert!(recovered.seen.contains(&(attempt(199), epoch(199))), "old grants are still refused");
    assert_eq!(spool.rounds(attempt(0), 0).unwrap(), [round(attempt(0), 0, 1000)]);
}
