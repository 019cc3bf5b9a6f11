//! A small suite in a git repository, whose benches report made-up times: a verdict follows from what they report, so
//! that no test hangs on how fast the machine is.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::git::{commit_all, git};

/// The bench: 2,500 calls of about `$COST` microseconds, with noise of 1% from process to process.
const BENCH: &str = r#"#!/bin/sh
# usage: bench.sh OUTPUT SEED ROUND
set -eu
. ./cost
[ -z "${HANG:-}" ] || eval "$HANG"
sleep 0.05
awk -v cost="$COST" -v seed="$2" -v round="$3" -v pid="$$" 'BEGIN {
    srand(seed % 100000 + round * 131 + pid)
    level = cost * 1000 * (1 + 0.01 * (rand() - 0.5))
    printf "{\"schema\":\"darwin-samples/1\",\"tool\":\"bench.sh\"}\n"
    printf "{\"name\":\"orders/add\",\"metric\":\"latency\",\"unit\":\"ns\",\"per\":\"op\",\"order\":\"time\",\"values\":["
    for (i = 0; i < 2500; i++) printf "%s%d", (i ? "," : ""), level * (1 + 0.1 * rand() + (i % 50 == 0))
    printf "]}\n"
}' > "$1"
"#;

const DARWIN_TOML: &str = r#"project = "e2e"

[suite.orders]
setup   = "touch set-up"
check   = "sh check.sh"
run     = "sh bench.sh {output} {seed} {round}"
format  = "darwin-samples"
timeout = "TIMEOUT"

[suite.orders.cores]
isolation = "none"

[suite.orders.gate.metric."latency.p50"]
margin = "1%"

[suite.orders.gate.metric."latency.p99"]
margin = "5%"

[suite.orders.budget]
rounds = { min = 1, max = 20 }
"#;

/// A git repository with one branch for each variant.
#[derive(Debug)]
pub struct Suite {
    /// Its folder.
    pub folder: PathBuf,
}

impl Suite {
    /// A repository with the branches `main`, `faster` (-20%), `slower` (+20%), `broken` (a unit test fails).
    /// `timeout` is that of one run.
    pub fn create(folder: &Path, timeout: &str) -> Result<Self> {
        let suite = Self { folder: folder.join("repository") };
        std::fs::create_dir_all(&suite.folder)?;
        git(&suite.folder, &["init", "-q", "-b", "main"])?;
        suite.write("darwin.toml", &DARWIN_TOML.replace("TIMEOUT", timeout))?;
        suite.write("bench.sh", BENCH)?;
        suite.write("check.sh", "test -e set-up && . ./cost && test \"$COST\" -gt 0\n")?;
        suite.write("cost", "COST=100\n")?;
        commit_all(&suite.folder)?;
        suite.branch("faster", "cost", "COST=80\n")?;
        suite.branch("slower", "cost", "COST=120\n")?;
        suite.branch("broken", "check.sh", "echo 'assert best_bid == 101' >&2; exit 1\n")?;
        Ok(suite)
    }

    /// A branch on which one file is different.
    pub fn branch(&self, name: &str, file: &str, text: &str) -> Result<()> {
        git(&self.folder, &["checkout", "-q", "-b", name, "main"])?;
        self.write(file, text)?;
        commit_all(&self.folder)?;
        git(&self.folder, &["checkout", "-q", "main"])
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        Ok(std::fs::write(self.folder.join(file), text)?)
    }
}
