//! The jobs that go on while things are killed: benches with stubborn children, sliced pairs, images.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rand::Rng;
use rand::rngs::StdRng;

use super::look;
use super::sight::Ours;
use crate::World;
use crate::images::Images;

/// Suites of the same benches: short ones to be killed, and one of each kind that comes to a verdict.
const DARWIN_TOML: &str = r#"project = "chaos"

[suite.processes]
setup    = ["sh", "setup.sh"]
check    = ["sh", "check.sh"]
run      = ["sh", "run.sh", "{output}", "{seed}", "{round}"]
format   = "darwin-samples"
timeout  = "30s"
attempts = 5

[suite.processes.cores]
isolation = "preferred"

[suite.processes.gate.metric."latency.p50"]
margin = "1%"

[suite.processes.budget]
rounds = { min = 1, max = MAX }

[suite.sliced]
run      = ["SLICE", "{output}"]
format   = "darwin-samples"
timeout  = "30s"
attempts = 5
plan     = "auto"

[suite.sliced.cores]
isolation = "preferred"

[suite.sliced.gate.metric."latency.p50"]
margin = "1%"

[suite.sliced.budget]
rounds = { min = 1, max = MAX }
"#;

/// Looks first, leaves a stubborn tree behind, and reports made-up times.
const RUN: &str = r#"trap '' TERM
LOOK
(trap '' TERM; setsid sleep 500 &)
sleep 0.03
. ./cost
awk -v cost="$COST" -v seed="$2" -v round="$3" -v pid="$$" 'BEGIN {
    srand(seed % 100000 + round * 131 + pid)
    level = cost * 1000 * (1 + 0.01 * (rand() - 0.5))
    printf "{\"schema\":\"darwin-samples/1\",\"tool\":\"run.sh\"}\n"
    printf "{\"name\":\"orders/add\",\"metric\":\"latency\",\"unit\":\"ns\",\"per\":\"op\",\"order\":\"time\",\"values\":["
    for (i = 0; i < 500; i++) printf "%s%d", (i ? "," : ""), level * (1 + 0.1 * rand())
    printf "]}\n"
}' > "$1"
"#;

const SETUP: &str = "sleep 0.05\ntouch set-up\n(trap '' TERM; setsid sleep 500 &)\n";
const CHECK: &str = "test -e set-up && sleep 0.05\n";

/// The images' suite: short, and with a check, which runs in a container of its own.
const IMAGES_TOML: &str = r#"
[suite.quick]
check    = ["./bench", "{output}", "1", "1", "MARK"]
run      = ["./bench", "{output}", "{seed}", "{round}", "MARK"]
format   = "darwin-samples"
timeout  = "60s"
attempts = 5

[suite.quick.cores]
isolation = "preferred"

[suite.quick.budget]
rounds = { min = 2, max = 2 }
"#;

/// A kind of job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A compare of processes that leave children behind.
    Processes,
    /// A compare in slices: two processes alive on the same cores.
    Sliced,
    /// Containers.
    Images,
}

/// The jobs of a run.
#[derive(Debug)]
pub(crate) struct Jobs<'w> {
    world: &'w World,
    folder: PathBuf,
    images: Option<Images>,
    /// The image that comes along as an archive, and its id.
    archive: Option<(String, String)>,
    kinds: BTreeMap<String, Kind>,
    /// Those of which a process or container was killed, which is the candidate's own failure.
    pub(crate) hit: BTreeSet<String>,
}

impl<'w> Jobs<'w> {
    /// Their files below the world's folder; `images` is where suites of images are, if they are run.
    pub(crate) fn new(world: &'w World, look_by: &Path, ours: &Ours, images: Option<Images>) -> Result<Self> {
        let folder = world.folder().join("chaos");
        let program = look_by.to_str().context("a path that is no text")?;
        let slice = look_by.with_file_name("slice-bench");
        ensure!(slice.is_file(), "{} is missing: build the workspace's programs first", slice.display());
        let looks = looks(world);
        let looks = looks.to_str().context("a path that is no text")?;
        let run = RUN.replace("LOOK", &look::command(program, looks, ours));
        for (side, cost) in [("a", 100), ("b", 120)] {
            let dir = folder.join(side);
            std::fs::create_dir_all(&dir)?;
            std::fs::write(dir.join("cost"), format!("COST={cost}\n"))?;
            std::fs::write(dir.join("behaviour"), format!("cost {}\nbenches add\n", cost * 1000))?;
            for (name, text) in [("run.sh", run.as_str()), ("setup.sh", SETUP), ("check.sh", CHECK)] {
                std::fs::write(dir.join(name), text)?;
            }
        }
        let toml = DARWIN_TOML.replace("SLICE", &slice.display().to_string());
        for (file, rounds) in [("darwin.toml", "2"), ("verdict.toml", "20")] {
            std::fs::write(folder.join(file), toml.replace("MAX", rounds))?;
        }
        let mut jobs =
            Self { world, folder, images, archive: None, kinds: BTreeMap::new(), hit: BTreeSet::new() };
        jobs.make_images()?;
        Ok(jobs)
    }

    fn make_images(&mut self) -> Result<()> {
        let Some(images) = &mut self.images else { return Ok(()) };
        let toml = images.folder.join("darwin.toml");
        let text = std::fs::read_to_string(&toml)? + &IMAGES_TOML.replace("MARK", &images.mark);
        std::fs::write(&toml, text)?;
        for (variant, cost, behaviour) in
            [("main", 100, ""), ("faster", 80, ""), ("naps", 100, "naps"), ("packed", 101, "naps")]
        {
            images.variant(variant, cost, behaviour)?;
        }
        let id = images.id("packed")?;
        self.archive = Some((images.save_and_remove("packed")?.display().to_string(), id));
        Ok(())
    }

    /// The id of the image that must not stay on the box.
    pub(crate) fn loaded_image(&self) -> Option<&str> {
        self.archive.as_ref().map(|(_, id)| id.as_str())
    }

    /// The kinds that are run.
    pub(crate) fn kinds(&self) -> &'static [Kind] {
        if self.images.is_some() {
            &[Kind::Processes, Kind::Sliced, Kind::Images]
        } else {
            &[Kind::Processes, Kind::Sliced]
        }
    }

    fn dir(&self, side: &str) -> String {
        format!("dir:{}", self.folder.join(side).display())
    }

    /// Submits one of this kind.
    pub(crate) fn submit(&mut self, kind: Kind, dice: &mut StdRng) -> Result<()> {
        let (a, b) = (self.dir("a"), self.dir("b"));
        let compare =
            |suite| vec!["compare", "--suite", suite, "--baseline", &a, "--challenger", &b, "--detach"];
        let image;
        let (folder, arguments) = match (kind, &self.images) {
            (Kind::Processes, _) => (&self.folder, compare("processes")),
            (Kind::Sliced, _) | (Kind::Images, None) => (&self.folder, compare("sliced")),
            (Kind::Images, Some(images)) => {
                let archive = self.archive.as_ref().filter(|_| dice.random_bool(0.5));
                image = archive.map_or_else(
                    || format!("image:{}", images.name("naps")),
                    |(path, _)| format!("image:{path}"),
                );
                (&images.folder, vec!["measure", "--suite", "quick", &image, "--detach"])
            }
        };
        let done = self.world.darwin_in(folder, &arguments)?;
        ensure!(done.code == 0, "a job cannot be submitted: {done:?}");
        self.kinds.insert(done.stdout.trim().to_owned(), kind);
        Ok(())
    }

    /// The states of all jobs of this run by their ids, as words.
    pub(crate) fn states(&self) -> Result<BTreeMap<String, (String, String)>> {
        let done = self.world.darwin(&["job", "list", "--limit", "1000", "--format", "json"])?;
        let list: serde_json::Value =
            serde_json::from_str(&done.stdout).with_context(|| format!("no list of jobs: {done:?}"))?;
        let text = |job: &serde_json::Value, key: &str| job[key].as_str().unwrap_or_default().to_owned();
        let jobs = list["jobs"].as_array().context("no jobs in the list")?;
        Ok(jobs.iter().map(|job| (text(job, "job_id"), (text(job, "state"), text(job, "summary")))).collect())
    }

    /// The kinds of the jobs that are not finished.
    pub(crate) fn under_way(&self) -> Result<Vec<Kind>> {
        let states = self.states()?;
        let open = |job: &&String| states.get(*job).is_some_and(|(state, _)| is_open(state));
        Ok(self.kinds.keys().filter(open).filter_map(|job| self.kinds.get(job).copied()).collect())
    }

    /// Cancels what is not finished.
    pub(crate) fn cancel_all(&self) -> Result<()> {
        let states = self.states()?;
        let open = states.iter().filter(|(_, (state, _))| is_open(state)).map(|(job, _)| job.as_str());
        let mut arguments = vec!["job", "cancel"];
        arguments.extend(open);
        if arguments.len() > 2 {
            let done = self.world.darwin(&arguments)?;
            // Some may have come to their end since they were listed.
            let is_over = |line: &str| line.contains("has finished already");
            let well = done.code == 0 || (!done.stderr.is_empty() && done.stderr.lines().all(is_over));
            ensure!(well, "jobs cannot be cancelled: {done:?}");
        }
        Ok(())
    }

    /// How the jobs ended, and what is wrong about that: a job fails only if something of the candidate's was killed.
    pub(crate) fn ends(&self) -> Result<(BTreeMap<String, u32>, Vec<String>)> {
        let (mut ends, mut wrong) = (BTreeMap::new(), Vec::new());
        for (job, (state, summary)) in self.states()? {
            let Some(kind) = self.kinds.get(&job) else { continue };
            let fine = match state.as_str() {
                "failed" => self.hit.contains(&job),
                "measured" => *kind == Kind::Images,
                "reject" | "inconclusive" => *kind != Kind::Images,
                "cancelled" | "parked" => true,
                _ => false,
            };
            if !fine {
                wrong.push(format!("job {job} ({kind:?}) ended as {state}: {summary}"));
            }
            *ends.entry(state).or_insert(0) += 1;
        }
        Ok((ends, wrong))
    }

    /// A compare of each kind to its verdict; what is not as it must be.
    pub(crate) fn verdicts(&self) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        let mut judge = |what: &str, folder: &Path, arguments: &[&str], word: &str| -> Result<()> {
            let done = self.world.darwin_in(folder, arguments)?;
            if !done.stdout.contains(word) {
                wrong.push(format!("{what} is not {word}: {done:?}"));
            }
            Ok(())
        };
        let (a, b) = (self.dir("a"), self.dir("b"));
        for suite in ["processes", "sliced"] {
            let arguments = [
                "compare",
                "--config",
                "verdict.toml",
                "--suite",
                suite,
                "--baseline",
                &a,
                "--challenger",
                &b,
            ];
            judge(suite, &self.folder, &arguments, "REJECT")?;
        }
        if let Some(images) = &self.images {
            let (main, faster) =
                ("image:".to_owned() + &images.name("main"), "image:".to_owned() + &images.name("faster"));
            let arguments = ["compare", "--suite", "orders", "--baseline", &main, "--challenger", &faster];
            judge("images", &images.folder, &arguments, "APPROVE")?;
        }
        Ok(wrong)
    }
}

fn is_open(state: &str) -> bool {
    matches!(state, "queued" | "active")
}

/// The file into which benches say what they found.
pub(crate) fn looks(world: &World) -> PathBuf {
    world.folder().join("looks")
}
