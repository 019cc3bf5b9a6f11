//! `darwin`: what people, CI and assistants hold.
//!
//! Reads the command line, prepares all that can be wrong before anything is started, talks to a coordinator (or
//! starts one in this process), reports, and ends with the exit code of the contract.

mod args;
mod bug;
mod calibrations;
mod commands;
mod embedded;
mod failure;
mod follow;
mod job;
mod pack;
mod progress;
mod rehearsal;
mod rust_tools;
mod session;
mod settings;
mod submit;
mod suite;
mod terminal;
mod ui;
mod upload;

use std::process;

use clap::{CommandFactory as _, Parser as _};
use darwin_shared::exit_code::ExitCode;

use crate::args::{Cli, Command};
use crate::commands::{agent, check, compare, demo, gate, history, init, measure, verdict};
use crate::failure::Failed;
use crate::session::{Need, Session};
use crate::settings::Target;
use crate::ui::Ui;

/// Threads of the embedded coordinator and agent; with no coordinator in it, the command needs only its own.
const EMBEDDED_THREADS: usize = 2;

fn main() -> process::ExitCode {
    // The agent's launcher is this program started again: nothing may come before it.
    darwin_agent::exec::launcher_main_if_asked();
    bug::watch();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refused) => {
            // Nobody is left to tell if the terminal is gone.
            let _ = refused.print();
            return code(if refused.use_stderr() { ExitCode::Usage } else { ExitCode::Success });
        }
    };
    let ui = Ui::new(&cli.global);
    let promise = cli.command.promises();
    match ui.check_output().and_then(|()| run(cli, &ui)) {
        Ok(done) => code(done),
        Err(failed) => {
            let (number, job_id) = (failed.code, failed.job_id.clone());
            ui.failed(failed);
            ui.keep(promise, number, job_id.as_deref());
            code(number)
        }
    }
}

fn code(code: ExitCode) -> process::ExitCode {
    code.number().into()
}

fn run(cli: Cli, ui: &Ui) -> Result<ExitCode, Failed> {
    let target = Target::choose(cli.global.coordinator.as_deref());
    let logs = cli.global.verbose;
    let talk = |target: Target, need| Talk { target, need, ui, logs };
    match cli.command {
        Command::Gate(args) => gate::run(&args, ui),
        Command::Init(args) => init::run(&args, ui),
        Command::Completions { shell } => {
            // Into memory first: the generator takes a reader that has gone for a bug.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "darwin", &mut script);
            ui::to_stdout(&script)?;
            Ok(ExitCode::Success)
        }
        Command::Demo(args) => {
            let prepared = demo::prepare(ui)?;
            talk(Target::Embedded, Need::Work)
                .with(async |session| demo::run(&args, prepared, session, ui).await)
        }
        Command::Check => talk(target?, Need::Join).with(async |session| check::run(session, ui).await),
        Command::Compare(args) => {
            let target = stays(target?, args.submit.detach)?;
            let prepared = compare::prepare(&args, ui)?;
            talk(target, Need::Work).with(async |session| compare::run(&args, prepared, session, ui).await)
        }
        Command::Measure(args) => {
            let target = stays(target?, args.submit.detach)?;
            let prepared = measure::prepare(&args, ui)?;
            talk(target, Need::Work).with(async |session| measure::run(&args, prepared, session, ui).await)
        }
        Command::Job(command) => {
            let need = match &command {
                args::JobCommand::Watch(_) => Need::Join,
                args::JobCommand::Probe(args::ProbeArgs { history: false, .. }) => Need::Work,
                args::JobCommand::List(_)
                | args::JobCommand::Show(_)
                | args::JobCommand::Logs { .. }
                | args::JobCommand::Cancel { .. }
                | args::JobCommand::Retry(_)
                | args::JobCommand::Probe(_) => Need::Look,
            };
            talk(target?, need).with(async |session| commands::job::run(&command, session, ui).await)
        }
        Command::Agent(command) => {
            talk(target?, Need::Look).with(async |session| agent::run(&command, session, ui).await)
        }
        Command::Verdict(command) => {
            talk(target?, Need::Look).with(async |session| verdict::run(&command, session, ui).await)
        }
        Command::History(args) => {
            let project = history::project(&args)?;
            talk(target?, Need::Look).with(async |session| history::run(&args, project, session, ui).await)
        }
    }
}

/// A job that is left alone needs a coordinator that outlives this command.
fn stays(target: Target, detach: bool) -> Result<Target, Failed> {
    if detach && target == Target::Embedded {
        return Err(Failed::usage(
            "--detach leaves the job to a coordinator, and the embedded one ends with this command: run \
             darwin-coordinator and darwin-agent, and name it with --coordinator URL",
        ));
    }
    Ok(target)
}

/// A command that talks to a coordinator.
struct Talk<'a> {
    target: Target,
    need: Need,
    ui: &'a Ui,
    logs: u8,
}

impl Talk<'_> {
    fn with(
        self,
        command: impl AsyncFnOnce(&Session) -> Result<ExitCode, Failed>,
    ) -> Result<ExitCode, Failed> {
        let mut runtime = match self.target {
            Target::Remote(_) => tokio::runtime::Builder::new_current_thread(),
            Target::Embedded => {
                bug::log_to_stderr(self.logs);
                let mut runtime = tokio::runtime::Builder::new_multi_thread();
                runtime.worker_threads(EMBEDDED_THREADS);
                runtime
            }
        };
        let runtime = runtime
            .enable_all()
            .build()
            .map_err(|e| Failed::system(format!("cannot start the runtime: {e}")))?;
        runtime.block_on(async {
            let session = Session::open(&self.target, self.need, self.ui).await?;
            let done = command(&session).await;
            let closed = session.close().await;
            // What went wrong first is what the person must know.
            let done = done?;
            closed?;
            Ok(done)
        })
    }
}
