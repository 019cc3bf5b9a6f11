//! What is killed and when, and the dice that choose.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    /// The agent.
    Agent,
    /// The agent, and at once the guard that would end its containers.
    AgentAndGuard,
    /// A launcher, the fork server of a slot.
    Launcher,
    /// A container, by `docker kill`.
    Container,
    /// A process of the candidate: of a setup, a check, a bench or a container; or a probe.
    Bench,
}

/// When, in the life of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The job is set up or checked, on the housekeeping cores.
    Staging,
    /// The cores are locked against other agents.
    TakingCores,
    /// The box is changed for the measurement.
    Tuning,
    /// The cores are probed.
    Probing,
    /// The probe is over, and no bench runs yet.
    BeforeRound,
    /// A bench runs.
    InRound,
    /// A bench is over, and the cores are still held.
    AfterRound,
    /// The cores are given back, and the box is put back as it was.
    GivingBack,
}

/// A kind of kill that is counted by itself.
pub(crate) type Cell = (Victim, Step);

impl Victim {
    const ALL: [Self; 5] = [Self::Agent, Self::AgentAndGuard, Self::Launcher, Self::Container, Self::Bench];

    const fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::AgentAndGuard => "with guard",
            Self::Launcher => "launcher",
            Self::Container => "container",
            Self::Bench => "bench",
        }
    }
}

impl Step {
    const ALL: [Self; 8] = [
        Self::Staging,
        Self::TakingCores,
        Self::Tuning,
        Self::Probing,
        Self::BeforeRound,
        Self::InRound,
        Self::AfterRound,
        Self::GivingBack,
    ];

    /// Its name in the table.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Staging => "staging",
            Self::TakingCores => "taking cores",
            Self::Tuning => "tuning",
            Self::Probing => "probing",
            Self::BeforeRound => "before a round",
            Self::InRound => "in a round",
            Self::AfterRound => "after a round",
            Self::GivingBack => "giving back",
        }
    }

    /// The longest pause between the sign of a step and the kill: about as long as the step.
    const fn pause_max(self) -> Duration {
        Duration::from_millis(match self {
            Self::TakingCores | Self::Tuning => 4,
            Self::BeforeRound | Self::AfterRound => 8,
            Self::Probing | Self::Staging => 40,
            Self::InRound | Self::GivingBack => 50,
        })
    }
}

/// What may be killed when: what is there at all at that time.
pub(crate) fn cells(docker: bool, tuned: bool) -> Vec<Cell> {
    let mut cells: Vec<Cell> = Vec::new();
    for step in Step::ALL.into_iter().filter(|step| tuned || *step != Step::Tuning) {
        cells.extend([(Victim::Agent, step), (Victim::Launcher, step)]);
        if docker {
            cells.push((Victim::AgentAndGuard, step));
        }
        if matches!(step, Step::Staging | Step::Probing | Step::InRound) {
            cells.push((Victim::Bench, step));
        }
        if docker && matches!(step, Step::Staging | Step::InRound) {
            cells.push((Victim::Container, step));
        }
    }
    cells
}

/// One of the kinds that were killed least often so far.
pub(crate) fn choose(dice: &mut StdRng, cells: &[Cell], counts: &BTreeMap<Cell, u32>) -> Option<Cell> {
    let count = |cell: &Cell| counts.get(cell).copied().unwrap_or(0);
    let least = cells.iter().map(count).min()?;
    let rare: Vec<Cell> = cells.iter().copied().filter(|cell| count(cell) == least).collect();
    rare.choose(dice).copied()
}

/// How long to wait after the sign of a step.
pub(crate) fn pause(dice: &mut StdRng, step: Step) -> Duration {
    dice.random_range(Duration::ZERO..=step.pause_max())
}

/// The kills as a table, steps down and victims across.
pub(crate) fn table(counts: &BTreeMap<Cell, u32>) -> String {
    let mut text = format!("{:<16}", "killed");
    for victim in Victim::ALL {
        let _ = write!(text, "{:>11}", victim.name());
    }
    for step in Step::ALL {
        let _ = write!(text, "\n{:<16}", step.name());
        for victim in Victim::ALL {
            let count = counts.get(&(victim, step)).map_or_else(|| "-".to_owned(), u32::to_string);
            let _ = write!(text, "{count:>11}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn every_kind_comes_as_often_as_any_other() {
        let cells = cells(true, true);
        assert_eq!(cells.len(), 29);
        let mut counts = BTreeMap::new();
        let mut dice = StdRng::seed_from_u64(1);
        for _ in 0..200 {
            *counts.entry(choose(&mut dice, &cells, &counts).unwrap()).or_insert(0) += 1;
        }
        assert!(cells.iter().all(|cell| matches!(counts[cell], 6 | 7)), "{counts:?}");
        assert!(table(&counts).lines().count() == 9, "{}", table(&counts));
        assert!(choose(&mut dice, &[], &counts).is_none());
    }
}
