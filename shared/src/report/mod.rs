//! Reports: how a job ended, for people and for machines.
//!
//! Pure renderers over one [`Report`]. None opens a file, reads a clock or asks what terminal there is; what they
//! show has been decided before. Every name in a report may come from a stranger's file, so each renderer escapes
//! for its own reader: control characters for terminals, markup for Markdown and XML, commands for GitHub's log.
//!
//! | function | for |
//! |---|---|
//! | [`human`] | a terminal |
//! | [`json`] | programs, schema [`JSON_SCHEMA`] |
//! | [`markdown`] | pull requests and job summaries |
//! | [`junit`] | CI that lists test cases |
//! | [`github`] | GitHub's workflow log and job summary |

mod github;
mod hint;
mod human;
mod isolation;
mod json;
mod junit;
mod lines;
mod markdown;
mod model;
mod text;
mod used;

#[cfg(test)]
mod samples;

pub use github::{GithubReport, github};
pub use human::{HumanOptions, human};
pub use isolation::Isolation;
pub use json::{JSON_SCHEMA, json, unit_suffix};
pub use junit::junit;
pub use lines::in_a_line;
pub use markdown::{MAX_MARKDOWN_CHARS, markdown};
pub use model::{Header, Report, TakenFor};
pub use text::shorten;

pub use crate::text::visible;
