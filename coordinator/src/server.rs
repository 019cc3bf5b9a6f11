//! Puts the coordinator together: stores, loop, services; and takes it apart again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use darwin_coordinator_core::Core;
use darwin_proto::{FILE_DESCRIPTOR_SET, MAX_MESSAGE_BYTES, v1};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tonic::transport::server::TcpIncoming;
use tracing::info;

use crate::config::{ConfigError, CoordinatorConfig};
use crate::driver::{Clock, Driver, DriverError};
use crate::handle::{Handle, INPUTS};
use crate::health::Health;
use crate::rpc::{AgentsService, ArtifactsService, JobsService, LinkService, LogRelay, VerdictsService};
use crate::stores::{
    ArchiveError, ArchiveQueue, BlobError, Blobs, FolderBlobs, LedgerError, RecordError, SqliteArchive,
    SqliteLedger, load,
};

/// How long open streams may take to end when the coordinator stops.
const STOP_WITHIN: Duration = Duration::from_secs(2);
/// Probes of an idle connection: a box that vanished is noticed, at no cost while it measures.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Streams on one connection: a client's watches and calls.
const STREAMS_MAX: u32 = 256;

/// Why the coordinator did not start or did not end well.
#[derive(Debug, Error)]
pub enum ServerError {
    /// The settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A record in the ledger.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The blobs.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// The address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// The loop.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The server.
    #[error("the gRPC server failed: {0}")]
    Serve(String),
    /// The loop panicked.
    #[error("the coordinator's loop ended by a bug; its last words are in the log")]
    Panicked,
}

/// A coordinator that runs.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    handle: Handle,
    stop_serving: oneshot::Sender<()>,
    stop_driver: oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
    driver: JoinHandle<Result<(), DriverError>>,
    driver_ended: oneshot::Receiver<()>,
    archive: JoinHandle<()>,
}

impl Server {
    /// Opens the stores, restores the state and begins to serve.
    pub async fn start(config: CoordinatorConfig) -> Result<Self, ServerError> {
        let settings = config.settings()?;
        let at = |source| ServerError::Listen { address: config.listen, source };
        let mut ledger = Box::new(SqliteLedger::open(&config.state_dir)?);
        let listener = TcpListener::bind(config.listen).await.map_err(at)?;
        let address = listener.local_addr().map_err(at)?;
        let restored = load(ledger.as_mut(), settings.recent_max)?;
        let blobs: Arc<dyn Blobs> = Arc::new(FolderBlobs::open(&config.state_dir.join("blobs"))?);
        let archive_path = config.state_dir.join("archive.sqlite");
        let writing = Box::new(SqliteArchive::open(&archive_path)?);
        let reading = Box::new(SqliteArchive::open(&archive_path)?);
        let (archive_queue, archive_reader, archive) =
            ArchiveQueue::start(writing, reading).map_err(ServerError::Thread)?;

        let (inputs, queue) = mpsc::channel(INPUTS);
        let handle = Handle::new(inputs);
        let clock = Clock::start();
        let mut actions = Vec::new();
        let unfinished = restored.jobs.iter().filter(|job| !job.record.state.is_finished()).count();
        let core = Core::restore(settings, clock.now(), restored, &mut actions);
        let driver = Driver::new(core, ledger, archive_queue, queue, clock);
        let (stop_driver, driver_stopped) = oneshot::channel();
        let (ended, driver_ended) = oneshot::channel();
        let driver = std::thread::Builder::new()
            .name("core".to_owned())
            .spawn(move || run_driver(driver, actions, driver_stopped, ended))
            .map_err(ServerError::Thread)?;

        let (stop_serving, stopped) = oneshot::channel();
        let services = Services {
            handle: handle.clone(),
            blobs,
            archive: archive_reader,
            health: Health::new(&config.state_dir),
        };
        let serving = tokio::spawn(services.serve(listener, stopped));
        info!(%address, state_dir = %config.state_dir.display(), unfinished, "coordinator ready (plain text, loopback only)");
        Ok(Self { address, handle, stop_serving, stop_driver, serving, driver, driver_ended, archive })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The handle for callers in this process.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Runs until `shutdown` is done or the loop fails, then stops.
    pub async fn run_until(mut self, shutdown: impl Future<Output = ()>) -> Result<(), ServerError> {
        tokio::select! {
            () = shutdown => {}
            _ = &mut self.driver_ended => {}
        }
        self.stop().await
    }

    /// Stops serving, then the loop, then the archive's writer; all that was acknowledged is on disk.
    pub async fn stop(self) -> Result<(), ServerError> {
        // Whoever has ended already needs no word.
        let _ = self.stop_serving.send(());
        let mut serving = self.serving;
        let served = if let Ok(served) = tokio::time::timeout(STOP_WITHIN, &mut serving).await {
            served.map_err(|e| e.to_string()).and_then(|served| served.map_err(|e| e.to_string()))
        } else {
            serving.abort();
            Ok(())
        };
        let _ = self.stop_driver.send(());
        let joined = tokio::task::spawn_blocking(move || {
            let driven = self.driver.join();
            (driven, self.archive.join())
        })
        .await
        .map_err(|_| ServerError::Panicked)?;
        joined.0.map_err(|_| ServerError::Panicked)??;
        joined.1.map_err(|_| ServerError::Panicked)?;
        served.map_err(ServerError::Serve)
    }
}

fn run_driver(
    driver: Driver,
    actions: Vec<darwin_coordinator_core::Action>,
    stop: oneshot::Receiver<()>,
    ended: oneshot::Sender<()>,
) -> Result<(), DriverError> {
    // Dropped when this function ends, by return or by panic: the server learns that the loop is gone.
    let _ended = ended;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    match runtime {
        Ok(runtime) => runtime.block_on(driver.run(actions, stop)),
        Err(why) => Err(DriverError::Runtime(why)),
    }
}

struct Services {
    handle: Handle,
    blobs: Arc<dyn Blobs>,
    archive: crate::stores::ArchiveReader,
    health: Health,
}

impl Services {
    async fn serve(
        self,
        listener: TcpListener,
        stopped: oneshot::Receiver<()>,
    ) -> Result<(), tonic::transport::Error> {
        let Self { handle, blobs, archive, health } = self;
        let logs = LogRelay::default();
        let artifacts = crate::rpc::ArtifactCheck::new(blobs.clone());
        let jobs =
            JobsService { handle: handle.clone(), artifacts, logs: logs.clone(), health: health.clone() };
        let agents = AgentsService { handle: handle.clone(), health, started: Instant::now() };
        let link = LinkService { handle: handle.clone(), logs };
        let verdicts = VerdictsService { handle, archive };
        let (health_reporter, health_service) = tonic_health::server::health_reporter();
        health_reporter.set_serving::<v1::jobs_server::JobsServer<JobsService>>().await;
        health_reporter.set_serving::<v1::agent_link_server::AgentLinkServer<LinkService>>().await;
        let mut server = tonic::transport::Server::builder()
            .max_concurrent_streams(STREAMS_MAX)
            .http2_keepalive_interval(Some(KEEPALIVE));
        let mut router = server
            .add_service(v1::jobs_server::JobsServer::new(jobs).max_decoding_message_size(MAX_MESSAGE_BYTES))
            .add_service(v1::agents_server::AgentsServer::new(agents))
            .add_service(
                v1::artifacts_server::ArtifactsServer::new(ArtifactsService { blobs })
                    .max_decoding_message_size(MAX_MESSAGE_BYTES),
            )
            .add_service(
                v1::agent_link_server::AgentLinkServer::new(link)
                    .max_decoding_message_size(MAX_MESSAGE_BYTES),
            )
            .add_service(v1::verdicts_server::VerdictsServer::new(verdicts))
            .add_service(health_service);
        if let Ok(reflection) = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .build_v1()
        {
            router = router.add_service(reflection);
        }
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        router
            .serve_with_incoming_shutdown(incoming, async {
                // A dropped sender means the same as a word.
                let _ = stopped.await;
            })
            .await
    }
}
