//! Strict mode: several relinked builds of each variant are made on the box and run in turns, and the builds are what is
//! judged.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use darwin_tests::{Finished, World};
use serde_json::Value;

const QUICK: [&str; 4] = ["--lease", "3s", "--grace", "1s"];

/// A set-up whose builds differ by luck alone: of the same source some are 2% slower and some as much faster.
const RELINK: &str = r#"set -eu
test "$1" = "${DARWIN_BUILD:-0}"
case $(cat side)$1 in
    challenger0) luck=1020 ;;
    challenger1) luck=982 ;;
    challenger2) luck=1014 ;;
    challenger3) luck=984 ;;
    *) luck=1000 ;;
esac
# What is linked has its layout in it, and so its number.
echo "COST=\$(( BASE * $luck / 10 )) # build $1" > luck
"#;

const BENCH: &str = r#"#!/bin/sh
# usage: bench.sh OUTPUT SEED
set -eu
. ./cost
. ./luck
sleep 0.02
awk -v cost="$COST" -v seed="$2" -v pid="$$" 'BEGIN {
    srand(seed % 100000 + pid)
    level = cost * (1 + 0.01 * (rand() - 0.5))
    printf "{\"schema\":\"darwin-samples/1\",\"tool\":\"bench.sh\"}\n"
    printf "{\"name\":\"match\",\"metric\":\"latency\",\"unit\":\"ns\",\"per\":\"op\",\"order\":\"time\",\"values\":["
    for (i = 0; i < 200; i++) printf "%s%d", (i ? "," : ""), level * (1 + 0.1 * rand())
    printf "]}\n"
}' > "$1"
"#;

fn darwin_toml(gate: &str, setup: &str) -> String {
    format!(
        "project = \"e2e\"\n[suite.match]\nsetup = \"{setup}\"\ncheck = \"test -s luck\"\n\
         run = \"sh bench.sh {{output}} {{seed}}\"\nformat = \"darwin-samples\"\n\
         [suite.match.cores]\nisolation = \"none\"\n[suite.match.gate]\n{gate}\n\
         [suite.match.budget]\nrounds = {{ min = 1, max = 20 }}\n"
    )
}

struct Relinked {
    world: World,
    folder: PathBuf,
}

impl Relinked {
    /// Three variants of one source: `base`, `relinked` of the same cost, and `slow`, 20% slower.
    fn create() -> Result<Self> {
        let world = World::new()?;
        let folder = world.folder().join("match");
        for (name, cost, side) in
            [("base", 1000, "baseline"), ("relinked", 1000, "challenger"), ("slow", 1200, "challenger")]
        {
            let variant = folder.join(name);
            std::fs::create_dir_all(&variant)?;
            std::fs::write(variant.join("relink.sh"), RELINK)?;
            std::fs::write(variant.join("bench.sh"), BENCH)?;
            std::fs::write(variant.join("cost"), format!("BASE={cost}\n"))?;
            std::fs::write(variant.join("side"), format!("{side}\n"))?;
        }
        Ok(Self { world, folder })
    }

    fn darwin(&self, toml: &str, baseline: &str, challenger: &str, format: &str) -> Result<Finished> {
        std::fs::write(self.folder.join("darwin.toml"), toml)?;
        let arguments = ["compare", "--baseline", baseline, "--challenger", challenger, "--format", format];
        self.world.darwin_in(&self.folder, &arguments)
    }

    /// Compares `base` with another variant by this `darwin.toml`; with the exit code.
    fn compare(&self, toml: &str, challenger: &str) -> Result<(i32, Value)> {
        let done = self.darwin(toml, "dir:base", &format!("dir:{challenger}"), "json")?;
        let report = done.json().with_context(|| format!("{done:?}"))?;
        Ok((done.code, report))
    }
}

#[test]
fn the_luck_of_one_layout_is_a_change_and_that_of_several_is_not() -> Result<()> {
    let relinked = Relinked::create()?;
    let _coordinator = relinked.world.coordinator(&QUICK)?;
    let _agent = relinked.world.agent("only", &[])?;
    let setup = "sh relink.sh {build}";

    let (code, report) = relinked.compare(&darwin_toml("", setup), "relinked")?;
    ensure!(code == 1, "one unlucky build is slower, and no doubt of it: {report}");
    let (code, report) = relinked.compare(&darwin_toml("builds = 4", setup), "relinked")?;
    ensure!(code == 3, "the builds differ as much among themselves: {report}");
    assert_eq!(report["verdict"]["method"], "build-means/1", "{report}");

    let (code, report) = relinked.compare(&darwin_toml("builds = 4", setup), "slow")?;
    ensure!(code == 1, "20% is more than any luck: {report}");
    let assumption = report["verdict"]["assumption"].as_str().context("no assumption")?;
    assert!(assumption.contains("4 builds a side"), "{assumption}");
    Ok(())
}

#[test]
fn builds_that_are_not_built_anew_are_refused() -> Result<()> {
    let relinked = Relinked::create()?;
    let _coordinator = relinked.world.coordinator(&QUICK)?;
    let _agent = relinked.world.agent("only", &[])?;

    let toml = darwin_toml("builds = 4", "echo COST=1000 > luck");
    let same = relinked.darwin(&toml, "dir:base", "dir:slow", "human")?;
    println!("{}", same.stdout);
    ensure!(same.code == 5, "{same:?}");
    assert!(same.stdout.contains("builds 0 and 1 are the same to the byte"), "{same:?}");

    // A folder on the box is what it is: nothing is submitted.
    let path = relinked.darwin(&toml, "path:/usr", "path:/opt", "human")?;
    ensure!(path.code == 2, "{path:?}");
    assert!(path.stderr.contains("a folder that is on the box already is one build"), "{path:?}");
    Ok(())
}
