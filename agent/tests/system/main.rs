//! A real agent under a real coordinator, driven by the real command line; all three are built by `cargo build --bins`.

#![expect(clippy::unwrap_used, reason = "in a test it is how it fails")]

mod common;
mod kills;
mod logs;
