//! A world in which everything that may go wrong does: agents, links, clients, a ledger and one core.
//!
//! Deterministic: the same scenario and seed give the same history. Time is simulated, in milliseconds.
#![expect(clippy::unwrap_used, reason = "test code: a failed unwrap is a failed test")]

mod agent;
mod dice;
mod jobs;
mod ledger;
mod mischief;
mod net;
mod reckoning;
mod world;

use std::fmt;

/// What is to be lived through. Rates are per thousand and step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    /// Agents, 1 to 4.
    pub(crate) agents: u64,
    /// Jobs that clients submit.
    pub(crate) jobs: u32,
    /// Steps before the faults stop.
    pub(crate) steps: u32,
    /// Links cut.
    pub(crate) cuts: u32,
    /// Agents that die.
    pub(crate) agent_crashes: u32,
    /// Deaths of the coordinator.
    pub(crate) core_crashes: u32,
    /// Messages lost on a link that stands.
    pub(crate) losses: u32,
    /// Messages that come twice.
    pub(crate) doubles: u32,
    /// Jobs cancelled.
    pub(crate) cancels: u32,
    /// Agents drained and resumed, sensors that go bad and well again.
    pub(crate) drains: u32,
    /// Rounds in which the candidate or the box fails.
    pub(crate) mishaps: u32,
    /// Wall clocks that jump.
    pub(crate) clock_steps: u32,
    /// Two agents decline every third job each, but never the same.
    pub(crate) declines: bool,
    /// All agents decline every third job until the faults stop.
    pub(crate) stubborn: bool,
    /// Finished jobs in memory.
    pub(crate) recent_max: usize,
}

impl Scenario {
    /// Nothing goes wrong.
    pub(crate) fn calm(seed: u64) -> Self {
        Self {
            seed,
            agents: 2 + seed % 3,
            jobs: 6,
            steps: 60,
            cuts: 0,
            agent_crashes: 0,
            core_crashes: 0,
            losses: 0,
            doubles: 0,
            cancels: 0,
            drains: 0,
            mishaps: 0,
            clock_steps: 0,
            declines: false,
            stubborn: false,
            recent_max: 1_000,
        }
    }

    /// Everything goes wrong, how often depends on the seed.
    pub(crate) fn stormy(seed: u64) -> Self {
        let mut dice = dice::Dice::new(seed ^ 0xDA12_1111);
        let mut rate = |most: u64| u32::try_from(dice.below(most)).unwrap();
        Self {
            jobs: 3 + rate(8),
            steps: 60 + rate(100),
            cuts: rate(60),
            agent_crashes: rate(30),
            core_crashes: rate(40),
            losses: rate(60),
            doubles: rate(100),
            cancels: rate(40),
            drains: rate(50),
            mishaps: rate(40),
            clock_steps: rate(50),
            declines: rate(2) == 1,
            stubborn: rate(3) == 0,
            recent_max: if rate(4) == 0 { 3 } else { 1_000 },
            ..Self::calm(seed)
        }
    }

    /// Whether every job that nobody cancels must end with what its rounds lead to.
    pub(crate) fn is_harmless(&self) -> bool {
        self.agent_crashes + self.core_crashes + self.losses + self.mishaps + self.drains + self.cuts == 0
    }
}

/// What became of the jobs, to see that the histories are worth something.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) jobs: u64,
    pub(crate) judged: u64,
    pub(crate) measured: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
    pub(crate) parked: u64,
    pub(crate) attempts: u64,
    pub(crate) core_crashes: u64,
    pub(crate) agent_crashes: u64,
    pub(crate) links: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.jobs += other.jobs;
        self.judged += other.judged;
        self.measured += other.measured;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.parked += other.parked;
        self.attempts += other.attempts;
        self.core_crashes += other.core_crashes;
        self.agent_crashes += other.agent_crashes;
        self.links += other.links;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            jobs,
            judged,
            measured,
            failed,
            cancelled,
            parked,
            attempts,
            core_crashes,
            agent_crashes,
            links,
        } = self;
        write!(
            f,
            "{jobs} jobs: {judged} judged, {measured} measured, {failed} failed, {cancelled} cancelled, {parked} parked; \
             {attempts} attempts, {links} links, {core_crashes} deaths of the coordinator, {agent_crashes} of agents"
        )
    }
}

/// Lives through a scenario; an error is the first rule that was broken.
pub(crate) fn live_through(scenario: Scenario) -> Result<Tally, String> {
    world::World::new(scenario).live()
}
