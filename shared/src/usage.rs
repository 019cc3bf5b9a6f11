//! What a process and its children used, as the kernel counted it.

use serde::{Deserialize, Serialize};

/// The resources that an invocation used: those of its process and of every child that it waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Time in user mode, in nanoseconds.
    pub user_ns: u64,
    /// Time in the kernel, in nanoseconds.
    pub system_ns: u64,
    /// The largest resident set, in bytes.
    pub peak_rss_bytes: u64,
    /// Context switches that it asked for, by waiting.
    pub voluntary_switches: u64,
    /// Context switches that befell it: something else wanted its core.
    pub involuntary_switches: u64,
    /// Page faults without I/O.
    pub minor_faults: u64,
    /// Page faults with I/O.
    pub major_faults: u64,
}
