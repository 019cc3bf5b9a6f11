//! The `darwin.toml` that `darwin init` writes: commented, and ready to run for the benches that were found.

use crate::config::error::shown;
use crate::ids::ProjectName;

/// A kind of bench that a repository can be seen to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BenchKind {
    /// Python tests with pytest-benchmark.
    PytestBenchmark,
    /// Rust benches with criterion.
    Criterion,
    /// Commands, timed by hyperfine.
    Hyperfine,
}

/// What differs between the kinds.
struct Words {
    suite: &'static str,
    setup: &'static str,
    check: &'static str,
    run: &'static str,
    format: &'static str,
    exclude: &'static str,
}

impl BenchKind {
    const fn words(self) -> Words {
        match self {
            Self::PytestBenchmark => Words {
                suite: "pytest",
                setup: "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt",
                check: ".venv/bin/pytest -q tests --benchmark-skip",
                run: ".venv/bin/pytest tests --benchmark-only --benchmark-json={output}",
                format: "pytest-benchmark",
                exclude: "\".git\", \".venv\", \"**/__pycache__\"",
            },
            Self::Criterion => Words {
                suite: "criterion",
                setup: "cargo bench --no-run",
                check: "cargo test --quiet",
                run: "cargo bench",
                format: "criterion",
                exclude: "\".git\", \"target\"",
            },
            Self::Hyperfine => Words {
                suite: "command",
                setup: "make",
                check: "make test",
                run: "hyperfine --warmup 3 --export-json {output} ./bench.sh",
                format: "hyperfine",
                exclude: "\".git\"",
            },
        }
    }
}

/// A commented `darwin.toml` for a project with these kinds of benches; a timed command if none was found.
///
/// What it gives always parses.
pub fn template(project: &ProjectName, kinds: &[BenchKind]) -> String {
    let mut kinds = if kinds.is_empty() { vec![BenchKind::Hyperfine] } else { kinds.to_vec() };
    kinds.sort_unstable();
    kinds.dedup();
    let mut text = format!(
        "# What Darwin runs, where, and how it judges. `darwin compare --suite NAME --baseline main --challenger HEAD`.\n\
         # Commands are a string for a shell or a list for none. {{output}}, {{round}}, {{seed}} and {{variant_dir}} are filled in.\n\
         project = \"{}\"\n",
        shown(project.as_str()),
    );
    for kind in kinds {
        text.push_str(&suite(&kind.words()));
    }
    text
}

fn suite(words: &Words) -> String {
    let Words { suite, setup, check, run, format, exclude } = words;
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
         # env = {{ PYTHONHASHSEED = \"0\" }}\n\
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
         primary = \"latency.p50\"       # what must get faster\n\
         [suite.{suite}.gate.metric.\"latency.p50\"]\n\
         margin = \"1%\"                 # the largest worsening that is accepted\n\
         [suite.{suite}.gate.metric.\"latency.p99\"]\n\
         margin = \"5%\"\n\
         \n\
         [suite.{suite}.budget]\n\
         rounds = {{ min = 10, max = 40 }}\n\
         time = \"20m\"\n",
    )
}
