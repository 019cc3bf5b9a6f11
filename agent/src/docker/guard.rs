//! The guard: a process of its own that ends the agent's containers when the agent dies, and holds its cores until then.
//!
//! A container is a child of the daemon's, so it outlives a killed agent. The guard is the agent's own binary as
//! `__container-guard`. It sleeps on a pipe that the agent alone holds open; when that closes, it removes what bears the
//! label of this life. The locks of the agent's cores are its standard output: they are free when it ends, not before. If it
//! is killed too, the marks of its life on these cores tell whoever takes them.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use tokio::time::timeout;

use super::daemon::{EMPTY_LOOKS, LABEL_LIFE, Which, connect, remove_labelled, until_empty};
use crate::cores::{LifeId, forget_marks};

/// The first argument that turns the agent's binary into a guard.
const GUARD_ARG: &str = "__container-guard";
/// The longest that the end of containers is waited for. After it the cores are left to whoever takes them and finds the
/// marks of this life.
const END_BOUND: Duration = Duration::from_mins(2);

/// A running guard; when it is dropped, the guard sees to what is left, and ends.
#[derive(Debug)]
pub(crate) struct Guard {
    child: Child,
    /// Closed by the kernel too, when the agent is killed.
    alive: Option<ChildStdin>,
}

impl Guard {
    /// Starts the guard of this life's containers, which holds `locks` as long as it runs.
    pub(crate) fn start(program: &Path, socket: &Path, life: LifeId, locks: OwnedFd) -> io::Result<Self> {
        let mut child = Command::new(program)
            .arg(GUARD_ARG)
            .arg(socket)
            .arg(life.to_string())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::from(locks))
            .stderr(Stdio::inherit())
            .spawn()?;
        let alive = child.stdin.take();
        Ok(Self { child, alive })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.alive = None;
        // It ends by itself; an agent that is on its way out does not wait for a hanging daemon.
        let _ = self.child.try_wait();
    }
}

/// Becomes the guard if the process was started as one, and then never returns.
pub(crate) fn main_if_asked() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().is_none_or(|argument| argument != GUARD_ARG) {
        return;
    }
    let (socket, life) = (arguments.next(), arguments.next().as_deref().and_then(LifeId::parse));
    let (Some(socket), Some(life)) = (socket, life) else { std::process::exit(2) };
    // Out of reach of what is sent to the agent's group, such as Ctrl-C. It fails for a group leader, who has no such worry.
    let _ = nix::unistd::setsid();
    // The name is for people; nothing depends on it.
    let _ = nix::sys::prctl::set_name(c"darwin-guard");
    // Nothing is ever written to the pipe: it ends with the agent.
    let _ = io::stdin().read_to_end(&mut Vec::new());
    if let Err(why) = end_containers(&socket, life) {
        // Nobody is left to tell if this fails too.
        let _ = writeln!(io::stderr(), "darwin: containers of a killed agent may still run: {why}");
        std::process::exit(1);
    }
    // The cores are still locked. Where a mark stays, whoever takes the core looks once more.
    let locks = io::stdout().as_fd().try_clone_to_owned();
    let _ = locks.and_then(|locks| forget_marks(&File::from(locks), life));
    std::process::exit(0);
}

fn end_containers(socket: &str, life: LifeId) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let ended = runtime.block_on(async { timeout(END_BOUND, end_all(socket, life)).await });
    ended.map_err(|_| format!("they did not go within {END_BOUND:?}"))
}

/// Removes containers of this life until none appears any more. A daemon that does not answer is asked again.
async fn end_all(socket: &str, life: LifeId) {
    let label = format!("{LABEL_LIFE}={life}");
    let label = label.as_str();
    until_empty(EMPTY_LOOKS, || async move {
        let removed = async { remove_labelled(&connect(socket).await?, label, Which::All).await }.await;
        matches!(removed, Ok(0))
    })
    .await;
}
