//! The loop by itself: what it shows before the disk has it, what it commits together, what it does when it is late.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use darwin_coordinator_core::{Answer, Core, Refusal, Settings};
use darwin_shared::spec::JobSpec;
use darwin_shared::state::JobState;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Clock, Driver, DriverError, coalesce};
use crate::handle::{INPUTS, Input, Query, Submit};
use crate::stores::{
    ArchiveQueue, Change, CommitError, Kind, Ledger, LedgerError, MemoryArchive, MemoryLedger, Stored,
    StoredWrite,
};
use crate::test_jobs as jobs;

/// A ledger that counts its commits and takes only so many.
struct Counted {
    ledger: MemoryLedger,
    commits: Arc<AtomicUsize>,
    commits_max: usize,
}

impl Ledger for Counted {
    fn commit(&mut self, writes: &[StoredWrite]) -> Result<(), CommitError> {
        if self.commits.fetch_add(1, Ordering::SeqCst) >= self.commits_max {
            return Err(rusqlite::Error::InvalidQuery.into());
        }
        self.ledger.commit(writes)
    }

    fn get(&mut self, kind: Kind, id: &str) -> Result<Option<Stored>, LedgerError> {
        self.ledger.get(kind, id)
    }

    fn live(&mut self, kind: Kind, after: Option<&str>) -> Result<Vec<Stored>, LedgerError> {
        self.ledger.live(kind, after)
    }

    fn newest(&mut self, kind: Kind, before: Option<&str>, limit: usize) -> Result<Vec<Stored>, LedgerError> {
        self.ledger.newest(kind, before, limit)
    }

    fn changes(&mut self, after_revision: u64) -> Result<Vec<Change>, LedgerError> {
        self.ledger.changes(after_revision)
    }
}

/// Where inputs go, and the loop that will take them; with the commits that it has made.
fn driver(settings: Settings, commits_max: usize) -> (mpsc::Sender<Input>, Driver, Arc<AtomicUsize>) {
    let (inputs, queue) = mpsc::channel(INPUTS);
    let commits = Arc::new(AtomicUsize::new(0));
    let ledger = Counted { ledger: MemoryLedger::default(), commits: commits.clone(), commits_max };
    let (archive, _, _) =
        ArchiveQueue::start(Box::new(MemoryArchive::default()), Box::new(MemoryArchive::default())).unwrap();
    let driver = Driver::new(Core::new(settings), Box::new(ledger), archive, queue, Clock::start());
    (inputs, driver, commits)
}

fn spec() -> JobSpec {
    jobs::spec(jobs::Shape::Measure(1), "orders", 0)
}

type Answered = oneshot::Receiver<Result<Answer, Refusal>>;

fn submit(inputs: &mpsc::Sender<Input>) -> Answered {
    let (answer, answered) = oneshot::channel();
    let submit = Submit { request_id: String::new(), spec: spec(), submitter: String::new() };
    assert!(inputs.try_send(Input::Submit { request: Box::new(submit), answer }).is_ok());
    answered
}

fn query<T: Send + 'static>(
    inputs: &mpsc::Sender<Input>,
    look: impl FnOnce(&Core) -> T + Send + 'static,
) -> oneshot::Receiver<T> {
    let (answer, answered) = oneshot::channel();
    let look: Query = Box::new(move |core, _, _| drop(answer.send(look(core))));
    assert!(inputs.try_send(Input::Query(look)).is_ok());
    answered
}

#[tokio::test]
async fn what_is_not_on_disk_is_shown_to_nobody() {
    let (inputs, driver, _) = driver(Settings::default(), 0);
    let answered = submit(&inputs);
    let jobs = query(&inputs, |core| core.jobs_newest_first(None).count());
    let (_keep, stop) = oneshot::channel();
    let ended = driver.run(Vec::new(), stop).await;
    assert!(matches!(ended, Err(DriverError::Commit(_))), "{ended:?}");
    assert!(answered.await.is_err(), "acknowledged without being on disk");
    assert!(jobs.await.is_err(), "shown without being on disk");
}

#[tokio::test]
async fn inputs_that_wait_together_share_one_commit_and_looks_cost_none() {
    let (inputs, driver, commits) = driver(Settings::default(), usize::MAX);
    let answers: Vec<Answered> = (0..100).map(|_| submit(&inputs)).collect();
    let jobs = query(&inputs, |core| core.jobs_newest_first(None).count());
    drop(inputs);
    let (_keep, stop) = oneshot::channel();
    driver.run(Vec::new(), stop).await.unwrap();
    for answer in answers {
        assert!(matches!(answer.await, Ok(Ok(Answer::Submitted { known: false, .. }))));
    }
    assert_eq!(jobs.await, Ok(100));
    assert_eq!(commits.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_watcher_of_a_job_that_nobody_knows_sees_the_end_at_once() {
    let (inputs, driver, _) = driver(Settings::default(), usize::MAX);
    let (out, mut seen) = watch::channel(None);
    let job = darwin_shared::ids::JobId::from_parts(1, 1);
    assert!(inputs.try_send(Input::Watch { job, out }).is_ok());
    drop(inputs);
    let (_keep, stop) = oneshot::channel();
    driver.run(Vec::new(), stop).await.unwrap();
    assert!(seen.changed().await.is_err());
}

/// After so many looks the timer is taken for dead: a hundred times what waits in the queue at once.
const LOOKS_MAX: usize = 100 * INPUTS;

/// A look that asks to be asked again, so that inputs never cease, until the job has expired.
fn restless(inputs: mpsc::WeakSender<Input>, expired: Arc<AtomicUsize>, looks: Arc<AtomicUsize>) -> Query {
    Box::new(move |core, _, _| {
        let over = core.jobs_newest_first(None).all(|job| matches!(job.record.state, JobState::Finished(_)));
        if looks.fetch_add(1, Ordering::SeqCst) > LOOKS_MAX {
            return;
        }
        if over {
            expired.store(1, Ordering::SeqCst);
            return;
        }
        if let Some(sender) = inputs.upgrade() {
            let again = restless(inputs, expired, looks);
            assert!(sender.try_send(Input::Query(again)).is_ok());
        }
    })
}

#[tokio::test]
async fn timers_fire_although_inputs_never_cease() {
    let settings = Settings { wait_max: Duration::ZERO, ..Settings::default() };
    let (inputs, driver, _) = driver(settings, usize::MAX);
    let (expired, looks) = (Arc::default(), Arc::default());
    let _answered = submit(&inputs);
    // More than one batch takes: some always wait.
    for _ in 0..1_000 {
        let look = restless(inputs.downgrade(), Arc::clone(&expired), Arc::clone(&looks));
        assert!(inputs.try_send(Input::Query(look)).is_ok());
    }
    let (stop_now, stop) = oneshot::channel();
    let running = tokio::spawn(driver.run(Vec::new(), stop));
    // Ends by itself: either the job expires or the looks are used up.
    while expired.load(Ordering::SeqCst) == 0 && looks.load(Ordering::SeqCst) <= LOOKS_MAX {
        tokio::task::yield_now().await;
    }
    assert_eq!(expired.load(Ordering::SeqCst), 1, "the timer never fired");
    assert!(stop_now.send(()).is_ok());
    running.await.unwrap().unwrap();
}

#[test]
fn writes_of_one_record_become_one() {
    let write = |id: &str, expected_version, value: &[u8]| StoredWrite {
        kind: Kind::Job,
        id: id.to_owned(),
        expected_version,
        new_version: expected_version + 1,
        value: value.to_vec(),
        live: expected_version == 0,
    };
    let merged =
        coalesce(vec![write("a", 0, b"1"), write("b", 4, b"x"), write("a", 1, b"2"), write("a", 2, b"3")]);
    assert_eq!(merged.len(), 2);
    assert_eq!(
        merged[0],
        StoredWrite { expected_version: 0, new_version: 3, live: false, ..write("a", 2, b"3") }
    );
    assert_eq!(merged[1], write("b", 4, b"x"));
}
