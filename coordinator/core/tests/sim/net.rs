//! Links between agents and the coordinator: in order each by itself, in any order among each other.

use std::collections::{BTreeMap, VecDeque};

use darwin_coordinator_core::{FromAgent, Hello, LinkId, ToAgent};

use super::dice::Dice;

/// The longest that a message is on its way, in ms.
pub(crate) const DELAY_MAX_MS: u64 = 40;

/// What an agent's end of a link sends.
#[derive(Debug, Clone)]
pub(crate) enum Up {
    Hello(Box<Hello>),
    Said(FromAgent),
    /// The connection's end, as the coordinator notices it.
    Gone,
}

/// What the coordinator's end sends.
#[derive(Debug, Clone)]
pub(crate) enum Down {
    Said(ToAgent),
    /// The connection's end, as the agent notices it.
    Gone,
}

/// One connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wire {
    pub(crate) agent: usize,
    up: VecDeque<(u64, Up)>,
    down: VecDeque<(u64, Down)>,
    /// Cut: what is sent from now on goes nowhere.
    up_cut: bool,
    down_cut: bool,
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Net {
    pub(crate) wires: BTreeMap<LinkId, Wire>,
    pub(crate) next: u64,
    /// Rates, in a thousand.
    pub(crate) doubles: u32,
    pub(crate) losses: u32,
}

fn push<T>(queue: &mut VecDeque<(u64, T)>, at_ms: u64, message: T) {
    let last = queue.back().map_or(0, |(last, _)| *last);
    queue.push_back((at_ms.max(last), message));
}

/// Of these the loss of one alone must heal; of the others only that of the link they were on.
fn may_be_lost_up(message: &Up) -> bool {
    match message {
        Up::Said(FromAgent::Update(_) | FromAgent::Round(_)) => true,
        Up::Said(FromAgent::Offer(_) | FromAgent::Renew(_) | FromAgent::Sensor(_))
        | Up::Hello(_)
        | Up::Gone => false,
    }
}

fn may_be_lost_down(message: &ToAgent) -> bool {
    match message {
        ToAgent::Assign { .. }
        | ToAgent::Ack { .. }
        | ToAgent::Cancel { .. }
        | ToAgent::Release { .. }
        | ToAgent::Replay { .. } => true,
        ToAgent::Welcome { .. } | ToAgent::SetDrain { .. } => false,
    }
}

impl Net {
    /// A new connection of this agent.
    pub(crate) fn connect(&mut self, agent: usize) -> LinkId {
        let link = LinkId(self.next);
        self.next += 1;
        self.wires.insert(link, Wire { agent, ..Wire::default() });
        link
    }

    pub(crate) fn send_up(&mut self, now_ms: u64, link: LinkId, message: Up, dice: &mut Dice) {
        let lost = may_be_lost_up(&message) && dice.per_mille(self.losses);
        let doubled = matches!(message, Up::Said(_)) && dice.per_mille(self.doubles);
        let Some(wire) = self.wires.get_mut(&link) else { return };
        if lost || wire.up_cut {
            return;
        }
        if doubled {
            push(&mut wire.up, now_ms + dice.below(DELAY_MAX_MS), message.clone());
        }
        push(&mut wire.up, now_ms + dice.below(DELAY_MAX_MS), message);
    }

    pub(crate) fn send_down(&mut self, now_ms: u64, link: LinkId, message: ToAgent, dice: &mut Dice) {
        let lost = may_be_lost_down(&message) && dice.per_mille(self.losses);
        let doubled = dice.per_mille(self.doubles);
        let Some(wire) = self.wires.get_mut(&link) else { return };
        if lost || wire.down_cut {
            return;
        }
        if doubled {
            push(&mut wire.down, now_ms + dice.below(DELAY_MAX_MS), Down::Said(message.clone()));
        }
        push(&mut wire.down, now_ms + dice.below(DELAY_MAX_MS), Down::Said(message));
    }

    /// The coordinator closes its end: the agent hears of it after all that was said before.
    pub(crate) fn close(&mut self, now_ms: u64, link: LinkId) {
        if let Some(wire) = self.wires.get_mut(&link) {
            push(&mut wire.down, now_ms + 1, Down::Gone);
            wire.down_cut = true;
        }
    }

    /// Cuts a connection. Of what is on its way a part arrives still; either end notices within `notice_ms`, the
    /// coordinator perhaps never.
    pub(crate) fn cut(&mut self, now_ms: u64, link: LinkId, notice_ms: u64, dice: &mut Dice) {
        let Some(wire) = self.wires.get_mut(&link) else { return };
        let keep = dice.index(wire.up.len() + 1);
        wire.up.truncate(keep);
        let keep = dice.index(wire.down.len() + 1);
        wire.down.truncate(keep);
        if dice.per_mille(700) {
            push(&mut wire.up, now_ms + dice.below(20 * notice_ms), Up::Gone);
        }
        // What still arrives must not delay the notice: the agent counts on it.
        wire.down.retain(|(at, _)| *at <= now_ms + notice_ms);
        push(&mut wire.down, now_ms + dice.below(notice_ms), Down::Gone);
        wire.up_cut = true;
        wire.down_cut = true;
    }

    /// The next message that has arrived at the coordinator: the earliest, of equal ones a random one.
    pub(crate) fn arrived_up(&mut self, now_ms: u64, dice: &mut Dice) -> Option<(LinkId, Up)> {
        let first = |wire: &Wire| wire.up.front().map(|(at, _)| *at).filter(|at| *at <= now_ms);
        let due: Vec<LinkId> =
            self.wires.iter().filter(|(_, wire)| first(wire).is_some()).map(|(link, _)| *link).collect();
        let link = *due.get(dice.index(due.len()))?;
        let (_, message) = self.wires.get_mut(&link)?.up.pop_front()?;
        Some((link, message))
    }

    /// The next message that has arrived at an agent.
    pub(crate) fn arrived_down(&mut self, now_ms: u64, dice: &mut Dice) -> Option<(LinkId, usize, Down)> {
        let first = |wire: &Wire| wire.down.front().map(|(at, _)| *at).filter(|at| *at <= now_ms);
        let due: Vec<LinkId> =
            self.wires.iter().filter(|(_, wire)| first(wire).is_some()).map(|(link, _)| *link).collect();
        let link = *due.get(dice.index(due.len()))?;
        let wire = self.wires.get_mut(&link)?;
        let agent = wire.agent;
        let (_, message) = wire.down.pop_front()?;
        Some((link, agent, message))
    }

    /// Forgets connections on which nothing will happen any more.
    pub(crate) fn sweep(&mut self) {
        self.wires
            .retain(|_, wire| !(wire.up_cut && wire.down_cut && wire.up.is_empty() && wire.down.is_empty()));
    }
}
