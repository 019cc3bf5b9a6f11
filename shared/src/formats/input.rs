//! What a reader is given: bytes that someone else has already read, and the bounds on them.

use super::{ReadError, ReadErrorKind};

/// The largest result that is read, in bytes. A value takes about 24 bytes of text, so this is over two million
/// samples, while the reader's memory stays below a few times this.
pub const MAX_INPUT_BYTES: usize = 64 << 20;

/// The most series in one result. The largest real suites have some hundreds of benches; each series is a row of
/// the report and a share of the gate's error budget.
pub const MAX_SERIES: usize = 10_000;

/// One file of a result that is a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeFile {
    /// Path inside the folder, with `/` between its parts.
    pub path: String,
    /// The file's bytes.
    pub bytes: Vec<u8>,
}

/// What to read, with the name by which errors speak of it.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// File or folder name for messages; never opened, never a part of a bench's name.
    pub name: &'a str,
    /// The bytes.
    pub content: Content<'a>,
}

/// One file, or the files of a folder.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// The bytes of one file.
    File(&'a [u8]),
    /// Files of a folder: for criterion, those of `target/criterion` for which [`super::criterion_wants`] says yes.
    Tree(&'a [TreeFile]),
}

impl<'a> Input<'a> {
    /// One file.
    pub const fn file(name: &'a str, bytes: &'a [u8]) -> Self {
        Self { name, content: Content::File(bytes) }
    }

    /// A folder.
    pub const fn tree(name: &'a str, files: &'a [TreeFile]) -> Self {
        Self { name, content: Content::Tree(files) }
    }

    /// The size of all of it within the bound, or the refusal.
    pub(super) fn check_size(&self) -> Result<(), ReadError> {
        let found = match self.content {
            Content::File(bytes) => bytes.len(),
            Content::Tree(files) => files.iter().map(|file| file.bytes.len()).sum(),
        };
        if found <= MAX_INPUT_BYTES {
            return Ok(());
        }
        Err(ReadErrorKind::TooLarge { what: "bytes", found, most: MAX_INPUT_BYTES }.in_file(self.name))
    }
}

/// First bytes by which common files that are no text are known.
const MAGIC: &[(&[u8], &str)] = &[
    (b"\x1f\x8b", "a gzip file: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd file: unpack it first"),
    (b"\xfd7zXZ", "an xz file: unpack it first"),
    (b"PK\x03\x04", "a zip file: unpack it first"),
    (b"\x7fELF", "a program"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"PERFILE2", "a perf recording"),
    (b"\xff\xfe", "UTF-16 text: save it as UTF-8"),
    (b"\xfe\xff", "UTF-16 text: save it as UTF-8"),
];

/// The text in `bytes`, without a byte order mark.
pub(super) fn text_of(bytes: &[u8]) -> Result<&str, ReadErrorKind> {
    let looks_like = MAGIC.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, what)| *what);
    let text = std::str::from_utf8(bytes)
        .map_err(|error| ReadErrorKind::NotUtf8 { at_byte: error.valid_up_to(), looks_like })?;
    // Zip files and databases can start with bytes that are also valid text.
    if let Some(at_byte) = text.find('\0') {
        return Err(ReadErrorKind::NotUtf8 { at_byte, looks_like });
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() { Err(ReadErrorKind::Empty) } else { Ok(text) }
}
