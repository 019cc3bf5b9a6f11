//! The world's loop: time passes, messages arrive, faults happen, rules are checked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use darwin_coordinator_core::{
    Action, Answer, Caller, Core, Event, LinkId, Now, Refusal, Settings, Submission,
};
use darwin_shared::ids::JobId;

use super::agent::FakeAgent;
use super::dice::Dice;
use super::jobs::{self, Shape};
use super::ledger::FakeLedger;
use super::net::{Down, Net, Up};
use super::{Scenario, Tally};

/// One step of time, at most, in ms.
const STEP_MS: u64 = 20;
/// After the faults stop, everything must be over within this, in ms.
const CALM_MS: u64 = 60_000;
/// An end of a cut link notices within this, in ms; with a message's way it is below what agents count as unsure.
pub(super) const NOTICE_MS: u64 = 60;

/// What clients submit.
const SHAPES: [Shape; 6] = [
    Shape::Measure(1),
    Shape::Measure(3),
    Shape::Compare { pairs: 2, faster: true },
    Shape::Compare { pairs: 3, faster: false },
    Shape::Compare { pairs: 12, faster: true },
    Shape::Compare { pairs: 12, faster: false },
];

/// A submission that its client has not heard of yet, and that it will repeat until it does.
#[derive(Debug, Clone)]
pub(super) struct Request {
    id: String,
    shape: Shape,
    project: &'static str,
    priority: i32,
}

pub(crate) struct World {
    pub(super) scenario: Scenario,
    pub(super) dice: Dice,
    pub(super) now_ms: u64,
    pub(super) unix_ms: u64,
    pub(super) core: Option<Core>,
    /// When this coordinator's monotonic clock began; when it starts again if it is down.
    pub(super) core_since_ms: u64,
    pub(super) ledger: FakeLedger,
    pub(super) agents: Vec<FakeAgent>,
    pub(super) reconnect_ms: Vec<u64>,
    pub(super) net: Net,
    pub(super) requests: Vec<Request>,
    pub(super) calls: BTreeMap<Caller, Option<usize>>,
    pub(super) next_caller: u64,
    pub(super) next_job: u64,
    /// The jobs that were acknowledged, by request id.
    pub(super) acknowledged: BTreeMap<String, JobId>,
    pub(super) unanswered: BTreeSet<usize>,
    pub(super) cancel_asked: BTreeSet<JobId>,
    pub(super) finished: BTreeSet<JobId>,
    pub(super) faults: bool,
    pub(super) tally: Tally,
}

impl World {
    pub(crate) fn new(scenario: Scenario) -> Self {
        let mut dice = Dice::new(scenario.seed);
        let mut agents: Vec<FakeAgent> = (0..scenario.agents)
            .map(|number| {
                let cores = 1 + u32::try_from(dice.below(2)).unwrap();
                let ahead = u32::try_from(dice.below(3)).unwrap();
                FakeAgent::new(&format!("box{number}"), cores, ahead)
            })
            .collect();
        for agent in &mut agents {
            agent.mishaps.candidate_fails = scenario.mishaps / 2;
            agent.mishaps.box_fails = scenario.mishaps;
            agent.stubborn = scenario.stubborn;
        }
        if scenario.declines && scenario.agents > 1 {
            let first = dice.below(3);
            agents[0].declines = Some(first);
            agents[1].declines = Some((first + 1) % 3);
            // Whom only the strict one is connected to, is told so at once: that is no harm, but it is an end.
            agents[0].by_policy = !scenario.is_harmless();
        }
        let net = Net { doubles: scenario.doubles, losses: scenario.losses, ..Net::default() };
        Self {
            scenario,
            now_ms: 0,
            unix_ms: 1_764_000_000_000,
            core: None,
            core_since_ms: 0,
            ledger: FakeLedger::default(),
            reconnect_ms: vec![0; agents.len()],
            agents,
            net,
            requests: Vec::new(),
            calls: BTreeMap::new(),
            next_caller: 0,
            next_job: 0,
            acknowledged: BTreeMap::new(),
            unanswered: BTreeSet::new(),
            cancel_asked: BTreeSet::new(),
            finished: BTreeSet::new(),
            faults: true,
            tally: Tally::default(),
            dice,
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            lease: Duration::from_secs(1),
            grace: Duration::from_millis(300),
            renew_every: Duration::from_millis(300),
            queued_max: 8,
            wait_max: Duration::from_hours(1),
            agents_lost_max: 2,
            recent_max: self.scenario.recent_max,
        }
    }

    fn now(&self) -> Now {
        Now { mono: Duration::from_millis(self.now_ms - self.core_since_ms), unix_ms: self.unix_ms }
    }

    /// All of it: the faults, the calm after them, and the reckoning.
    pub(crate) fn live(mut self) -> Result<Tally, String> {
        for _ in 0..self.scenario.steps {
            self.step().map_err(|why| format!("at {} ms: {why}", self.now_ms))?;
            self.mischief().map_err(|why| format!("at {} ms: {why}", self.now_ms))?;
        }
        self.calm_down()?;
        let until = self.now_ms + CALM_MS;
        while !self.is_over() {
            self.step().map_err(|why| format!("in the calm, at {} ms: {why}", self.now_ms))?;
            if self.now_ms > until {
                return Err(self.what_hangs());
            }
        }
        self.reckon()
    }

    pub(super) fn step(&mut self) -> Result<(), String> {
        let passed = 1 + self.dice.below(STEP_MS);
        self.now_ms += passed;
        self.unix_ms += passed;
        self.revive()?;
        self.tick_agents();
        self.deliver_down();
        self.deliver_up()?;
        let due = |core: &Core| core.next_timer().is_some_and(|at| at <= self.now().mono);
        if self.core.as_ref().is_some_and(due) {
            self.feed(vec![Event::Timer])?;
        }
        self.submit()?;
        self.net.sweep();
        self.no_job_runs_twice()
    }

    /// A coordinator that is down starts again when its time has come.
    fn revive(&mut self) -> Result<(), String> {
        if self.core.is_some() || self.now_ms < self.core_since_ms {
            return Ok(());
        }
        self.core_since_ms = self.now_ms;
        let restored = self.ledger.load(self.scenario.recent_max);
        let mut actions = Vec::new();
        let core = Core::restore(self.settings(), self.now(), restored, &mut actions);
        core.check_invariants().map_err(|why| format!("after a restart: {why}"))?;
        self.core = Some(core);
        self.settle(actions)
    }

    fn tick_agents(&mut self) {
        for index in 0..self.agents.len() {
            let agent = &mut self.agents[index];
            if !agent.up {
                continue;
            }
            let mut said = Vec::new();
            let link_holds = agent.tick(self.now_ms, &mut self.dice, &mut said);
            let link = agent.link_id;
            self.say(link, said);
            if link.is_some() && !link_holds {
                self.lose_link(index);
            } else if link.is_none() && self.now_ms >= self.reconnect_ms[index] {
                self.connect(index);
            }
        }
    }

    pub(super) fn say(&mut self, link: Option<LinkId>, said: Vec<darwin_coordinator_core::FromAgent>) {
        let Some(link) = link else { return };
        for message in said {
            self.net.send_up(self.now_ms, link, Up::Said(message), &mut self.dice);
        }
    }

    fn connect(&mut self, index: usize) {
        if self.core.is_none() {
            self.reconnect_ms[index] = self.now_ms + 1 + self.dice.below(200);
            return;
        }
        let link = self.net.connect(index);
        self.tally.links += 1;
        let hello = self.agents[index].hello(self.now_ms, link);
        self.net.send_up(self.now_ms, link, Up::Hello(Box::new(hello)), &mut self.dice);
    }

    pub(super) fn lose_link(&mut self, index: usize) {
        if let Some(link) = self.agents[index].link_id {
            self.agents[index].link_lost(self.now_ms);
            self.net.cut(self.now_ms, link, NOTICE_MS, &mut self.dice);
        }
        // Most connections come back soon, some stay away for longer than a lease.
        let away_ms = if self.faults && self.dice.per_mille(200) { 3_000 } else { 200 };
        self.reconnect_ms[index] = self.now_ms + self.dice.below(away_ms);
    }

    fn deliver_down(&mut self) {
        while let Some((link, index, message)) = self.net.arrived_down(self.now_ms, &mut self.dice) {
            // A connection that the agent has given up says nothing any more.
            if !self.agents[index].up || self.agents[index].link_id != Some(link) {
                continue;
            }
            match message {
                Down::Gone => self.lose_link(index),
                Down::Said(message) => {
                    let mut said = Vec::new();
                    self.agents[index].hear(self.now_ms, message, &mut said);
                    self.say(Some(link), said);
                }
            }
        }
    }

    /// What arrives is stepped one by one or in batches, as the loop does.
    fn deliver_up(&mut self) -> Result<(), String> {
        let mut batch = Vec::new();
        while let Some((link, message)) = self.net.arrived_up(self.now_ms, &mut self.dice) {
            batch.push(match message {
                Up::Hello(hello) => Event::LinkUp { link, hello },
                Up::Said(message) => Event::FromAgent { link, message },
                Up::Gone => Event::LinkDown { link },
            });
            if self.dice.per_mille(400) {
                self.feed(std::mem::take(&mut batch))?;
            }
        }
        self.feed(batch)
    }

    /// Steps the core through a batch, then persists, then performs; the coordinator may die in between.
    pub(super) fn feed(&mut self, batch: Vec<Event>) -> Result<(), String> {
        if self.core.is_none() {
            return Ok(());
        }
        let now = self.now();
        let Some(core) = self.core.as_mut() else { return Ok(()) };
        let mut actions = Vec::new();
        for event in batch {
            let kind = std::mem::discriminant(&event);
            core.step(now, event, &mut actions);
            core.check_invariants().map_err(|why| format!("{why}; after {kind:?}"))?;
        }
        self.settle(actions)
    }

    fn settle(&mut self, actions: Vec<Action>) -> Result<(), String> {
        if !actions.is_empty() && self.faults && self.dice.per_mille(self.scenario.core_crashes / 4) {
            // Dead before anything was on disk.
            self.crash_core();
            return Ok(());
        }
        let mut ledger = std::mem::take(&mut self.ledger);
        for action in &actions {
            match action {
                Action::Write(write) => ledger.apply(write)?,
                // Nothing may be said before what it rests on is written, in the very order of the actions.
                Action::Reply { .. }
                | Action::Send { .. }
                | Action::Close { .. }
                | Action::Archive(_)
                | Action::JobChanged(_)
                | Action::JobFinished(_) => ledger.check_said(action)?,
            }
        }
        self.ledger = ledger;
        let mut performed = actions.len();
        let dies = self.faults && !actions.is_empty() && self.dice.per_mille(self.scenario.core_crashes / 4);
        if dies {
            performed = self.dice.index(actions.len());
        }
        for action in actions.into_iter().take(performed) {
            self.perform(action)?;
        }
        if dies {
            self.crash_core();
        }
        Ok(())
    }

    fn perform(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Write(_) | Action::Archive(_) | Action::JobChanged(_) => {}
            Action::Reply { caller, answer } => self.answered(caller, answer)?,
            Action::Send { link, message } => {
                self.net.send_down(self.now_ms, link, message, &mut self.dice);
            }
            Action::Close { link, why: _ } => self.net.close(self.now_ms, link),
            Action::JobFinished(job) => {
                if !self.finished.insert(job) {
                    return Err(format!("job {job} finishes twice"));
                }
            }
        }
        Ok(())
    }

    pub(super) fn crash_core(&mut self) {
        self.core = None;
        self.tally.core_crashes += 1;
        self.core_since_ms = self.now_ms + 1 + self.dice.below(2_500);
        let links: Vec<LinkId> = self.net.wires.keys().copied().collect();
        for link in links {
            self.net.cut(self.now_ms, link, NOTICE_MS, &mut self.dice);
        }
        // Who waits for an answer gets none, and asks again.
        for request in std::mem::take(&mut self.calls).into_values().flatten() {
            self.unanswered.insert(request);
        }
    }

    pub(super) fn caller(&mut self, request: Option<usize>) -> Caller {
        let caller = Caller(self.next_caller);
        self.next_caller += 1;
        self.calls.insert(caller, request);
        caller
    }

    /// Clients submit what is left to submit, and repeat what nobody answered.
    fn submit(&mut self) -> Result<(), String> {
        if self.core.is_none() {
            return Ok(());
        }
        let wanted = self.scenario.jobs as usize;
        if self.requests.len() < wanted && (self.dice.per_mille(200) || !self.faults) {
            self.requests.push(Request {
                id: format!("request {}", self.requests.len()),
                shape: SHAPES[self.dice.index(SHAPES.len())],
                project: ["a", "b"][self.dice.index(2)],
                priority: [0, 0, 5][self.dice.index(3)],
            });
            self.unanswered.insert(self.requests.len() - 1);
        }
        for request in std::mem::take(&mut self.unanswered) {
            self.call_submit(request)?;
        }
        Ok(())
    }

    pub(super) fn call_submit(&mut self, request: usize) -> Result<(), String> {
        let Request { id, shape, project, priority } = self.requests[request].clone();
        let caller = self.caller(Some(request));
        self.next_job += 1;
        let submission = Submission {
            job: JobId::from_parts(self.next_job, u128::from(self.dice.next())),
            request_id: id,
            spec: jobs::spec(shape, project, priority),
            submitter: "tester".to_owned(),
        };
        self.feed(vec![Event::Submit { caller, submission: Box::new(submission) }])
    }

    fn answered(&mut self, caller: Caller, answer: Result<Answer, Refusal>) -> Result<(), String> {
        let Some(request) = self.calls.remove(&caller) else {
            return Err("an answer for nobody".to_owned());
        };
        let Some(index) = request else { return Ok(()) };
        match answer {
            Ok(Answer::Submitted { job, known }) => {
                let id = self.requests[index].id.clone();
                let forgetful = self.scenario.recent_max < 10;
                let before = self.acknowledged.insert(id.clone(), job);
                if before.is_some_and(|before| before != job) && !forgetful {
                    return Err(format!("`{id}` is job {before:?} and then {job}"));
                }
                if before.is_some() && !known && !forgetful {
                    return Err(format!("`{id}` is known and called new"));
                }
            }
            Err(Refusal::QueueFull(_)) => {
                self.unanswered.insert(index);
            }
            other => return Err(format!("a submission got {other:?}")),
        }
        Ok(())
    }

    /// Everything was submitted and has finished, and no agent holds anything.
    fn is_over(&self) -> bool {
        self.requests.len() >= self.scenario.jobs as usize
            && self.unanswered.is_empty()
            && self.ledger.jobs().all(|(_, _, record)| record.state.is_finished())
            && self.agents.iter().all(|agent| agent.live().next().is_none())
    }
}
