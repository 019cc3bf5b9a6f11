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
//! | [`score`] | the sign-flip score, its root and its repeated interval |
//! | [`bounds`] | the boundaries of the looks (alpha spending) |
//! | [`plan`] | how many pairs an effect needs |
//! | [`calibration`] | how noisy pairs of the same code are |
//! | [`rehearsal`] | how often the gate finds a change there, by trying it |
//! | [`mser`] | where a series of latencies is warm |
//! | [`eprocess`] | evidence that holds whenever one looks |
//! | `anytime` | jobs without a planned end, judged by that evidence |
//! | [`audit`] | whether the gate is wrong more often than it promises |
//! | [`resolution`] | what a policy's pairs cannot resolve |
//! | [`gate`] | blocks in, steps and the verdict out |
//! | `guard` | rare slow processes: label swaps of the worst tenth |
//! | `build_means` | strict mode: builds as the unit of evidence |
//! | `family` | how many tests the gated series are worth |
//! | [`few_pairs`] | the rule below ten pairs |
//! | [`verdict`] | the statement that people read |

mod anytime;
pub mod audit;
pub mod block;
pub mod bounds;
mod build_means;
pub mod calibration;
pub mod coin;
mod decide;
pub mod eprocess;
mod family;
pub mod few_pairs;
pub mod gate;
mod guard;
mod ledger;
pub mod metric;
pub mod mser;
pub mod plan;
pub mod policy;
pub mod ratio;
pub mod rehearsal;
mod report;
pub mod resolution;
pub mod score;
mod slow_processes;
pub mod stats;
pub mod verdict;

pub use anytime::Stopping;
pub use block::{Block, BlockError, Builds, Evidence, Observation, Variant};
pub use calibration::{Calibration, KnownNoise};
pub use coin::{Order, build, order, slice_order};
pub use gate::{EndOfData, Gate, Leading, LookReport, Progress, Step};
pub use metric::{Better, LatencyStat, Metric, MetricError, SeriesKey, Unit};
pub use policy::{MetricPolicy, Mode, Policy, PolicyError};
pub use ratio::{Ratio, RatioError};
pub use score::Score;
pub use verdict::{Absent, Decision, Finding, FindingClass, Method, Reason, Verdict};
