//! The readers against what bench tools really wrote, against what goes wrong, and against noise.

#[cfg(test)]
mod common;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod native;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod samples;
