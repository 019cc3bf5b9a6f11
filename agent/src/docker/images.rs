//! Images: found by name, pulled where that is allowed, loaded from archives, and removed again if we loaded them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::ImageInspect;
use bollard::query_parameters::CreateImageOptionsBuilder;
use darwin_shared::image::ImageName;
use futures::StreamExt;
use tokio::time::timeout;

use super::archive;
use super::daemon::Daemon;
use super::{ContainerError, HOME, TMP};

/// The longest that a pull may take.
const PULL_BOUND: Duration = Duration::from_mins(30);
/// The digits of an image's id that name it while it is loaded.
const TAG_DIGITS: usize = 16;

/// An image that is on the box, for as long as this lives.
#[derive(Debug)]
pub(crate) struct StagedImage {
    pub(super) daemon: Arc<Daemon>,
    id: String,
    workdir: PathBuf,
    /// What it declares as volumes, beside the folders that it gets anyway.
    pub(super) volumes: Vec<String>,
    /// The name that it was loaded under, if it was: it goes with its last user.
    loaded: Option<String>,
}

impl StagedImage {
    /// Its id, `sha256:…`.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The folder that its commands run in.
    pub(crate) fn workdir(&self) -> &Path {
        &self.workdir
    }

    fn new(daemon: Arc<Daemon>, found: ImageInspect, loaded: Option<String>) -> Result<Self, ContainerError> {
        let id = found.id.filter(|id| !id.is_empty());
        let id =
            id.ok_or_else(|| ContainerError::Box("the Docker daemon tells no id of an image".to_owned()))?;
        let config = found.config.unwrap_or_default();
        let workdir = config.working_dir.filter(|dir| dir.starts_with('/')).unwrap_or_else(|| "/".to_owned());
        let given = [HOME, TMP];
        let volumes = config.volumes.unwrap_or_default();
        let volumes = volumes.into_iter().filter(|path| !given.contains(&path.trim_end_matches('/')));
        Ok(Self { daemon, id, workdir: workdir.into(), volumes: volumes.collect(), loaded })
    }
}

impl Drop for StagedImage {
    fn drop(&mut self) {
        if let Some(name) = self.loaded.take() {
            let daemon = Arc::clone(&self.daemon);
            self.daemon.tasks.spawn(async move { daemon.release(&name).await });
        }
    }
}

impl Daemon {
    /// The image of this name; pulled if it is not here and that is allowed.
    pub(crate) async fn named(self: &Arc<Self>, name: &ImageName) -> Result<StagedImage, ContainerError> {
        let mut found = self.inspect(name.as_str()).await?;
        if found.is_none() && self.config.pull {
            self.pull(name).await?;
            found = self.inspect(name.as_str()).await?;
        }
        let found = found.ok_or_else(|| ContainerError::Command(self.missing(name)))?;
        StagedImage::new(Arc::clone(self), found, None)
    }

    /// The image in this archive, which is loaded unless the daemon has it.
    pub(crate) async fn archived(self: &Arc<Self>, path: &Path) -> Result<StagedImage, ContainerError> {
        let bad = |why: String| ContainerError::Command(format!("the image's archive: {why}"));
        let id = archive::image_id(path.to_owned()).await.map_err(|error| bad(error.to_string()))?;
        // It has our name from its first moment on: whenever we die, it is found by that.
        let name = format!("{}:{}", self.own_repository(), own_tag(&id));
        // Held while loading: two attempts with one archive load it once.
        let mut loaded = self.loaded.lock().await;
        // Also if an earlier life died while it was being loaded.
        if let Some(found) = self.inspect(&name).await? {
            *loaded.entry(name.clone()).or_default() += 1;
            return StagedImage::new(Arc::clone(self), found, Some(name));
        }
        if let Some(found) = self.inspect(&id).await? {
            return StagedImage::new(Arc::clone(self), found, None);
        }
        self.load(path, &name).await?;
        let found = self.inspect(&name).await?;
        let found = found.ok_or_else(|| bad("the Docker daemon found no image in it".to_owned()))?;
        loaded.insert(name.clone(), 1);
        StagedImage::new(Arc::clone(self), found, Some(name))
    }

    async fn inspect(&self, name: &str) -> Result<Option<ImageInspect>, ContainerError> {
        match self.client.inspect_image(name).await {
            Ok(found) => Ok(Some(found)),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(ContainerError::daemon("look for an image", &error)),
        }
    }

    async fn pull(&self, name: &ImageName) -> Result<(), ContainerError> {
        // Without a tag every tag of it would be pulled.
        let bare = name.repository() == name.as_str();
        let whole = if bare { format!("{name}:latest") } else { name.to_string() };
        let options = CreateImageOptionsBuilder::default().from_image(&whole).build();
        let pulled = async {
            let mut progress = self.client.create_image(Some(options), None, None);
            while let Some(step) = progress.next().await {
                step?;
            }
            Ok::<_, Error>(())
        };
        let refuse = |why: String| ContainerError::Command(format!("image `{name}` cannot be pulled: {why}"));
        timeout(PULL_BOUND, pulled)
            .await
            .map_err(|_| refuse(format!("it took longer than {PULL_BOUND:?}")))?
            .map_err(|error| refuse(error.to_string()))
    }

    /// Loads an archive under this name.
    async fn load(&self, path: &Path, name: &str) -> Result<(), ContainerError> {
        let options = bollard::query_parameters::ImportImageOptions::default();
        // The answer begins when all of a large archive is there.
        let client = self.client.clone().with_timeout(PULL_BOUND);
        let archive = archive::renamed(path.to_owned(), name.to_owned());
        let mut progress = client.import_image_stream(options, archive, None);
        while let Some(step) = progress.next().await {
            step.map_err(|error| match error {
                Error::DockerStreamError { error } => {
                    ContainerError::Command(format!("the image's archive cannot be loaded: {error}"))
                }
                error => ContainerError::daemon("load an image", &error),
            })?;
        }
        Ok(())
    }

    /// One user less of an image that was loaded; with the last one it goes.
    async fn release(&self, name: &str) {
        let mut loaded = self.loaded.lock().await;
        match loaded.get_mut(name) {
            Some(users) if *users > 1 => *users -= 1,
            Some(_) => {
                loaded.remove(name);
                if let Err(error) = self.remove_image(name).await {
                    tracing::warn!(image = name, %error, "an image that was loaded for an attempt stays until the next start");
                }
            }
            None => {}
        }
    }

    fn missing(&self, name: &ImageName) -> String {
        let pull = if self.config.pull {
            String::new()
        } else {
            "; `[docker] pull = true` in its agent.toml would let the agent pull it".to_owned()
        };
        format!(
            "there is no image `{name}` on this box: `docker pull` or `docker load` it there, or send it along as \
             image:FILE.tar{pull}"
        )
    }
}

/// The tag by which an image is kept while it is loaded.
fn own_tag(id: &str) -> String {
    id.rsplit(':').next().unwrap_or_default().chars().take(TAG_DIGITS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_short_and_without_colons() {
        assert_eq!(own_tag(&format!("sha256:{}", "ab".repeat(32))), "ab".repeat(8));
    }
}
