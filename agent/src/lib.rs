//! The agent: runs benches pinned on isolated cores and reports what it measured.
