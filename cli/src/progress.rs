//! How a job is doing, while one waits: a bar on a terminal, a line at each step elsewhere, nothing when quiet.

use std::io::Write as _;
use std::time::{Duration, Instant};

use darwin_proto::v1;
use darwin_shared::report::visible;
use indicatif::{ProgressBar, ProgressStyle};

use crate::job::{is_unlimited, voids_so_far};
use crate::terminal;
use crate::ui::Ui;

/// How often the spinner turns: quick enough to see that it lives, slow enough to cost nothing.
const TICK: Duration = Duration::from_millis(120);

/// A log that is silent for longer looks stuck; a line for each round would bury what matters.
const SAY_AT_LEAST_EVERY: Duration = Duration::from_secs(30);

/// What is drawn while a job is followed.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Nothing.
    Silent,
    /// A line whenever something else is to be said.
    Lines {
        /// What was said last.
        last: String,
        /// When that was.
        said: Instant,
    },
    /// A bar.
    Bar(ProgressBar),
}

impl Progress {
    /// As the terminal and the flags ask for.
    pub(crate) fn new(ui: &Ui) -> Self {
        if ui.draws_progress() {
            let bar = ProgressBar::with_draw_target(Some(0), terminal::draw_target());
            bar.set_style(style("{spinner} {elapsed} {msg}"));
            bar.enable_steady_tick(TICK);
            Self::Bar(bar)
        } else if ui.tells_progress() {
            Self::Lines { last: String::new(), said: Instant::now() }
        } else {
            Self::Silent
        }
    }

    /// The job is now like this.
    pub(crate) fn update(&mut self, job: &v1::Job) {
        match self {
            Self::Silent => {}
            Self::Lines { last, said } => {
                let (key, line) = line(job);
                if *last != key || said.elapsed() >= SAY_AT_LEAST_EVERY {
                    (*last, *said) = (key, Instant::now());
                    say(&format!("{} {line}", job.job_id));
                }
            }
            Self::Bar(bar) => draw(bar, job),
        }
    }

    /// A sentence in between.
    pub(crate) fn say(&self, text: &str) {
        match self {
            Self::Silent | Self::Lines { .. } => say(text),
            Self::Bar(bar) => bar.suspend(|| say(text)),
        }
    }

    /// Clears the bar.
    pub(crate) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn say(text: &str) {
    // Nobody is left to tell if standard error is gone.
    let _ = writeln!(std::io::stderr(), "darwin: {text}");
}

fn style(template: &str) -> ProgressStyle {
    // Templates are constants; the test `the_templates_are_valid` builds each.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

const ROUNDS: &str = "{spinner} {elapsed} [{bar:16}] {pos}/{len} rounds  {wide_msg}";
const PHASE: &str = "{spinner} {elapsed} {wide_msg}";

fn draw(bar: &ProgressBar, job: &v1::Job) {
    match &job.progress {
        // A bar toward no end would only stand still.
        Some(progress) if progress.rounds_max > 0 && progress.rounds_done > 0 && !is_unlimited(progress) => {
            bar.set_style(style(ROUNDS).progress_chars("=> "));
            bar.set_length(u64::from(progress.rounds_max));
            bar.set_position(u64::from(progress.rounds_done));
            let voids =
                voids_so_far(progress).map(|voids| format!("{} void  ", voids.total())).unwrap_or_default();
            bar.set_message(format!("{voids}{}", visible(&progress.gate)));
        }
        _ => {
            bar.set_style(style(PHASE));
            bar.set_message(line(job).1);
        }
    }
}

/// What to say, and what must change before it is said again: the phase and the gate's looks, not every round.
fn line(job: &v1::Job) -> (String, String) {
    match job.state() {
        v1::JobState::Unspecified => {
            (String::new(), "is in a state that this version does not know".to_owned())
        }
        v1::JobState::Queued => {
            let why = if job.waits_for.is_empty() { "no agent has it yet" } else { &job.waits_for };
            let before = match job.queue_position {
                0 => String::new(),
                jobs => format!(", {jobs} before it"),
            };
            let text = format!("waits: {}{before}", visible(why));
            (text.clone(), text)
        }
        v1::JobState::Active => active(job),
        v1::JobState::Finished => ("finished".to_owned(), "finished".to_owned()),
    }
}

fn active(job: &v1::Job) -> (String, String) {
    let Some(progress) = &job.progress else { return ("active".to_owned(), "is under way".to_owned()) };
    let phase = visible(&progress.phase);
    let at = match (progress.agent.as_str(), progress.cpus.as_str()) {
        ("", _) => String::new(),
        (agent, "") => format!(" at {}", visible(agent)),
        (agent, cpus) => {
            let cores = if cpus.contains([',', '-']) { "cores" } else { "core" };
            format!(" at {} {cores} {}", visible(agent), visible(cpus))
        }
    };
    let void = voids_so_far(progress).map(|voids| voids.total());
    let told = void.map(|void| format!(", {void} void and measured again")).unwrap_or_default();
    if progress.rounds_done == 0 {
        // The first round and its staging; later rounds are told look by look.
        let step = phase.split(' ').next().unwrap_or_default().to_owned();
        return (format!("{step}{at}{told}"), format!("{phase}{at}{told}"));
    }
    let gate =
        if progress.gate.is_empty() { String::new() } else { format!(": {}", visible(&progress.gate)) };
    let key = format!("look before {}{at}{told}", progress.next_look);
    let rounds = match (progress.rounds_done, is_unlimited(progress)) {
        (1, true) => "1 round".to_owned(),
        (done, true) => format!("{done} rounds"),
        (done, false) => format!("{done} of at most {} rounds", progress.rounds_max),
    };
    (key, format!("{rounds}{at}{told}{gate}"))
}

#[cfg(test)]
mod tests {
    use darwin_shared::spec::MAX_SOAK_ROUNDS;

    use super::*;

    fn job(phase: &str, rounds_done: u32, next_look: u32) -> v1::Job {
        v1::Job {
            state: v1::JobState::Active.into(),
            progress: Some(v1::Progress {
                phase: phase.into(),
                rounds_done,
                rounds_max: 40,
                next_look,
                gate: "p50 -18.9% [-22.0%, -15.1%]".into(),
                cpus: "3".into(),
                agent: "ny4-07".into(),
                voids: None,
            }),
            ..v1::Job::default()
        }
    }

    #[test]
    fn the_templates_are_valid() {
        for template in [ROUNDS, PHASE] {
            ProgressStyle::with_template(template).unwrap();
        }
    }

    #[test]
    fn a_line_is_said_at_each_look_and_not_at_each_round() {
        let told: Vec<String> = [
            job("staging", 0, 10),
            job("round 1", 0, 10),
            job("round 2", 1, 10),
            job("round 9", 8, 10),
            job("round 11", 10, 14),
        ]
        .iter()
        .map(|job| line(job).0)
        .collect();
        assert_eq!(told[2], told[3]);
        assert_ne!(told[3], told[4]);
        assert_eq!(
            line(&job("round 11", 10, 14)).1,
            "10 of at most 40 rounds at ny4-07 core 3: p50 -18.9% [-22.0%, -15.1%]"
        );
    }

    #[test]
    fn a_job_without_a_planned_end_counts_its_rounds_only() {
        let mut job = job("round 311", 310, 320);
        if let Some(progress) = &mut job.progress {
            progress.rounds_max = MAX_SOAK_ROUNDS;
            progress.gate = "310 pairs, next look at 320".into();
        }
        assert_eq!(line(&job).1, "310 rounds at ny4-07 core 3: 310 pairs, next look at 320");
    }

    #[test]
    fn a_waiting_job_says_for_what() {
        let job = v1::Job { state: v1::JobState::Queued.into(), queue_position: 2, ..v1::Job::default() };
        assert_eq!(line(&job).1, "waits: no agent has it yet, 2 before it");
    }
}
