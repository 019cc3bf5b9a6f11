//! The spread inside a run of pytest-benchmark, and from run to run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::super::report::{Aim, Line, median};
use super::fleet::{Fleet, Way, take_json};
use super::{cov, percent};
use crate::World;

/// The same work in every call: whatever differs from call to call is not the bench's doing.
const BENCH: &str = r"
def steady(steps):
    state = 1
    for _ in range(steps):
        state = (state * 69069 + 1) & 0xFFFFFFFF
    return state


def test_steady(benchmark):
    benchmark.pedantic(steady, args=(6_000,), rounds=1_000, warmup_rounds=20)
";

/// What the agent gives benches to find programs by.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The installed harness with its bench.
#[derive(Debug)]
pub(super) struct Pytest {
    folder: PathBuf,
    /// Where each run leaves its JSON.
    json: PathBuf,
    python: PathBuf,
}

/// What the runs of one way said.
#[derive(Debug, Default)]
struct Runs {
    words: String,
    /// sd/mean of the calls of each run.
    inside: Vec<f64>,
    /// The median call of each run, in seconds.
    medians: Vec<f64>,
}

impl Runs {
    fn add(&mut self, path: &Path) -> Result<()> {
        let json = take_json(path)?;
        let number = |name: &str| {
            let value = &json["benchmarks"][0]["stats"][name];
            value.as_f64().with_context(|| format!("no {name}: {json}"))
        };
        self.inside.push(number("stddev")? / number("mean")?);
        self.medians.push(number("median")?);
        Ok(())
    }
}

impl Pytest {
    /// The ways of a run that takes seconds, in which `SCHED_FIFO` would make holes.
    pub(super) const WAYS: [Way; 3] = [Way::Affinity, Way::Cpuset, Way::Shield];

    /// Installs the example's harness into a folder of the world, and writes the bench beside the suites.
    pub(super) fn install(fleet: &Fleet<'_>, world: &World, sources: &Path) -> Result<Self> {
        let example = sources.join("examples/orderbook");
        let venv = world.folder().join("venv");
        let step = |command: &mut Command| -> Result<()> {
            let done = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
            ensure!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
            Ok(())
        };
        step(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        let python = venv.join("bin/python");
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "-r"]);
        step(pip.arg(example.join("requirements.txt")))?;
        let folder = fleet.folder.clone();
        std::fs::copy(example.join("tests/benchmark/conftest.py"), folder.join("conftest.py"))?;
        std::fs::write(folder.join("test_steady.py"), BENCH)?;
        Ok(Self { folder, json: world.folder().join("run.json"), python })
    }

    /// One run, whose JSON goes into `output`.
    fn command(&self, output: &str) -> String {
        format!(
            "{} -m pytest -q -p no:cacheprovider --benchmark-disable-gc test_steady.py --benchmark-json={output}",
            self.python.display()
        )
    }

    /// A suite of `darwin.toml` for one way. The JSON is copied to where it can be read.
    pub(super) fn suite(&self, way: Way) -> String {
        let run = format!("'{} && cp {{output}} {}'", self.command("{output}"), self.json.display());
        way.to_toml("pytest", &run, "pytest-benchmark", "5m")
    }

    fn run_plainly(&self) -> Result<()> {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(self.command(&self.json.display().to_string())).current_dir(&self.folder);
        command.env_clear().env("PATH", PATH).env("HOME", &self.folder).env("LANG", "C.UTF-8");
        command.env("PYTHONHASHSEED", "0").env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
        let done = command.output()?;
        ensure!(done.status.success(), "pytest: {}", String::from_utf8_lossy(&done.stdout));
        Ok(())
    }

    /// Runs these ways in turns, with a look at the core's capacity in each.
    pub(super) fn measure(&self, fleet: &Fleet<'_>, wanted: &[Way], turns: usize) -> Result<Vec<Line>> {
        let mut plain = Runs::default();
        let mut ways: BTreeMap<Way, Runs> = BTreeMap::new();
        let mut capacity = [Vec::new(), Vec::new()];
        for _ in 0..turns {
            self.run_plainly()?;
            plain.add(&self.json)?;
            for &way in wanted {
                if let Some(done) = fleet.measure(way, "pytest", 1)? {
                    let runs = ways.entry(way).or_default();
                    runs.add(&self.json)?;
                    runs.words = done.words;
                }
            }
            for (all, one) in capacity.iter_mut().zip(fleet.capacity()?) {
                all.push(one);
            }
        }
        Ok(lines(&plain, &ways, &capacity))
    }
}

fn lines(plain: &Runs, ways: &BTreeMap<Way, Runs>, [width, latency]: &[Vec<f64>; 2]) -> Vec<Line> {
    let what = "pytest-benchmark, sd/mean inside a run";
    let spread_plain = median(plain.inside.clone());
    let mut lines = vec![percent(format!("{what}: plainly"), spread_plain, Aim::None)];
    for runs in ways.values() {
        lines.push(percent(format!("{what}: agent, {}", runs.words), median(runs.inside.clone()), Aim::None));
    }
    let strongest = ways.last_key_value();
    if let Some((_, runs)) = strongest {
        let fold = spread_plain / median(runs.inside.clone());
        let what = format!("the spread inside a run falls, agent, {}", runs.words);
        lines.push(Line::new(what, fold, "fold", Aim::AtLeast(4.0)));
    }
    let what = "pytest-benchmark, run-to-run CoV of the medians";
    lines.push(percent(format!("{what}: plainly"), cov(&plain.medians), Aim::None));
    if let Some((_, runs)) = strongest {
        lines.push(percent(format!("{what}: agent, {}", runs.words), cov(&runs.medians), Aim::None));
    }
    let what = "meanwhile the core's own speed, CoV of the capacity probe";
    lines.push(percent(format!("{what}: work that a neighbour slows"), cov(width), Aim::None));
    lines.push(percent(format!("{what}: work that only the clock slows"), cov(latency), Aim::None));
    lines
}
