//! The coordinator's decisions: who gets which job, whose lease has ended, when the gate has heard enough.
//!
//! Pure: events and the time go in, actions come out, and the same events give the same actions. Nothing here
//! may read a clock, draw randomness, or touch a socket, a file or a store: the coordinator's one loop does
//! that around it (select, step, persist, perform). Whatever follows an [`Action::Write`] in a step may be
//! performed only once the write is durable: persist, then speak.

pub mod action;
pub mod agent;
mod decline;
mod dispatch;
pub mod event;
mod invariants;
pub mod job;
mod link;
pub mod live;
mod queue;
pub mod record;
mod restore;
mod settings;
mod state;
mod submit;
mod timers;
pub mod view;

pub use action::{Action, Answer, Refusal, ToAgent};
pub use event::{Caller, Event, FromAgent, HeldAttempt, Hello, LinkId, Now, Offer, Submission};
pub use record::{AgentRecord, EpochRecord, JobRecord, RecordKey, SpecRecord, Write};
pub use restore::{Restored, RestoredJob};
pub use settings::Settings;
pub use state::Core;
