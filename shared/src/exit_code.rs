//! What `darwin` ends with: a contract with CI, see `docs/exit-codes.md`.

use darwin_gate::Decision;

/// How a command ended, as the shell sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// APPROVE, or the command did its work.
    Success = 0,
    /// REJECT.
    Rejected = 1,
    /// Wrong usage, or a bad file that the user gave.
    Usage = 2,
    /// INCONCLUSIVE.
    Inconclusive = 3,
    /// The system is not ok, or a box was lost: nothing was judged; worth another try.
    NotOk = 4,
    /// The job failed: setup, check (unit tests) or the bench itself.
    JobFailed = 5,
    /// Cancelled, or out of time.
    Cancelled = 6,
    /// The coordinator cannot be reached, or does not allow it.
    Unreachable = 7,
    /// A bug in darwin.
    Bug = 70,
}

impl ExitCode {
    /// The number for the shell.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl From<Decision> for ExitCode {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Approve => Self::Success,
            Decision::Reject => Self::Rejected,
            Decision::Inconclusive => Self::Inconclusive,
        }
    }
}
