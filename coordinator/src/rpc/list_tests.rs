//! A page is filled however far apart its jobs are, and pages fit together.

use std::time::Duration;

use darwin_coordinator_core::{Action, Caller, Core, Event, Now, Settings, Submission};
use darwin_proto::v1;
use darwin_shared::ids::JobId;
use darwin_shared::state::JobState;

use super::{Progress, Scan};
use crate::stores::{Ledger, MemoryLedger, encode};
use crate::test_jobs as jobs;

/// Jobs in all, many more than one step looks at.
const JOBS: u64 = 3_500;
/// Of so many jobs one is of the rare project.
const RARE: u64 = 1_000;

/// A core that has forgotten most of its finished jobs, and the ledger that has them.
fn lived() -> (Core, MemoryLedger) {
    let mut core = Core::new(Settings { recent_max: 10, ..Settings::default() });
    let (mut actions, mut ledger) = (Vec::new(), MemoryLedger::default());
    let now = Now { mono: Duration::ZERO, unix_ms: 0 };
    for number in 1..=JOBS {
        let project = if number.is_multiple_of(RARE) { "rare" } else { "common" };
        let (job, caller) = (JobId::from_parts(number, 0), Caller(number));
        let spec = jobs::spec(jobs::Shape::Measure(1), project, 0);
        let submission = Submission { job, request_id: String::new(), spec, submitter: String::new() };
        core.step(now, Event::Submit { caller, submission: Box::new(submission) }, &mut actions);
        // Of the rare ones the oldest waits, the others have finished.
        if number != RARE {
            core.step(now, Event::Cancel { caller, job, by: "tester".to_owned() }, &mut actions);
        }
    }
    let writes = actions.iter().filter_map(|action| match action {
        Action::Write(write) => Some(encode(write).unwrap()),
        _ => None,
    });
    ledger.commit(&writes.collect::<Vec<_>>()).unwrap();
    (core, ledger)
}

/// A page, and the steps that it took.
fn page(core: &Core, ledger: &mut dyn Ledger, request: v1::ListJobsRequest) -> (Vec<String>, bool, usize) {
    let (mut scan, mut steps) = (Scan::new(request).unwrap(), 0);
    while scan.state == Progress::MayFollow {
        scan = scan.step(core, ledger).unwrap();
        steps += 1;
    }
    (scan.jobs.into_iter().map(|job| job.job_id).collect(), scan.state == Progress::Full, steps)
}

#[test]
fn a_filter_that_matches_little_still_fills_its_pages_and_the_cursor_goes_on_where_they_end() {
    let (core, mut ledger) = lived();
    let rare = |before: &str, limit| v1::ListJobsRequest {
        project: "rare".to_owned(),
        before: before.to_owned(),
        limit,
        ..v1::ListJobsRequest::default()
    };
    let id = |number| JobId::from_parts(number, 0).to_string();
    let (all, more, steps) = page(&core, &mut ledger, rare("", 50));
    assert_eq!((all, more), (vec![id(3 * RARE), id(2 * RARE), id(RARE)], false));
    assert!(steps > 1, "one step reads a bounded part of the ledger");

    let (first, more, _) = page(&core, &mut ledger, rare("", 2));
    assert_eq!((first, more), (vec![id(3 * RARE), id(2 * RARE)], true));
    let (rest, more, _) = page(&core, &mut ledger, rare(&id(2 * RARE), 2));
    assert_eq!((rest, more), (vec![id(RARE)], false), "also of what is in memory, between what is not");
    let (none, more, _) = page(&core, &mut ledger, rare(&id(RARE), 2));
    assert_eq!((none, more), (vec![], false));

    let waits = v1::ListJobsRequest { states: vec!["queued".to_owned()], ..v1::ListJobsRequest::default() };
    assert_eq!(page(&core, &mut ledger, waits).0, [id(RARE)]);
}

#[test]
fn all_pages_together_are_all_jobs_newest_first() {
    let (core, mut ledger) = lived();
    let (mut listed, mut before) = (Vec::new(), String::new());
    loop {
        let request = v1::ListJobsRequest { before, limit: 700, ..v1::ListJobsRequest::default() };
        let (jobs, more, _) = page(&core, &mut ledger, request);
        listed.extend(jobs);
        before = listed.last().cloned().unwrap();
        if !more {
            break;
        }
    }
    let all: Vec<String> = (1..=JOBS).rev().map(|number| JobId::from_parts(number, 0).to_string()).collect();
    assert!(listed == all, "{} of {JOBS} jobs are listed", listed.len());
}

#[test]
fn a_state_that_does_not_exist_is_refused_and_the_others_are_named() {
    for unknown in ["aproved", "Queued", "", "queued "] {
        let states = vec!["queued".to_owned(), unknown.to_owned()];
        let refused =
            Scan::new(v1::ListJobsRequest { states, ..v1::ListJobsRequest::default() }).err().unwrap();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        let named = JobState::NAMES.iter().all(|state| refused.message().contains(state));
        assert!(named && refused.message().contains(&format!("`{unknown}`")), "{refused}");
    }
    let states = JobState::NAMES.map(str::to_owned).to_vec();
    assert!(Scan::new(v1::ListJobsRequest { states, ..v1::ListJobsRequest::default() }).is_ok());
}
