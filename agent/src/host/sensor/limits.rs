//! Where each tier's checks turn from fine to felt to spoilt.

use darwin_shared::fleet::{ReadingStatus, Tier};

/// The bounds of one tier. Shares are of CPU time, from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct SensorLimits {
    /// Foreign work on the leased CPUs that is warned of.
    pub busy_warn_share: f64,
    /// Foreign work on the leased CPUs that spoils a run; none means that it never does.
    pub busy_fail_share: Option<f64>,
    /// Stolen time that is warned of.
    pub steal_warn_share: f64,
    /// Stolen time that spoils a run; none means that it never does.
    pub steal_fail_share: Option<f64>,
    /// How much a CPU second buys, of the most that it ever did on that CPU: less is warned of.
    pub speed_warn_share: f64,
    /// Less than this spoils a run.
    pub speed_fail_share: f64,
    /// Memory that must be available, in bytes.
    pub memory_min_bytes: u64,
    /// Disk space that must be free for spool and artifacts, in bytes.
    pub disk_min_bytes: u64,
    /// What leased CPUs that are not isolated count as.
    pub not_isolated: ReadingStatus,
    /// What a virtual machine counts as.
    pub virtual_machine: ReadingStatus,
    /// What a governor that follows the load counts as.
    pub slow_governor: ReadingStatus,
    /// What a knob of the kernel's or the firmware's that may be felt counts as.
    pub untuned: ReadingStatus,
    /// What interrupts a bench or makes its clock useless counts as.
    pub spoilt: ReadingStatus,
}

impl SensorLimits {
    /// The bounds of a tier.
    pub const fn of(tier: Tier) -> Self {
        match tier {
            Tier::BareMetalIsolated => Self {
                busy_warn_share: 0.002,
                busy_fail_share: Some(0.01),
                steal_warn_share: 0.001,
                steal_fail_share: Some(0.01),
                speed_warn_share: 0.98,
                speed_fail_share: 0.95,
                memory_min_bytes: 1 << 30,
                disk_min_bytes: 1 << 30,
                not_isolated: ReadingStatus::Fail,
                virtual_machine: ReadingStatus::Fail,
                slow_governor: ReadingStatus::Fail,
                untuned: ReadingStatus::Warn,
                spoilt: ReadingStatus::Fail,
            },
            // Probes allow 1.03 and 1.15 times the best time here, and 1.15 and 1.3 times in tier dev.
            Tier::Shielded => Self {
                speed_warn_share: 0.97,
                speed_fail_share: 0.87,
                not_isolated: ReadingStatus::Warn,
                virtual_machine: ReadingStatus::Warn,
                ..Self::of(Tier::BareMetalIsolated)
            },
            // All of this is usual there, and only a starved box stops a run.
            Tier::Dev => Self {
                busy_warn_share: 0.25,
                busy_fail_share: None,
                steal_warn_share: 0.05,
                steal_fail_share: None,
                speed_warn_share: 0.87,
                speed_fail_share: 0.77,
                memory_min_bytes: 256 << 20,
                disk_min_bytes: 256 << 20,
                not_isolated: ReadingStatus::Ok,
                virtual_machine: ReadingStatus::Ok,
                slow_governor: ReadingStatus::Warn,
                untuned: ReadingStatus::Ok,
                spoilt: ReadingStatus::Ok,
            },
        }
    }
}
