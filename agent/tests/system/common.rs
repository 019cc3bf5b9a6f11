//! The programs as processes, in a folder and on a port of their own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Far above what anything here takes; it only bounds how long a broken test hangs.
const PATIENCE: Duration = Duration::from_mins(1);

/// A program that is killed when it is dropped.
pub(crate) struct Program(pub(crate) Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A coordinator, and a place for an agent and a suite.
pub(crate) struct System {
    pub(crate) folder: tempfile::TempDir,
    url: String,
    _coordinator: Program,
}

impl System {
    /// Or why there is none: the other programs are not built.
    pub(crate) fn start() -> Result<Self, String> {
        for name in ["darwin", "darwin-coordinator"] {
            if !program(name).is_file() {
                return Err(format!("{} is missing, `cargo build --bins` makes it", program(name).display()));
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(program("darwin-coordinator"));
        command.args([
            "--listen",
            &format!("127.0.0.1:{port}"),
            "--lease",
            "3s",
            "--grace",
            "1s",
            "--state-dir",
        ]);
        command.arg(folder.path().join("coordinator"));
        let coordinator = Program(quietly(&mut command, &folder.path().join("coordinator.log")));
        eventually("the coordinator listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Ok(Self { folder, url: format!("http://127.0.0.1:{port}"), _coordinator: coordinator })
    }

    pub(crate) fn agent_folder(&self) -> PathBuf {
        self.folder.path().join("agent")
    }

    /// What the agent has said in all its lives.
    pub(crate) fn agent_log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("agent.log")).unwrap_or_default()
    }

    /// Starts the agent.
    pub(crate) fn agent(&self) -> Program {
        let config = self.folder.path().join("agent.toml");
        let locks = self.folder.path().join("cores");
        std::fs::write(&config, format!("core_locks = \"{}\"\n", locks.display())).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_darwin-agent"));
        command
            .args(["run", "--id", "box", "--coordinator", &self.url, "--state-dir"])
            .arg(self.agent_folder());
        command.env("DARWIN_AGENT_CONFIG", config).env("RUST_LOG", "info");
        Program(quietly(&mut command, &self.folder.path().join("agent.log")))
    }

    /// A git repository with one suite of these steps on its branch `main`.
    pub(crate) fn suite(&self, steps: &str) -> PathBuf {
        let folder = self.folder.path().join("repository");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("darwin.toml"), format!("project = \"e2e\"\n[suite.steps]\n{steps}"))
            .unwrap();
        let identity = ["-c", "user.name=e2e", "-c", "user.email=e2e@localhost"];
        for arguments in [&["init", "-q", "-b", "main"][..], &["add", "-A"], &["commit", "-q", "-m", "suite"]]
        {
            let done =
                Command::new("git").args(identity).args(arguments).current_dir(&folder).status().unwrap();
            assert!(done.success(), "git {arguments:?}");
        }
        folder
    }

    /// A `darwin` command against this coordinator, in this folder.
    pub(crate) fn darwin(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("darwin"));
        command.args(arguments).current_dir(folder).stdin(Stdio::null());
        command.env("DARWIN_COORDINATOR", &self.url).env("HOME", self.folder.path());
        command.env("DARWIN_DATA_DIR", self.folder.path().join("data"));
        command
    }

    /// Submits the suite's measurement; its id.
    pub(crate) fn submit(&self, suite: &Path) -> String {
        let done = self.darwin(suite, &["measure", "--suite", "steps", "--detach", "main"]).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        text(&done).trim().to_owned()
    }
}

/// What a command has written to its standard output.
pub(crate) fn text(done: &Output) -> String {
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_darwin-agent")).with_file_name(name)
}

fn quietly(command: &mut Command, log: &Path) -> Child {
    let log = File::options().create(true).append(true).open(log).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// Waits until this is so; how long it takes decides nothing.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
