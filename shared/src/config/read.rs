//! From the file's tables to suites: which keys there are, what each may be, and what holds without it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::error::{Fault, shown};
use super::files::glob;
use super::walk::{Faults, Item, Section};
use super::{
    Config, DEFAULT_ATTEMPTS, DEFAULT_CHECK_TIMEOUT, DEFAULT_RUN_TIMEOUT, DEFAULT_SETUP_TIMEOUT, Files,
    MAX_PATTERNS, MAX_PRIORITY, MAX_SUITES, Suite, gate,
};
use crate::fleet::{MAX_LABEL_CHARS, MAX_LABELS};
use crate::formats::Format;
use crate::ids::{IdError, PoolName, ProjectName, SuiteName};
use crate::spec::{
    Budget, Command, CoreRequest, Exclusive, Isolation, Layout, MAX_ATTEMPTS, MAX_BUDGET, MAX_COMMAND_BYTES,
    MAX_CORES, MAX_ENV_BYTES, MAX_ROUNDS, MAX_SOAK_ROUNDS, MAX_TIMEOUT, PairPlan, Scheduler, Step, Steps,
};

const SUITE_KEYS: &[&str] = &[
    "setup",
    "setup_timeout",
    "check",
    "check_timeout",
    "run",
    "timeout",
    "format",
    "files",
    "env",
    "pool",
    "labels",
    "cores",
    "plan",
    "layout",
    "gate",
    "budget",
    "priority",
    "attempts",
];

/// The whole file. None if a fault was written down that leaves nothing to go on with.
pub(super) fn config(root: &Section<'_>, faults: &mut Faults) -> Option<Config> {
    root.only(&["project", "suite"], faults);
    let project = needed(root, "project", no_project, faults)
        .and_then(|item| faults.keep(name(&item, ProjectName::new)));
    let suites = suites(root, faults);
    Some(Config { project: project?, suites: suites? })
}

/// What stands under a key that must be there; its absence is written down.
fn needed<'a>(
    section: &Section<'a>,
    key: &str,
    absent: impl FnOnce() -> Fault,
    faults: &mut Faults,
) -> Option<Item<'a>> {
    let item = section.get(key);
    if item.is_none() {
        faults.add(absent());
    }
    item
}

fn no_project() -> Fault {
    Fault::new(
        0..0,
        "the file does not say which project it is of",
        "no `project`",
        "write `project = \"NAME\"` as the first line: it groups jobs, history and permissions",
    )
}

fn suites(root: &Section<'_>, faults: &mut Faults) -> Option<BTreeMap<SuiteName, Suite>> {
    let item = needed(root, "suite", || no_suite(0..0), faults)?;
    let section = faults.keep(item.section("{ hotpath = { run = \"…\" } }"))?;
    let count = section.items().count();
    if count == 0 || count > MAX_SUITES {
        faults.add(if count == 0 {
            no_suite(section.span)
        } else {
            let what = format!("the file has {count} suites; at most {MAX_SUITES} are read");
            Fault::new(
                section.span,
                what,
                "too many",
                "split the repository, or make one suite of several benches",
            )
        });
        return None;
    }
    let mut suites = BTreeMap::new();
    for item in section.items() {
        if let Some((name, suite)) = one_suite(&item, faults) {
            suites.insert(name, suite);
        }
    }
    Some(suites)
}

fn no_suite(span: std::ops::Range<usize>) -> Fault {
    Fault::new(
        span,
        "the file has no suite",
        "no `[suite.NAME]`",
        "add a table such as `[suite.hotpath]` with at least `run = \"…\"`; `darwin init` writes one",
    )
}

fn one_suite(item: &Item<'_>, faults: &mut Faults) -> Option<(SuiteName, Suite)> {
    let name = SuiteName::new(item.key).map_err(|why| {
        Fault::new(
            item.key_span.clone(),
            why.to_string(),
            "no name",
            "rename the suite, such as [suite.hotpath]",
        )
    });
    let name = faults.keep(name);
    let section = faults.keep(item.section("{ run = \"…\" }"))?;
    section.only(SUITE_KEYS, faults);

    let format = optional(&section, "format", faults, format).unwrap_or_default();
    let steps = steps(&section, format, faults);
    let files = optional(&section, "files", faults, |item| files(item)).unwrap_or_default();
    let env = env(&section, faults);
    let pool = optional(&section, "pool", faults, |item| self::name(item, PoolName::new));
    let labels = labels(&section, faults);
    let cores = sub(&section, "cores", faults, cores);
    let plan = optional(&section, "plan", faults, |item| plan(item, format)).unwrap_or_default();
    let layout = optional(&section, "layout", faults, |item| {
        item.word(&Layout::ALL.map(|layout| (layout.word(), layout)))
    })
    .unwrap_or_default();
    let budget = sub(&section, "budget", faults, budget);
    let policy = gate::policy(&section, &budget, faults);
    let priority = optional(&section, "priority", faults, priority).unwrap_or(0);
    let attempts = optional(&section, "attempts", faults, |item| {
        item.count(
            1,
            MAX_ATTEMPTS,
            "how often a lost box may be made up for; a bench that fails is never tried again",
        )
    });
    let suite = Suite {
        steps: steps?,
        format,
        files,
        env,
        pool,
        labels,
        cores,
        plan,
        layout,
        policy,
        budget,
        priority,
        attempts: attempts.unwrap_or(DEFAULT_ATTEMPTS),
    };
    Some((name?, suite))
}

/// The value of a key that may be left out; none as well if it has a fault, which is then written down.
pub(super) fn optional<'a, T>(
    section: &Section<'a>,
    key: &str,
    faults: &mut Faults,
    read: impl FnOnce(&Item<'a>) -> Result<T, Fault>,
) -> Option<T> {
    let item = section.get(key)?;
    faults.keep(read(&item))
}

/// What a table that may be left out says; the default without it.
fn sub<'a, T: Default>(
    section: &Section<'a>,
    key: &str,
    faults: &mut Faults,
    read: impl FnOnce(&Section<'a>, &mut Faults) -> T,
) -> T {
    match optional(section, key, faults, |item| item.section("{ … }")) {
        Some(section) => read(&section, faults),
        None => T::default(),
    }
}

fn name<T>(item: &Item<'_>, new: impl FnOnce(String) -> Result<T, IdError>) -> Result<T, Fault> {
    let text = item.text("\"NAME\"")?;
    new(text.to_owned()).map_err(|why| {
        item.fault(
            format!("cannot be used: {why}"),
            "no name",
            "names have 1 to 100 letters, digits, `-`, `_`, `.` and `/`",
        )
    })
}

fn format(item: &Item<'_>) -> Result<Format, Fault> {
    item.word(&Format::ALL.map(|format| (format.name(), format)))
}

fn plan(item: &Item<'_>, format: Format) -> Result<PairPlan, Fault> {
    let plan = item.word(&PairPlan::ALL.map(|plan| (plan.word(), plan)))?;
    if plan == PairPlan::Sliced && format == Format::Process {
        return Err(item.fault(
            "cannot be had with the format `process`, which times the whole command",
            "no slices of it",
            "leave `plan` out, or give the format of what the bench writes",
        ));
    }
    Ok(plan)
}

fn priority(item: &Item<'_>) -> Result<i32, Fault> {
    const HELP: &str = "higher goes first; 0 is usual";
    let value = item.whole(i64::from(-MAX_PRIORITY), i64::from(MAX_PRIORITY), HELP)?;
    i32::try_from(value).map_err(|_| item.fault("is no priority", "out of range", HELP))
}

fn timeout(section: &Section<'_>, key: &str, default: Duration, faults: &mut Faults) -> Duration {
    /// What is shorter is a slip of the pen: no process starts and ends in less.
    const LEAST: Duration = Duration::from_millis(1);
    optional(section, key, faults, |item| item.duration(LEAST, MAX_TIMEOUT)).unwrap_or(default)
}

fn steps(section: &Section<'_>, format: Format, faults: &mut Faults) -> Option<Steps> {
    let setup_timeout = timeout(section, "setup_timeout", DEFAULT_SETUP_TIMEOUT, faults);
    let check_timeout = timeout(section, "check_timeout", DEFAULT_CHECK_TIMEOUT, faults);
    let run_timeout = timeout(section, "timeout", DEFAULT_RUN_TIMEOUT, faults);
    let setup = optional(section, "setup", faults, command);
    let check = optional(section, "check", faults, command);
    let Some(run) = section.get("run") else {
        faults.add(Fault::new(
            section.span.clone(),
            format!("[{}] does not say what to run", section.path),
            "no `run`",
            "add `run = \"…\"`: the command of one invocation, which writes its result to `{output}`",
        ));
        return None;
    };
    let command = faults.keep(command(&run))?;
    if format.reads_a_file() && !command.mentions("output") {
        faults.add(no_output(&run, format));
    }
    let step = |command, timeout| Step { command, timeout };
    Some(Steps {
        setup: setup.map(|command| step(command, setup_timeout)),
        check: check.map(|command| step(command, check_timeout)),
        run: step(command, run_timeout),
    })
}

fn command(item: &Item<'_>) -> Result<Command, Fault> {
    let command = item.command()?;
    let parts = match &command {
        Command::Shell(text) => std::slice::from_ref(text),
        Command::Argv(argv) => argv.as_slice(),
    };
    if parts.iter().any(|part| part.contains('\0')) {
        return Err(item.fault("has a NUL in it", "NUL", "no command line can carry one; leave it out"));
    }
    let length: usize = parts.iter().map(String::len).sum();
    if length > MAX_COMMAND_BYTES {
        let why = format!("has {length} bytes; at most {} KiB are taken", MAX_COMMAND_BYTES >> 10);
        return Err(item.fault(why, "too long", "put it into a script in the repository and run that"));
    }
    Ok(command)
}

fn no_output(run: &Item<'_>, format: Format) -> Fault {
    let option = match format {
        Format::PytestBenchmark => "--benchmark-json={output}",
        Format::Hyperfine => "--export-json {output}",
        Format::Auto | Format::Criterion | Format::DarwinSamples | Format::Process => "--json {output}",
    };
    run.fault(
        format!("has no `{{output}}`, but the format {format} reads a file that the bench writes"),
        "no `{output}`",
        format!("tell the bench where to write, such as `{option}`; or `format = \"process\"` to time the command itself"),
    )
}

fn files(item: &Item<'_>) -> Result<Files, Fault> {
    const EXAMPLE: &str = "{ include = [\"**\"], exclude = [\".git\"] }";
    let section = item.section(EXAMPLE)?;
    if let Some(unknown) = section.items().find(|item| !matches!(item.key, "include" | "exclude")) {
        return Err(Fault::new(
            unknown.key_span,
            format!("`{}` is not a key of `{}`", shown(unknown.key), item.path),
            "unknown key",
            format!("its keys are `include` and `exclude`: write `files = {EXAMPLE}`"),
        ));
    }
    let defaults = Files::default();
    let include = patterns(&section, "include", defaults.include())?;
    let exclude = patterns(&section, "exclude", defaults.exclude())?;
    if include.is_empty() {
        return Err(item.fault("includes nothing", "no files", "leave `include` out for all files"));
    }
    Files::new(include, exclude)
        .map_err(|why| item.fault(format!("cannot be used: {why}"), "bad globs", EXAMPLE))
}

fn patterns(section: &Section<'_>, key: &str, default: &[String]) -> Result<Vec<String>, Fault> {
    let Some(item) = section.get(key) else {
        return Ok(default.to_vec());
    };
    let texts = item.texts("[\"src/**\"]")?;
    if texts.len() > MAX_PATTERNS {
        let why = format!("has {} patterns; at most {MAX_PATTERNS} are taken", texts.len());
        return Err(item.fault(why, "too many", "name folders instead of files"));
    }
    let checked = texts.into_iter().map(|(text, element)| {
        let outside = text.is_empty() || text.starts_with('/') || text.split('/').any(|part| part == "..");
        if outside {
            let why = format!("is `{}`, which is no path in the repository", shown(&text));
            return Err(element.fault(
                why,
                "not inside",
                "paths are relative to the repository's root, without `..`",
            ));
        }
        match glob(&text) {
            Ok(_) => Ok(text),
            Err(why) => Err(element.fault(
                format!("is no glob: {}", why.kind()),
                "no glob",
                "`*` is any name, `**` any number of folders, `[ab]` one of two letters",
            )),
        }
    });
    checked.collect()
}

fn env(section: &Section<'_>, faults: &mut Faults) -> BTreeMap<String, String> {
    let Some(item) = section.get("env") else {
        return BTreeMap::new();
    };
    let entries = faults.keep(item.map_of_texts("{ PYTHONHASHSEED = \"0\" }")).unwrap_or_default();
    let mut env = BTreeMap::new();
    for (key, value, item) in entries {
        if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
            faults.add(Fault::new(
                item.key_span,
                format!("`{}` cannot be a variable", shown(&key)),
                "no variable",
                "a name is not empty and has no `=`; neither it nor its value has a NUL",
            ));
            continue;
        }
        env.insert(key, value);
    }
    let bytes: usize = env.iter().map(|(key, value)| key.len() + value.len() + 2).sum();
    if bytes > MAX_ENV_BYTES {
        let why = format!("has {bytes} bytes; at most {} KiB are taken", MAX_ENV_BYTES >> 10);
        faults.add(item.fault(why, "too large", "put large values into a file of the repository"));
    }
    env
}

fn labels(section: &Section<'_>, faults: &mut Faults) -> BTreeMap<String, String> {
    let Some(item) = section.get("labels") else {
        return BTreeMap::new();
    };
    let entries = faults.keep(item.map_of_texts("{ cpu = \"xeon-6\" }")).unwrap_or_default();
    let mut labels = BTreeMap::new();
    for (key, value, item) in entries {
        let fits = |text: &str| {
            (1..=MAX_LABEL_CHARS).contains(&text.chars().count()) && !text.chars().any(char::is_control)
        };
        if fits(&key) && fits(&value) {
            labels.insert(key, value);
        } else {
            faults.add(item.fault(
                "is no label",
                "no label",
                "a label's name and value have 1 to 100 characters, none of them a control character",
            ));
        }
    }
    if labels.len() > MAX_LABELS {
        let why = format!("has {} entries; at most {MAX_LABELS} are taken", labels.len());
        faults.add(item.fault(why, "too many", "name what tells the boxes apart, no more"));
    }
    labels
}

fn cores(section: &Section<'_>, faults: &mut Faults) -> CoreRequest {
    section.only(&["count", "isolation", "exclusive", "scheduler"], faults);
    let default = CoreRequest::default();
    let count = optional(section, "count", faults, |item| {
        item.count(1, MAX_CORES, "it is a number of whole physical cores; most benches need 1")
    });
    let isolation = optional(section, "isolation", faults, |item| {
        item.word(&[
            ("required", Isolation::Required),
            ("preferred", Isolation::Preferred),
            ("none", Isolation::None),
        ])
    });
    let exclusive = optional(section, "exclusive", faults, |item| {
        item.word(&[
            ("core", Exclusive::Core),
            ("llc", Exclusive::Llc),
            ("node", Exclusive::Node),
            ("host", Exclusive::Host),
        ])
    });
    let scheduler = optional(section, "scheduler", faults, |item| {
        item.word(&[("other", Scheduler::Other), ("fifo", Scheduler::Fifo)])
    });
    CoreRequest {
        count: count.unwrap_or(default.count),
        isolation: isolation.unwrap_or(default.isolation),
        exclusive: exclusive.unwrap_or(default.exclusive),
        scheduler: scheduler.unwrap_or(default.scheduler),
    }
}

fn budget(section: &Section<'_>, faults: &mut Faults) -> Budget {
    /// No box could even start a round in less.
    const LEAST: Duration = Duration::from_secs(1);
    section.only(&["rounds", "time"], faults);
    let default = Budget::default();
    let time = optional(section, "time", faults, |item| item.duration(LEAST, MAX_BUDGET));
    let rounds = optional(section, "rounds", faults, |i| i.section("{ min = 1, max = 40 }"));
    let (rounds_min, rounds_max) = match &rounds {
        Some(rounds) => rounds_of(rounds, &default, faults),
        None => (default.rounds_min, default.rounds_max),
    };
    let budget = Budget { rounds_min, rounds_max, time: time.unwrap_or(default.time) };
    if let Some(max) = rounds.and_then(|rounds| rounds.get("max"))
        && budget.is_unlimited()
        && section.get("time").is_none()
    {
        faults.add(max.fault(
            format!("is \"{UNLIMITED}\", and nothing else says when the job is to end"),
            "no `time`",
            "add `time = \"8h\"` to the budget: the job ends with its verdict, or when that time is over",
        ));
    }
    budget
}

/// In the place of a number of rounds: no planned end.
const UNLIMITED: &str = "unlimited";

fn rounds_of(section: &Section<'_>, default: &Budget, faults: &mut Faults) -> (u32, u32) {
    section.only(&["min", "max"], faults);
    let count =
        |item: &Item<'_>| item.count(1, MAX_ROUNDS, "a round is one invocation of each variant; 40 is usual");
    let least = optional(section, "min", faults, count).unwrap_or(default.rounds_min);
    let most_of = |item: &Item<'_>| match item.text(UNLIMITED) {
        Ok(UNLIMITED) => Ok(MAX_SOAK_ROUNDS),
        Ok(other) => Err(item.fault(
            format!("is `{}`, which it cannot be", shown(other)),
            "unknown word",
            "write a number, such as 40, or \"unlimited\" for a job that its verdict or `time` ends",
        )),
        Err(_) => count(item),
    };
    // A minimum above the usual maximum, with none given, means at least that many and no more.
    let most = optional(section, "max", faults, most_of).unwrap_or(default.rounds_max.max(least));
    if let Some(item) = section.get("min")
        && least > most
    {
        faults.add(item.fault(
            format!("is {least}, which is more than the {most} of `max`"),
            "more than `max`",
            "raise `max`, or lower `min`",
        ));
        return (most, most);
    }
    (least, most)
}
