//! Time passes: leases end, waiting jobs expire.

use darwin_shared::state::{LossCause, Outcome};

use crate::action::Action;
use crate::event::Now;
use crate::state::Core;

impl Core {
    pub(crate) fn fire_timers(&mut self, now: Now, out: &mut Vec<Action>) {
        self.forgive_own_sleep(now);
        while let Some((at, job)) = self.lost_timers.first().copied()
            && at <= now.mono
        {
            self.lost_timers.pop_first();
            self.lose(now, job, &LossCause::AgentSilent, out);
        }
        while let Some((at, job)) = self.wait_timers.first().copied()
            && at <= now.mono
        {
            self.wait_timers.pop_first();
            self.finish(now, job, None, Outcome::Expired, out);
        }
        if self.fleet_known_at.is_some_and(|at| at <= now.mono) {
            self.fleet_known_at = None;
            self.end_what_nobody_allows(now, out);
        }
    }

    /// A timer that fires this late was not waited for: the coordinator itself stood still (stopped, swapped out, its
    /// disk hung), and what its agents said meanwhile is still unread. So every lease begins anew, as after a restart.
    fn forgive_own_sleep(&mut self, now: Now) {
        let Some((first, _)) = self.lost_timers.first().copied() else { return };
        if now.mono.saturating_sub(first) <= self.settings.grace {
            return;
        }
        let lost_at = now.mono + self.settings.lease + self.settings.grace;
        for (_, id) in std::mem::take(&mut self.lost_timers) {
            if let Some(live) = self.jobs.get_mut(&id).and_then(|job| job.live.as_mut()) {
                live.lost_at = lost_at;
                self.lost_timers.insert((lost_at, id));
            }
        }
    }
}
