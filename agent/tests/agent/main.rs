//! A real agent process with a fake coordinator.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "in a test they are how it fails")]

mod attempts;
mod common;
mod faults;
mod tuning;
mod two;
