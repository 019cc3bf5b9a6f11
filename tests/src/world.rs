//! A coordinator and agents, as real processes in folders of their own.

use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

/// How long a daemon may take until it is ready, on the busiest machine.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// How often to look whether something has come about. Only tests wait like this.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// An agent whose rounds are not void for what others do on its cores.
const UNSHAKEN: &str = "[void]\nforgive = [\"foreign\", \"stolen\"]\n";

/// A daemon that is killed when it is dropped.
#[derive(Debug)]
pub struct Daemon {
    /// What it is, for messages.
    pub name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as a power cut would: no time for last words.
    pub fn kill_9(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a `darwin` command ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// The report of `--format json`: all of standard output but the line for machines.
    pub fn json(&self) -> Result<serde_json::Value> {
        let end = self.stdout.rfind('}').with_context(|| format!("no JSON: {self:?}"))?;
        Ok(serde_json::from_str(&self.stdout[..=end])?)
    }
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The tests of one program take turns: their agents would wait for each other's cores anyway.
static TURN: Mutex<()> = Mutex::new(());

/// A place for one test: its folders, its coordinator's address, the programs.
#[derive(Debug)]
pub struct World {
    _turn: MutexGuard<'static, ()>,
    folder: TempDir,
    programs: PathBuf,
    port: u16,
}

/// What a world consists of.
pub(crate) const PROGRAMS: [&str; 3] = ["darwin", "darwin-coordinator", "darwin-agent"];

/// The folder of the running program, in which those lie as well.
pub(crate) fn programs() -> Result<PathBuf> {
    let mut folder = std::env::current_exe()?;
    folder.pop();
    if folder.ends_with("deps") {
        folder.pop();
    }
    for program in PROGRAMS {
        let path = folder.join(program);
        ensure!(path.is_file(), "{} is missing: run `cargo build --bins` first", path.display());
    }
    Ok(folder)
}

impl World {
    /// A world with the programs that lie beside the running one.
    pub fn new() -> Result<Self> {
        let programs = programs()?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        // A test that failed leaves nothing behind that the next one would see.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Self {
            _turn: turn,
            folder: tempfile::Builder::new().prefix("darwin-").tempdir()?,
            programs,
            port,
        })
    }

    /// The folder of this world.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The coordinator's URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// One of the programs, without arguments.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.stdin(Stdio::null());
        command
    }

    /// Starts the coordinator, or starts it again on the same state; returns when it answers.
    pub fn coordinator(&self, flags: &[&str]) -> Result<Daemon> {
        let listen = format!("127.0.0.1:{}", self.port);
        let state = self.folder().join("coordinator");
        let mut command = Command::new(self.programs.join("darwin-coordinator"));
        command.args(["--listen", &listen, "--state-dir"]).arg(state).args(flags);
        let mut daemon = self.daemon("coordinator", command)?;
        self.wait_until("the coordinator listens", || {
            if let Some(status) = daemon.child.try_wait()? {
                bail!("the coordinator ended with {status}: {}", daemon.log());
            }
            Ok(std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok())
        })?;
        Ok(daemon)
    }

    /// Starts an agent; returns when the coordinator knows it.
    pub fn agent(&self, id: &str, flags: &[&str]) -> Result<Daemon> {
        self.agent_in_state(id, flags, "ready")
    }

    /// Starts an agent; returns when the coordinator says that it is in this state.
    pub fn agent_in_state(&self, id: &str, flags: &[&str], state: &str) -> Result<Daemon> {
        let mut command = Command::new(self.programs.join("darwin-agent"));
        command.args(["run", "--coordinator", &self.url(), "--id", id, "--state-dir"]);
        command.arg(self.folder().join(id)).args(flags);
        if !flags.contains(&"--config") {
            // What else this machine does must not decide a test of something else.
            let config = self.folder().join("unshaken.toml");
            std::fs::write(&config, UNSHAKEN)?;
            command.arg("--config").arg(config);
        }
        let daemon = self.daemon(id, command)?;
        self.wait_until("the agent is known", || {
            Ok(self.darwin(&["agent", "show", id])?.stdout.contains(state))
        })
        .with_context(|| daemon.log())?;
        Ok(daemon)
    }

    fn daemon(&self, name: &str, mut command: Command) -> Result<Daemon> {
        let log = self.folder().join(format!("{name}.log"));
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Daemon { name: name.to_owned(), child, log })
    }

    /// A `darwin` command against this world's coordinator, with an empty home.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("darwin"));
        command
            .args(arguments)
            .env("DARWIN_COORDINATOR", self.url())
            .env("DARWIN_DATA_DIR", self.folder().join("data"))
            .env("HOME", self.folder())
            .env_remove("GITHUB_STEP_SUMMARY")
            .stdin(Stdio::null());
        command
    }

    /// Runs a `darwin` command to its end.
    pub fn darwin(&self, arguments: &[&str]) -> Result<Finished> {
        Ok(self.command(arguments).output()?.into())
    }

    /// Runs a `darwin` command to its end, in a folder.
    pub fn darwin_in(&self, folder: &Path, arguments: &[&str]) -> Result<Finished> {
        Ok(self.command(arguments).current_dir(folder).output()?.into())
    }

    /// Starts a `darwin` command and leaves it running, with its output in pipes.
    pub fn spawn_in(&self, folder: &Path, arguments: &[&str]) -> Result<Child> {
        let mut command = self.command(arguments);
        Ok(command.current_dir(folder).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    /// Waits until something has come about, for a minute at most.
    pub fn wait_until(&self, what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < READY_WITHIN {
            if holds()? {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        bail!("waited {}s in vain until {what}", READY_WITHIN.as_secs())
    }
}

/// Waits for a child's end and gathers its output.
pub fn finish(mut child: Child) -> Result<Finished> {
    let mut stderr = child.stderr.take();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        if let Some(stderr) = stderr.as_mut() {
            // A broken pipe ends the text where it broke.
            let _ = stderr.read_to_string(&mut text);
        }
        text
    });
    let mut stdout = String::new();
    if let Some(pipe) = child.stdout.as_mut() {
        pipe.read_to_string(&mut stdout)?;
    }
    let code = child.wait()?.code().unwrap_or(-1);
    Ok(Finished { code, stdout, stderr: reader.join().unwrap_or_default() })
}
