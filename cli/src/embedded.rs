//! The coordinator and agent in this process, for people who have no other. One process at a time: a lock says which.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clap::Parser as _;
use darwin_agent::{AgentConfig, Overrides};
use darwin_coordinator::{CoordinatorConfig, Server};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::failure::Failed;
use crate::session::Need;
use crate::ui::Ui;

/// The embedded agent's name where the host's cannot be one.
const FALLBACK_AGENT: &str = "local";
/// The lock file holds two short fields.
const MAX_LOCK_BYTES: u64 = 4096;

/// Where the embedded coordinator is.
#[derive(Debug)]
pub(crate) enum Running {
    /// In this process.
    Here(Embedded),
    /// In another one of this user's, which may end at any time.
    Elsewhere {
        /// Its address.
        url: String,
    },
}

/// A coordinator, and perhaps an agent, in this process.
#[derive(Debug)]
pub(crate) struct Embedded {
    server: Server,
    agent: Option<Agent>,
    /// Held as long as the coordinator runs.
    lock: File,
}

#[derive(Debug)]
struct Agent {
    stop: CancellationToken,
    task: JoinHandle<Result<(), String>>,
}

/// What the holder of the lock says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    url: String,
    /// Whether it has an agent, and so stays for as long as something is measured.
    agent: bool,
}

impl Embedded {
    /// Starts what is needed, with its state in `data`.
    pub(crate) async fn start(data: &Path, need: Need, ui: &Ui) -> Result<Running, Failed> {
        if need == Need::Look && !data.join("coordinator").is_dir() {
            return Err(Failed::new(
                darwin_shared::exit_code::ExitCode::Unreachable,
                format!(
                    "there is no coordinator to ask, and nothing was run here yet (in {}): name one with --coordinator \
                     URL or DARWIN_COORDINATOR",
                    data.display()
                ),
            ));
        }
        private_folder(data)?;
        let mut lock = open_lock(data)?;
        if let Err(busy) = lock.try_lock() {
            let holder = match busy {
                TryLockError::WouldBlock => holder(&mut lock),
                TryLockError::Error(e) => return Err(cannot_lock(data, &e)),
            };
            // One that only looks is gone in a moment: too soon to be joined, and soon enough to be waited for.
            lock = match (need, holder) {
                (Need::Look | Need::Join, Some(Holder { url, agent: true, .. })) => {
                    return Ok(Running::Elsewhere { url });
                }
                (_, Some(Holder { agent: false, .. })) => wait_for(lock, data).await?,
                (Need::Look | Need::Join | Need::Work, holder) => {
                    tell_of_wait(holder, ui);
                    wait_for(lock, data).await?
                }
            };
        }
        let server = start_server(data).await?;
        let url = url_of(&server);
        write_holder(&mut lock, &url, need != Need::Look).map_err(|e| cannot_lock(data, &e))?;
        let agent = match need {
            Need::Work | Need::Join => Some(start_agent(data, &url)?),
            Need::Look => None,
        };
        Ok(Running::Here(Self { server, agent, lock }))
    }

    /// Where the coordinator listens.
    pub(crate) fn url(&self) -> String {
        url_of(&self.server)
    }

    /// Ends the agent, which ends what it runs, then the coordinator.
    pub(crate) async fn stop(self) -> Result<(), Failed> {
        if let Some(agent) = self.agent {
            agent.stop.cancel();
            match agent.task.await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => return Err(Failed::system(format!("the embedded agent failed: {why}"))),
                Err(e) => return Err(Failed::new(darwin_shared::exit_code::ExitCode::Bug, e)),
            }
        }
        let stopped = self.server.stop().await;
        drop(self.lock);
        stopped.map_err(|e| Failed::system(format!("the embedded coordinator did not end well: {e}")))
    }
}

fn url_of(server: &Server) -> String {
    format!("http://{}", server.address())
}

async fn start_server(data: &Path) -> Result<Server, Failed> {
    let state = data.join("coordinator");
    private_folder(&state)?;
    // Through its own command line, so that its defaults are here too, and nothing in the environment changes them.
    let args: [&std::ffi::OsStr; 5] = [
        "darwin-coordinator".as_ref(),
        "--listen".as_ref(),
        "127.0.0.1:0".as_ref(),
        "--state-dir".as_ref(),
        state.as_ref(),
    ];
    let config = CoordinatorConfig::try_parse_from(args)
        .map_err(|e| Failed::system(format!("cannot configure the embedded coordinator: {e}")))?;
    Server::start(config)
        .await
        .map_err(|e| Failed::system(format!("cannot start the embedded coordinator: {e}")))
}

fn start_agent(data: &Path, url: &str) -> Result<Agent, Failed> {
    let state = data.join("agent");
    private_folder(&state)?;
    let configure = |id: Option<&str>| {
        AgentConfig::load(
            None,
            Overrides {
                coordinators: vec![url.to_owned()],
                id: id.map(str::to_owned),
                state_dir: Some(state.clone()),
                ..Overrides::default()
            },
        )
    };
    let mut config = configure(None)
        .or_else(|_| configure(Some(FALLBACK_AGENT)))
        .map_err(|e| Failed::system(format!("cannot configure the embedded agent: {e}")))?;
    // Its only user sits at this box, and may name any folder on it.
    config.allow_paths = true;
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let task =
        tokio::spawn(async move { darwin_agent::run(config, stopping).await.map_err(|e| e.to_string()) });
    Ok(Agent { stop, task })
}

/// A folder that only this user may enter: the embedded coordinator's state can run programs.
fn private_folder(path: &Path) -> Result<(), Failed> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| {
        Failed::system(format!(
            "cannot make the folder {}: {e}; DARWIN_DATA_DIR names another",
            path.display()
        ))
    })
}

fn lock_path(data: &Path) -> PathBuf {
    data.join("embedded.lock")
}

fn open_lock(data: &Path) -> Result<File, Failed> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(lock_path(data)).map_err(|e| cannot_lock(data, &e))
}

fn cannot_lock(data: &Path, error: &std::io::Error) -> Failed {
    Failed::system(format!("cannot lock {}: {error}", lock_path(data).display()))
}

fn holder(lock: &mut File) -> Option<Holder> {
    let mut text = String::new();
    lock.take(MAX_LOCK_BYTES).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn write_holder(lock: &mut File, url: &str, agent: bool) -> std::io::Result<()> {
    let holder = Holder { pid: std::process::id(), url: url.to_owned(), agent };
    lock.set_len(0)?;
    lock.rewind()?;
    lock.write_all(serde_json::to_string(&holder)?.as_bytes())
}

fn tell_of_wait(holder: Option<Holder>, ui: &Ui) {
    let who = holder.map_or_else(String::new, |holder| format!(" (process {})", holder.pid));
    ui.warn(&format!(
        "another darwin{who} measures here; waiting for it to end, so that neither disturbs the other\n  to measure side \
         by side, run darwin-coordinator and darwin-agent and name them with --coordinator"
    ));
}

/// Waits until the other process has ended. Ctrl-C ends the wait, and this process with it.
async fn wait_for(lock: File, data: &Path) -> Result<File, Failed> {
    let waited = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await;
    match waited {
        Ok(Ok(lock)) => Ok(lock),
        Ok(Err(e)) => Err(cannot_lock(data, &e)),
        Err(e) => Err(Failed::new(darwin_shared::exit_code::ExitCode::Bug, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_says_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = open_lock(dir.path()).unwrap();
        first.try_lock().unwrap();
        write_holder(&mut first, "http://127.0.0.1:1", true).unwrap();
        let mut second = open_lock(dir.path()).unwrap();
        assert!(matches!(second.try_lock(), Err(TryLockError::WouldBlock)));
        let holder = holder(&mut second).unwrap();
        assert_eq!(
            (holder.pid, holder.url.as_str(), holder.agent),
            (std::process::id(), "http://127.0.0.1:1", true)
        );
        drop(first);
        second.try_lock().unwrap();
    }
}
