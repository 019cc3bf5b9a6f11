//! The agent's decisions: the attempt's state machine, the allocation of cores, the turns within a sliced pair, which
//! rounds are void, what is changed on the box and put back.

pub mod cpu_alloc;
pub mod disturbance;
pub mod interrupts;
pub mod machine;
pub mod probe;
pub mod slices;
pub mod topology;
pub mod tune;
