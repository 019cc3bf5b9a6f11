//! The statistics of the verdict: pure, synchronous, no I/O, no clock.
//!
//! Blocks go in (one fresh process of each variant, side by side), a [`Verdict`] comes out, and the same
//! blocks under the same [`Policy`] give the same verdict, byte for byte. Nothing here may read a clock,
//! draw randomness that is not a function of the job's seed, or touch a file.
//!
//! | module | holds |
//! |---|---|
//! | [`metric`] | what is compared: metrics, units, series |
//! | [`ratio`] | a relative change, always finite |
//! | [`policy`] | how strict the gate is |
//! | [`coin`] | the order of the variants in a round, replayable from the seed |
//! | [`block`] | one pair of invocations and what they measured |
//! | [`stats`] | nearest-rank quantiles, mean, median, MAD |
//! | [`score`] | the clipped sign-flip score, its root and its repeated interval |
//! | [`bounds`] | the boundaries of the looks (alpha spending) |
//! | [`plan`] | how many pairs an effect needs |
//! | [`gate`] | blocks in, steps and the verdict out |
//! | [`few_pairs`] | the rule below ten pairs |
//! | [`verdict`] | the statement that people read |

pub mod block;
pub mod bounds;
pub mod coin;
mod decide;
pub mod few_pairs;
pub mod gate;
mod ledger;
pub mod metric;
pub mod plan;
pub mod policy;
pub mod ratio;
mod report;
pub mod score;
pub mod stats;
pub mod verdict;

pub use block::{Block, BlockError, Evidence, Observation, Variant};
pub use coin::{Order, order};
pub use gate::{EndOfData, Gate, Leading, LookReport, Progress, Step};
pub use metric::{Better, LatencyStat, Metric, MetricError, SeriesKey, Unit};
pub use policy::{MetricPolicy, Mode, Policy, PolicyError};
pub use ratio::{Ratio, RatioError};
pub use verdict::{Absent, Decision, Finding, FindingClass, Method, Reason, Verdict};
