//! A coordinator for tests: a real gRPC server that says what the test tells it to, and a real agent process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use darwin_proto::v1::agent_link_server::{AgentLink, AgentLinkServer};
use darwin_proto::v1::agent_message::Body;
use darwin_proto::v1::artifacts_server::{Artifacts, ArtifactsServer};
use darwin_proto::v1::coordinator_message::Body as Said;
use darwin_proto::v1::{self, AgentMessage, CoordinatorMessage};
use darwin_shared::attempt::{AttemptEnd, AttemptEvent, AttemptUpdate};
use darwin_shared::formats::Format;
use darwin_shared::ids::{AttemptId, Digest, Epoch, JobId};
use darwin_shared::round::RoundResult;
use darwin_shared::spec::{
    Budget, Command, CoreRequest, JobSpec, Layout, PairPlan, Source, Step, Steps, Variant, Work,
};
use futures::Stream;
use tokio::net::TcpListener;
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// Generous: it only bounds how long a broken test hangs.
const PATIENCE: Duration = Duration::from_secs(20);

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The server's side of one connection.
pub(crate) struct Session {
    from: Streaming<AgentMessage>,
    to: mpsc::Sender<Result<CoordinatorMessage, Status>>,
    pub(crate) hello: v1::Hello,
}

/// What the fake coordinator serves.
struct Service {
    sessions: mpsc::Sender<Session>,
    blobs: Arc<Mutex<BTreeMap<Digest, Vec<u8>>>>,
}

#[tonic::async_trait]
impl AgentLink for Service {
    type AttachStream = Out<CoordinatorMessage>;

    async fn attach(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut from = request.into_inner();
        let sessions = self.sessions.clone();
        let (to, outgoing) = mpsc::channel(64);
        tokio::spawn(async move {
            if let Ok(Some(AgentMessage { body: Some(Body::Hello(hello)) })) = from.message().await {
                let _ = sessions.send(Session { from, to, hello }).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

#[tonic::async_trait]
impl Artifacts for Service {
    type DownloadStream = Out<v1::DownloadResponse>;

    async fn find_missing(
        &self,
        _: Request<v1::FindMissingRequest>,
    ) -> Result<Response<v1::FindMissingResponse>, Status> {
        Err(Status::unimplemented("agents do not upload"))
    }

    async fn upload(
        &self,
        _: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        Err(Status::unimplemented("agents do not upload"))
    }

    async fn download(
        &self,
        request: Request<v1::DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        use v1::download_response::Piece;
        let mut pieces = Vec::new();
        for digest in request.into_inner().digests {
            let key = Digest::from_bytes(digest[..].try_into().unwrap());
            let bytes = self.blobs.lock().unwrap().get(&key).cloned();
            let Some(bytes) = bytes else { return Err(Status::not_found("no such blob")) };
            pieces.push(Piece::Header(v1::BlobHeader { digest, size_bytes: bytes.len() as u64 }));
            pieces.extend(bytes.chunks(7).map(|chunk| Piece::Chunk(Bytes::copy_from_slice(chunk))));
        }
        let pieces = pieces.into_iter().map(|piece| Ok(v1::DownloadResponse { piece: Some(piece) }));
        Ok(Response::new(Box::pin(futures::stream::iter(pieces))))
    }
}

/// A coordinator that does what the test says.
pub(crate) struct Coordinator {
    pub(crate) url: String,
    blobs: Arc<Mutex<BTreeMap<Digest, Vec<u8>>>>,
    sessions: mpsc::Receiver<Session>,
    server: tokio::task::JoinHandle<()>,
}

impl Coordinator {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, sessions) = mpsc::channel(8);
        let blobs = Arc::new(Mutex::new(BTreeMap::new()));
        let service = || Service { sessions: sender.clone(), blobs: Arc::clone(&blobs) };
        let router = tonic::transport::Server::builder()
            .add_service(AgentLinkServer::new(service()))
            .add_service(ArtifactsServer::new(service()));
        let server = tokio::spawn(async move {
            let _ = router.serve_with_incoming(TcpListenerStream::new(listener)).await;
        });
        Self { url, blobs, sessions, server }
    }

    /// Keeps a blob for the agent to fetch.
    pub(crate) fn keep(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.blobs.lock().unwrap().insert(digest, bytes.to_vec());
        digest
    }

    /// Waits for an agent and welcomes it with a lease of this length.
    pub(crate) async fn welcome_with(&mut self, lease: Duration, stale: &[AttemptId]) -> Session {
        let session = timeout(PATIENCE, self.sessions.recv()).await.expect("an agent joins").unwrap();
        let wire = |duration| Some(darwin_proto::convert::duration_to_wire(duration));
        session
            .say(Said::Welcome(v1::Welcome {
                protocol_major: darwin_proto::PROTOCOL_MAJOR,
                protocol_minor: darwin_proto::PROTOCOL_MINOR,
                lease: wire(lease),
                renew_every: wire(lease / 4),
                version: "test".to_owned(),
                stale_attempts: stale.iter().map(ToString::to_string).collect(),
                drained: false,
            }))
            .await;
        session
    }

    pub(crate) async fn welcome(&mut self) -> Session {
        self.welcome_with(Duration::from_secs(15), &[]).await
    }

    /// Goes away for good.
    pub(crate) fn stop(self) {
        self.server.abort();
    }
}

impl Session {
    pub(crate) async fn say(&self, body: Said) {
        self.to.send(Ok(CoordinatorMessage { body: Some(body) })).await.expect("the agent listens");
    }

    pub(crate) async fn assign(&self, attempt: AttemptId, counter: u64, spec: &JobSpec, looks: &[u32]) {
        let assign = v1::Assign {
            attempt_id: attempt.to_string(),
            epoch: Some(epoch(counter).into()),
            spec: Some(spec.clone().into()),
            looks: looks.to_vec(),
        };
        self.say(Said::Assign(assign)).await;
    }

    pub(crate) async fn cancel(&self, attempt: AttemptId, counter: u64) {
        let cancel =
            v1::CancelAttempt { attempt_id: attempt.to_string(), epoch: Some(epoch(counter).into()) };
        self.say(Said::Cancel(cancel)).await;
    }

    pub(crate) async fn release(&self, attempt: AttemptId) {
        self.say(Said::Release(v1::Release { attempt_id: attempt.to_string() })).await;
    }

    /// The next message that is no renewal, offer or reading.
    pub(crate) async fn news(&mut self) -> News {
        loop {
            let message = timeout(PATIENCE, self.from.message()).await.expect("the agent speaks");
            match message.expect("the link stands").expect("the link stands").body.expect("a body") {
                Body::Update(update) => return News::Update(update.try_into().unwrap()),
                Body::Round(round) => return News::Round(round.try_into().unwrap()),
                Body::Log(piece) => return News::Log(piece),
                Body::Offer(_) | Body::Renew(_) | Body::Sensor(_) => {}
                Body::Hello(_) => panic!("a second hello"),
            }
        }
    }

    /// Reads until this attempt has ended; gives its rounds, the names of its events, and its end.
    pub(crate) async fn until_end(
        &mut self,
        attempt: AttemptId,
    ) -> (Vec<RoundResult>, Vec<&'static str>, AttemptEnd) {
        let (mut rounds, mut events) = (Vec::new(), Vec::new());
        loop {
            match self.news().await {
                News::Update(update) if update.attempt == attempt => match update.event {
                    AttemptEvent::Ended(end) => return (rounds, events, end),
                    AttemptEvent::Accepted => events.push("accepted"),
                    AttemptEvent::Refused(cause) => panic!("refused: {cause}"),
                    AttemptEvent::Staging(_) => events.push("staging"),
                    AttemptEvent::Ready => events.push("ready"),
                    AttemptEvent::Running { .. } => events.push("running"),
                },
                News::Round(round) if round.attempt == attempt => rounds.push(round),
                News::Update(_) | News::Round(_) | News::Log(_) => {}
            }
        }
    }

    /// Reads until the attempt's rounds begin.
    pub(crate) async fn until_running(&mut self, attempt: AttemptId) {
        loop {
            if let News::Update(AttemptUpdate { attempt: id, event: AttemptEvent::Running { .. }, .. }) =
                self.news().await
                && id == attempt
            {
                return;
            }
        }
    }

    /// Reads until the attempt's rounds begin; the isolation that took.
    pub(crate) async fn isolation(&mut self, attempt: AttemptId) -> String {
        loop {
            if let News::Update(AttemptUpdate { attempt: id, event, .. }) = self.news().await
                && id == attempt
            {
                match event {
                    AttemptEvent::Running { isolation, .. } => return isolation,
                    AttemptEvent::Refused(cause) => return format!("refused: {cause}"),
                    AttemptEvent::Ended(end) => return format!("ended: {end:?}"),
                    AttemptEvent::Accepted | AttemptEvent::Staging(_) | AttemptEvent::Ready => {}
                }
            }
        }
    }

    /// Reads until the connection ends.
    pub(crate) async fn until_gone(mut self) {
        let gone = async { while let Ok(Some(_)) = self.from.message().await {} };
        timeout(PATIENCE, gone).await.expect("the agent hangs up");
    }
}

/// What an agent said.
#[derive(Debug)]
pub(crate) enum News {
    Update(AttemptUpdate),
    Round(RoundResult),
    Log(v1::LogPiece),
}

/// A real agent process, killed when dropped.
pub(crate) struct Agent {
    process: Child,
}

impl Agent {
    /// An agent that has the box's cores to itself, as far as it knows: tests run side by side.
    pub(crate) fn start(coordinator: &Coordinator, state: &Path) -> Self {
        Self::start_with(coordinator, state, "box", "")
    }

    /// An agent of this name with these further lines in its configuration.
    pub(crate) fn start_with(coordinator: &Coordinator, state: &Path, id: &str, config: &str) -> Self {
        let process = tokio::process::Command::new(env!("CARGO_BIN_EXE_darwin-agent"))
            .args(["run", "--id", id, "--coordinator", &coordinator.url, "--state-dir"])
            .arg(state)
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "warn".to_owned()))
            .env("DARWIN_AGENT_CONFIG", write_config(state, config))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { process }
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.process.id().unwrap().try_into().unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        timeout(PATIENCE, self.process.wait()).await.expect("the agent ends").unwrap().code()
    }
}

fn write_config(state: &Path, further: &str) -> PathBuf {
    let path = state.join("agent.toml");
    std::fs::create_dir_all(state).unwrap();
    let mut text = format!("allow_paths = true\n{further}\n");
    if !further.contains("core_locks") {
        text = format!("core_locks = \"{}\"\n{text}", state.join("cores").display());
    }
    std::fs::write(&path, text).unwrap();
    path
}

pub(crate) fn attempt(job: u64, number: u32) -> AttemptId {
    AttemptId { job: JobId::from_parts(job, 0), number }
}

pub(crate) fn epoch(counter: u64) -> Epoch {
    Epoch { generation: 1, counter }
}

/// A job that measures this shell command, once.
pub(crate) fn job(run: &str) -> JobSpec {
    let variant = Variant { label: "main".to_owned(), source: Source::Nothing };
    JobSpec {
        project: "book".parse().unwrap(),
        suite: "hot".parse().unwrap(),
        work: Work::Measure { variant },
        steps: Steps { setup: None, check: None, run: step(run) },
        format: Format::Process,
        env: BTreeMap::new(),
        pool: None,
        labels: BTreeMap::new(),
        cores: CoreRequest::default(),
        plan: PairPlan::default(),
        layout: Layout::default(),
        policy: darwin_gate::Policy::default(),
        budget: Budget { rounds_min: 1, rounds_max: 1, time: Duration::from_mins(1) },
        priority: 0,
        attempts: 1,
        seed: 7,
    }
}

pub(crate) fn step(text: &str) -> Step {
    Step { command: Command::Shell(text.to_owned()), timeout: Duration::from_secs(15) }
}

/// Waits until this is so; how long it takes decides nothing.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "never: {what}");
}

/// Whether a process with this number runs (or waits to be buried).
pub(crate) fn lives(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// The number that a bench wrote into this file, once it is there.
pub(crate) async fn pid_in(path: &Path) -> String {
    let read = || std::fs::read_to_string(path).unwrap_or_default();
    eventually("the bench writes its number", || read().ends_with('\n')).await;
    read().trim().to_owned()
}
