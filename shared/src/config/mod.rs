//! `darwin.toml`: what a user's repository says of its suites.
//!
//! [`Config::parse`] takes the file's text and gives suites whose every value was checked, or all that is wrong with
//! the file at once. [`Suite`]'s fields are the reference of the file: their documentation says the key, what it
//! means and what holds without it. Nothing here reads a file or looks at a repository.

mod error;
mod files;
mod gate;
mod read;
mod template;
mod walk;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use darwin_gate::Policy;
use toml::de::DeTable;

pub use error::{ConfigError, Fault, NoSuchSuite};
pub use files::{Files, MAX_PATTERNS};
pub use template::{BenchKind, CargoProject, Findings, template};

use self::error::MAX_FAULTS;
use self::walk::{Faults, Section};
use crate::formats::Format;
use crate::ids::{PoolName, ProjectName, SuiteName};
use crate::spec::{Budget, CoreRequest, JobSpec, Layout, PairPlan, SpecError, Steps, Work};

/// The file's name in a repository's root.
pub const FILE_NAME: &str = "darwin.toml";
/// The largest file that is read: a thousand suites fit; what is larger is not a `darwin.toml`.
pub const MAX_FILE_BYTES: usize = 256 << 10;
/// More suites than a repository has; beyond it the file was made by accident.
pub const MAX_SUITES: usize = 1000;
/// How long `run` may take unless `timeout` says so.
pub const DEFAULT_RUN_TIMEOUT: Duration = Duration::from_mins(10);
/// How long `setup` may take unless `setup_timeout` says so.
pub const DEFAULT_SETUP_TIMEOUT: Duration = Duration::from_mins(30);
/// How long `check` may take unless `check_timeout` says so.
pub const DEFAULT_CHECK_TIMEOUT: Duration = Duration::from_mins(10);
/// Tries for infrastructure's sake unless `attempts` says so.
pub const DEFAULT_ATTEMPTS: u32 = 3;
/// The highest and, negated, the lowest priority that a suite may ask for; the usual one is 0.
pub const MAX_PRIORITY: i32 = 1000;

/// A `darwin.toml`, read and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `project`: how the project is known to the coordinator. Letters, digits, `-`, `_`, `.` and `/`.
    pub project: ProjectName,
    /// `[suite.NAME]`: at least one.
    pub suites: BTreeMap<SuiteName, Suite>,
}

/// `[suite.NAME]`: a named set of benches.
#[derive(Debug, Clone, PartialEq)]
pub struct Suite {
    /// `setup`, `check` and `run`, each a string for a shell or a list for none, with `setup_timeout` (30m),
    /// `check_timeout` (10m) and `timeout` (10m, for one `run`). Only `run` is needed. `{output}`, `{round}`,
    /// `{seed}` and `{variant_dir}` are filled in.
    pub steps: Steps,
    /// `format`: how the result is read: `auto` (without it), `process`, `pytest-benchmark`, `hyperfine`,
    /// `criterion` or `darwin-samples`.
    pub format: Format,
    /// `files = { include, exclude }`: globs of what makes up an artifact; all but `.git` without it.
    pub files: Files,
    /// `env`: variables that the commands find, beside those that Darwin sets.
    pub env: BTreeMap<String, String>,
    /// `pool`: where it may run; anywhere without it.
    pub pool: Option<PoolName>,
    /// `labels`: what an agent must have, with these values.
    pub labels: BTreeMap<String, String>,
    /// `[suite.NAME.cores]`: `count` (1) whole physical cores, `isolation` (`preferred`; or `required`, `none`),
    /// `exclusive` (`core`; or `llc`, `node`, `host`), `scheduler` (`other`; or `fifo`).
    pub cores: CoreRequest,
    /// `plan`: how the two processes of a pair are run: `auto` (without it), `pairs` or `sliced`.
    pub plan: PairPlan,
    /// `layout`: where its processes lie in memory: `randomized` (without it), another place in each, or `fixed`.
    pub layout: Layout,
    /// `[suite.NAME.gate]`: `mode` (`faster`; or `no-slower`), `alpha` (0.01), `primary` (`latency.p50`, or
    /// `latency.mean` of a bench without a median), `assumed_noise` (`5%`), and for each metric `margin`, `floor` and
    /// `gated`. The looks follow from the budget.
    pub policy: Policy,
    /// `[suite.NAME.budget]`: `rounds = { min = 1, max = 40 }` and `time` (`20m`); with `max = "unlimited"` the verdict or
    /// `time`, which must then be given, ends it.
    pub budget: Budget,
    /// `priority`: higher goes first, -1000 to 1000; 0 without it.
    pub priority: i32,
    /// `attempts`: tries for infrastructure's sake, 1 to 10; 3 without it. A bench that fails is never tried again.
    pub attempts: u32,
}

impl Config {
    /// Reads a `darwin.toml`; `file_name` is only for messages.
    pub fn parse(file_name: &str, text: &str) -> Result<Self, ConfigError> {
        let refuse = |faults: Vec<Fault>| {
            let mut faults = faults.into_iter();
            let first = faults.next().unwrap_or_else(|| Fault::new(0..0, "the file is not usable", "", ""));
            ConfigError::new(file_name, text, first, faults.take(MAX_FAULTS - 1).collect())
        };
        if text.len() > MAX_FILE_BYTES {
            // Not even shown: a report of that size helps nobody.
            return Err(ConfigError::new(file_name, "", too_large(text.len()), Vec::new()));
        }
        let table = DeTable::parse(text).map_err(|error| refuse(vec![walk::syntax_fault(&error, text)]))?;
        let mut faults = Faults::default();
        let config = read::config(&Section::root(table.get_ref()), &mut faults);
        let faults = faults.sorted();
        match config {
            Some(config) if faults.is_empty() => Ok(config),
            _ => Err(refuse(faults)),
        }
    }

    /// The suite of this name.
    pub fn suite(&self, name: &str) -> Result<(&SuiteName, &Suite), NoSuchSuite> {
        self.suites.iter().find(|(known, _)| known.as_str() == name).ok_or_else(|| NoSuchSuite {
            name: name.to_owned(),
            known: self.suites.keys().map(ToString::to_string).collect(),
        })
    }
}

impl Suite {
    /// The job that runs this suite on `work`, checked as the coordinator will check it.
    ///
    /// `seed` seeds the coin that draws the order within each round.
    pub fn to_spec(
        &self,
        project: &ProjectName,
        name: &SuiteName,
        work: Work,
        seed: u64,
    ) -> Result<JobSpec, SpecError> {
        let spec = JobSpec {
            project: project.clone(),
            suite: name.clone(),
            work,
            steps: self.steps.clone(),
            format: self.format,
            env: self.env.clone(),
            pool: self.pool.clone(),
            labels: self.labels.clone(),
            cores: self.cores,
            plan: self.plan,
            layout: self.layout,
            policy: self.policy.clone(),
            budget: self.budget,
            priority: self.priority,
            attempts: self.attempts,
            seed,
        };
        spec.check()?;
        Ok(spec)
    }
}

fn too_large(found: usize) -> Fault {
    Fault::new(
        0..0,
        format!("the file has {found} bytes; at most {} KiB are read", MAX_FILE_BYTES >> 10),
        "",
        "a darwin.toml holds a few commands for each suite; see that this is the right file",
    )
}
