//! A real coordinator on loopback, plain clients of it, and an agent that measures nothing.

#[path = "../../core/tests/sim/jobs.rs"]
pub(crate) mod jobs;

use std::path::Path;
use std::time::Duration;

use clap::Parser;
use darwin_coordinator::{CoordinatorConfig, Server, ServerError};
use darwin_proto::v1;
use darwin_proto::v1::agent_message::Body as Said;
use darwin_proto::v1::coordinator_message::Body as Told;
use darwin_shared::attempt::{AttemptEnd, AttemptEvent, AttemptUpdate};
use darwin_shared::ids::{AgentId, AttemptId, Epoch};
use darwin_shared::round::Pairing;
use darwin_shared::spec::JobSpec;
use jobs::Shape;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// A job of one round.
pub(crate) fn quick() -> JobSpec {
    jobs::spec(Shape::Measure(1), "orders", 0)
}

/// A comparison that is decided at its first look, after 10 rounds.
pub(crate) fn compare() -> JobSpec {
    jobs::spec(Shape::Compare { pairs: 12, faster: true }, "orders", 0)
}

/// A test that hangs ends: no test waits for time to pass.
const GUARD: Duration = Duration::from_mins(1);

/// What is waited for, or a failure instead of a hang.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(GUARD, future).await.unwrap_or_else(|_| panic!("waited for ever: {what}"))
}

pub(crate) fn config(folder: &Path, listen: &str) -> CoordinatorConfig {
    let folder = folder.display().to_string();
    CoordinatorConfig::parse_from(["darwin-coordinator", "--listen", listen, "--state-dir", &folder])
}

/// A coordinator with its folder.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    server: Option<Server>,
    channel: Channel,
}

async fn run(folder: &Path) -> Result<(Server, Channel), ServerError> {
    let server = Server::start(config(folder, "127.0.0.1:0")).await?;
    let endpoint = Channel::from_shared(format!("http://{}", server.address())).unwrap();
    let channel = soon("the connection", endpoint.connect()).await.unwrap();
    Ok((server, channel))
}

impl Place {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (server, channel) = run(folder.path()).await.unwrap();
        Self { folder, server: Some(server), channel }
    }

    /// Stops it and starts it again over the same folder.
    pub(crate) async fn restart(&mut self) {
        if let Some(server) = self.server.take() {
            soon("the end", server.stop()).await.unwrap();
        }
        let (server, channel) = run(self.folder.path()).await.unwrap();
        self.server = Some(server);
        self.channel = channel;
    }

    pub(crate) fn handle(&self) -> darwin_coordinator::Handle {
        self.server.as_ref().unwrap().handle()
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn jobs(&self) -> v1::jobs_client::JobsClient<Channel> {
        v1::jobs_client::JobsClient::new(self.channel())
    }

    pub(crate) fn agents(&self) -> v1::agents_client::AgentsClient<Channel> {
        v1::agents_client::AgentsClient::new(self.channel())
    }

    pub(crate) fn artifacts(&self) -> v1::artifacts_client::ArtifactsClient<Channel> {
        v1::artifacts_client::ArtifactsClient::new(self.channel())
    }

    pub(crate) fn verdicts(&self) -> v1::verdicts_client::VerdictsClient<Channel> {
        v1::verdicts_client::VerdictsClient::new(self.channel())
    }

    pub(crate) async fn try_submit(
        &self,
        request_id: &str,
        spec: JobSpec,
    ) -> Result<v1::SubmitResponse, Status> {
        let request = submission(request_id, Some(spec.into()));
        Ok(self.jobs().submit(request).await?.into_inner())
    }

    pub(crate) async fn submit(&self, spec: JobSpec) -> String {
        self.try_submit("", spec).await.unwrap().job_id
    }

    pub(crate) async fn get(&self, job_id: &str) -> v1::Job {
        let request = v1::GetJobRequest { job_id: job_id.to_owned() };
        self.jobs().get(request).await.unwrap().into_inner()
    }

    /// The job once it has finished.
    pub(crate) async fn finished(&self, job_id: &str) -> v1::Job {
        let request = v1::WatchJobRequest { job_id: job_id.to_owned() };
        let mut events = self.jobs().watch(request).await.unwrap().into_inner();
        let mut last = None;
        while let Some(event) = soon("the job's end", events.message()).await.unwrap() {
            last = event.job;
        }
        let last = last.unwrap();
        assert_eq!(last.state(), v1::JobState::Finished, "the watch ended before the job");
        last
    }
}

pub(crate) fn submission(request_id: &str, spec: Option<v1::JobSpec>) -> v1::SubmitRequest {
    v1::SubmitRequest { request_id: request_id.to_owned(), spec, submitter: "tester".to_owned() }
}

/// The first words of an agent that holds these attempts.
pub(crate) fn hello(name: &str, attempts: Vec<v1::HeldAttempt>, credits: u32) -> v1::Hello {
    let facts = jobs::facts(&AgentId::new(name).unwrap(), 2, 0);
    v1::Hello {
        protocol_major: darwin_proto::PROTOCOL_MAJOR,
        protocol_minor: darwin_proto::PROTOCOL_MINOR,
        agent_id: name.to_owned(),
        facts: Some(facts.into()),
        sensor: Some(jobs::sensor(true).into()),
        attempts,
        offer: Some(v1::Offer { credits, free_cores: 2 }),
    }
}

/// An agent's end of its link.
pub(crate) struct FakeAgent {
    said: mpsc::Sender<v1::AgentMessage>,
    told: Streaming<v1::CoordinatorMessage>,
    /// How it says that it runs its pairs.
    pub(crate) pairing: Option<Pairing>,
}

/// What an agent was given to do.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) attempt: AttemptId,
    pub(crate) epoch: Epoch,
    pub(crate) spec: JobSpec,
}

impl FakeAgent {
    /// Connects and says `first`.
    pub(crate) async fn connect(place: &Place, first: Said) -> Result<Self, Status> {
        let (said, messages) = mpsc::channel(1_000);
        said.send(v1::AgentMessage { body: Some(first) }).await.unwrap();
        let mut client = v1::agent_link_client::AgentLinkClient::new(place.channel());
        let told = soon("the link", client.attach(ReceiverStream::new(messages))).await?.into_inner();
        Ok(Self { said, told, pairing: None })
    }

    /// Connects as an agent should, and is welcome.
    pub(crate) async fn join(place: &Place, hello: v1::Hello) -> (Self, v1::Welcome) {
        let mut agent = Self::connect(place, Said::Hello(hello)).await.unwrap();
        match agent.hears().await {
            Told::Welcome(welcome) => (agent, welcome),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn says(&self, body: Said) {
        self.said.send(v1::AgentMessage { body: Some(body) }).await.unwrap();
    }

    pub(crate) async fn try_hears(&mut self) -> Result<Option<Told>, Status> {
        let message = soon("a word of the coordinator", self.told.message()).await?;
        Ok(message.map(|message| message.body.unwrap()))
    }

    pub(crate) async fn hears(&mut self) -> Told {
        self.try_hears().await.unwrap().unwrap()
    }

    /// Waits for something to do.
    pub(crate) async fn task(&mut self) -> Task {
        match self.hears().await {
            Told::Assign(v1::Assign { attempt_id, epoch, spec, .. }) => Task {
                attempt: attempt_id.parse().unwrap(),
                epoch: epoch.unwrap().into(),
                spec: spec.unwrap().try_into().unwrap(),
            },
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn updates(&self, task: &Task, event: AttemptEvent) {
        let Task { attempt, epoch, .. } = *task;
        self.says(Said::Update(AttemptUpdate { attempt, epoch, event }.into())).await;
    }

    /// Measures one round.
    pub(crate) async fn measures(&self, task: &Task, round: u32) {
        let mut result = jobs::round(&task.spec, task.attempt, task.epoch, round);
        result.pairing.clone_from(&self.pairing);
        self.says(Said::Round(result.into())).await;
    }

    /// Measures from this round on until it is told to stop, reports the end and is released; gives the rounds.
    pub(crate) async fn measures_to_the_end(&mut self, task: &Task, from_round: u32) -> u32 {
        let mut rounds = from_round;
        loop {
            self.measures(task, rounds).await;
            rounds += 1;
            let Told::Ack(ack) = self.hears().await else { panic!("no acknowledgement") };
            assert_eq!((ack.attempt_id, ack.rounds), (task.attempt.to_string(), rounds));
            if ack.stop || rounds >= task.spec.budget.rounds_max {
                break;
            }
        }
        self.updates(task, AttemptEvent::Ended(AttemptEnd::Completed { rounds })).await;
        match self.hears().await {
            Told::Release(release) => assert_eq!(release.attempt_id, task.attempt.to_string()),
            other => panic!("{other:?}"),
        }
        rounds
    }
}

impl Task {
    /// As a hello names it.
    pub(crate) fn held(&self, rounds: u32) -> v1::HeldAttempt {
        v1::HeldAttempt {
            attempt_id: self.attempt.to_string(),
            epoch: Some(self.epoch.into()),
            rounds,
            live: true,
            end: None,
        }
    }
}
