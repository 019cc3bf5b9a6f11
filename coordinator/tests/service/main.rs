//! The coordinator as its peers see it: over gRPC, with its stores on disk.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "test code: a failed unwrap is a failed test")]

mod archive;
mod artifacts;
mod calibrations;
mod links;
mod probes;
mod starting;
mod submitting;
mod support;
