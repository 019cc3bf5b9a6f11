//! Agents of one box: one that leaves it as it is, one that also makes rounds void of which the hypervisor took a part, and one
//! that moves everything else off the leased core.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use darwin_proto::v1::jobs_client::JobsClient;
use darwin_proto::v1::verdicts_client::VerdictsClient;
use darwin_proto::v1::{GetJobRequest, HistoryRequest};
use darwin_shared::fleet::IsolationLevel;
use darwin_shared::report::Isolation;
use serde_json::Value;
use tokio::runtime::Runtime;
use tonic::transport::Channel;

use crate::{Daemon, Finished, World};

const PROJECT: &str = "isolation";
/// The agent's word for a job that it cannot isolate as well as it must.
const REFUSED: &str = "isolation is required";
/// Its word for a job that came to nothing because its rounds were void again and again.
const RESTLESS: &str = "did not come to rest";
/// The agent's word for what it could not put back.
const STUCK: &str = "cannot be put back";
/// The cpuset that everything is moved into, where the box is shielded.
const SHIELD: &str = "/sys/fs/cgroup/cpuset/darwin-housekeeping";
/// The agents' names and pools.
const OPEN: &str = "open";
const WATCHFUL: &str = "watchful";
const SHIELDED: &str = "shielded";

/// How a bench is isolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// Bound to its core.
    Affinity,
    /// A cpuset, or an isolated partition where the box has them.
    Cpuset,
    /// That, and no ordinary task before it.
    CpusetFifo,
    /// That, and rounds of which the hypervisor took more than a twentieth are measured again.
    CpusetFifoWatched,
    /// All other tasks are moved off its core.
    Shield,
    /// That, and no ordinary task before it.
    ShieldFifo,
}

impl Way {
    pub(super) const ALL: [Self; 6] = [
        Self::Affinity,
        Self::Cpuset,
        Self::CpusetFifo,
        Self::CpusetFifoWatched,
        Self::Shield,
        Self::ShieldFifo,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Affinity => "affinity",
            Self::Cpuset => "cpuset",
            Self::CpusetFifo => "cpuset-fifo",
            Self::CpusetFifoWatched => "cpuset-fifo-watched",
            Self::Shield => "shield",
            Self::ShieldFifo => "shield-fifo",
        }
    }

    pub(super) fn is_fifo(self) -> bool {
        matches!(self, Self::CpusetFifo | Self::CpusetFifoWatched | Self::ShieldFifo)
    }

    /// Whether every other task of the box is moved meanwhile.
    pub(super) fn shields(self) -> bool {
        matches!(self, Self::Shield | Self::ShieldFifo)
    }

    /// The pool of the agent that measures in this way.
    fn pool(self) -> &'static str {
        match self {
            Self::Affinity | Self::Cpuset | Self::CpusetFifo => OPEN,
            Self::CpusetFifoWatched => WATCHFUL,
            Self::Shield | Self::ShieldFifo => SHIELDED,
        }
    }

    /// The suite of a bench in this way.
    pub(super) fn suite(self, bench: &str) -> String {
        format!("{bench}-{}", self.name())
    }

    /// Where the program writes its times in this way.
    pub(super) fn times_file(self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.times", self.name()))
    }

    /// The suite in `darwin.toml`; `run` is a command in its words.
    pub(super) fn to_toml(self, bench: &str, run: &str, format: &str, timeout: &str) -> String {
        let suite = self.suite(bench);
        let pool = self.pool();
        let isolation = if self == Self::Affinity { "none" } else { "required" };
        let scheduler = if self.is_fifo() { "fifo" } else { "other" };
        format!(
            "[suite.{suite}]\nrun = {run}\nformat = '{format}'\ntimeout = '{timeout}'\nplan = 'pairs'\npool = '{pool}'\n\
             env = {{ PYTHONHASHSEED = '0', PYTHONDONTWRITEBYTECODE = '1' }}\n\
             [suite.{suite}.cores]\nisolation = '{isolation}'\nscheduler = '{scheduler}'\n\
             [suite.{suite}.budget]\nrounds = {{ min = 1, max = 1000 }}\n"
        )
    }
}

/// How a job ended.
#[derive(Debug)]
pub(super) struct Done {
    /// Its id.
    pub(super) job: String,
    /// How its bench was isolated, as the agent read it back.
    pub(super) words: String,
    /// How many rounds were measured: fewer than were asked for where too many were void.
    pub(super) rounds: u32,
    /// How many were void.
    pub(super) voids: u64,
}

/// The agents, and the folder whose suites they run. The fields are dropped in this order.
#[derive(Debug)]
pub(super) struct Fleet<'a> {
    world: &'a World,
    /// The folder with `darwin.toml`.
    pub(super) folder: PathBuf,
    runtime: Runtime,
    channel: Channel,
    open: Daemon,
    _watchful: Daemon,
    shielded: Daemon,
    _restore: Restore<'a>,
    _coordinator: Daemon,
}

impl<'a> Fleet<'a> {
    /// Starts a coordinator and the agents. `shields` says whether the one that shields the box is used.
    pub(super) fn start(world: &'a World, shields: bool) -> Result<Self> {
        ensure!(
            !shields || !Path::new(SHIELD).exists(),
            "{SHIELD} is there: another agent shields the box, or died while it did"
        );
        let coordinator = world.coordinator(&[])?;
        let restore = Restore(world);
        let start = |id: &str, more: &str| -> Result<Daemon> {
            let config = world.folder().join(format!("{id}.toml"));
            let text = format!("pool = '{id}'\n[void]\n{more}");
            std::fs::write(&config, text)?;
            world.agent(id, &["--config", &config.display().to_string()])
        };
        // The loops would make every round void.
        let open = start(OPEN, "forgive = ['foreign', 'stolen']\n")?;
        let watchful =
            start(WATCHFUL, "forgive = ['foreign']\nstolen_percent = 5.0\nstolen_least = '500us'\n")?;
        // The shield ends with each job, so that the other ways never stand behind it.
        let shielded =
            start(SHIELDED, "forgive = ['foreign', 'stolen']\n[tune]\nshield = true\nkeep = '0s'\n")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let channel = runtime.block_on(Channel::from_shared(world.url())?.connect())?;
        let folder = world.folder().join("suites");
        std::fs::create_dir(&folder)?;
        Ok(Self {
            world,
            folder,
            runtime,
            channel,
            open,
            _watchful: watchful,
            shielded,
            _restore: restore,
            _coordinator: coordinator,
        })
    }

    /// The agent that measures in this way.
    pub(super) fn agent(&self, way: Way) -> &Daemon {
        if way.shields() { &self.shielded } else { &self.open }
    }

    /// Writes `darwin.toml`.
    pub(super) fn write_suites(&self, suites: &[String]) -> Result<()> {
        let mut text = format!("project = '{PROJECT}'\n");
        for suite in suites {
            writeln!(text, "{suite}")?;
        }
        Ok(std::fs::write(self.folder.join("darwin.toml"), text)?)
    }

    /// What measures a suite of the folder.
    pub(super) fn arguments<'s>(suite: &'s str, rounds: &'s str) -> [&'s str; 9] {
        ["measure", "--quiet", "--suite", suite, "--rounds", rounds, "--format", "json", "dir:."]
    }

    /// Runs a bench in a way for so many rounds; nothing, with a word about it, where the box cannot isolate like this.
    #[expect(clippy::print_stderr, reason = "a part of a benchmark that cannot be run says so")]
    pub(super) fn measure(&self, way: Way, bench: &str, rounds: u32) -> Result<Option<Done>> {
        let (suite, count) = (way.suite(bench), rounds.to_string());
        let done = self.world.darwin_in(&self.folder, &Self::arguments(&suite, &count))?;
        // As long as a shield stands that could not be taken down, no other one takes effect.
        if way.shields() && self.shielded.log().contains(STUCK) {
            eprintln!("not run: {suite}: an earlier shield could not be taken down");
            return Ok(None);
        }
        if is_refused(&suite, &done)? {
            return Ok(None);
        }
        let report = done.json()?;
        let job = report["job_id"].as_str().context("a report without its job")?.to_owned();
        let mut client = JobsClient::new(self.channel.clone());
        let request = GetJobRequest { job_id: job.clone() };
        let seen = self.runtime.block_on(client.get(request))?.into_inner();
        let placement = seen.attempts.last().map(|attempt| attempt.placement.as_str()).unwrap_or_default();
        let rounds = report["rounds"].as_u64().and_then(|rounds| u32::try_from(rounds).ok());
        let voids = report["void_rounds"].as_array().context("a report without its void rounds")?;
        let done = Done {
            job,
            words: words(placement),
            rounds: rounds.context("a report without its rounds")?,
            voids: voids.iter().filter_map(|cause| cause["rounds"].as_u64()).sum(),
        };
        Ok(Some(done))
    }

    /// The wall times of a job's invocations, in nanoseconds, as the archive has them.
    pub(super) fn history(&self, suite: &str, job: &str, rounds: u32) -> Result<Vec<f64>> {
        let mut values = Vec::new();
        self.world.wait_until("the invocations are in the archive", || {
            let request = HistoryRequest {
                project: PROJECT.to_owned(),
                suite: suite.to_owned(),
                bench: String::new(),
                metric: "latency.mean".to_owned(),
                limit: rounds,
            };
            let mut client = VerdictsClient::new(self.channel.clone());
            let points = self.runtime.block_on(client.history(request))?.into_inner().points;
            values = points.iter().filter(|point| point.job_id == job).map(|point| point.value).collect();
            Ok(values.len() >= rounds as usize)
        })?;
        Ok(values)
    }

    /// Probes the shielded agent's core for a second: the time that a fixed amount of work took there, in nanoseconds,
    /// of work that is bound by how much is issued at once, and by what follows on what.
    pub(super) fn capacity(&self) -> Result<[f64; 2]> {
        let arguments =
            ["job", "probe", "--quiet", "--agent", SHIELDED, "--seconds", "1", "--format", "json"];
        let done = self.world.darwin(&arguments)?;
        let report = done.json()?;
        let capacity = &report["probes"][0]["probe"]["cpus"][0]["capacity"];
        let median =
            |kernel: &Value| kernel["median_ns"].as_f64().with_context(|| format!("no capacity: {report}"));
        Ok([median(&capacity["width"])?, median(&capacity["latency"])?])
    }
}

/// Whether a measurement came to nothing because the box cannot isolate like this, or was too restless, which is told. Any other
/// failure is an error.
#[expect(clippy::print_stderr, reason = "a part of a benchmark that cannot be run says so")]
pub(super) fn is_refused(suite: &str, done: &Finished) -> Result<bool> {
    if done.code == 0 {
        return Ok(false);
    }
    let told = format!("{}{}", done.stdout, done.stderr);
    let why = told.lines().find(|line| line.contains(REFUSED) || line.contains(RESTLESS));
    eprintln!("not run: {suite}: {}", why.with_context(|| format!("{suite}: {told}"))?);
    Ok(true)
}

/// Puts back what an agent that was killed left changed on the box.
#[derive(Debug)]
struct Restore<'a>(&'a World);

impl Drop for Restore<'_> {
    #[expect(clippy::print_stderr, reason = "a box that stays changed is worth a word")]
    fn drop(&mut self) {
        let mut restore = self.0.program("darwin-agent");
        restore.arg("restore").arg("--state-dir").arg(self.0.folder().join(SHIELDED));
        match restore.output() {
            Ok(done) if done.status.success() => {}
            Ok(done) => eprintln!("{}", String::from_utf8_lossy(&done.stdout)),
            Err(error) => eprintln!("the box may still be shielded: darwin-agent restore: {error}"),
        }
    }
}

/// How a bench was isolated, shortly, from the agent's line about it.
fn words(placement: &str) -> String {
    let Some(isolation) = Isolation::read(placement) else { return "not said".to_owned() };
    let mut words = vec![isolation.level.as_str()];
    let has = |wanted: &str| isolation.facts().any(|fact| fact.starts_with(wanted));
    if has("shielded") {
        words.push("all else moved off");
    }
    if has("SCHED_FIFO") && isolation.level != IsolationLevel::Fifo {
        words.push("fifo");
    }
    words.join(", ")
}

/// The JSON that a file has, which is then removed.
pub(super) fn take_json(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    std::fs::remove_file(path)?;
    match serde_json::from_str(&text) {
        Ok(value) => Ok(value),
        Err(error) => bail!("{}: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_isolation_is_told_in_short() {
        let shielded =
            "cpuset: CPUs 1 of node 0; SCHED_FIFO 10; in /darwin/a/b; 1 thread read back; shielded; tuned: x";
        assert_eq!(words(shielded), "cpuset, all else moved off, fifo");
        assert_eq!(words("fifo: CPUs 1 of node 0; SCHED_FIFO 10"), "fifo");
        assert_eq!(words("affinity: CPUs 1 of node 0; ordinary class; no SCHED_FIFO: x"), "affinity");
        assert_eq!(words(""), "not said");
    }
}
