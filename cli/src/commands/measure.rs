//! `darwin measure`: one version of a suite, or one command, measured and recorded; or one version against itself.

use std::collections::BTreeMap;
use std::time::Duration;

use darwin_gate::Policy;
use darwin_shared::exit_code::ExitCode;
use darwin_shared::formats::Format;
use darwin_shared::ids::{ProjectName, SuiteName};
use darwin_shared::report::{shorten, visible};
use darwin_shared::spec::{
    Budget, Command, CoreRequest, JobSpec, Layout, PairPlan, Source, Step, Steps, Variant, Work,
};

use super::{calibrate, many};
use crate::args::MeasureArgs;
use crate::failure::Failed;
use crate::pack::{self, Blobs};
use crate::session::Session;
use crate::submit::{submit_and_leave, submit_and_wait};
use crate::suite::FoundSuite;
use crate::ui::Ui;

/// The project under which commands without a `darwin.toml` are recorded.
const COMMAND_PROJECT: &str = "commands";
/// The longest label of a command in lists and reports.
const MAX_LABEL_CHARS: usize = 60;
/// Tries for infrastructure's sake, as for a suite that says nothing.
const ATTEMPTS: u32 = 3;
/// A command measured often may take this long altogether.
const COMMAND_BUDGET: Duration = Duration::from_hours(24);

/// A measurement, ready to be submitted.
#[derive(Debug)]
pub(crate) struct Prepared {
    spec: JobSpec,
    blobs: Blobs,
    /// For a calibration: the suite's own policy, by which later comparisons are judged.
    calibrates_for: Option<Policy>,
}

/// Reads and packs all that can be wrong before anything is started.
pub(crate) fn prepare(args: &MeasureArgs, ui: &Ui) -> Result<Prepared, Failed> {
    let seed = args.submit.seed.unwrap_or_else(rand::random);
    let command = match (&args.shell, args.command.as_slice()) {
        (Some(text), _) => Some(Command::Shell(text.clone())),
        (None, []) => None,
        (None, words) => Some(Command::Argv(from_here(words)?)),
    };
    if let Some(command) = command {
        let spec = command_spec(command, args.rounds.unwrap_or(1), args.timeout, seed)?;
        return Ok(Prepared { spec, blobs: Blobs::default(), calibrates_for: None });
    }
    let found = FoundSuite::load(args.submit.config.as_deref(), args.suite.as_deref())?;
    let packed = pack::pack(&args.reference, &found.root)?;
    for warning in &packed.warnings {
        ui.warn(warning);
    }
    if args.calibrate {
        ui.shows("measure --calibrate")?;
        let spec = calibrate::spec(args, &found, packed.variant, seed)?;
        return Ok(Prepared { spec, blobs: packed.blobs, calibrates_for: Some(found.suite.policy) });
    }
    let mut spec = found.spec(Work::Measure { variant: packed.variant }, seed)?;
    if let Some(rounds) = args.rounds {
        spec.budget.rounds_min = rounds;
        spec.budget.rounds_max = rounds;
    }
    spec.check().map_err(Failed::usage)?;
    Ok(Prepared { spec, blobs: packed.blobs, calibrates_for: None })
}

/// The command with a program that is named from here, such as `./bench`, by its whole path: it runs in a folder of its
/// own, on this machine as long as agents are reached on loopback only.
fn from_here(words: &[String]) -> Result<Vec<String>, Failed> {
    let mut words = words.to_vec();
    if let Some(program) = words.first_mut().filter(|name| name.contains('/') && !name.starts_with('/')) {
        let whole = std::path::absolute(&*program).ok().filter(|path| path.exists());
        let whole = whole.as_ref().and_then(|path| path.to_str());
        whole
            .ok_or_else(|| Failed::usage(format!("there is no {} here", visible(program))))?
            .clone_into(program);
    }
    Ok(words)
}

fn command_spec(command: Command, rounds: u32, timeout: Duration, seed: u64) -> Result<JobSpec, Failed> {
    let text = match &command {
        Command::Shell(text) => text.clone(),
        Command::Argv(argv) => shell_words::join(argv),
    };
    let variant = Variant { label: shorten(&visible(&text), MAX_LABEL_CHARS), source: Source::Nothing };
    let spec = JobSpec {
        project: ProjectName::new(COMMAND_PROJECT).map_err(Failed::usage)?,
        suite: SuiteName::new(suite_name(&command)).map_err(Failed::usage)?,
        work: Work::Measure { variant },
        steps: Steps { setup: None, check: None, run: Step { command, timeout } },
        format: Format::Process,
        env: BTreeMap::new(),
        pool: None,
        labels: BTreeMap::new(),
        cores: CoreRequest::default(),
        plan: PairPlan::default(),
        layout: Layout::default(),
        policy: Policy::default(),
        budget: Budget { rounds_min: rounds, rounds_max: rounds, time: COMMAND_BUDGET },
        priority: 0,
        attempts: ATTEMPTS,
        seed,
    };
    spec.check().map_err(Failed::usage)?;
    Ok(spec)
}

/// The program's own name where that can be a suite's, so that history tells commands apart.
fn suite_name(command: &Command) -> String {
    let program = match command {
        Command::Shell(_) => None,
        Command::Argv(argv) => argv.first().and_then(|program| program.rsplit('/').next()),
    };
    program.filter(|name| SuiteName::new(*name).is_ok()).unwrap_or("shell").to_owned()
}

/// Submits what was prepared, once or many times.
pub(crate) async fn run(
    args: &MeasureArgs,
    prepared: Prepared,
    session: &Session,
    ui: &Ui,
) -> Result<ExitCode, Failed> {
    let Prepared { spec, blobs, calibrates_for } = prepared;
    if let Some(count) = args.count {
        return many::run(&spec, &blobs, count, args.quiet_jobs, session, ui).await;
    }
    if args.submit.detach {
        return submit_and_leave(session, &spec, &blobs, ui).await;
    }
    let report = submit_and_wait(session, &spec, &blobs, ui).await?;
    if let Some(policy) = calibrates_for {
        return calibrate::show(&report, &spec, &policy, session, ui).await;
    }
    ui.report(&report);
    Ok(report.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(command: Command) -> JobSpec {
        command_spec(command, 3, Duration::from_mins(1), 7).unwrap()
    }

    #[test]
    fn a_command_becomes_a_job_without_files() {
        let spec = spec(Command::Argv(vec!["/bin/sleep".into(), "0.1 s".into()]));
        assert_eq!((spec.suite.as_str(), spec.format, spec.budget.rounds_max), ("sleep", Format::Process, 3));
        let Work::Measure { variant } = spec.work else { panic!("not measure") };
        assert_eq!((variant.label.as_str(), variant.source), ("/bin/sleep '0.1 s'", Source::Nothing));
    }

    #[test]
    fn a_program_is_named_from_here_or_from_the_system() {
        let words = |program: &str| vec![program.to_owned(), "./data".to_owned()];
        assert_eq!(from_here(&words("sort")).unwrap(), words("sort"));
        assert_eq!(from_here(&words("/bin/sort")).unwrap(), words("/bin/sort"));
        let whole = std::path::absolute("src/main.rs").unwrap();
        assert_eq!(from_here(&words("src/main.rs")).unwrap(), words(whole.to_str().unwrap()));
        assert!(from_here(&words("./no-such-program")).is_err());
    }

    #[test]
    fn odd_programs_still_have_a_suite() {
        assert_eq!(spec(Command::Shell("sleep 1 | cat".into())).suite.as_str(), "shell");
        assert_eq!(spec(Command::Argv(vec!["./a b".into()])).suite.as_str(), "shell");
        let refused = command_spec(Command::Argv(vec![String::new()]), 1, Duration::from_mins(1), 7);
        assert!(refused.is_err());
    }
}
