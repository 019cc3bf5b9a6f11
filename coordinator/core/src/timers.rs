//! Time passes: leases end, waiting jobs expire.

use darwin_shared::state::{LossCause, Outcome};

use crate::action::Action;
use crate::event::Now;
use crate::state::Core;

impl Core {
    pub(crate) fn fire_timers(&mut self, now: Now, out: &mut Vec<Action>) {
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
    }
}
