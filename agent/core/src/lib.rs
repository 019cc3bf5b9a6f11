//! The agent's decisions: the attempt's state machine, the allocation of cores, the turns within a sliced pair.

pub mod cpu_alloc;
pub mod machine;
pub mod slices;
pub mod topology;
