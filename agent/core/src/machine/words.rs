//! What the machine is told and what it wants done.

use std::time::Duration;

use darwin_shared::attempt::{AttemptEnd, AttemptEvent};
use darwin_shared::cpu::CpuSet;
use darwin_shared::ids::{AttemptId, Epoch};
use darwin_shared::spec::CoreRequest;
use darwin_shared::state::{Failure, RefusalCause, Stage};
use darwin_shared::void::{VoidCause, VoidRounds};

use crate::cpu_alloc::Granted;

/// Numbers that the machine's decisions depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Attempts that measure at once, each on cores of its own: as many as there are launchers.
    pub slots: u32,
    /// Attempts that are staged at once.
    pub stagers: u32,
    /// Attempts held ahead for each slot.
    pub ahead: u32,
    /// How long past the lease an attempt may go on; the coordinator must wait longer than this.
    pub lease_grace: Duration,
}

/// What the machine needs to know of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Rounds after which it is complete; at least 1.
    pub rounds_max: u32,
    /// Time from its first round after which no further round begins.
    pub time: Duration,
    /// Numbers of rounds after which the gate looks.
    pub looks: Vec<u32>,
    /// The cores that it needs.
    pub cores: CoreRequest,
    /// Whether there is anything to fetch, set up or check.
    pub needs_staging: bool,
}

/// An attempt as a spool remembers it from an earlier life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// Which.
    pub attempt: AttemptId,
    /// Its fence.
    pub epoch: Epoch,
    /// Rounds in the spool.
    pub rounds: u32,
    /// How it ended, if it had.
    pub end: Option<AttemptEnd>,
}

/// An attempt as the coordinator is told of it on connecting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub attempt: AttemptId,
    /// Its fence.
    pub epoch: Epoch,
    /// Rounds in the spool.
    pub rounds: u32,
    /// Whether processes of it may still run.
    pub live: bool,
    /// How it ended, if it has.
    pub end: Option<AttemptEnd>,
}

/// What the agent could take on: the whole of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// Attempts that it would take beyond those it holds.
    pub credits: u32,
    /// Free whole cores.
    pub free_cores: u32,
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A connection stands and the hello goes out on it: what is said from now on follows it.
    HelloSent,
    /// The coordinator answered the hello.
    Welcomed {
        /// How long a lease lasts from the sending of its renewal.
        lease: Duration,
        /// How often to renew.
        renew_every: Duration,
        /// Attempts whose epochs are over.
        stale: Vec<AttemptId>,
        /// Whether the agent is drained.
        drained: bool,
    },
    /// The connection is gone.
    LinkLost {
        /// For how long it may have been dead before that was noticed: nothing sent since then surely arrived.
        unsure_for: Duration,
    },
    /// A grant came in.
    Assigned {
        /// Which attempt.
        attempt: AttemptId,
        /// Its fence.
        epoch: Epoch,
        /// What is to be done, or why this agent will not do it.
        plan: Result<Plan, RefusalCause>,
    },
    /// The coordinator has folded rounds in.
    Acked {
        /// Of which attempt.
        attempt: AttemptId,
        /// Its fence.
        epoch: Epoch,
        /// 0 up to this number.
        rounds: u32,
        /// Whether to stop.
        stop: bool,
    },
    /// The attempt shall end.
    CancelAsked {
        /// Which.
        attempt: AttemptId,
        /// Its fence.
        epoch: Epoch,
    },
    /// The attempt's end is durable at the coordinator.
    Released {
        /// Which.
        attempt: AttemptId,
    },
    /// The coordinator's operator wants the agent to take nothing new and to give back what has no cores yet, or to
    /// take work again.
    DrainAsked(bool),
    /// Rounds are wanted again.
    ReplayAsked {
        /// Of which attempt.
        attempt: AttemptId,
        /// From this one on.
        from_round: u32,
    },
    /// Staging has come to this stage.
    StageBegun {
        /// Of which attempt.
        attempt: AttemptId,
        /// Which stage.
        stage: Stage,
    },
    /// Everything is fetched, set up and checked.
    Staged {
        /// Which attempt.
        attempt: AttemptId,
    },
    /// After [`Action::TakeCores`]: nobody else on the box has these cores.
    CoresTaken {
        /// Whose.
        attempt: AttemptId,
    },
    /// After [`Action::TakeCores`]: somebody else on the box has some of them, or is to have them first.
    CoresElsewhere {
        /// Whose they were to be.
        attempt: AttemptId,
        /// What others have of this box's CPUs.
        cpus: CpuSet,
    },
    /// A round is measured; whoever tells it keeps its result at hand.
    RoundDone {
        /// Of which attempt.
        attempt: AttemptId,
        /// Which round.
        round: u32,
    },
    /// A round was measured and does not count: the box disturbed it.
    RoundVoid {
        /// Of which attempt.
        attempt: AttemptId,
        /// Which round.
        round: u32,
        /// By what, first of all.
        cause: VoidCause,
    },
    /// The candidate failed; nothing of it runs any more.
    CandidateFailed {
        /// Which attempt.
        attempt: AttemptId,
        /// How.
        failure: Failure,
    },
    /// The box failed; nothing of the attempt runs any more.
    BoxFailed {
        /// Which attempt.
        attempt: AttemptId,
        /// How, in words.
        why: String,
    },
    /// After [`Action::Stop`]: nothing of the attempt runs any more.
    Stopped {
        /// Which attempt.
        attempt: AttemptId,
    },
    /// The sensor was read: whether the box may measure, or why not. An attempt whose cores are taken after that is
    /// judged by it.
    SensorRead(Result<(), String>),
    /// The time that [`super::Machine::wake_at`] named has come.
    Woken,
    /// The agent shall leave: finish what is on cores, give back the rest.
    LeaveAsked,
    /// The agent shall leave at once.
    LeaveNow,
}

/// Something to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write the grant into the spool.
    WriteIntent {
        /// Which attempt.
        attempt: AttemptId,
        /// Its fence.
        epoch: Epoch,
    },
    /// Write the round's result into the spool, and send it.
    ReportRound {
        /// Which attempt.
        attempt: AttemptId,
        /// Which round.
        round: u32,
        /// Its measurements that were void before; to be told with the result.
        voids: VoidRounds,
    },
    /// Write the attempt's end into the spool.
    WriteEnd {
        /// Which attempt.
        attempt: AttemptId,
        /// How it ended.
        end: AttemptEnd,
    },
    /// Drop the attempt from the spool, with its logs.
    Forget {
        /// Which attempt.
        attempt: AttemptId,
    },
    /// Tell the coordinator how an attempt is doing.
    Tell {
        /// Which attempt.
        attempt: AttemptId,
        /// The fence of what it is told about.
        epoch: Epoch,
        /// What happened.
        event: AttemptEvent,
    },
    /// Tell the coordinator what could be taken on.
    SendOffer(Offer),
    /// Renew the leases of all attempts that are live.
    SendRenewal,
    /// Send rounds from the spool again.
    ResendRounds {
        /// Of which attempt.
        attempt: AttemptId,
        /// From this one on.
        from_round: u32,
    },
    /// Fetch, set up and check. Answered by `Staged`, `CandidateFailed`, `BoxFailed` or, after a stop, `Stopped`.
    Stage {
        /// Which attempt.
        attempt: AttemptId,
    },
    /// Tell the coordinator that measurements of the round in progress are void.
    TellVoids {
        /// Of which attempt.
        attempt: AttemptId,
        /// All of this round, so far.
        voids: VoidRounds,
    },
    /// Measure a round once more, after a pause; else like [`Action::Measure`].
    MeasureAgain {
        /// Which attempt.
        attempt: AttemptId,
        /// Which round.
        round: u32,
        /// The slot whose launcher runs it.
        slot: u32,
        /// How long the cores lie idle first, for the box to come to rest.
        after: Duration,
    },
    /// Measure a round. Answered by `RoundDone`, `RoundVoid`, `CandidateFailed`, `BoxFailed` or, after a stop, `Stopped`.
    Measure {
        /// Which attempt.
        attempt: AttemptId,
        /// Which round.
        round: u32,
        /// The slot whose launcher runs it.
        slot: u32,
    },
    /// Take these cores before anybody else on the box does. Answered by `CoresTaken` or `CoresElsewhere`.
    TakeCores {
        /// For which attempt.
        attempt: AttemptId,
        /// The slot.
        slot: u32,
        /// The cores.
        granted: Granted,
    },
    /// Whatever cores were taken for this slot may be taken by others: nothing runs on them any more.
    GiveBackCores {
        /// The slot.
        slot: u32,
    },
    /// End the processes of an attempt that stages or measures.
    Stop {
        /// Which attempt.
        attempt: AttemptId,
    },
    /// Nothing is left to do: the agent may go.
    Leave,
}
