//! What a process finds around it: its environment and the values in its command line.
//!
//! Both sides of a comparison get environments and command lines of equal length: a stack that starts some bytes
//! elsewhere is enough to make a bench faster or slower.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use darwin_shared::formats::Format;
use darwin_shared::ids::AttemptId;
use darwin_shared::spec::{Arm, Command, JobSpec, Layout};

use crate::docker::{self, StagedImage};
use crate::run::Scratch;

/// Where programs are looked for: the folders of every distribution, and nothing of whoever started the agent.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The folders of one process: as it sees them, and where its result is on the box.
#[derive(Debug)]
pub(crate) struct Folders {
    pub(crate) dir: PathBuf,
    pub(crate) home: PathBuf,
    pub(crate) output: PathBuf,
    pub(crate) result: PathBuf,
}

impl Folders {
    /// Those of a process in this slot, with the variant's files in `dir` if it has any, or of a container.
    pub(crate) fn new(scratch: &Scratch, dir: Option<&Path>, image: Option<&StagedImage>) -> Self {
        let Some(image) = image else {
            let (home, output) = (scratch.home().to_owned(), scratch.output());
            let dir = dir.map_or_else(|| home.clone(), Path::to_owned);
            return Self { dir, home, result: output.clone(), output };
        };
        let result = scratch.output_of_container();
        let output = docker::output_inside(&result);
        Self { dir: image.workdir().to_owned(), home: PathBuf::from(docker::HOME), output, result }
    }
}

/// The variable that makes up for what is longer on the other side.
const PAD: &str = "DARWIN_PAD";
/// Below this much the filler of a round is drawn, in bytes: the stack of a process begins on a page of its own.
const DRAWN_BYTES: u64 = 4096;
/// The most filler; a command that names its folder so often that it takes more is not made up for.
const MAX_PAD_BYTES: usize = 32 << 10;

/// What one process is surrounded by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    pub(crate) attempt: AttemptId,
    pub(crate) arm: Arm,
    /// The variant's folder.
    pub(crate) dir: &'a Path,
    pub(crate) home: &'a Path,
    pub(crate) output: &'a Path,
    /// The round, counted from 0; 0 for what runs before the first.
    pub(crate) round: u32,
    /// Which of several relinked builds this is, from 0; none if there is one only.
    pub(crate) build: Option<u32>,
    /// Whether these are folders of a container, which keeps the search path of its image.
    pub(crate) in_image: bool,
}

impl Surroundings<'_> {
    /// The whole environment. The job's own variables win, except over `HOME`, `TMPDIR` and `DARWIN_…`.
    pub(crate) fn environment(&self, spec: &JobSpec) -> BTreeMap<String, String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut env: BTreeMap<String, String> = BTreeMap::new();
        if !self.in_image {
            env.insert("PATH".to_owned(), search_path().to_owned());
            env.insert("LANG".to_owned(), "C.UTF-8".to_owned());
        }
        env.extend(spec.env.iter().map(|(key, value)| (key.clone(), value.clone())));
        env.insert("HOME".to_owned(), text(self.home));
        let tmp = if self.in_image { Path::new(docker::TMP) } else { self.home };
        env.insert("TMPDIR".to_owned(), text(tmp));
        env.insert("DARWIN_ATTEMPT".to_owned(), self.attempt.to_string());
        env.insert("DARWIN_OUTPUT".to_owned(), text(self.output));
        env.insert("DARWIN_ROUND".to_owned(), self.round.to_string());
        if let Some(build) = self.build {
            env.insert("DARWIN_BUILD".to_owned(), build.to_string());
        }
        env.insert("DARWIN_VARIANT".to_owned(), variant(self.arm).to_owned());
        env.insert("DARWIN_VARIANT_DIR".to_owned(), text(self.dir));
        if spec.format == Format::Criterion {
            // In the variant's own tree the results of earlier rounds would still lie.
            env.insert("CRITERION_HOME".to_owned(), text(self.output));
        }
        env
    }

    /// Fills up the environment, so that with the command it weighs the same for every side, whose folders these are; and
    /// in every round of a fixed layout, while a randomized one begins elsewhere in each round.
    pub(crate) fn fill_up<'d>(
        &self,
        env: &mut BTreeMap<String, String>,
        spec: &JobSpec,
        dirs: impl Iterator<Item = &'d Path>,
    ) {
        let weight = |dir: &Path| Surroundings { dir, ..*self }.weight(spec);
        let unequal = |dir: &&Path| dir.as_os_str().len() != self.dir.as_os_str().len();
        let heaviest = dirs.filter(unequal).map(weight).max();
        let behind = heaviest.map_or(0, |heaviest| heaviest.saturating_sub(self.weight(spec)));
        let drawn = match spec.layout {
            Layout::Randomized => drawn_filler(spec.seed, self.round),
            Layout::Fixed => 0,
        };
        let bytes = (behind + self.narrow_round(spec) + drawn).min(MAX_PAD_BYTES);
        env.insert(PAD.to_owned(), "x".repeat(bytes));
    }

    /// The bytes of command and environment, with what ends each text.
    fn weight(&self, spec: &JobSpec) -> usize {
        let argv = fill(&spec.steps.run.command, self, spec.seed);
        let argv: usize = argv.iter().map(|arg| arg.len() + 1).sum();
        argv + self.environment(spec).iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>()
    }

    /// The bytes by which this round's number, wherever it stands, is shorter than the longest one.
    fn narrow_round(&self, spec: &JobSpec) -> usize {
        let mentions: usize =
            spec.steps.run.command.argv().iter().map(|arg| arg.matches("{round}").count()).sum();
        let shorter = u32::MAX.to_string().len() - self.round.to_string().len();
        shorter * (mentions + 1)
    }
}

/// The filler of a round: the same for both sides, another in the next one.
fn drawn_filler(seed: u64, round: u32) -> usize {
    let mut hasher = blake3::Hasher::new_derive_key("darwin filler of a round 1");
    hasher.update(&seed.to_le_bytes()).update(&round.to_le_bytes());
    let mut word = [0; 8];
    hasher.finalize_xof().fill(&mut word);
    usize::try_from(u64::from_le_bytes(word) % DRAWN_BYTES).unwrap_or(0)
}

/// The user's own programs are found too when the agent runs as a person's process: rustup, pyenv and the like.
fn search_path() -> &'static str {
    static PATH: LazyLock<String> = LazyLock::new(|| match std::env::var("PATH") {
        Ok(path) if !path.is_empty() && !nix::unistd::geteuid().is_root() => path,
        Ok(_) | Err(_) => SEARCH_PATH.to_owned(),
    });
    &PATH
}

/// The side in one letter, as long for either.
const fn variant(arm: Arm) -> &'static str {
    match arm {
        Arm::Baseline => "a",
        Arm::Challenger => "b",
    }
}

/// The command with its values filled in.
pub(crate) fn fill(command: &Command, around: &Surroundings<'_>, seed: u64) -> Vec<String> {
    let (output, dir) = (around.output.to_string_lossy(), around.dir.to_string_lossy());
    let (round, seed) = (around.round.to_string(), round_seed(seed, around.round).to_string());
    let build = around.build.unwrap_or(0).to_string();
    let values = [
        ("output", &*output),
        ("round", &*round),
        ("seed", &*seed),
        ("build", &*build),
        ("variant_dir", &*dir),
    ];
    command.filled(&values).argv()
}

/// The seed that both sides of a round get: the same for both, another for each round, as wide for all.
fn round_seed(seed: u64, round: u32) -> u32 {
    /// Nine digits whatever comes: command lines stay equally long.
    const LEAST: u64 = 100_000_000;
    let mut hasher = blake3::Hasher::new_derive_key("darwin seed of a round 1");
    hasher.update(&seed.to_le_bytes()).update(&round.to_le_bytes());
    let mut word = [0; 8];
    hasher.finalize_xof().fill(&mut word);
    u32::try_from(LEAST + u64::from_le_bytes(word) % (9 * LEAST)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_as_wide_and_differ_by_round() {
        let seeds: Vec<u32> = (0..50).map(|round| round_seed(7, round)).collect();
        assert!(seeds.iter().all(|seed| seed.to_string().len() == 9));
        let mut distinct = seeds.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), seeds.len());
        assert_eq!(variant(Arm::Baseline).len(), variant(Arm::Challenger).len());
    }
}
