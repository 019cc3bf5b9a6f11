//! The gate end to end: real compares of the shipped example under a real agent, beside a busy neighbour, and how often
//! the verdict is right.

mod calibrated;
mod compares;
mod example;
mod neighbour;

pub use calibrated::{Calibrated, Calibration, calibrate};
pub use compares::{Counts, Kind, Settings, run};
pub use example::Example;
