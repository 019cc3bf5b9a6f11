//! The `darwin.toml` that `darwin init` writes: commented, and ready to run for the benches that were found.

use std::collections::BTreeMap;

use crate::config::error::shown;
use crate::ids::ProjectName;

/// A kind of bench that a repository can be seen to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BenchKind {
    /// Python tests with pytest-benchmark.
    PytestBenchmark,
    /// Rust benches with criterion.
    Criterion,
    /// Commands that hyperfine times.
    Hyperfine,
}

/// What was found in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// The kinds of benches; none makes a suite that times a command.
    pub kinds: Vec<BenchKind>,
    /// What pip is to install, as its arguments: `-r requirements.txt`.
    pub pip: String,
    /// Where the Python tests are, as pytest is told: `tests`.
    pub tests: String,
    /// The Cargo project, if there is one.
    pub cargo: Option<CargoProject>,
}

/// A Cargo project, and where Rust's tools are on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CargoProject {
    /// The variables that the tools need beside the small environment that commands get; empty if they need none.
    pub env: BTreeMap<String, String>,
}

impl CargoProject {
    /// The line of the suite: what these tools need, or how it would be said.
    fn env_line(&self) -> String {
        if self.env.is_empty() {
            return "# Commands get a small environment with a HOME of their own. Where rustup is below a home, say so:\n\
                    # env = { PATH = \"/home/you/.cargo/bin:/usr/bin:/bin\", CARGO_HOME = \"/home/you/.cargo\", RUSTUP_HOME = \"/home/you/.rustup\" }"
                .to_owned();
        }
        let pairs: Vec<String> =
            self.env.iter().map(|(name, value)| format!("{name} = \"{}\"", quoted(value))).collect();
        format!(
            "# Commands get a small environment with a HOME of their own. Rust's tools are here on this machine; on boxes where\n\
             # they are elsewhere, say where.\n\
             env = {{ {} }}",
            pairs.join(", ")
        )
    }
}

impl Default for Findings {
    fn default() -> Self {
        Self {
            kinds: Vec::new(),
            pip: "-r requirements.txt".to_owned(),
            tests: "tests".to_owned(),
            cargo: None,
        }
    }
}

impl Findings {
    fn build(&self) -> &'static str {
        if self.cargo.is_some() { "cargo build --release" } else { "make" }
    }

    fn test(&self) -> &'static str {
        if self.cargo.is_some() { "cargo test --quiet" } else { "make test" }
    }

    fn env_line(&self) -> String {
        self.cargo.as_ref().map_or_else(|| PLAIN_ENV.to_owned(), CargoProject::env_line)
    }
}

const PLAIN_ENV: &str = "# env = { NAME = \"value\" }";

/// What differs between the kinds.
struct Words {
    suite: &'static str,
    setup: String,
    check: String,
    run: String,
    format: &'static str,
    exclude: &'static str,
    /// What the commands may need in their environment.
    env: String,
    /// The metric that is gated, and its margin.
    metric: (&'static str, &'static str),
}

impl BenchKind {
    fn words(self, found: &Findings) -> Words {
        let median = ("latency.p50", "1%");
        match self {
            Self::PytestBenchmark => Words {
                suite: "pytest",
                setup: format!("python3 -m venv .venv && .venv/bin/pip install {}", quoted(&found.pip)),
                check: format!(".venv/bin/python -m pytest -q {} --benchmark-skip", quoted(&found.tests)),
                run: format!(
                    ".venv/bin/python -m pytest -q {} --benchmark-only --benchmark-json={{output}}",
                    quoted(&found.tests)
                ),
                format: "pytest-benchmark",
                exclude: "\".git\", \".venv\", \"**/__pycache__\"",
                env: "# env = { PYTHONHASHSEED = \"0\" }".to_owned(),
                metric: median,
            },
            Self::Criterion => Words {
                suite: "criterion",
                setup: "cargo bench --no-run".to_owned(),
                check: "cargo test --quiet".to_owned(),
                run: "cargo bench".to_owned(),
                format: "criterion",
                exclude: "\".git\", \"target\"",
                env: found.cargo.clone().unwrap_or_default().env_line(),
                metric: median,
            },
            Self::Hyperfine => Words {
                suite: "hyperfine",
                setup: found.build().to_owned(),
                check: found.test().to_owned(),
                run: "hyperfine --warmup 3 --export-json {output} ./bench.sh".to_owned(),
                format: "hyperfine",
                exclude: "\".git\"",
                env: found.env_line(),
                metric: median,
            },
        }
    }
}

/// A command that is timed as it is: one sample for each invocation, so its mean is all that there is.
fn command(found: &Findings) -> Words {
    Words {
        suite: "command",
        setup: found.build().to_owned(),
        check: found.test().to_owned(),
        run: "./bench.sh".to_owned(),
        format: "process",
        exclude: if found.cargo.is_some() { "\".git\", \"target\"" } else { "\".git\"" },
        env: found.env_line(),
        metric: ("latency.mean", "2%"),
    }
}

/// The text as it may stand between the quotes of a TOML string.
fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// A commented `darwin.toml` for a project with these benches; a timed command if none was found.
///
/// What it gives always parses.
pub fn template(project: &ProjectName, found: &Findings) -> String {
    let mut kinds = found.kinds.clone();
    kinds.sort_unstable();
    kinds.dedup();
    let mut words: Vec<Words> = kinds.into_iter().map(|kind| kind.words(found)).collect();
    if words.is_empty() {
        words.push(command(found));
    }
    let mut text = format!(
        "# What Darwin runs, where, and how it judges. `darwin compare --suite NAME --baseline main --challenger HEAD`.\n\
         # Commands are a string for a shell or a list for none. {{output}}, {{round}}, {{seed}} and {{variant_dir}} are filled in.\n\
         project = \"{}\"\n",
        shown(project.as_str()),
    );
    for words in &words {
        text.push_str(&suite(words));
    }
    text
}

fn suite(words: &Words) -> String {
    let Words { suite, setup, check, run, format, exclude, env, metric: (metric, margin) } = words;
    format!(
        "\n\
         [suite.{suite}]\n\
         # Once for each artifact, cached, off the measuring cores. Leave it out if there is nothing to build.\n\
         setup = \"{setup}\"\n\
         # Correctness first: must pass, or nothing is measured.\n\
         check = \"{check}\"\n\
         # One invocation. Well under a second is best: the gate learns from many processes, not from long ones.\n\
         run = \"{run}\"\n\
         format = \"{format}\"\n\
         timeout = \"10m\"               # of one invocation; setup_timeout and check_timeout for the others\n\
         files = {{ include = [\"**\"], exclude = [{exclude}] }}\n\
         {env}\n\
         # pool = \"xeon-6\"             # boxes that are interchangeable; any if left out\n\
         # labels = {{ site = \"ny4\" }}  # what an agent must have\n\
         \n\
         [suite.{suite}.cores]\n\
         count = 1                     # whole physical cores\n\
         isolation = \"preferred\"       # required | preferred | none\n\
         exclusive = \"core\"            # core | llc | node | host: what no other job may share meanwhile\n\
         scheduler = \"other\"           # other | fifo\n\
         \n\
         [suite.{suite}.gate]\n\
         mode = \"faster\"               # faster: approve what is proven faster; no-slower: what is proven not slower\n\
         alpha = 0.01                  # chance of a wrong verdict, over all findings of the job\n\
         # primary = \"latency.p99\"     # what must get faster; the median if left out (a command has only the mean)\n\
         [suite.{suite}.gate.metric.\"{metric}\"]\n\
         margin = \"{margin}\"                 # the largest worsening that is accepted\n\
         \n\
         [suite.{suite}.budget]\n\
         rounds = {{ min = 10, max = 40 }}  # max = \"unlimited\": until the verdict stands or the time is over\n\
         time = \"20m\"\n",
    )
}
