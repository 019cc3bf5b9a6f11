//! `darwin-agent`: the agent as a daemon.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use darwin_agent::host::HostFs;
use darwin_agent::{
    AgentConfig, ConfigError, Overrides, Shutdown, exec, run_with, sensor_report, sensor_table,
};
use darwin_shared::cpu::CpuSet;
use darwin_shared::exit_code::ExitCode as Code;
use darwin_shared::fleet::SensorStatus;
use darwin_shared::text::may_colour;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Where the configuration is looked for, unless another file is named.
const DEFAULT_CONFIG: &str = "/etc/darwin/agent.toml";
/// Between the two readings of `sensor`: long enough for shares of time, short enough to wait for.
const SENSOR_SPAN: Duration = Duration::from_millis(500);

/// Runs benches pinned on isolated cores and reports what they measured.
#[derive(Debug, Parser)]
#[command(name = "darwin-agent", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Join a coordinator and take work from it, until told to stop: SIGTERM finishes what has cores, a second one
    /// ends it.
    Run(Options),
    /// Put back what an agent that died left changed on this box ([tune]), and say what it was.
    Restore {
        /// The folder of that agent.
        #[arg(
            long,
            value_name = "DIR",
            env = "DARWIN_AGENT_STATE_DIR",
            default_value = "/var/lib/darwin-agent"
        )]
        state_dir: PathBuf,
    },
    /// Read the whole sensor: is this box fit to measure, and what would mend it?
    Sensor {
        #[command(flatten)]
        options: Options,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
        /// Look at a recorded box instead of this one: its files as they lay below `/`, and below `later/` those that
        /// had changed at the second reading.
        #[arg(long, value_name = "DIR")]
        tree: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct Options {
    /// The configuration [default: /etc/darwin/agent.toml, if it is there].
    #[arg(long, value_name = "FILE", env = "DARWIN_AGENT_CONFIG")]
    config: Option<PathBuf>,
    /// A coordinator's URL; any number of times. Loopback only, until there is TLS.
    #[arg(long, value_name = "URL", env = "DARWIN_COORDINATOR")]
    coordinator: Vec<String>,
    /// This agent's id [default: the host name].
    #[arg(long)]
    id: Option<String>,
    /// The pool of interchangeable boxes that this one belongs to.
    #[arg(long)]
    pool: Option<String>,
    /// A label that jobs may ask for; any number of times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// Where spool, artifacts and logs are kept.
    #[arg(long, value_name = "DIR", env = "DARWIN_AGENT_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// CPUs to lease out, as in 2-7 [default: all but one core for the agent itself].
    #[arg(long, value_name = "CPUS")]
    lease_cpus: Option<CpuSet>,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("a label looks like nic=x710".to_owned()),
    }
}

impl Options {
    fn load(self) -> Result<AgentConfig, ConfigError> {
        let there = || Some(PathBuf::from(DEFAULT_CONFIG)).filter(|path| Path::exists(path));
        let overrides = Overrides {
            coordinators: self.coordinator,
            id: self.id,
            pool: self.pool,
            labels: self.label.into_iter().collect(),
            state_dir: self.state_dir,
            lease_cpus: self.lease_cpus,
        };
        AgentConfig::load(self.config.or_else(there).as_deref(), overrides)
    }
}

fn main() -> ExitCode {
    exec::launcher_main_if_asked();
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let variable = |name| std::env::var_os(name);
    let terminal = std::io::stderr().is_terminal();
    let colours = may_colour(terminal, variable("NO_COLOR").as_deref(), variable("TERM").as_deref());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    let code = match cli.command {
        Command::Run(options) => options.load().map_err(Into::into).and_then(daemon).map(|()| Code::Success),
        Command::Restore { state_dir } => restore(&state_dir),
        Command::Sensor { options, json, tree } => {
            options.load().map_err(Into::into).and_then(|config| sensor(&config, tree.as_deref(), json))
        }
    };
    ExitCode::from(code.unwrap_or_else(|error| report(&error)).number())
}

fn report(error: &anyhow::Error) -> Code {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Many say what caused them themselves.
        if !told.contains(&cause) {
            told = if told.is_empty() { cause } else { format!("{told}: {cause}") };
        }
    }
    // Standard error may be closed; the exit code says it all the same.
    let _ = writeln!(std::io::stderr(), "darwin-agent: {told}");
    if error.is::<ConfigError>() { Code::Usage } else { Code::NotOk }
}

/// One thread does: all work is waiting, and a second one would only wake another core.
fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")
}

fn daemon(config: AgentConfig) -> Result<()> {
    runtime()?.block_on(async {
        let shutdown = Shutdown::default();
        let mut terminate = signal(SignalKind::terminate()).context("no handler for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("no handler for SIGINT")?;
        let agent = run_with(config, shutdown.clone());
        tokio::pin!(agent);
        loop {
            tokio::select! {
                result = &mut agent => return Ok(result?),
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if shutdown.drain.is_cancelled() {
                tracing::warn!("ending what runs");
                shutdown.now.cancel();
            } else {
                tracing::warn!("finishing what has cores; a second signal ends it at once");
                shutdown.drain.cancel();
            }
        }
    })
}

fn restore(state_dir: &Path) -> Result<Code> {
    let restored = darwin_agent::restore(&HostFs::default(), state_dir)?;
    // A closed standard output means that nobody wants to know.
    let _ = writeln!(std::io::stdout(), "{restored}");
    Ok(if restored.is_whole() { Code::Success } else { Code::NotOk })
}

fn sensor(config: &AgentConfig, tree: Option<&Path>, json: bool) -> Result<Code> {
    let view = runtime()?.block_on(sensor_report(config, tree, SENSOR_SPAN))?;
    let text = if json { serde_json::to_string_pretty(&view)? } else { sensor_table(&view) };
    // A closed standard output means that nobody wants to know.
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(match view.report.status {
        SensorStatus::Ok | SensorStatus::Degraded => Code::Success,
        SensorStatus::Down => Code::NotOk,
    })
}
