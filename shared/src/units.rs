//! Numbers as people read and write them: values with their unit, changes in percent, sizes.
//!
//! What a machine reads (JSON, the wire, the stores) never passes through here: it carries plain numbers
//! with the unit in the field's name. Rounding for the eye must never reach a decision.

mod show;
mod written;

pub use show::{format_change, format_pair, format_utc, format_value};
pub use written::{ByteSize, MAX_PERCENT, Percent, UnitError};
