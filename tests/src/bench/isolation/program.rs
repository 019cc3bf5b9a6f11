//! A bench that computes for some 13 ms and times itself, and the busy loops beside it: one small C program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use darwin_shared::cpu::CpuSet;

use super::fleet::Way;

/// Without arguments it loops, until whoever started it ends, or for an hour. With a file, a number and a word it makes so many
/// dependent steps and adds to the file the word and how long they took, in nanoseconds.
const SOURCE: &str = r#"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>
static volatile unsigned long out;
static long long now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}
int main(int count, char **words) {
    if (count != 4) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(3600);
        for (;;) {}
    }
    unsigned long state = 1;
    long long begin = now();
    for (long left = atol(words[2]); left > 0; left--) state = state * 6364136223846793005ul + 1442695040888963407ul;
    out = state;
    long long took = now() - begin;
    char line[64];
    int length = snprintf(line, sizeof line, "%.20s %lld\n", words[3], took);
    int file = open(words[1], O_WRONLY | O_CREAT | O_APPEND, 0666);
    return file < 0 || write(file, line, length) != length;
}
"#;

/// How long the bench computes on a core of its own.
const WORK: Duration = Duration::from_millis(13);
/// Steps of a run that finds out how long a step takes, and how many such runs there are.
const PILOT_STEPS: u64 = 2_000_000;
const PILOTS: u32 = 20;

/// The compiled program, and how many steps are [`WORK`].
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    steps: u64,
}

impl Program {
    /// Compiles it into a folder and finds out how fast this machine is.
    pub(super) fn compile(folder: &Path) -> Result<Self> {
        let (source, path) = (folder.join("work.c"), folder.join("work"));
        std::fs::write(&source, SOURCE)?;
        let status = Command::new("cc").args(["-O2", "-static", "-o"]).arg(&path).arg(&source).status();
        ensure!(status.context("a C compiler is needed")?.success(), "the bench does not compile");
        let pilot = Self { path, steps: PILOT_STEPS };
        let file = folder.join("pilot.times");
        for _ in 0..PILOTS {
            pilot.run(&file)?;
        }
        let fastest_ns = take_times(&file)?.into_iter().fold(f64::INFINITY, f64::min);
        let pilots = WORK.as_secs_f64() * 1e9 / fastest_ns;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "far below 2^53")]
        let steps = (pilots * PILOT_STEPS as f64) as u64;
        ensure!(steps > 0, "a run of {PILOT_STEPS} steps took {fastest_ns} ns");
        Ok(Self { steps, ..pilot })
    }

    /// Runs the bench plainly, as anybody would; says how long the whole process took.
    pub(super) fn run(&self, times: &Path) -> Result<Duration> {
        let begin = Instant::now();
        let status = Command::new(&self.path).arg(times).args([&self.steps.to_string(), "0"]).status()?;
        ensure!(status.success(), "the bench ended with {status}");
        Ok(begin.elapsed())
    }

    /// Runs the bench as what the agents lease would have it at best: bound to the last CPU, which nobody else wants. Those
    /// runs show what the machine itself does to them.
    pub(super) fn run_alone(&self, times: &Path) -> Result<()> {
        let last = online()?.iter().last().context("no CPU is online")?;
        let mut command = Command::new("taskset");
        command
            .args(["-c", &last.to_string()])
            .arg(&self.path)
            .arg(times)
            .args([&self.steps.to_string(), "0"]);
        let status = command.status().context("taskset is needed")?;
        ensure!(status.success(), "the bench ended with {status}");
        Ok(())
    }

    /// What a process of this bench is known by.
    pub(super) fn command_line(&self, times: &Path) -> String {
        format!("{} {}", self.path.display(), times.display())
    }

    /// A suite of `darwin.toml` for one way.
    pub(super) fn suite(&self, way: Way, folder: &Path) -> String {
        // The agent gives SCHED_FIFO on a core that is not isolated only to runs below 0.9 s.
        let timeout = if way.is_fifo() { "800ms" } else { "1m" };
        let run = self.argv(&way.times_file(folder), 1);
        way.to_toml("cpu", &run, "process", timeout)
    }

    /// The command, as a list of `darwin.toml`, for so many times the work.
    pub(super) fn argv(&self, times: &Path, work: u64) -> String {
        let steps = self.steps.saturating_mul(work);
        format!("['{}', '{}', '{steps}', '{{round}}']", self.path.display(), times.display())
    }

    /// How often the work fits into this time, on a core of its own.
    pub(super) fn works_in(time: Duration) -> u64 {
        u64::try_from(time.as_nanos() / WORK.as_nanos()).unwrap_or(u64::MAX)
    }

    /// A busy loop for every CPU of the machine, on whichever the kernel puts them.
    pub(super) fn busy_loops(&self) -> Result<BusyLoops> {
        let cpus = online()?.len();
        let mut loops = BusyLoops(Vec::with_capacity(cpus));
        for _ in 0..cpus {
            let child = Command::new(&self.path).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
            loops.0.push(child);
        }
        Ok(loops)
    }
}

fn online() -> Result<CpuSet> {
    let list = std::fs::read_to_string("/sys/devices/system/cpu/online")?;
    Ok(list.trim().parse::<CpuSet>()?)
}

/// Ended when they are dropped; if this process is killed, the kernel ends them.
#[derive(Debug)]
pub(super) struct BusyLoops(Vec<Child>);

impl Drop for BusyLoops {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may have been ended by somebody else.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What the bench wrote since this was asked last: how long each of its runs took, in nanoseconds.
pub(super) fn take_times(file: &Path) -> Result<Vec<f64>> {
    Ok(take_lines(file)?.into_iter().map(|(_, took_ns)| took_ns).collect())
}

/// The same of a job of so many rounds, a run for each: of one that was void and measured again, the last.
pub(super) fn take_rounds(file: &Path, rounds: u32) -> Result<Vec<f64>> {
    let last: BTreeMap<u32, f64> =
        take_lines(file)?.into_iter().filter(|(round, _)| *round < rounds).collect();
    Ok(last.into_values().collect())
}

fn take_lines(file: &Path) -> Result<Vec<(u32, f64)>> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    std::fs::remove_file(file)?;
    let read =
        |line: &str| line.split_once(' ').and_then(|(round, ns)| round.parse().ok().zip(ns.parse().ok()));
    text.lines().map(|line| read(line).with_context(|| format!("{}: {line:?}", file.display()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_round_that_was_measured_again_the_last_run_counts() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("x.times");
        std::fs::write(&file, "0 11\n1 90\n1 12\n2 95\n2 96\n")?;
        assert_eq!(take_rounds(&file, 2)?, [11.0, 12.0], "the third one was given up");
        std::fs::write(&file, "0 11\n0 90\n")?;
        assert_eq!(take_times(&file)?, [11.0, 90.0]);
        std::fs::write(&file, "0 11\nx\n")?;
        assert!(take_times(&file).is_err());
        Ok(())
    }
}
