//! The world's loop: time passes, messages arrive, faults happen, rules are checked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use darwin_coordinator_core::{
    Action, Answer, Caller, Core, Event, LinkId, Now, Refusal, Settings, Submission, ToAgent,
};
use darwin_shared::ids::{AgentId, AttemptId, JobId};
use darwin_shared::state::{JobState, Outcome};

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
const NOTICE_MS: u64 = 60;

/// A submission that its client has not heard of yet, and that it will repeat until it does.
#[derive(Debug, Clone)]
struct Request {
    id: String,
    shape: Shape,
    project: &'static str,
    priority: i32,
}

pub(crate) struct World {
    scenario: Scenario,
    dice: Dice,
    now_ms: u64,
    unix_ms: u64,
    core: Option<Core>,
    /// When this coordinator's monotonic clock began; when it starts again if it is down.
    core_since_ms: u64,
    ledger: FakeLedger,
    agents: Vec<FakeAgent>,
    reconnect_ms: Vec<u64>,
    net: Net,
    requests: Vec<Request>,
    calls: BTreeMap<Caller, Option<usize>>,
    next_caller: u64,
    next_job: u64,
    /// The jobs that were acknowledged, by request id.
    acknowledged: BTreeMap<String, JobId>,
    unanswered: BTreeSet<usize>,
    cancel_asked: BTreeSet<JobId>,
    finished: BTreeSet<JobId>,
    faults: bool,
    tally: Tally,
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
        }
        if scenario.declines && scenario.agents > 1 {
            let first = dice.below(3);
            agents[0].declines = Some(first);
            agents[1].declines = Some((first + 1) % 3);
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

    fn step(&mut self) -> Result<(), String> {
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

    fn say(&mut self, link: Option<LinkId>, said: Vec<darwin_coordinator_core::FromAgent>) {
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

    fn lose_link(&mut self, index: usize) {
        if let Some(link) = self.agents[index].link_id {
            self.agents[index].link_lost(self.now_ms);
            self.net.cut(self.now_ms, link, NOTICE_MS, &mut self.dice);
        }
        self.reconnect_ms[index] = self.now_ms + self.dice.below(200);
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
    fn feed(&mut self, batch: Vec<Event>) -> Result<(), String> {
        if self.core.is_none() {
            return Ok(());
        }
        let now = self.now();
        let Some(core) = self.core.as_mut() else { return Ok(()) };
        let mut actions = Vec::new();
        for event in batch {
            let told = format!("{event:?}");
            core.step(now, event, &mut actions);
            core.check_invariants()
                .map_err(|why| format!("{why}; after {}", told.chars().take(400).collect::<String>()))?;
        }
        self.settle(actions)
    }

    fn settle(&mut self, actions: Vec<Action>) -> Result<(), String> {
        if !actions.is_empty() && self.faults && self.dice.per_mille(self.scenario.core_crashes / 4) {
            // Dead before anything was on disk.
            self.crash_core();
            return Ok(());
        }
        let mut ledger = self.ledger.clone();
        for action in &actions {
            match action {
                Action::Write(write) => ledger.apply(write)?,
                // Nothing may be said before what it rests on is written, in the very order of the actions.
                Action::Reply { .. }
                | Action::Send { .. }
                | Action::Close { .. }
                | Action::Archive(_)
                | Action::JobChanged(_)
                | Action::JobFinished(_) => self.check_said(&ledger, action)?,
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

    fn check_said(&self, ledger: &FakeLedger, action: &Action) -> Result<(), String> {
        match action {
            Action::Reply { answer: Ok(Answer::Submitted { job, .. }), .. } => {
                if ledger.job(*job).is_none() || ledger.spec(*job).is_none() {
                    return Err(format!("job {job} is acknowledged and not in the ledger"));
                }
            }
            Action::Send { message: ToAgent::Assign { attempt, epoch, .. }, .. } => {
                if !ledger.knows(*attempt, *epoch) {
                    return Err(format!("{attempt} is assigned and not in the ledger"));
                }
            }
            Action::Send { message: ToAgent::Ack { attempt, stop: true, .. }, .. } => {
                let over = ledger.job(attempt.job).is_none_or(|record| {
                    record.state.is_finished()
                        || record.live_attempt().is_none_or(|live| live.number != attempt.number)
                });
                if !over {
                    return Err(format!("{attempt} is told to stop and still lives in the ledger"));
                }
            }
            Action::Send { message: ToAgent::Release { attempt }, .. } => {
                let open = ledger.job(attempt.job).and_then(|record| record.live_attempt());
                if open.is_some_and(|live| live.number == attempt.number) {
                    return Err(format!("{attempt} is released and still lives in the ledger"));
                }
            }
            Action::JobFinished(job) => {
                if !ledger.job(*job).is_some_and(|record| record.state.is_finished()) {
                    return Err(format!("job {job} is said to be finished and is not in the ledger"));
                }
            }
            Action::Reply { .. }
            | Action::Send { .. }
            | Action::Close { .. }
            | Action::Archive(_)
            | Action::JobChanged(_)
            | Action::Write(_) => {}
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

    fn crash_core(&mut self) {
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

    fn caller(&mut self, request: Option<usize>) -> Caller {
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
                shape: Shape::ALL[self.dice.index(Shape::ALL.len())],
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

    fn call_submit(&mut self, request: usize) -> Result<(), String> {
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

    fn mischief(&mut self) -> Result<(), String> {
        let Scenario { cuts, agent_crashes, core_crashes, cancels, drains, clock_steps, .. } = self.scenario;
        if self.dice.per_mille(cuts) {
            let links: Vec<LinkId> = self.net.wires.keys().copied().collect();
            if let Some(link) = links.get(self.dice.index(links.len())) {
                self.net.cut(self.now_ms, *link, NOTICE_MS, &mut self.dice);
            }
        }
        if self.dice.per_mille(agent_crashes) {
            self.kill_or_start_agent();
        }
        if self.core.is_some() && self.dice.per_mille(core_crashes / 2) {
            self.crash_core();
        }
        if self.dice.per_mille(clock_steps) {
            self.unix_ms = 1_000_000_000_000 + self.dice.below(2_000_000_000_000);
        }
        if self.dice.per_mille(drains) {
            self.change_mind_about_an_agent()?;
        }
        if self.dice.per_mille(cancels) {
            self.cancel()?;
        }
        if self.core.is_some() && self.dice.per_mille(30) && !self.requests.is_empty() {
            // A client that heard the answer calls again all the same.
            let request = self.dice.index(self.requests.len());
            self.call_submit(request)?;
        }
        Ok(())
    }

    fn kill_or_start_agent(&mut self) {
        let index = self.dice.index(self.agents.len());
        if !self.agents[index].up {
            let forgets = self.dice.per_mille(500);
            self.agents[index].restart(forgets);
            return;
        }
        self.tally.agent_crashes += 1;
        let link = self.agents[index].link_id;
        self.agents[index].crash(self.now_ms);
        if let Some(link) = link {
            self.net.cut(self.now_ms, link, NOTICE_MS, &mut self.dice);
        }
        if self.dice.per_mille(500) {
            let forgets = self.dice.per_mille(500);
            self.agents[index].restart(forgets);
        }
    }

    fn change_mind_about_an_agent(&mut self) -> Result<(), String> {
        let index = self.dice.index(self.agents.len());
        if self.dice.per_mille(500) {
            let agent = &mut self.agents[index];
            agent.healthy = !agent.healthy;
            let report = darwin_coordinator_core::FromAgent::Sensor(jobs::sensor(agent.healthy));
            let link = agent.link_id;
            self.say(link, vec![report]);
            return Ok(());
        }
        let (agent, drained) = (self.agents[index].id.clone(), self.dice.per_mille(500));
        self.drain(agent, drained)
    }

    fn drain(&mut self, agent: AgentId, drained: bool) -> Result<(), String> {
        let caller = self.caller(None);
        self.feed(vec![Event::SetDrained { caller, agent, drained }])
    }

    fn cancel(&mut self) -> Result<(), String> {
        let acknowledged: Vec<JobId> = self.acknowledged.values().copied().collect();
        let Some(job) = acknowledged.get(self.dice.index(acknowledged.len())).copied() else {
            return Ok(());
        };
        self.cancel_asked.insert(job);
        let caller = self.caller(None);
        self.feed(vec![Event::Cancel { caller, job, by: "tester".to_owned() }])
    }

    /// The faults stop: everyone is up, well and willing.
    fn calm_down(&mut self) -> Result<(), String> {
        self.faults = false;
        self.net.losses = 0;
        self.net.doubles = 0;
        for index in 0..self.agents.len() {
            let agent = &mut self.agents[index];
            if !agent.up {
                agent.restart(false);
            }
            agent.mishaps = super::agent::Mishaps::default();
            if !agent.healthy {
                agent.healthy = true;
                let report = darwin_coordinator_core::FromAgent::Sensor(jobs::sensor(true));
                let link = agent.link_id;
                self.say(link, vec![report]);
            }
        }
        while self.core.is_none() || self.agents.iter().any(|agent| !agent.is_welcome()) {
            self.step()?;
            if self.now_ms > 1_000_000 {
                return Err("an agent is never welcome".to_owned());
            }
        }
        for agent in self.agents.iter().map(|agent| agent.id.clone()).collect::<Vec<_>>() {
            self.drain(agent, false)?;
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

    fn what_hangs(&self) -> String {
        let jobs: Vec<String> = self
            .ledger
            .jobs()
            .filter(|(_, _, record)| !record.state.is_finished())
            .map(|(id, _, record)| {
                let waits =
                    self.core.as_ref().and_then(|core| Some(core.waits_for(core.job(id)?))).unwrap_or_default();
                format!("{id}: {record:?} ({waits})")
            })
            .collect();
        let live: Vec<(&AgentId, Vec<AttemptId>)> = self
            .agents
            .iter()
            .map(|agent| (&agent.id, agent.live().map(|(attempt, _)| attempt).collect()))
            .collect();
        format!("long after the faults stopped: unfinished {jobs:#?}, live on agents {live:?}")
    }

    /// Nothing is measured twice at once.
    fn no_job_runs_twice(&self) -> Result<(), String> {
        let mut seen: BTreeMap<JobId, (&AgentId, AttemptId)> = BTreeMap::new();
        for agent in self.agents.iter().filter(|agent| agent.up) {
            for (attempt, _) in agent.live() {
                if let Some(other) = seen.insert(attempt.job, (&agent.id, attempt)) {
                    return Err(format!("{attempt} runs on {} while {} runs on {}", agent.id, other.1, other.0));
                }
            }
        }
        Ok(())
    }

    /// What the ledger says in the end must be what the clients were promised.
    fn reckon(mut self) -> Result<Tally, String> {
        let mut of_request: BTreeMap<&str, u32> = BTreeMap::new();
        for (id, _, record) in self.ledger.jobs() {
            let submitted = self.ledger.spec(id).ok_or("a job without spec")?;
            *of_request.entry(&submitted.request_id).or_default() += 1;
            let JobState::Finished(outcome) = &record.state else {
                return Err(format!("job {id} has not finished"));
            };
            self.tally.jobs += 1;
            self.tally.attempts += record.attempts.len() as u64;
            let spec = &submitted.spec;
            match outcome {
                Outcome::Judged(verdict) => {
                    self.tally.judged += 1;
                    if **verdict != jobs::expected_verdict(spec) {
                        return Err(format!("job {id} has another verdict than its rounds lead to: {verdict:?}"));
                    }
                }
                Outcome::Measured(series) => {
                    self.tally.measured += 1;
                    let rounds: Vec<u32> = series.iter().map(|series| series.invocations).collect();
                    if rounds != [spec.budget.rounds_max] {
                        return Err(format!("job {id} counts its rounds wrongly: {rounds:?}"));
                    }
                }
                Outcome::Failed(_) => self.tally.failed += 1,
                Outcome::Cancelled { .. } => {
                    self.tally.cancelled += 1;
                    if !self.cancel_asked.contains(&id) {
                        return Err(format!("job {id} is cancelled and nobody asked for it"));
                    }
                }
                Outcome::Expired => return Err(format!("job {id} expired within an hour")),
                Outcome::Parked { why } => {
                    self.tally.parked += 1;
                    if self.scenario.is_harmless() {
                        return Err(format!("job {id} is parked though nothing failed: {why}"));
                    }
                }
            }
        }
        if self.scenario.recent_max >= 10 && of_request.values().any(|count| *count != 1) {
            return Err(format!("a request made more than one job: {of_request:?}"));
        }
        if of_request.len() != self.requests.len() {
            return Err("an acknowledged request has no job".to_owned());
        }
        Ok(self.tally)
    }
}
