//! Waits for a job's end: through a restart of the coordinator, and with a person's Ctrl-C in between.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use darwin_proto::MAX_MESSAGE_BYTES;
use darwin_proto::v1::jobs_client::JobsClient;
use darwin_proto::v1::{self, CancelJobRequest, JobEvent, WatchJobRequest};
use darwin_shared::exit_code::ExitCode;
use darwin_shared::report::Report;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tonic::Streaming;
use tonic::transport::Channel;

use crate::failure::{Failed, call, is_away};
use crate::job::{self, Seen};
use crate::progress::Progress;
use crate::session::Session;
use crate::ui::Ui;

/// So long a second Ctrl-C, which leaves the job running, is waited for before the first one cancels it.
const SECOND_THOUGHT: Duration = Duration::from_millis(1_200);
/// So long a coordinator may be away (a restart, a new version) before the wait is given up; the job goes on.
const AWAY_FOR_AT_MOST: Duration = Duration::from_mins(10);
/// The longest name of a submitter: a line in a list.
const MAX_SUBMITTER_CHARS: usize = 100;
/// The first pause before the coordinator is asked again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A person's or the system's wish to stop.
#[derive(Debug)]
pub(crate) struct Stops {
    interrupt: Signal,
    terminate: Signal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM: the CI's runner is losing its patience.
    Terminate,
}

impl Stops {
    /// From now on, signals are asked about here instead of ending the process.
    pub(crate) fn listen() -> Result<Self, Failed> {
        let listen =
            |kind| signal(kind).map_err(|e| Failed::system(format!("cannot listen to signals: {e}")));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Any of them.
    pub(crate) async fn any(&mut self) {
        self.next().await;
    }

    async fn next(&mut self) -> Stop {
        tokio::select! {
            _ = self.interrupt.recv() => Stop::Interrupt,
            _ = self.terminate.recv() => Stop::Terminate,
        }
    }
}

/// What Ctrl-C does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnInterrupt {
    /// Cancels the job; twice leaves it running.
    Cancel,
    /// Leaves it running.
    Leave,
}

/// Follows the job to its end and gives the report on it.
pub(crate) async fn follow(
    session: &Session,
    job_id: &str,
    ui: &Ui,
    stops: &mut Stops,
    on_interrupt: OnInterrupt,
) -> Result<Report, Failed> {
    let progress = Progress::new(ui);
    let mut following = Following {
        client: client(session.channel()),
        url: session.url().to_owned(),
        embedded: session.is_embedded(),
        job_id: job_id.to_owned(),
        progress,
        spec: None,
        seen: Seen::default(),
        cancelling: false,
    };
    let ended = following.run(stops, on_interrupt).await;
    following.progress.finish();
    ended.map_err(|failed| failed.about(job_id))
}

/// A client for jobs whose messages may be as large as the protocol allows.
pub(crate) fn client(channel: Channel) -> JobsClient<Channel> {
    JobsClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

struct Following {
    client: JobsClient<Channel>,
    url: String,
    embedded: bool,
    job_id: String,
    progress: Progress,
    /// The spec is told once, with the first event.
    spec: Option<v1::JobSpec>,
    seen: Seen,
    cancelling: bool,
}

impl Following {
    async fn run(&mut self, stops: &mut Stops, on_interrupt: OnInterrupt) -> Result<Report, Failed> {
        loop {
            let mut events = self.watch(stops).await?;
            // A coordinator that ends the stream at once must not be asked in a circle: see the pause below.
            loop {
                tokio::select! {
                    event = events.message() => match event {
                        Ok(Some(event)) => {
                            if let Some(report) = self.take(event)? {
                                return Ok(report);
                            }
                        }
                        // An end without a finished job, or a break: ask again.
                        Ok(None) => break,
                        Err(status) if is_away(&status) => break,
                        Err(status) => return Err(call(&self.url)(status)),
                    },
                    stop = stops.next() => self.stop(stop, stops, on_interrupt).await?,
                }
            }
            tokio::time::sleep(FIRST_PAUSE).await;
        }
    }

    /// The stream of the job's states, however often the coordinator has to be asked for it.
    async fn watch(&mut self, stops: &mut Stops) -> Result<Streaming<JobEvent>, Failed> {
        let began = Instant::now();
        let mut pause = FIRST_PAUSE;
        let mut told = false;
        loop {
            let request = WatchJobRequest { job_id: self.job_id.clone() };
            let status = match self.client.watch(request).await {
                Ok(events) => return Ok(events.into_inner()),
                Err(status) => status,
            };
            if !is_away(&status) || began.elapsed() > AWAY_FOR_AT_MOST {
                let failed = call(&self.url)(status);
                self.progress.say(&format!("the job goes on without this command; {}", self.how_to_watch()));
                return Err(failed);
            }
            if !told {
                self.progress.say("the coordinator is away; trying again until it is back");
                told = true;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                _ = stops.next() => return Err(self.left()),
            }
        }
    }

    fn take(&mut self, event: JobEvent) -> Result<Option<Report>, Failed> {
        let Some(mut job) = event.job else { return Ok(None) };
        match &job.spec {
            Some(spec) => self.spec = Some(spec.clone()),
            None => job.spec.clone_from(&self.spec),
        }
        self.seen.look_at(&job);
        self.progress.update(&job);
        job::report(&job, &self.seen)
    }

    async fn stop(&mut self, stop: Stop, stops: &mut Stops, on_interrupt: OnInterrupt) -> Result<(), Failed> {
        if on_interrupt == OnInterrupt::Leave || self.cancelling {
            return Err(self.left());
        }
        if stop == Stop::Interrupt && std::io::stderr().is_terminal() {
            self.progress.say(&format!("cancelling {}; Ctrl-C once more leaves it running", self.job_id));
            let second = tokio::time::timeout(SECOND_THOUGHT, stops.next()).await;
            if second.is_ok() {
                return Err(self.left());
            }
        } else {
            self.progress.say(&format!("cancelling {}", self.job_id));
        }
        self.cancelling = true;
        let request = CancelJobRequest { job_id: self.job_id.clone(), by: submitter() };
        match self.client.cancel(request).await {
            Ok(_) => Ok(()),
            // It finished meanwhile: its end is on its way.
            Err(status) if status.code() == tonic::Code::FailedPrecondition => Ok(()),
            Err(status) => Err(call(&self.url)(status)),
        }
    }

    /// The person goes, the job stays.
    fn left(&self) -> Failed {
        let text = if self.cancelling {
            format!("{} is being cancelled; {}", self.job_id, self.how_to_watch())
        } else {
            format!("{} is left running; {}", self.job_id, self.how_to_watch())
        };
        Failed::new(ExitCode::Cancelled, text)
    }

    fn how_to_watch(&self) -> String {
        if self.embedded {
            return format!(
                "its coordinator ends with this process, and goes on with it when darwin runs again: darwin job watch {}",
                self.job_id
            );
        }
        format!("darwin job watch {} --coordinator {}", self.job_id, self.url)
    }
}

/// Who submits, for lists: the user's name as the environment has it, else as the system knows it.
pub(crate) fn submitter() -> String {
    let said =
        ["USER", "LOGNAME"].iter().filter_map(|name| std::env::var(name).ok()).find(|name| !name.is_empty());
    let id = nix::unistd::getuid();
    let known = || nix::unistd::User::from_uid(id).ok().flatten().map(|user| user.name);
    said.or_else(known).unwrap_or_else(|| format!("uid {id}")).chars().take(MAX_SUBMITTER_CHARS).collect()
}
