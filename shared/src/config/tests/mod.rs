//! What `darwin.toml` may say, what holds without saying, and what a bad file gets.

mod bad;

use darwin_gate::{Metric, Mode, Stopping};

use super::*;
use crate::spec::{Command, Exclusive, Isolation, Layout, MAX_SOAK_ROUNDS, Scheduler, Source, Variant};

const FULL: &str = r#"
project = "matching-engine"

[suite.hotpath]
setup  = "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt"
setup_timeout = "1h"
check  = [".venv/bin/pytest", "-q", "tests/unit"]
check_timeout = "2m"
run    = ".venv/bin/pytest tests/benchmark --benchmark-json={output}"
format = "pytest-benchmark"
layout = "fixed"
timeout = "5m"
files  = { include = ["src", "tests/**"], exclude = [".git", "**/__pycache__"] }
env    = { PYTHONHASHSEED = "0" }
pool   = "xeon-6"
labels = { site = "ny4" }
priority = -5
attempts = 2

[suite.hotpath.cores]
count = 2
isolation = "required"
exclusive = "llc"
scheduler = "fifo"

[suite.hotpath.gate]
mode  = "no-slower"
alpha = 0.005
primary = "latency.p99"
assumed_noise = "8%"
[suite.hotpath.gate.metric."latency.p99"]
margin = "1%"
floor = "0.25%"
[suite.hotpath.gate.metric."memory.peak"]
margin = "5%"
[suite.hotpath.gate.metric."latency.p50"]
gated = false

[suite.hotpath.budget]
rounds = { min = 15, max = 60 }
time = "1h 30m"
"#;

const LEAST: &str = "project = \"p\"\n[suite.s]\nrun = \"./bench {output}\"\n";

fn parsed(text: &str) -> Config {
    Config::parse("darwin.toml", text).unwrap_or_else(|error| panic!("{error}: {error:#?}"))
}

fn only_suite(config: &Config) -> &Suite {
    assert_eq!(config.suites.len(), 1);
    config.suites.values().next().unwrap()
}

fn nothing() -> Work {
    Work::Measure { variant: Variant { label: "here".to_owned(), source: Source::Nothing } }
}

#[test]
fn everything_that_can_be_said_is_heard() {
    let config = parsed(FULL);
    let (name, suite) = config.suite("hotpath").unwrap();
    assert_eq!((config.project.as_str(), name.as_str()), ("matching-engine", "hotpath"));

    let check = suite.steps.check.as_ref().unwrap();
    assert_eq!(
        check.command,
        Command::Argv(vec![".venv/bin/pytest".into(), "-q".into(), "tests/unit".into()])
    );
    assert_eq!(check.timeout, Duration::from_mins(2));
    assert_eq!(suite.steps.setup.as_ref().unwrap().timeout, Duration::from_hours(1));
    assert_eq!(suite.steps.run.timeout, Duration::from_mins(5));
    assert_eq!(suite.format, Format::PytestBenchmark);
    assert!(suite.files.wants("src/a.py") && !suite.files.wants("README.md"));
    assert_eq!(suite.env["PYTHONHASHSEED"], "0");
    assert_eq!(suite.pool.as_ref().unwrap().as_str(), "xeon-6");
    assert_eq!(suite.labels["site"], "ny4");
    assert_eq!((suite.priority, suite.attempts), (-5, 2));
    assert_eq!(suite.layout, Layout::Fixed);
    let cores = CoreRequest {
        count: 2,
        isolation: Isolation::Required,
        exclusive: Exclusive::Llc,
        scheduler: Scheduler::Fifo,
    };
    assert_eq!(suite.cores, cores);
    assert_eq!((suite.budget.rounds_min, suite.budget.rounds_max), (15, 60));
    assert_eq!(suite.budget.time, Duration::from_mins(90));
}

#[test]
fn the_gate_follows_the_file() {
    let config = parsed(FULL);
    let policy = &only_suite(&config).policy;
    let metric = |name: &str| name.parse::<Metric>().unwrap();
    assert_eq!(policy.mode, Mode::NoSlower);
    assert_eq!(policy.primary, Some(metric("latency.p99")));
    assert_eq!((policy.max_pairs, policy.looks.as_slice()), (60, [20, 28, 40, 56, 60].as_slice()));
    let p99 = policy.metrics[&metric("latency.p99")];
    assert_eq!(
        (p99.margin.to_string(), p99.floor.to_string(), p99.gated),
        ("1%".into(), "0.25%".into(), true)
    );
    assert!(policy.metrics[&metric("memory.peak")].gated);
    assert!(!policy.metrics[&metric("latency.p50")].gated);
    policy.validate().unwrap();
}

#[test]
fn what_is_not_said_has_defaults() {
    insta::assert_debug_snapshot!(parsed(LEAST));
}

#[test]
fn a_suite_makes_a_spec_that_holds() {
    for text in [FULL, LEAST] {
        let config = parsed(text);
        let (name, suite) = config.suites.iter().next().unwrap();
        let spec = suite.to_spec(&config.project, name, nothing(), 7).unwrap();
        spec.check().unwrap();
        assert_eq!((spec.seed, &spec.policy), (7, &suite.policy));
    }
    let config = parsed(LEAST);
    let (name, suite) = config.suite("s").unwrap();
    let relative = Variant { label: "x".to_owned(), source: Source::Path("here".to_owned()) };
    let refused = suite.to_spec(&config.project, name, Work::Measure { variant: relative }, 7);
    assert!(matches!(refused, Err(SpecError::RelativePath(_))), "{refused:?}");
}

#[test]
fn relinked_builds_want_variants_that_are_built() {
    let text = format!("{LEAST}setup = \"make LUCK={{build}}\"\n[suite.s.gate]\nbuilds = 8\n");
    let config = parsed(&text);
    let (name, suite) = config.suite("s").unwrap();
    assert!(suite.policy.is_strict());
    let compare = |source: Source| {
        let variant = Variant { label: "x".to_owned(), source };
        let work = Work::Compare { baseline: variant.clone(), challenger: variant };
        suite.to_spec(&config.project, name, work, 7)
    };
    let tree = Source::Tree(crate::ids::Digest::of(b"files"));
    assert_eq!(compare(tree.clone()).unwrap().builds(), 8);
    let refused = [Source::Path("/opt/x".to_owned()), Source::Nothing].map(|source| match compare(source) {
        Err(error) => error.to_string(),
        Ok(spec) => panic!("{spec:?} was taken"),
    });
    insta::assert_snapshot!(refused.join("\n"));
    // What is only measured is built once.
    let measure = Work::Measure { variant: Variant { label: "x".to_owned(), source: tree } };
    assert_eq!(suite.to_spec(&config.project, name, measure, 7).unwrap().builds(), 1);
}

#[test]
fn few_rounds_leave_no_look_and_are_no_fault() {
    let config = parsed(&format!("{LEAST}[suite.s.budget]\nrounds = {{ max = 3 }}\n"));
    let policy = &only_suite(&config).policy;
    assert_eq!((policy.max_pairs, policy.looks.len()), (3, 0));
    let config = parsed(&format!("{LEAST}[suite.s.budget]\nrounds = {{ min = 50 }}\n"));
    assert_eq!(only_suite(&config).policy.looks, [50]);
}

#[test]
fn rounds_without_a_limit_are_judged_whenever_one_looks() {
    let text =
        format!("{LEAST}[suite.s.budget]\nrounds = {{ min = 15, max = \"unlimited\" }}\ntime = \"8h\"\n");
    let config = parsed(&text);
    let (name, suite) = config.suite("s").unwrap();
    assert!(suite.budget.is_unlimited() && !Budget::default().is_unlimited());
    assert_eq!((suite.budget.rounds_max, suite.budget.time), (MAX_SOAK_ROUNDS, Duration::from_hours(8)));
    let policy = &suite.policy;
    assert_eq!((policy.stopping, policy.max_pairs), (Stopping::Anytime, MAX_SOAK_ROUNDS));
    assert_eq!((policy.looks.first(), policy.looks.last()), (Some(&20), Some(&MAX_SOAK_ROUNDS)));
    let spec = suite.to_spec(&config.project, name, nothing(), 7).unwrap();
    // As many rounds with a planned end are refused.
    let planned = Policy { stopping: Stopping::Planned, ..spec.policy.clone() };
    let refused = JobSpec { policy: planned, ..spec }.check().unwrap_err().to_string();
    assert_eq!(refused, "`budget.rounds.max` is 10080; it must be from 1 to 1000");
    assert_eq!(only_suite(&parsed(LEAST)).policy.stopping, Stopping::Planned);
}

#[test]
fn line_ends_and_a_byte_order_mark_do_not_matter() {
    let windows = format!("\u{feff}{}", LEAST.replace('\n', "\r\n"));
    assert_eq!(parsed(&windows), parsed(LEAST));
}

#[test]
fn a_template_parses_for_all_that_may_be_found() {
    let project: ProjectName = "matching-engine".parse().unwrap();
    let all = [BenchKind::PytestBenchmark, BenchKind::Criterion, BenchKind::Hyperfine];
    for kinds in [&all[..0], &all[..1], &all[1..2], &all[2..], &all[..], &[all[0], all[0]]] {
        let found = Findings { kinds: kinds.to_vec(), ..Findings::default() };
        let text = template(&project, &found);
        let config = parsed(&text);
        for (name, suite) in &config.suites {
            suite.to_spec(&project, name, nothing(), 1).unwrap();
        }
    }
    let odd = Findings {
        kinds: vec![all[0]],
        pip: "-e '.[\"dev\"]'".to_owned(),
        tests: "a\\b".to_owned(),
        cargo: None,
    };
    let config = parsed(&template(&project, &odd));
    let setup = only_suite(&config).steps.setup.clone().unwrap();
    assert_eq!(
        setup.command,
        Command::Shell("python3 -m venv .venv && .venv/bin/pip install -e '.[\"dev\"]'".to_owned())
    );
    let found = |kinds: &[BenchKind]| Findings { kinds: kinds.to_vec(), ..Findings::default() };
    insta::assert_snapshot!("template-pytest", template(&project, &found(&all[..1])));
    insta::assert_snapshot!("template-command", template(&project, &found(&[])));
    let env = [("CARGO_HOME", "/home/ada/.cargo"), ("PATH", "/home/ada/\"x\":/usr/bin:/bin")];
    let env: BTreeMap<String, String> = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    for kinds in [&all[..0], &all[1..2], &all[2..]] {
        let cargo = Some(CargoProject { env: env.clone() });
        let text = template(&project, &Findings { cargo, ..found(kinds) });
        assert_eq!(only_suite(&parsed(&text)).env, env, "{kinds:?}");
        if kinds == [BenchKind::Criterion] {
            insta::assert_snapshot!("template-criterion", text);
        }
        let text = template(&project, &Findings { cargo: Some(CargoProject::default()), ..found(kinds) });
        assert!(text.contains("\n# env = { PATH = ") && only_suite(&parsed(&text)).env.is_empty(), "{text}");
    }
}

/// The keys that the reader knows, by asking it: a key that it does not know gets a list of those that it does.
fn known_keys(table: &str) -> Vec<String> {
    let text = format!("project = \"p\"\n[suite.s]\nrun = \"x {{output}}\"\n{table}\nqqqqqqqq = 1\n");
    let error = Config::parse("darwin.toml", &text).unwrap_err();
    let fault = error.faults().find(|fault| fault.what.contains("qqqqqqqq")).unwrap();
    let (_, keys) = fault.help.split_once("its keys are ").unwrap_or_else(|| panic!("{}", fault.help));
    keys.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_document_names_every_key() {
    let document = include_str!("../../../../docs/darwin-toml.md");
    let tables = [
        "",
        "[suite.s.cores]",
        "[suite.s.gate]",
        "[suite.s.gate.metric.\"latency.p50\"]",
        "[suite.s.budget]",
    ];
    for table in tables {
        for key in known_keys(table) {
            let row =
                |line: &&str| line.starts_with(&format!("| `{key}")) && line.matches(" | ").count() == 3;
            // The tables within a suite have headings of their own.
            let heading = |line: &&str| *line == format!("## `[suite.NAME.{key}]`");
            assert!(document.lines().any(|line| row(&line) || heading(&line)), "{table} {key}");
        }
    }
    for format in Format::ALL {
        assert!(document.contains(&format!("\n| `{}` |", format.name())), "{format}");
    }
}

#[test]
fn the_documents_examples_are_valid() {
    for document in [include_str!("../../../../docs/darwin-toml.md"), include_str!("../../../../README.md")] {
        let (_, rest) = document.split_once("```toml\n").unwrap();
        let (example, _) = rest.split_once("```").unwrap();
        let config = parsed(example);
        for (name, suite) in &config.suites {
            suite.to_spec(&config.project, name, nothing(), 1).unwrap();
        }
    }
}
