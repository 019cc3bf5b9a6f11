//! The agent's decisions: the attempt's state machine, the allocation of cores.

pub mod cpu_alloc;
pub mod machine;
pub mod topology;
