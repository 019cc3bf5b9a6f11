//! Small files that must not be torn.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

/// Writes a value as JSON, aside, and renames it. Without a sync: on a measuring box the disk is left alone, so only what is
/// learned again, or means nothing after a power cut, may be written like this.
pub(crate) fn write_json(file: &Path, value: &impl Serialize) -> io::Result<()> {
    let beside = file.with_extension("json.new");
    fs::write(&beside, serde_json::to_vec(value)?)?;
    fs::rename(&beside, file)
}
