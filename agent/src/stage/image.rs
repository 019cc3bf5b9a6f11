//! Getting an image ready: found by its name, or fetched as an archive and loaded.

use std::sync::Arc;

use darwin_shared::artifact::Node;
use darwin_shared::ids::Digest;
use darwin_shared::image::{ARCHIVE_FILE, Image};
use darwin_shared::state::{FailureCause, Stage};

use super::blobs::Blobs;
use super::{Connection, SideStaging, Unready, fetch};
use crate::docker::{ContainerError, Daemon, StagedImage};

impl SideStaging<'_> {
    /// The image, which stays on the box for as long as it is held.
    pub(super) async fn image(
        &self,
        image: &Image,
        connection: Connection,
    ) -> Result<Arc<StagedImage>, Unready> {
        let Some(docker) = &self.job.docker else {
            return Err(Unready::Box("this agent runs no images".to_owned()));
        };
        self.tell(Stage::Fetch).await;
        let staged = async {
            match image {
                Image::Named(name) => docker.named(name).await.map_err(unready),
                Image::Archive(digest) => self.archive(docker, *digest, connection).await,
            }
        };
        tokio::select! {
            staged = staged => staged.map(Arc::new),
            () = self.job.stop.cancelled() => Err(Unready::Stopped),
        }
    }

    async fn archive(
        &self,
        docker: &Arc<Daemon>,
        digest: Digest,
        connection: Connection,
    ) -> Result<StagedImage, Unready> {
        // Until the daemon has it, the archive must not be evicted.
        let _no_eviction = self.folders.no_eviction().await;
        let blobs = self.folders.blobs();
        let manifest = fetch::fetch(digest, blobs, connection).await?;
        let archive = match manifest.entries() {
            [only] if only.path == ARCHIVE_FILE => match &only.node {
                Node::File { digest, .. } => Some(*digest),
                Node::Link { .. } => None,
            },
            _ => None,
        };
        let Some(archive) = archive else {
            let why = format!("an image's artifact has one file, {ARCHIVE_FILE}, and this one has others");
            return Err(Unready::Candidate(Stage::Fetch, FailureCause::BadArtifact(why), String::new()));
        };
        let path = blobs.path(archive);
        let staged = docker.archived(&path).await.map_err(unready)?;
        Blobs::touch(&path);
        self.folders.evict_later();
        Ok(staged)
    }
}

fn unready(error: ContainerError) -> Unready {
    match error {
        ContainerError::Command(why) => {
            Unready::Candidate(Stage::Fetch, FailureCause::BadArtifact(why), String::new())
        }
        ContainerError::Box(why) => Unready::Box(why),
    }
}
