//! Benchmarks of the product itself: each a ratio or a count within one run, so that the machine cancels out.

mod decision;
mod dispatch;
mod docker;
mod gate;
mod isolation;
mod plans;
mod report;
mod round;
mod stamp;

pub use decision::decision;
pub use dispatch::{latency, queue_memory, throughput};
pub use docker::containers;
pub use gate::gate_on_files;
pub use isolation::isolation;
pub use plans::plans;
pub use report::{Aim, Line, Report};
pub use round::agent_cpu_in_a_round;
