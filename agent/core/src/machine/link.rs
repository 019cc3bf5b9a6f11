//! The link as the machine sees it, and the lease that hangs on it.
//!
//! A lease is counted from the sending of the renewal. A renewal that may not have arrived does not count: when the
//! link is lost, whatever was sent while it may already have been dead is left out.

use std::time::Duration;

/// Whether the coordinator hears us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There is no connection.
    Down,
    /// The hello is out.
    Greeting {
        /// When it was sent: it counts as a renewal.
        since: Duration,
    },
    /// The coordinator has answered.
    Up { renew_every: Duration, renew_at: Duration },
}

/// The link and its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    state: State,
    /// How long a lease lasts and when the present one ends; none before the first welcome.
    lease: Option<(Duration, Duration)>,
}

/// The shortest time between two renewals: a coordinator cannot make a busy loop of them.
const RENEW_EVERY_LEAST: Duration = Duration::from_millis(50);

impl Link {
    pub(super) const fn new() -> Self {
        Self { state: State::Down, lease: None }
    }

    pub(super) const fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    pub(super) fn hello_sent(&mut self, now: Duration) {
        self.state = State::Greeting { since: now };
    }

    /// The coordinator's answer; false if there was no hello that it could answer.
    pub(super) fn welcomed(&mut self, lease: Duration, renew_every: Duration, now: Duration) -> bool {
        let State::Greeting { since } = self.state else {
            return false;
        };
        let renew_every = renew_every.max(RENEW_EVERY_LEAST);
        self.state = State::Up { renew_every, renew_at: now + renew_every };
        self.lease = Some((lease, since + lease));
        true
    }

    pub(super) fn lost(&mut self, unsure_for: Duration, now: Duration) {
        self.state = State::Down;
        if let Some((length, until)) = &mut self.lease {
            *until = (*until).min(now.saturating_sub(unsure_for) + *length);
        }
    }

    /// Counts a renewal, if one is due.
    pub(super) fn renew(&mut self, now: Duration) -> bool {
        let State::Up { renew_every, renew_at } = &mut self.state else {
            return false;
        };
        if now < *renew_at {
            return false;
        }
        *renew_at = now + *renew_every;
        if let Some((length, until)) = &mut self.lease {
            *until = now + *length;
        }
        true
    }

    /// When the next renewal is due.
    pub(super) const fn renew_at(&self) -> Option<Duration> {
        match self.state {
            State::Up { renew_at, .. } => Some(renew_at),
            State::Down | State::Greeting { .. } => None,
        }
    }

    /// When the lease ends.
    pub(super) fn lease_until(&self) -> Option<Duration> {
        self.lease.map(|(_, until)| until)
    }
}
