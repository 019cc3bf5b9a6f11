//! The agent: runs benches pinned on isolated cores and reports what it measured.

pub mod cores;
pub mod exec;
pub mod host;
pub mod measure;
