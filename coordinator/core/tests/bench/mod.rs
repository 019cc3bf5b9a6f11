//! A core on a bench: events in by name, and what it said by kind.
#![expect(clippy::unwrap_used, reason = "test code: a failed unwrap is a failed test")]

#[path = "../sim/jobs.rs"]
pub(crate) mod jobs;

use std::time::Duration;

use darwin_coordinator_core::{
    Action, Answer, Caller, Core, Event, FromAgent, HeldAttempt, Hello, LinkId, Now, Offer, Refusal,
    Settings, Submission, ToAgent,
};
use darwin_shared::attempt::{AttemptEnd, AttemptEvent, AttemptUpdate};
use darwin_shared::fleet::AgentFacts;
use darwin_shared::ids::{AgentId, AttemptId, Epoch, JobId};
use darwin_shared::spec::JobSpec;
use darwin_shared::state::{JobState, RefusalCause};

/// Something was granted: on which link, what, under which epoch.
pub(crate) type Grant = (LinkId, AttemptId, Epoch);

pub(crate) struct Bench {
    pub(crate) core: Core,
    pub(crate) now_ms: u64,
    /// All that the core wanted done since it was last asked about.
    pub(crate) actions: Vec<Action>,
    next: u64,
}

impl Bench {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { core: Core::new(settings), now_ms: 0, actions: Vec::new(), next: 0 }
    }

    pub(crate) fn now(&self) -> Now {
        Now { mono: Duration::from_millis(self.now_ms), unix_ms: 1_764_000_000_000 + self.now_ms }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(crate) fn step(&mut self, event: Event) {
        let now = self.now();
        self.core.step(now, event, &mut self.actions);
        self.core.check_invariants().unwrap();
    }

    /// Lets time pass to the next timer, as often as there is one within `ms`.
    pub(crate) fn wait_ms(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        while let Some(at) = self.core.next_timer().filter(|at| *at <= Duration::from_millis(until)) {
            self.now_ms = self.now_ms.max(u64::try_from(at.as_millis()).unwrap());
            self.step(Event::Timer);
        }
        self.now_ms = until;
    }

    /// Lets time pass unseen: the timers that came due meanwhile fire late.
    pub(crate) fn stand_still_ms(&mut self, ms: u64) {
        self.now_ms += ms;
        self.step(Event::Timer);
    }

    /// The one answer to what `event` asks.
    pub(crate) fn ask(&mut self, event: impl FnOnce(Caller) -> Event) -> Result<Answer, Refusal> {
        let caller = Caller(self.number());
        self.step(event(caller));
        let mut answers = self.actions.iter().filter_map(|action| match action {
            Action::Reply { caller: whose, answer } if *whose == caller => Some(answer.clone()),
            _ => None,
        });
        let answer = answers.next().unwrap();
        assert_eq!(answers.next(), None, "two answers to one call");
        answer
    }

    pub(crate) fn submit_as(&mut self, request_id: &str, spec: JobSpec) -> Result<Answer, Refusal> {
        let job = JobId::from_parts(self.number(), 0);
        let (request_id, submitter) = (request_id.to_owned(), "tester".to_owned());
        let submission = Box::new(Submission { job, request_id, spec, submitter });
        self.ask(|caller| Event::Submit { caller, submission })
    }

    pub(crate) fn submit(&mut self, spec: JobSpec) -> JobId {
        match self.submit_as("", spec) {
            Ok(Answer::Submitted { job, known: false }) => job,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn cancel(&mut self, job: JobId) -> Result<Answer, Refusal> {
        self.ask(|caller| Event::Cancel { caller, job, by: "tester".to_owned() })
    }

    /// An agent with so many cores connects and offers to take so many attempts.
    pub(crate) fn agent(&mut self, name: &str, cores: u32, credits: u32) -> LinkId {
        let facts = jobs::facts(&AgentId::new(name).unwrap(), cores, 0);
        self.agent_with(name, facts, Offer { credits, free_cores: cores }, Vec::new())
    }

    pub(crate) fn agent_with(
        &mut self,
        name: &str,
        facts: AgentFacts,
        offer: Offer,
        attempts: Vec<HeldAttempt>,
    ) -> LinkId {
        let link = LinkId(self.number());
        let agent = AgentId::new(name).unwrap();
        let hello = Hello { agent, facts, sensor: jobs::sensor(true), attempts, offer };
        self.step(Event::LinkUp { link, hello: Box::new(hello) });
        link
    }

    pub(crate) fn says(&mut self, link: LinkId, message: FromAgent) {
        self.step(Event::FromAgent { link, message });
    }

    pub(crate) fn updates(&mut self, grant: Grant, event: AttemptEvent) {
        let (link, attempt, epoch) = grant;
        self.says(link, FromAgent::Update(AttemptUpdate { attempt, epoch, event }));
    }

    pub(crate) fn refuses(&mut self, grant: Grant, cause: RefusalCause) {
        self.updates(grant, AttemptEvent::Refused(cause));
    }

    pub(crate) fn ends(&mut self, grant: Grant, end: AttemptEnd) {
        self.updates(grant, AttemptEvent::Ended(end));
    }

    pub(crate) fn offers(&mut self, link: LinkId, credits: u32, free_cores: u32) {
        self.says(link, FromAgent::Offer(Offer { credits, free_cores }));
    }

    /// Measures the next rounds of a grant.
    pub(crate) fn measures(&mut self, grant: Grant, rounds: std::ops::Range<u32>) {
        let (link, attempt, epoch) = grant;
        let spec = self.core.job(attempt.job).unwrap().spec().clone();
        for round in rounds {
            self.says(link, FromAgent::Round(Box::new(jobs::round(&spec, attempt, epoch, round))));
        }
    }

    /// What was granted since the last question.
    pub(crate) fn grants(&mut self) -> Vec<Grant> {
        let granted = |action: Action| match action {
            Action::Send { link, message: ToAgent::Assign { attempt, epoch, .. } } => {
                Some((link, attempt, epoch))
            }
            _ => None,
        };
        std::mem::take(&mut self.actions).into_iter().filter_map(granted).collect()
    }

    /// The only grant since the last question.
    pub(crate) fn grant(&mut self) -> Grant {
        let grants = self.grants();
        let [grant] = grants[..] else { panic!("not one grant: {grants:?}") };
        grant
    }

    /// What the agents were told since the last question.
    pub(crate) fn told(&mut self) -> Vec<ToAgent> {
        let told = |action: Action| match action {
            Action::Send { message, .. } => Some(message),
            _ => None,
        };
        std::mem::take(&mut self.actions).into_iter().filter_map(told).collect()
    }

    pub(crate) fn state(&self, job: JobId) -> &JobState {
        &self.core.job(job).unwrap().record.state
    }

    /// A finished job's state in a word, and why it is parked.
    pub(crate) fn outcome(&self, job: JobId) -> (&'static str, String) {
        let state = self.state(job);
        let why = match state {
            JobState::Finished(darwin_shared::state::Outcome::Parked { why }) => why.clone(),
            _ => String::new(),
        };
        (state.name(), why)
    }

    pub(crate) fn waits_for(&self, job: JobId) -> String {
        self.core.waits_for(self.core.job(job).unwrap())
    }
}
