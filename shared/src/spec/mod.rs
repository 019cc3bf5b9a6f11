//! A job's spec: what is to be run, where, how often, and by which policy it is judged.
//!
//! A spec is made by the client from `darwin.toml`, checked by [`JobSpec::check`] on both sides of the wire, and never
//! changed after that.

mod cores;

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use darwin_gate::policy::MAX_PAIRS_LIMIT;
use darwin_gate::{Policy, Stopping};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::formats::Format;
use crate::ids::{Digest, PoolName, ProjectName, SuiteName};
use crate::image::Image;

pub use cores::{CoreRequest, Exclusive, Isolation, Layout, Scheduler};

/// A compare of more rounds than the gate's longest plan would never look at the rest.
pub const MAX_ROUNDS: u32 = 1000;
/// The rounds of a job without a planned end: as many as the gate keeps in memory.
pub const MAX_SOAK_ROUNDS: u32 = MAX_PAIRS_LIMIT;
/// The longest that one stage may take: longer is a stuck job, not a bench.
pub const MAX_TIMEOUT: Duration = Duration::from_hours(24);
/// The longest budget of a job.
pub const MAX_BUDGET: Duration = Duration::from_hours(7 * 24);
/// What the environment of a bench may weigh; Linux itself takes 128 KiB a string.
pub const MAX_ENV_BYTES: usize = 64 << 10;
/// What a command line may weigh.
pub const MAX_COMMAND_BYTES: usize = 64 << 10;
/// Whole cores that one job may ask for; more than any box has is refused by matching, this is only sanity.
pub const MAX_CORES: u32 = 4096;
/// The longest probe: sees what comes once in five minutes.
pub const MAX_PROBE: Duration = Duration::from_mins(20);
/// The shortest probe that says anything.
pub const MIN_PROBE: Duration = Duration::from_millis(50);
/// How often a job may be tried for infrastructure's sake.
pub const MAX_ATTEMPTS: u32 = 10;

/// A command, as `darwin.toml` gives it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Command {
    /// A string for `/bin/sh -c`.
    Shell(String),
    /// A program and its arguments, without a shell.
    Argv(Vec<String>),
}

impl Command {
    /// The program and arguments to execute.
    pub fn argv(&self) -> Vec<String> {
        match self {
            Self::Shell(text) => vec!["/bin/sh".to_owned(), "-c".to_owned(), text.clone()],
            Self::Argv(argv) => argv.clone(),
        }
    }

    /// The command with `{name}` replaced by its value, for each name in `values`. Other braces stay as they are.
    #[must_use]
    pub fn filled(&self, values: &[(&str, &str)]) -> Self {
        let fill = |text: &String| {
            values
                .iter()
                .fold(text.clone(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
        };
        match self {
            Self::Shell(text) => Self::Shell(fill(text)),
            Self::Argv(argv) => Self::Argv(argv.iter().map(fill).collect()),
        }
    }

    /// Whether `{name}` stands in the command.
    pub fn mentions(&self, name: &str) -> bool {
        let needle = format!("{{{name}}}");
        match self {
            Self::Shell(text) => text.contains(&needle),
            Self::Argv(argv) => argv.iter().any(|arg| arg.contains(&needle)),
        }
    }

    fn check(&self, what: &'static str) -> Result<(), SpecError> {
        let refuse = |why| Err(SpecError::Command { what, why });
        let (parts, empty) = match self {
            Self::Shell(text) => (std::slice::from_ref(text), text.trim().is_empty()),
            Self::Argv(argv) => (argv.as_slice(), argv.first().is_none_or(String::is_empty)),
        };
        if empty {
            return refuse("it is empty");
        }
        if parts.iter().any(|part| part.contains('\0')) {
            return refuse("it has a NUL in it");
        }
        if parts.iter().map(String::len).sum::<usize>() > MAX_COMMAND_BYTES {
            return refuse("it is longer than 64 KiB; put it into a script");
        }
        Ok(())
    }
}

/// A command and how long it may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What is run.
    pub command: Command,
    /// After this the whole tree of processes is ended and the stage has failed.
    pub timeout: Duration,
}

/// The stages of a variant's life on a box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Steps {
    /// Once per artifact, cached, off the measuring cores.
    pub setup: Option<Step>,
    /// The unit tests: must pass, or nothing is measured.
    pub check: Option<Step>,
    /// One invocation.
    pub run: Step,
}

/// Where a variant's files come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A content-addressed tree: the digest of its manifest.
    Tree(Digest),
    /// A folder that is on the box already.
    Path(String),
    /// A container image: the command runs in containers of it.
    Image(Image),
    /// Nothing but the command.
    Nothing,
}

/// One of the things under test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variant {
    /// How people know it: `main@1a2b3c4`, `dir:.`.
    pub label: String,
    /// Its files.
    pub source: Source,
}

/// Which side of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// What is there today.
    Baseline,
    /// What would take its place.
    Challenger,
}

impl std::fmt::Display for Arm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Baseline => "baseline",
            Self::Challenger => "challenger",
        })
    }
}

/// The kind of a job, with what it works on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Baseline against challenger, judged by the gate.
    Compare {
        /// What is there today.
        baseline: Variant,
        /// What would take its place.
        challenger: Variant,
    },
    /// One variant, recorded.
    Measure {
        /// What is measured.
        variant: Variant,
    },
    /// The box itself: who takes its cores away, and how much they do. No command is run.
    Probe {
        /// For how long.
        length: Duration,
    },
}

/// What a probe works on.
static THE_BOX: LazyLock<Variant> =
    LazyLock::new(|| Variant { label: "the box".to_owned(), source: Source::Nothing });

impl Work {
    /// The kind's name.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Compare { .. } => "compare",
            Self::Measure { .. } => "measure",
            Self::Probe { .. } => "probe",
        }
    }

    /// Whether both sides of a comparison are the same files and the same command: an A/A, in which there is no effect.
    pub fn is_same_on_both_sides(&self) -> bool {
        match self {
            Self::Compare { baseline, challenger } => baseline.source == challenger.source,
            Self::Measure { .. } | Self::Probe { .. } => false,
        }
    }

    /// Whether a variant is a container image.
    pub fn has_images(&self) -> bool {
        self.variants().iter().any(|(_, variant)| matches!(variant.source, Source::Image(_)))
    }

    /// The variants with their sides; a measured one counts as the baseline.
    pub fn variants(&self) -> Vec<(Arm, &Variant)> {
        match self {
            Self::Compare { baseline, challenger } => {
                vec![(Arm::Baseline, baseline), (Arm::Challenger, challenger)]
            }
            Self::Measure { variant } => vec![(Arm::Baseline, variant)],
            Self::Probe { .. } => vec![(Arm::Baseline, &THE_BOX)],
        }
    }
}

/// How the two processes of a pair are to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairPlan {
    /// In slices where the benches answer the slice protocol, else one after the other.
    #[default]
    Auto,
    /// One after the other.
    Pairs,
    /// In slices, or not at all.
    Sliced,
}

impl PairPlan {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Pairs, Self::Sliced];

    /// The word for it in `darwin.toml` and on the wire.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Pairs => "pairs",
            Self::Sliced => "sliced",
        }
    }
}

/// How long a job may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Rounds before which nothing is decided.
    pub rounds_min: u32,
    /// Rounds after which it ends undecided.
    pub rounds_max: u32,
    /// Time on a box after which it ends undecided.
    pub time: Duration,
}

impl Budget {
    /// Whether no number of rounds is planned to end it, only the verdict or `time`.
    pub const fn is_unlimited(&self) -> bool {
        self.rounds_max > MAX_ROUNDS
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self { rounds_min: 1, rounds_max: 40, time: Duration::from_mins(20) }
    }
}

/// What a user submits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// The user's project.
    pub project: ProjectName,
    /// The suite in it.
    pub suite: SuiteName,
    /// What is run and compared.
    pub work: Work,
    /// How a variant is set up, checked and run.
    pub steps: Steps,
    /// How a run's output is read.
    pub format: Format,
    /// What a bench finds in its environment, beside what the agent always sets.
    pub env: BTreeMap<String, String>,
    /// Where it may run; any pool if none is named.
    pub pool: Option<PoolName>,
    /// Labels that an agent must have, with these values.
    pub labels: BTreeMap<String, String>,
    /// The cores that it needs.
    pub cores: CoreRequest,
    /// How the two processes of a pair are run.
    #[serde(default)]
    pub plan: PairPlan,
    /// Where its processes lie in memory.
    #[serde(default)]
    pub layout: Layout,
    /// How it is judged.
    pub policy: Policy,
    /// How long it may go on.
    pub budget: Budget,
    /// Higher goes first; 0 is usual.
    pub priority: i32,
    /// Tries for infrastructure's sake, at least 1.
    pub attempts: u32,
    /// Seeds the coin that draws the order within each round.
    pub seed: u64,
}

/// Why a spec is refused; the message names the field as `darwin.toml` does.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpecError {
    /// A command that cannot be run.
    #[error("`{what}` cannot be run: {why}")]
    Command {
        /// The key in `darwin.toml`.
        what: &'static str,
        /// What is wrong.
        why: &'static str,
    },
    /// A number or duration outside its range.
    #[error("`{what}` is {got}; it must be {range}")]
    Range {
        /// The key in `darwin.toml`.
        what: &'static str,
        /// The refused value.
        got: String,
        /// What would be right.
        range: String,
    },
    /// The run command does not say where its result goes.
    #[error(
        "`run` has no `{{output}}`: the format {0} reads a file that the bench writes, so the command must be told where"
    )]
    NoOutput(Format),
    /// A policy that the gate cannot judge by.
    #[error("`gate`: {0}")]
    Policy(String),
    /// An environment that a process cannot have.
    #[error("`env`: {0}")]
    Env(String),
    /// A whole process cannot be timed in slices.
    #[error(
        "`plan` is \"sliced\", and the format `process` times the whole command, which cannot take turns: leave `plan` \
         out, or give the format of what the bench writes"
    )]
    SlicedProcess,
    /// Something that processes can have and containers cannot.
    #[error("`{what}` does not go with images: {why}")]
    NotInImages {
        /// The key in `darwin.toml`.
        what: &'static str,
        /// Why, and what would be right.
        why: &'static str,
    },
    /// An image against a process.
    #[error(
        "one side is an image and the other is not, so that what a container costs would count as a difference: name \
         images on both sides, or on neither"
    )]
    ImageOnOneSide,
    /// Relinked builds of something that is not built here.
    #[error(
        "`gate.builds` asks for {builds} relinked builds of each variant, but {why}: give a `setup` that links anew for each \
         number in {{build}} or $DARWIN_BUILD, of variants that are git refs or folders"
    )]
    NotBuilt {
        /// How many are asked for.
        builds: u32,
        /// Why there cannot be several.
        why: &'static str,
    },
    /// A path variant that is not absolute.
    #[error("`path:{0}` is not absolute: it names a folder on the box, so it must start with `/`")]
    RelativePath(String),
}

impl JobSpec {
    /// Whether the job calibrates a box: an A/A that looks only once, at its end, so that no look chose its pairs.
    pub fn is_calibration(&self) -> bool {
        self.work.is_same_on_both_sides() && self.policy.looks == [self.budget.rounds_max]
    }

    /// How many relinked builds of each variant are made on a box and run in turns; 1 unless a compare is judged strictly.
    pub fn builds(&self) -> u32 {
        match self.work {
            Work::Compare { .. } => self.policy.builds.max(1),
            Work::Measure { .. } | Work::Probe { .. } => 1,
        }
    }

    /// Whether the two processes of a pair may take turns, if the benches answer: neither a whole command nor a container can.
    pub fn may_be_sliced(&self) -> bool {
        self.plan != PairPlan::Pairs && self.format != Format::Process && !self.work.has_images()
    }

    /// Checks all that can be checked without knowing a box; both client and coordinator do.
    pub fn check(&self) -> Result<(), SpecError> {
        for (what, step) in [
            ("setup", self.steps.setup.as_ref()),
            ("check", self.steps.check.as_ref()),
            ("run", Some(&self.steps.run)),
        ] {
            if let Some(step) = step {
                step.command.check(what)?;
                in_range("timeout", step.timeout, Duration::from_millis(1), MAX_TIMEOUT)?;
            }
        }
        if self.format.reads_a_file() && !self.steps.run.command.mentions("output") {
            return Err(SpecError::NoOutput(self.format));
        }
        if self.plan == PairPlan::Sliced && self.format == Format::Process {
            return Err(SpecError::SlicedProcess);
        }
        for (_, variant) in self.work.variants() {
            if let Source::Path(path) = &variant.source
                && !path.starts_with('/')
            {
                return Err(SpecError::RelativePath(path.clone()));
            }
        }
        crate::image::check(self)?;
        if let Work::Probe { length } = self.work {
            in_range("probe", length, MIN_PROBE, MAX_PROBE)?;
            within("budget.rounds.max", self.budget.rounds_max, 1, 1)?;
        }
        within("cores.count", self.cores.count, 1, MAX_CORES)?;
        let most_rounds = match self.policy.stopping {
            Stopping::Planned => MAX_ROUNDS,
            Stopping::Anytime => MAX_SOAK_ROUNDS,
        };
        within("budget.rounds.max", self.budget.rounds_max, 1, most_rounds)?;
        within("budget.rounds.min", self.budget.rounds_min, 1, self.budget.rounds_max)?;
        within("attempts", self.attempts, 1, MAX_ATTEMPTS)?;
        in_range("budget.time", self.budget.time, Duration::from_secs(1), MAX_BUDGET)?;
        check_env(&self.env)?;
        self.check_builds()?;
        self.policy.validate().map_err(|e| SpecError::Policy(e.to_string()))
    }

    fn check_builds(&self) -> Result<(), SpecError> {
        let builds = self.builds();
        if builds == 1 {
            return Ok(());
        }
        let refuse = |why| Err(SpecError::NotBuilt { builds, why });
        if self.steps.setup.is_none() {
            return refuse("the suite has no `setup`");
        }
        for (_, variant) in self.work.variants() {
            match variant.source {
                Source::Tree(_) => {}
                Source::Path(_) => return refuse("a folder that is on the box already is one build"),
                Source::Image(_) => return refuse("an image is one build"),
                Source::Nothing => return refuse("a variant has no files"),
            }
        }
        Ok(())
    }
}

fn check_env(env: &BTreeMap<String, String>) -> Result<(), SpecError> {
    if env.iter().map(|(k, v)| k.len() + v.len() + 2).sum::<usize>() > MAX_ENV_BYTES {
        return Err(SpecError::Env("it is larger than 64 KiB".to_owned()));
    }
    for (key, value) in env {
        if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
            return Err(SpecError::Env(format!(
                "`{}` cannot be a variable: its name must not be empty nor have `=`, and neither it nor its value a NUL",
                key.escape_default()
            )));
        }
    }
    Ok(())
}

fn within(what: &'static str, got: u32, least: u32, most: u32) -> Result<(), SpecError> {
    if (least..=most).contains(&got) {
        return Ok(());
    }
    Err(SpecError::Range { what, got: got.to_string(), range: format!("from {least} to {most}") })
}

fn in_range(what: &'static str, got: Duration, least: Duration, most: Duration) -> Result<(), SpecError> {
    if (least..=most).contains(&got) {
        return Ok(());
    }
    let text = humantime::format_duration;
    Err(SpecError::Range {
        what,
        got: text(got).to_string(),
        range: format!("from {} to {}", text(least), text(most)),
    })
}
