//! The box that the agent sits on: what it is made of, and whether it is fit to measure.
//!
//! Everything is read through one [`HostFs`], so that a recorded tree of a real box can stand in for it. Nothing here
//! changes the box, sleeps or waits.

mod fs;
mod kernel_build;
mod sensor;
mod stat;
mod task_stat;
mod topology;

pub use fs::{HostFs, ReadError};
pub use kernel_build::tells_stolen_time;
pub use sensor::{
    Depth, Scope, Sensor, SensorLimits, SensorPolicy, is_virtual_machine, names as check_names, required_by,
};
pub use stat::{CpuTimes, StatError, StatSample, Throttled, throttle_count, uptime_s};
pub use task_stat::TaskStat;
pub use topology::{HostTopologyError, read_topology};
