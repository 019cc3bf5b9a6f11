//! Getting a variant ready on the housekeeping cores: fetch, unpack, set up, check.
//!
//! What was fetched and set up is kept, bounded by size, for the next attempt with the same files and the same
//! `setup`; a set-up that failed is not. The check runs every time. One folder belongs to one attempt at a time, so
//! that two attempts never write into each other's files.

mod blobs;
mod builds;
mod fetch;
mod folders;
mod image;
mod steps;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use darwin_shared::ids::{AttemptId, Digest};
use darwin_shared::spec::{Arm, JobSpec, Source, Variant};
use darwin_shared::state::{Failure, FailureCause, Stage};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::config::BenchLimits;
use crate::docker::Daemon;
use crate::driver::Progress;
use crate::logs::AttemptLogs;
use crate::run::{Built, Side, Slot};

pub(crate) use folders::{Folders, Reserved};

/// What an attempt needs to be staged.
#[derive(Debug)]
pub(crate) struct Staging {
    pub(crate) attempt: AttemptId,
    pub(crate) spec: Arc<JobSpec>,
    pub(crate) limits: BenchLimits,
    pub(crate) logs: Arc<AttemptLogs>,
    pub(crate) started: Arc<AtomicU64>,
    pub(crate) stop: CancellationToken,
    /// What runs images; none where none are run.
    pub(crate) docker: Option<Arc<Daemon>>,
}

/// How staging ended.
#[derive(Debug)]
pub(crate) enum StageEnd {
    /// Every side is ready.
    Ready(Vec<Side>),
    /// A side failed.
    Failed(Failure),
    /// The box failed.
    Broken(String),
    /// It was told to stop.
    Stopped,
}

/// Why a side is not ready.
#[derive(Debug)]
pub(crate) enum Unready {
    /// The candidate is at fault, in this stage; with the last lines of what it wrote.
    Candidate(Stage, FailureCause, String),
    /// The box is.
    Box(String),
    /// It was told to stop.
    Stopped,
}

/// The connection to the coordinator of the moment, if there is one.
pub(crate) type Connection = watch::Receiver<Option<Channel>>;

/// Whether there is anything to do before a job can be measured.
pub(crate) fn is_needed(spec: &JobSpec) -> bool {
    let has_files = |variant: &Variant| !matches!(variant.source, Source::Nothing);
    spec.steps.setup.is_some()
        || spec.steps.check.is_some()
        || spec.work.variants().iter().any(|(_, v)| has_files(v))
}

/// The sides of a job that needs no staging.
pub(crate) fn sides_without_files(spec: &JobSpec) -> Vec<Side> {
    let side = |(arm, variant): (Arm, &Variant)| Side {
        arm,
        label: variant.label.clone(),
        builds: vec![Built::default()],
        image: None,
    };
    spec.work.variants().into_iter().map(side).collect()
}

/// Makes the sides of a job ready, one after the other.
pub(crate) async fn stage(
    job: &Staging,
    folders: &Arc<Folders>,
    connection: Connection,
    slot: &mut Slot,
    progress: &mpsc::Sender<Progress>,
) -> StageEnd {
    let mut sides = Vec::new();
    for (arm, variant) in job.spec.work.variants() {
        let side = SideStaging { job, folders, arm, variant, progress };
        match side.ready(connection.clone(), slot).await {
            Ok(side) => sides.push(side),
            Err(Unready::Candidate(stage, cause, log_tail)) => {
                job.logs.keep();
                return StageEnd::Failed(Failure {
                    stage,
                    arm,
                    variant: variant.label.clone(),
                    cause,
                    log_tail,
                });
            }
            Err(Unready::Box(why)) => return StageEnd::Broken(why),
            Err(Unready::Stopped) => return StageEnd::Stopped,
        }
        job.logs.keep();
    }
    StageEnd::Ready(sides)
}

/// One side on its way.
struct SideStaging<'a> {
    job: &'a Staging,
    folders: &'a Arc<Folders>,
    arm: Arm,
    variant: &'a Variant,
    progress: &'a mpsc::Sender<Progress>,
}

impl SideStaging<'_> {
    async fn ready(&self, connection: Connection, slot: &mut Slot) -> Result<Side, Unready> {
        let image = match &self.variant.source {
            Source::Image(image) => Some(self.image(image, connection.clone()).await?),
            Source::Path(_) | Source::Nothing | Source::Tree(_) => None,
        };
        let count = self.job.spec.builds();
        let mut builds = Vec::new();
        for number in 0..count {
            builds.push(self.built(number_of(number, count), connection.clone(), slot).await?);
        }
        builds::check_apart(&builds).await?;
        if let Some(step) = &self.job.spec.steps.check {
            self.tell(Stage::Check).await;
            for (number, built) in (0..).zip(&builds) {
                let (dir, build) = (built.dir.as_deref(), number_of(number, count));
                self.step(Stage::Check, step, dir, image.as_ref(), build, slot).await?;
            }
        }
        Ok(Side { arm: self.arm, label: self.variant.label.clone(), builds, image })
    }

    /// One build of the variant, set up. An image has its files inside.
    async fn built(
        &self,
        build: Option<u32>,
        connection: Connection,
        slot: &mut Slot,
    ) -> Result<Built, Unready> {
        let reserved = match &self.variant.source {
            Source::Image(_) => return Ok(Built::default()),
            Source::Path(path) => {
                let dir = Some(self.own_folder(path, slot).await?);
                return Ok(Built { dir, _reserved: None });
            }
            Source::Nothing => {
                let reserved = self
                    .folders
                    .reserve_empty(self.job.attempt, self.arm)
                    .map_err(|error| box_failed(&error))?;
                self.setup(reserved.tree(), build, slot).await?;
                reserved
            }
            Source::Tree(digest) => self.tree(*digest, build, connection, slot).await?,
        };
        Ok(Built { dir: Some(reserved.tree().to_owned()), _reserved: Some(Arc::new(reserved)) })
    }

    /// A folder on the box, as it is.
    async fn own_folder(&self, path: &str, slot: &mut Slot) -> Result<PathBuf, Unready> {
        let dir = PathBuf::from(path);
        if !dir.is_dir() {
            let why = format!("there is no folder {path} on this box");
            return Err(Unready::Candidate(Stage::Fetch, FailureCause::BadArtifact(why), String::new()));
        }
        self.setup(&dir, None, slot).await?;
        Ok(dir)
    }

    /// The variant's files, fetched and set up, from an earlier time if possible.
    async fn tree(
        &self,
        digest: Digest,
        build: Option<u32>,
        connection: Connection,
        slot: &mut Slot,
    ) -> Result<Reserved, Unready> {
        let no_eviction = self.folders.no_eviction().await;
        let setup = self.job.spec.steps.setup.as_ref();
        let reserved = self
            .folders
            .reserve(digest, setup, &self.job.spec.env, build)
            .map_err(|error| box_failed(&error))?;
        if reserved.is_ready() {
            reserved.touch();
            return Ok(reserved);
        }
        self.tell(Stage::Fetch).await;
        let blobs = self.folders.blobs();
        let fetched = tokio::select! {
            fetched = fetch::fetch(digest, blobs, connection) => fetched?,
            () = self.job.stop.cancelled() => return Err(Unready::Stopped),
        };
        tree::unpack(fetched, blobs.clone(), reserved.tree().to_owned()).await?;
        drop(no_eviction);
        self.setup(reserved.tree(), build, slot).await?;
        reserved.mark_ready().await.map_err(|error| box_failed(&error))?;
        self.folders.evict_later();
        Ok(reserved)
    }

    async fn setup(&self, dir: &Path, build: Option<u32>, slot: &mut Slot) -> Result<(), Unready> {
        let Some(step) = &self.job.spec.steps.setup else { return Ok(()) };
        self.tell(Stage::Setup).await;
        self.step(Stage::Setup, step, Some(dir), None, build, slot).await
    }

    async fn tell(&self, stage: Stage) {
        // A driver that is gone needs no news.
        let _ = self.progress.send(Progress::Stage(self.job.attempt, stage)).await;
    }
}

/// A build's number; none if there is one only.
fn number_of(build: u32, of: u32) -> Option<u32> {
    (of > 1).then_some(build)
}

fn box_failed(error: &std::io::Error) -> Unready {
    Unready::Box(format!("the cache of artifacts: {error}"))
}
