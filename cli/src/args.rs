//! The command line: what may be said, and what each part means. Nothing is done here.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use darwin_gate::calibration::CALIBRATION_PAIRS;
use darwin_gate::{Metric, Mode, Ratio};
use darwin_shared::formats::Format;
use darwin_shared::report::TakenFor;
use darwin_shared::state::JobState;
use darwin_shared::units::Percent;

use crate::pack::Reference;

/// A benchmark gate: measures two versions side by side on isolated cores and says APPROVE, REJECT or INCONCLUSIVE.
#[derive(Debug, Parser)]
#[command(
    name = "darwin",
    version,
    max_term_width = 110,
    after_help = "Exit codes: 0 APPROVE or done, 1 REJECT, 2 wrong usage or file, 3 INCONCLUSIVE, 4 system not ok, \
                  5 the job failed, 6 cancelled or out of time, 7 coordinator unreachable, 70 a bug.\n\
                  Without a coordinator, darwin runs one, with an agent, in its own process."
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The coordinator, as http://HOST:PORT; `embedded` for the one in this process
    #[arg(long, global = true, value_name = "URL", env = "DARWIN_COORDINATOR")]
    pub coordinator: Option<String>,
    /// How to report
    #[arg(long, global = true, value_enum, value_name = "FORMAT", default_value_t = OutputFormat::Human)]
    pub format: OutputFormat,
    /// Write the report to this file instead of standard output
    #[arg(long, global = true, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// No progress and no hints, only the report
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Show more: series that are not gated, the method; twice for logs
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For a terminal
    Human,
    /// For programs
    Json,
    /// For pull requests
    Markdown,
    /// For CI that lists test cases
    Junit,
    /// For GitHub's workflow log
    Github,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Try it: a real compare of a shipped example, one that gets APPROVE and one that gets REJECT
    Demo(DemoArgs),
    /// Is the system fit to measure? Coordinator, stores and every agent
    Check,
    /// The verdict on saved result files; needs no coordinator
    Gate(GateArgs),
    /// Measure baseline against challenger and judge
    Compare(CompareArgs),
    /// Measure one version, or one command, and record it
    Measure(MeasureArgs),
    /// The queue
    #[command(subcommand)]
    Job(JobCommand),
    /// The fleet
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Past verdicts
    #[command(subcommand)]
    Verdict(VerdictCommand),
    /// The line of a bench over time
    History(HistoryArgs),
    /// Write a commented darwin.toml for the benches found here
    Init(InitArgs),
    /// Shell completions on standard output
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

/// What the last line of standard output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// `verdict=…`, whatever happens.
    Verdict,
    /// `status=…`, whatever happens.
    Status,
    /// Whatever the command has to say.
    Nothing,
}

impl Command {
    /// What its last line of standard output is, so that a script finds it there even if the command fails.
    pub(crate) fn promises(&self) -> Promise {
        match self {
            Self::Demo(_)
            | Self::Gate(GateArgs { plan: false, .. })
            | Self::Job(JobCommand::Watch(_))
            | Self::Verdict(_) => Promise::Verdict,
            Self::Compare(CompareArgs { submit, .. }) | Self::Measure(MeasureArgs { submit, .. }) => {
                if submit.detach { Promise::Nothing } else { Promise::Verdict }
            }
            Self::Check => Promise::Status,
            Self::Job(
                JobCommand::List(_)
                | JobCommand::Show(_)
                | JobCommand::Logs { .. }
                | JobCommand::Cancel { .. }
                | JobCommand::Retry(_)
                | JobCommand::Probe(_),
            )
            | Self::Gate(GateArgs { plan: true, .. })
            | Self::Agent(_)
            | Self::History(_)
            | Self::Init(_)
            | Self::Completions { .. } => Promise::Nothing,
        }
    }
}

/// `darwin demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Keep the example's files and say where they are
    #[arg(long)]
    pub keep: bool,
}

/// `darwin gate`.
#[derive(Debug, Args)]
pub(crate) struct GateArgs {
    /// The baseline's result file, or the folder target/criterion
    #[arg(value_name = "BASELINE", required_unless_present_any = ["baseline", "challenger", "plan"])]
    pub baseline_file: Option<PathBuf>,
    /// The challenger's result file
    #[arg(value_name = "CHALLENGER", requires = "baseline_file")]
    pub challenger_file: Option<PathBuf>,
    /// A result file of the baseline; again for more invocations, paired in the order given
    #[arg(long, value_name = "FILE", requires = "challenger", conflicts_with = "baseline_file")]
    pub baseline: Vec<PathBuf>,
    /// A result file of the challenger; as many as of the baseline
    #[arg(long, value_name = "FILE", requires = "baseline", conflicts_with = "baseline_file")]
    pub challenger: Vec<PathBuf>,
    /// Judge nothing: say how many pairs a change needs, and what a number of pairs can see
    #[arg(long)]
    pub plan: bool,
    /// With --plan: the noise between pairs of the same code, as `darwin measure --calibrate` says it; without it, that of
    /// ten or more pairs of files
    #[arg(long, value_name = "PCT", requires = "plan", conflicts_with_all = ["baseline_file", "baseline"])]
    pub noise: Option<Percent>,
    /// With --plan: the change that is to be seen; again for more
    #[arg(long, value_name = "PCT", requires = "plan")]
    pub effect: Vec<Percent>,
    /// With --plan: the chance to see it
    #[arg(long, value_name = "PCT", requires = "plan", default_value = "90%")]
    pub power: Percent,
    /// With --plan and --noise: how many gated series share the error
    #[arg(long, value_name = "N", requires = "plan", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub gated: u32,
    /// How strict the gate is
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// The format of the files
    #[arg(long, value_name = "FORMAT", default_value_t = Format::Auto)]
    pub format_in: Format,
    /// What becomes of INCONCLUSIVE
    #[arg(long, value_enum, value_name = "AS")]
    pub inconclusive: Option<Inconclusive>,
}

/// How strict the gate is.
#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    /// The chance of a wrong verdict, over all findings
    #[arg(long, value_name = "SHARE")]
    pub alpha: Option<f64>,
    /// The largest worsening of a metric that is accepted, as in latency.p99=5%; gates the metric
    #[arg(long, value_name = "METRIC=PCT", value_parser = margin)]
    pub margin: Vec<(Metric, Ratio)>,
    /// What is approved: only what is proven faster, or all that is proven not slower
    #[arg(long, value_name = "MODE", value_parser = mode)]
    pub mode: Option<Mode>,
    /// The metric that must get faster
    #[arg(long, value_name = "METRIC")]
    pub primary: Option<Metric>,
    /// With fewer than ten pairs: how much one process may differ from the next
    #[arg(long, value_name = "PCT")]
    pub assumed_noise: Option<Percent>,
}

fn margin(text: &str) -> Result<(Metric, Ratio), String> {
    let wanted = "write METRIC=PCT, as in latency.p99=5%";
    let (metric, percent) = text.split_once('=').ok_or_else(|| format!("there is no `=`: {wanted}"))?;
    let metric: Metric = metric.parse().map_err(|e| format!("{e}"))?;
    let percent: Percent = percent.parse().map_err(|e| format!("{e}"))?;
    Ok((metric, Ratio::new(percent.fraction()).map_err(|e| e.to_string())?))
}

fn mode(text: &str) -> Result<Mode, String> {
    match text {
        "faster" => Ok(Mode::Faster),
        "no-slower" => Ok(Mode::NoSlower),
        _ => Err("it is `faster` or `no-slower`".to_owned()),
    }
}

/// What becomes of INCONCLUSIVE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Inconclusive {
    /// Exit code 0
    Pass,
    /// Exit code 1
    Fail,
}

impl From<Inconclusive> for TakenFor {
    fn from(taken: Inconclusive) -> Self {
        match taken {
            Inconclusive::Pass => Self::Pass,
            Inconclusive::Fail => Self::Fail,
        }
    }
}

/// `darwin compare`.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// The suite, as darwin.toml names it; may be left out if there is one
    #[arg(long, short, value_name = "SUITE")]
    pub suite: Option<String>,
    /// What is there today: a git ref, dir:PATH, image:NAME or path:PATH-ON-THE-BOX
    #[arg(long, short, value_name = "REF")]
    pub baseline: Reference,
    /// What would take its place
    #[arg(long, short, value_name = "REF")]
    pub challenger: Reference,
    /// What becomes of INCONCLUSIVE
    #[arg(long, value_enum, value_name = "AS")]
    pub inconclusive: Option<Inconclusive>,
    /// How to submit
    #[command(flatten)]
    pub submit: SubmitArgs,
}

/// What is said about submitting.
#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    /// Wait for the end (this is the default)
    #[arg(long, conflicts_with = "detach")]
    pub wait: bool,
    /// Print the job's id and go
    #[arg(long)]
    pub detach: bool,
    /// The darwin.toml; without it, the nearest one from here upward
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Seeds the coin that draws the order in each round; drawn at random without it
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
}

/// `darwin measure`.
#[derive(Debug, Args)]
pub(crate) struct MeasureArgs {
    /// The suite, as darwin.toml names it
    #[arg(long, short, value_name = "SUITE", conflicts_with_all = ["command", "shell"])]
    pub suite: Option<String>,
    /// What is measured: a git ref, dir:PATH, image:NAME or path:PATH-ON-THE-BOX
    #[arg(value_name = "REF", default_value = "HEAD", conflicts_with_all = ["command", "shell"])]
    pub reference: Reference,
    /// A command for the shell, measured as a process, without darwin.toml
    #[arg(long, value_name = "COMMAND", conflicts_with = "command")]
    pub shell: Option<String>,
    /// A command, measured as a process in an empty folder, without darwin.toml
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// How often it is run; without it what darwin.toml says, 1 for a command
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: Option<u32>,
    /// How long one run of the command may take
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "10m")]
    pub timeout: Duration,
    /// Measure it against itself: how noisy is this box, and what can it resolve?
    #[arg(long, conflicts_with_all = ["command", "shell", "rounds", "count"])]
    pub calibrate: bool,
    /// With --calibrate: how many pairs
    #[arg(long, value_name = "N", requires = "calibrate", default_value_t = CALIBRATION_PAIRS, value_parser = clap::value_parser!(u32).range(10..=1000))]
    pub pairs: u32,
    /// Submit so many jobs of this kind and wait for all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "detach")]
    pub count: Option<u32>,
    /// With --count: only totals and jobs per second
    #[arg(long, requires = "count")]
    pub quiet_jobs: bool,
    /// How to submit
    #[command(flatten)]
    pub submit: SubmitArgs,
}

/// `darwin job`.
#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Jobs, the newest first
    List(JobListArgs),
    /// One job in full
    Show(JobId),
    /// Follow a job to its end; Ctrl-C leaves it running
    Watch(JobId),
    /// What the job's processes wrote
    Logs {
        /// The job
        #[command(flatten)]
        job: JobId,
        /// Go on until the job has finished
        #[arg(long, short = 'F')]
        follow: bool,
    },
    /// End jobs, waiting or running
    Cancel {
        /// Their ids, or the first characters
        #[arg(required = true, value_name = "JOB")]
        jobs: Vec<String>,
    },
    /// Submit a finished job anew
    Retry(JobId),
    /// How quiet is a box? Watches its leased cores: who takes them away, and how much they do
    Probe(ProbeArgs),
}

/// `darwin job probe`.
#[derive(Debug, Args)]
pub(crate) struct ProbeArgs {
    /// Every box of this pool; without it, every box there is
    #[arg(long, value_name = "POOL")]
    pub pool: Option<String>,
    /// Only this box
    #[arg(long, value_name = "AGENT", conflicts_with = "pool")]
    pub agent: Option<String>,
    /// For how long: what comes once in so many seconds is seen with 95% chance in three times as long
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1200))]
    pub seconds: u32,
    /// Under `SCHED_FIFO`, as benches of suites that ask for it
    #[arg(long)]
    pub fifo: bool,
    /// Probe nothing: show what the last probes saw
    #[arg(long, conflicts_with_all = ["seconds", "fifo"])]
    pub history: bool,
    /// With --history: at most so many
    #[arg(long, value_name = "N", requires = "history", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

/// Names a job.
#[derive(Debug, Args)]
pub(crate) struct JobId {
    /// The job's id, or its first characters
    #[arg(value_name = "JOB")]
    pub job: String,
}

/// `darwin job list`.
#[derive(Debug, Args)]
pub(crate) struct JobListArgs {
    /// Only in this state: queued, active, approve, reject, inconclusive, measured, failed, cancelled, expired, parked
    #[arg(long, value_name = "STATE", hide_possible_values = true, value_parser = JobState::NAMES)]
    pub state: Vec<String>,
    /// Only of this project
    #[arg(long, value_name = "PROJECT")]
    pub project: Option<String>,
    /// Only of this suite
    #[arg(long, short, value_name = "SUITE")]
    pub suite: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Only those older than this job: the next page
    #[arg(long, value_name = "JOB")]
    pub before: Option<String>,
}

/// `darwin agent`.
#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// All agents
    List,
    /// One agent with its sensor
    Show(AgentName),
    /// Give it nothing new; what it has goes on to its end
    Drain(AgentName),
    /// Let it take work again
    Resume(AgentName),
}

/// Names an agent.
#[derive(Debug, Args)]
pub(crate) struct AgentName {
    /// The agent's id
    #[arg(value_name = "AGENT")]
    pub agent: String,
}

/// `darwin verdict`.
#[derive(Debug, Subcommand)]
pub(crate) enum VerdictCommand {
    /// A past verdict in full
    Show(JobId),
}

/// `darwin history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// The suite
    #[arg(long, short, value_name = "SUITE")]
    pub suite: String,
    /// The project; without it, that of the nearest darwin.toml
    #[arg(long, value_name = "PROJECT")]
    pub project: Option<String>,
    /// Only this bench
    #[arg(long, short, value_name = "BENCH")]
    pub bench: Option<String>,
    /// Only this metric
    #[arg(long, short, value_name = "METRIC")]
    pub metric: Option<Metric>,
    /// At most so many points, the newest
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
}

/// `darwin init`.
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The repository's folder
    #[arg(value_name = "FOLDER", default_value = ".")]
    pub folder: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn margins_read_as_written() {
        let (metric, ratio) = margin("latency.p99=5%").unwrap();
        assert_eq!((metric.to_string().as_str(), ratio), ("latency.p99", Ratio::from_percent(5)));
        for bad in ["latency.p99", "p99=5%", "latency.p99=5", "latency.p99=-5%"] {
            assert!(margin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_command_needs_no_suite() {
        let cli =
            Cli::try_parse_from(["darwin", "measure", "--rounds", "3", "--", "sleep", "--help"]).unwrap();
        let Command::Measure(args) = cli.command else { panic!("not measure") };
        assert_eq!((args.command, args.rounds), (vec!["sleep".to_owned(), "--help".to_owned()], Some(3)));
        assert!(Cli::try_parse_from(["darwin", "measure", "--suite", "x", "--", "true"]).is_err());
        assert!(Cli::try_parse_from(["darwin", "gate"]).is_err());
        assert!(Cli::try_parse_from(["darwin", "gate", "--baseline", "a"]).is_err());
    }
}
