//! `darwin measure --count N`: submits many jobs over one stream and waits for all of them.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use darwin_proto::v1::{FinishedJob, GetJobRequest, JobState, SubmitResponse, WatchFinishedRequest};
use darwin_shared::exit_code::ExitCode;
use darwin_shared::spec::JobSpec;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tonic::Streaming;

use crate::failure::{Failed, call};
use crate::follow::{Stops, client};
use crate::job::state_word;
use crate::pack::Blobs;
use crate::session::Session;
use crate::submit::request;
use crate::ui::Ui;
use crate::upload;

/// A stream that ends at once must not be opened in a circle.
const BEFORE_ASKING_AGAIN: Duration = Duration::from_millis(200);

/// Submits `count` jobs of this spec and waits for all.
pub(crate) async fn run(
    spec: &JobSpec,
    blobs: &Blobs,
    count: u32,
    totals_only: bool,
    session: &Session,
    ui: &Ui,
) -> Result<ExitCode, Failed> {
    upload::send(session.channel(), session.url(), blobs).await?;
    let mut tally = Tally::new(count, ui, totals_only);
    let mut jobs = client(session.channel());
    let failed = call(session.url());
    let watch = WatchFinishedRequest { project: spec.project.to_string() };
    // Before the first job is there, so that none can finish unseen.
    let mut finished = jobs.watch_finished(watch.clone()).await.map_err(&failed)?.into_inner();
    let mut stops = Stops::listen()?;
    let began = Instant::now();
    let first = request(spec);
    let requests = (0..count).map(move |n| {
        let mut request = first.clone();
        request.request_id = format!("{}-{n}", request.request_id);
        request
    });
    let mut accepted = jobs.submit_many(futures::stream::iter(requests)).await.map_err(&failed)?.into_inner();
    let mut all_accepted = false;
    while !tally.is_complete() {
        tokio::select! {
            answer = accepted.message(), if !all_accepted => {
                all_accepted = tally.accepted(answer.map_err(&failed)?);
            }
            event = finished.message() => match event {
                Ok(Some(event)) => tally.finished(event),
                // The stream broke, or it lost some: open it again and ask for each job that is not known to be over.
                Ok(None) | Err(_) => {
                    finished = reopened(session, &watch, &mut tally, all_accepted).await?;
                }
            },
            () = stops.any() => {
                let text = format!(
                    "{} of {count} jobs are over; the others are left in the queue: darwin job list --project {}",
                    tally.over, spec.project
                );
                return Err(Failed::new(ExitCode::Cancelled, text));
            }
        }
    }
    tally.report(began.elapsed(), ui)
}

async fn reopened(
    session: &Session,
    watch: &WatchFinishedRequest,
    tally: &mut Tally,
    all_accepted: bool,
) -> Result<Streaming<FinishedJob>, Failed> {
    let failed = call(session.url());
    if !all_accepted {
        return Err(Failed::system(
            "the coordinator went away while jobs were being submitted; some of them are in its queue",
        ));
    }
    tokio::time::sleep(BEFORE_ASKING_AGAIN).await;
    let mut jobs = client(session.channel());
    let stream = jobs.watch_finished(watch.clone()).await.map_err(&failed)?.into_inner();
    let open: Vec<String> = tally.open.iter().cloned().collect();
    for job_id in open {
        let job = jobs.get(GetJobRequest { job_id }).await.map_err(&failed)?.into_inner();
        if job.state() == JobState::Finished {
            tally.finished(FinishedJob { state: state_word(&job).to_owned(), job_id: job.job_id });
        }
    }
    Ok(stream)
}

/// Which jobs are submitted, and how those that are over ended.
struct Tally {
    count: u32,
    submitted: u32,
    over: u32,
    /// Submitted and not over.
    open: HashSet<String>,
    /// Over before their submission was answered; jobs of others too, so it is only kept while we submit.
    early: BTreeMap<String, String>,
    by_state: BTreeMap<String, u32>,
    bar: ProgressBar,
}

impl Tally {
    fn new(count: u32, ui: &Ui, totals_only: bool) -> Self {
        let bar = if ui.draws_progress() && !totals_only {
            let bar = ProgressBar::new(u64::from(count));
            let style = ProgressStyle::with_template("{elapsed} [{wide_bar}] {pos}/{len} jobs, {per_sec}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        } else {
            ProgressBar::hidden()
        };
        let open = HashSet::with_capacity(count as usize);
        Self { count, submitted: 0, over: 0, open, early: BTreeMap::new(), by_state: BTreeMap::new(), bar }
    }

    /// Takes an answer to a submission; says whether it was the last.
    fn accepted(&mut self, answer: Option<SubmitResponse>) -> bool {
        let Some(answer) = answer else { return true };
        self.submitted += 1;
        match self.early.remove(&answer.job_id) {
            Some(state) => self.count_one(state),
            None => {
                self.open.insert(answer.job_id);
            }
        }
        let last = self.submitted == self.count;
        if last {
            self.early.clear();
        }
        last
    }

    fn finished(&mut self, event: FinishedJob) {
        if self.open.remove(&event.job_id) {
            self.count_one(event.state);
        } else if self.submitted < self.count {
            self.early.insert(event.job_id, event.state);
        }
    }

    fn count_one(&mut self, state: String) {
        self.over += 1;
        *self.by_state.entry(state).or_default() += 1;
        self.bar.inc(1);
    }

    fn is_complete(&self) -> bool {
        self.over == self.count
    }

    fn report(&self, elapsed: Duration, ui: &Ui) -> Result<ExitCode, Failed> {
        self.bar.finish_and_clear();
        let per_second = f64::from(self.count) / elapsed.as_secs_f64().max(1e-9);
        let states: Vec<String> =
            self.by_state.iter().map(|(state, jobs)| format!("{jobs} {state}")).collect();
        let states = states.join(", ");
        let human = || {
            format!(
                "{} jobs in {:.2}s, {per_second:.0} jobs/s: {states}\n",
                self.count,
                elapsed.as_secs_f64()
            )
        };
        let json = || {
            json!({
                "schema": "darwin-count/1",
                "jobs": self.count,
                "elapsed_s": elapsed.as_secs_f64(),
                "jobs_per_second": per_second,
                "by_state": self.by_state,
            })
        };
        ui.show("measure --count", human, json)?;
        let machine: Vec<String> =
            self.by_state.iter().map(|(state, jobs)| format!("{state}={jobs}")).collect();
        ui.machine_line(&format!(
            "verdict=NONE jobs={} jobs_per_second={per_second:.1} {}",
            self.count,
            machine.join(" ")
        ))?;
        Ok(self.code())
    }

    /// The worst of what happened.
    fn code(&self) -> ExitCode {
        let any = |state: &str| self.by_state.contains_key(state);
        if any("failed") {
            ExitCode::JobFailed
        } else if any("parked") {
            ExitCode::NotOk
        } else if any("cancelled") || any("expired") {
            ExitCode::Cancelled
        } else {
            ExitCode::Success
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::Cli;

    fn tally(count: u32) -> Tally {
        let cli = Cli::try_parse_from(["darwin", "check", "--quiet"]).unwrap();
        Tally::new(count, &Ui::new(&cli.global), true)
    }

    fn answer(job: &str) -> SubmitResponse {
        SubmitResponse { job_id: job.into(), known: false }
    }

    fn event(job: &str, state: &str) -> FinishedJob {
        FinishedJob { job_id: job.into(), state: state.into() }
    }

    #[test]
    fn a_job_counts_once_whichever_news_comes_first() {
        let mut tally = tally(3);
        assert!(!tally.accepted(Some(answer("a"))));
        tally.finished(event("b", "failed"));
        tally.finished(event("somebody-elses", "measured"));
        tally.finished(event("a", "measured"));
        tally.finished(event("a", "measured"));
        assert!(!tally.accepted(Some(answer("b"))));
        assert!(tally.accepted(Some(answer("c"))));
        assert!(!tally.is_complete());
        tally.finished(event("c", "measured"));
        assert!(tally.is_complete());
        assert_eq!(tally.by_state, BTreeMap::from([("failed".into(), 1), ("measured".into(), 2)]));
        assert_eq!(tally.code(), ExitCode::JobFailed);
    }
}
