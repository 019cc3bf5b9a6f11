//! Faults: what people and machines do to the world, until it is left in peace.

use darwin_coordinator_core::{Event, FromAgent, LinkId};
use darwin_shared::ids::{AgentId, JobId};

use super::agent::Mishaps;
use super::world::{NOTICE_MS, World};
use super::{Scenario, jobs};

impl World {
    /// Something goes wrong, or nothing.
    pub(super) fn mischief(&mut self) -> Result<(), String> {
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
            self.agents[index].restart();
            return;
        }
        self.tally.agent_crashes += 1;
        let link = self.agents[index].link_id;
        self.agents[index].crash(self.now_ms);
        if let Some(link) = link {
            self.net.cut(self.now_ms, link, NOTICE_MS, &mut self.dice);
        }
        if self.dice.per_mille(500) {
            self.agents[index].restart();
        }
    }

    fn change_mind_about_an_agent(&mut self) -> Result<(), String> {
        let index = self.dice.index(self.agents.len());
        if self.dice.per_mille(500) {
            let agent = &mut self.agents[index];
            agent.healthy = !agent.healthy;
            let report = FromAgent::Sensor(jobs::sensor(agent.healthy));
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
    pub(super) fn calm_down(&mut self) -> Result<(), String> {
        self.faults = false;
        self.net.losses = 0;
        self.net.doubles = 0;
        for index in 0..self.agents.len() {
            let agent = &mut self.agents[index];
            if !agent.up {
                agent.restart();
            }
            agent.mishaps = Mishaps::default();
            if !agent.healthy {
                agent.healthy = true;
                let report = FromAgent::Sensor(jobs::sensor(true));
                let link = agent.link_id;
                self.say(link, vec![report]);
            }
            if std::mem::take(&mut self.agents[index].stubborn) {
                // Another mind comes with another start: its link is new.
                self.lose_link(index);
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
}
