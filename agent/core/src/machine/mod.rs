//! The agent's state: the attempts that it holds, who has cores, what the coordinator was promised.
//!
//! One function decides: [`Machine::step`] takes an event and the time, and says what is to be done. It reads no
//! clock, starts nothing and forgets nothing; the driver around it performs the actions in their order and tells
//! what came of them. Time is a [`Duration`](std::time::Duration) since any fixed instant of the monotonic clock.
//!
//! What holds after every step: an attempt that was accepted ends in exactly one end or is forgotten; no two attempts
//! share a slot or a core; cores are given back only when nothing of their attempt runs any more.

mod agent;
mod attempt;
mod cores;
mod credits;
mod fences;
mod link;
mod outcomes;
mod words;

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;

pub use agent::Machine;
pub use words::{Action, Event, Held, Limits, Offer, Plan, Remembered};
