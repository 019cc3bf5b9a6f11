//! The connection to the daemon, what it may be asked for, and cleaning up after an earlier life.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveImageOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use darwin_shared::cpu::CpuSet;
use darwin_shared::image::Image;
use globset::{Glob, GlobSet, GlobSetBuilder};
use thiserror::Error as ThisError;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::ContainerError;
use super::guard::Guard;
use crate::config::DockerConfig;
use crate::cores::LifeId;

/// The label that names the agent, for people.
pub(super) const LABEL_AGENT: &str = "darwin.agent";
/// The label that names the attempt.
pub(super) const LABEL_ATTEMPT: &str = "darwin.attempt";
/// The label that names the agent's state folder: by it leftovers are found, also if two agents have one id.
pub(super) const LABEL_STATE: &str = "darwin.state";
/// The label that names the life of the agent: by it the guard finds what it must end.
pub(super) const LABEL_LIFE: &str = "darwin.life";
/// The label that names the CPUs, as a list like `1,3-4`: by it is found what is left on cores.
pub(super) const LABEL_CPUS: &str = "darwin.cpus";
/// Between two looks for what an agent that died has left. A container that the daemon was just asked to start may appear
/// late, so one empty look is not enough.
const LOOK_PAUSE: Duration = Duration::from_millis(300);
/// Empty looks in a row after which nothing more is expected.
pub(crate) const EMPTY_LOOKS: u32 = 3;
/// The longest that one request may take; starts of containers on a busy box take seconds.
const REQUEST_BOUND: Duration = Duration::from_mins(2);
/// The longest that a daemon may take to say what it is.
const OPEN_BOUND: Duration = Duration::from_secs(15);
/// The longest that cleaning up, or waiting for containers to go, may take.
const CLEAN_BOUND: Duration = Duration::from_mins(1);
/// The daemon's component that is a container's first process, and what stands for "not there".
const INIT: (&str, &str) = ("docker-init", "N/A");

/// Why images cannot be run.
#[derive(Debug, ThisError)]
pub(crate) enum DaemonError {
    /// There is no answer.
    #[error("the Docker daemon at {} does not answer: {why}", socket.display())]
    Silent {
        /// Its socket.
        socket: PathBuf,
        /// Why.
        why: String,
    },
    /// What an earlier life left cannot be removed.
    #[error("containers of an earlier life of this agent cannot be removed: {0}")]
    Leftovers(String),
}

/// The box's Docker daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(super) client: Docker,
    pub(super) config: DockerConfig,
    allowed: Option<GlobSet>,
    /// The agent's id, and the name of its state folder.
    pub(super) agent: String,
    pub(super) state: String,
    /// This life of it.
    pub(super) life: LifeId,
    /// The most memory of a container, in bytes.
    pub(super) memory_bytes: u64,
    /// Whether the daemon has an init for containers.
    pub(super) init: bool,
    version: String,
    /// The images that were loaded for attempts, with how many use each.
    pub(super) loaded: Mutex<BTreeMap<String, usize>>,
    /// What must be over before the agent goes: lives of containers, removals.
    pub(super) tasks: TaskTracker,
}

impl Daemon {
    /// Connects to the daemon, and removes what an earlier life of this agent left there.
    pub(crate) async fn open(
        config: DockerConfig,
        agent: &str,
        state: &str,
    ) -> Result<Arc<Self>, DaemonError> {
        let silent = |why: String| DaemonError::Silent { socket: config.socket.clone(), why };
        let socket = config.socket.to_string_lossy().into_owned();
        let asked = async {
            let client = connect(&socket).await?;
            let (version, info) = (client.version().await?, client.info().await?);
            Ok::<_, Error>((client, version, info))
        };
        let (client, version, info) = timeout(OPEN_BOUND, asked)
            .await
            .map_err(|_| silent(format!("it took longer than {OPEN_BOUND:?}")))?
            .map_err(|error| silent(error.to_string()))?;
        let total = info.mem_total.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(8 << 30);
        let has_init = version.components.unwrap_or_default().iter().any(|component| {
            component.name == INIT.0 && !component.version.is_empty() && component.version != INIT.1
        });
        let daemon = Arc::new(Self {
            client,
            allowed: config.images.as_deref().map(patterns),
            memory_bytes: config.memory_max_bytes.unwrap_or(total / 2),
            config,
            agent: agent.to_owned(),
            state: state.to_owned(),
            life: LifeId::draw(),
            init: has_init,
            version: version.version.unwrap_or_else(|| "unknown".to_owned()),
            loaded: Mutex::default(),
            tasks: TaskTracker::new(),
        });
        let removed = timeout(CLEAN_BOUND, daemon.sweep())
            .await
            .map_err(|_| DaemonError::Leftovers(format!("it took longer than {CLEAN_BOUND:?}")))?
            .map_err(|error| DaemonError::Leftovers(error.to_string()))?;
        if removed > 0 {
            tracing::warn!(
                containers = removed,
                "removed what an earlier life of this agent had left in Docker"
            );
        }
        let late = Arc::clone(&daemon);
        daemon.tasks.spawn(async move { late.sweep_late().await });
        Ok(daemon)
    }

    /// The daemon's version.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// This life of the agent.
    pub(crate) const fn life(&self) -> LifeId {
        self.life
    }

    /// Starts the process that ends this life's containers if the agent cannot any more.
    pub(crate) fn guard(&self, program: &Path, locks: OwnedFd) -> io::Result<Guard> {
        Guard::start(program, &self.config.socket, self.life, locks)
    }

    /// Removes the containers that a life which ended left on these CPUs; says how many there were.
    pub(crate) async fn remove_left(&self, life: LifeId, cpus: &CpuSet) -> Result<usize, ContainerError> {
        let label = format!("{LABEL_LIFE}={life}");
        remove_labelled(&self.client, &label, Which::On(cpus))
            .await
            .map_err(|error| ContainerError::daemon("remove what an agent that died has left", &error))
    }

    /// Whether the box's policy allows this image, or why not.
    pub(crate) fn allows(&self, image: &Image) -> Result<(), String> {
        match image {
            Image::Named(name) => {
                let matches = |allowed: &GlobSet| {
                    allowed.is_match(name.as_str()) || allowed.is_match(name.repository())
                };
                if self.allowed.as_ref().is_none_or(matches) {
                    return Ok(());
                }
                Err(format!(
                    "image `{name}` is none of those in `images` of `[docker]` in its agent.toml; adding \"{}\" would \
                     allow it",
                    name.repository()
                ))
            }
            Image::Archive(_) if self.config.archives => Ok(()),
            Image::Archive(_) => Err(
                "an image that comes along as an archive is not allowed; `archives = true` in `[docker]` of its \
                 agent.toml would allow that"
                    .to_owned(),
            ),
        }
    }

    /// The name by which images are kept that were loaded for attempts.
    pub(super) fn own_repository(&self) -> String {
        format!("darwin-agent-{}", self.state)
    }

    /// Waits until every container is gone and every image removed that is not needed any more.
    pub(crate) async fn close(&self) {
        self.tasks.close();
        if timeout(CLEAN_BOUND, self.tasks.wait()).await.is_err() {
            tracing::warn!("containers are still being removed; the agent's next start sees to the rest");
        }
        // One that the daemon was still loading for an earlier life when this one began.
        match timeout(CLEAN_BOUND, self.sweep_images()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "images that were loaded stay until the agent's next start");
            }
            Err(_) => tracing::warn!("images that were loaded stay until the agent's next start"),
        }
    }

    /// Removes containers and images of an earlier life; says how many containers there were.
    async fn sweep(&self) -> Result<usize, Error> {
        let left = remove_labelled(&self.client, &self.own_label(), Which::All).await?;
        self.sweep_images().await?;
        Ok(left)
    }

    /// Removes what the daemon was still starting for an earlier life of this agent when that died.
    async fn sweep_late(&self) {
        let label = self.own_label();
        let (client, label, others) = (&self.client, label.as_str(), Which::NotOf(self.life));
        let swept = async {
            // Its start has just looked.
            tokio::time::sleep(LOOK_PAUSE).await;
            until_empty(EMPTY_LOOKS, || async move {
                matches!(remove_labelled(client, label, others).await, Ok(0))
            })
            .await;
        };
        if timeout(CLEAN_BOUND, swept).await.is_err() {
            tracing::warn!(
                "it is not known whether a container of an earlier life of this agent still appears"
            );
        }
    }

    /// The label of everything that this agent ever started.
    fn own_label(&self) -> String {
        format!("{LABEL_STATE}={}", self.state)
    }

    /// Removes all images that bear our name.
    async fn sweep_images(&self) -> Result<(), Error> {
        let filter = HashMap::from([("reference".to_owned(), vec![self.own_repository()])]);
        let options = ListImagesOptionsBuilder::default().filters(&filter).build();
        for image in self.client.list_images(Some(options)).await? {
            for tag in image.repo_tags {
                self.remove_image(&tag).await?;
            }
        }
        Ok(())
    }

    /// Removes a container, whether it runs or not; one that is not there is removed.
    pub(super) async fn remove(&self, container: &str) -> Result<(), Error> {
        remove_container(&self.client, container).await
    }

    /// Removes a name of an image, and the image if it has no other.
    pub(super) async fn remove_image(&self, name: &str) -> Result<(), Error> {
        let options = RemoveImageOptionsBuilder::default().force(true).build();
        forgive_absent(self.client.remove_image(name, Some(options), None).await.map(|_| ()))
    }
}

/// A connection in words that both sides know.
pub(super) async fn connect(socket: &str) -> Result<Docker, Error> {
    let client = Docker::connect_with_unix(socket, REQUEST_BOUND.as_secs(), API_DEFAULT_VERSION)?;
    client.negotiate_version().await
}

/// Looks until so many looks in a row have found nothing, with a pause after each.
pub(crate) async fn until_empty<F: Future<Output = bool>>(looks: u32, mut finds_nothing: impl FnMut() -> F) {
    let mut empty = 0;
    while empty < looks {
        empty = if finds_nothing().await { empty + 1 } else { 0 };
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// Which of the containers that bear a label.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which<'a> {
    /// All of them.
    All,
    /// Those that may run on some of these CPUs.
    On(&'a CpuSet),
    /// Those of another life than this one.
    NotOf(LifeId),
}

impl Which<'_> {
    /// Whether a container with these labels is one of them.
    fn is_met_by(self, labels: &HashMap<String, String>) -> bool {
        match self {
            Self::All => true,
            Self::On(cpus) => {
                let its = labels.get(LABEL_CPUS).and_then(|list| list.parse::<CpuSet>().ok());
                // One that does not say where it runs may run anywhere.
                its.is_none_or(|its| !its.is_disjoint(cpus))
            }
            Self::NotOf(life) => labels.get(LABEL_LIFE).and_then(|its| LifeId::parse(its)) != Some(life),
        }
    }
}

/// Removes those of the containers with this label, whether they run or not; says how many there were.
pub(super) async fn remove_labelled(client: &Docker, label: &str, which: Which<'_>) -> Result<usize, Error> {
    let filter = HashMap::from([("label".to_owned(), vec![label.to_owned()])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filter).build();
    let mut removed = 0;
    for container in client.list_containers(Some(options)).await? {
        let labels = container.labels.unwrap_or_default();
        let Some(id) = container.id.filter(|_| which.is_met_by(&labels)) else { continue };
        remove_container(client, &id).await?;
        removed += 1;
    }
    Ok(removed)
}

/// Removes a container, whether it runs or not, with its volumes; one that is not there is removed.
async fn remove_container(client: &Docker, container: &str) -> Result<(), Error> {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    forgive_absent(client.remove_container(container, Some(options)).await)
}

/// What is not there need not be removed; of what is being removed already, the end is near.
fn forgive_absent(done: Result<(), Error>) -> Result<(), Error> {
    match done {
        Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
        done => done,
    }
}

/// The patterns, which the configuration has checked; one that is none matches nothing.
fn patterns(texts: &[String]) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for glob in texts.iter().filter_map(|text| Glob::new(text).ok()) {
        set.add(glob);
    }
    set.build().unwrap_or_else(|_| GlobSet::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names_and_repositories() {
        let set = patterns(&["engine*".to_owned(), "reg:5000/team/*".to_owned(), "x:1".to_owned()]);
        for (name, allowed) in [
            ("engine", true),
            ("engine-2", true),
            ("my-engine", false),
            ("reg:5000/team/a", true),
            ("x:1", true),
            ("x", false),
        ] {
            assert_eq!(set.is_match(name), allowed, "{name}");
        }
    }

    #[test]
    fn labels_say_which_containers_are_meant() {
        let labels = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let (own, other) = (LifeId::draw(), LifeId::draw());
        let cpus: CpuSet = "2-3".parse().unwrap();
        let on = |list| Which::On(&cpus).is_met_by(&labels(&[(LABEL_CPUS, list)]));
        assert!(on("1-2") && on("3") && !on("0-1,4") && !on(""));
        assert!(Which::On(&cpus).is_met_by(&labels(&[])), "it may run anywhere");
        let of = |life: &str| Which::NotOf(own).is_met_by(&labels(&[(LABEL_LIFE, life)]));
        assert!(of(&other.to_string()) && of("x") && !of(&own.to_string()));
        assert!(Which::All.is_met_by(&labels(&[])));
    }
}
