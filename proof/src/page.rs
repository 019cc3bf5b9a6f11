//! Writing into `docs/`: tables between their marks, plots beside the page. Written aside and renamed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::tables::Table;

/// Why the page was not written.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The page has no place for a table.
    #[error("{}: has no marks `<!-- proof {name}: begin -->` and `<!-- proof {name}: end -->`", path.display())]
    NoMarks {
        /// Which page.
        path: PathBuf,
        /// Of which table.
        name: &'static str,
    },
}

/// Puts every table between its marks in the page.
pub fn write_tables(path: &Path, tables: &[Table]) -> Result<(), PageError> {
    let file_error = |source| PageError::File { path: path.to_owned(), source };
    let mut text = fs::read_to_string(path).map_err(file_error)?;
    for table in tables {
        text = with_table(&text, table)
            .ok_or_else(|| PageError::NoMarks { path: path.to_owned(), name: table.name })?;
    }
    write(path, &text)
}

/// The text with the table between its marks; none if a mark is missing.
fn with_table(text: &str, table: &Table) -> Option<String> {
    let (begin, end) =
        (format!("<!-- proof {}: begin -->", table.name), format!("<!-- proof {}: end -->", table.name));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{}{end}{after}", table.text))
}

/// Writes a file aside and renames it.
pub fn write(path: &Path, text: &str) -> Result<(), PageError> {
    let file_error = |source| PageError::File { path: path.to_owned(), source };
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    fs::write(&aside, text).map_err(file_error)?;
    fs::rename(&aside, path).map_err(file_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let page = "a\n<!-- proof bars: begin -->\nold\n<!-- proof bars: end -->\nz\n";
        let table = Table { name: "bars", text: "new\n".to_owned() };
        let once = with_table(page, &table).unwrap();
        assert_eq!(once, "a\n<!-- proof bars: begin -->\nnew\n<!-- proof bars: end -->\nz\n");
        assert_eq!(with_table(&once, &table).unwrap(), once);
        assert_eq!(with_table(page, &Table { name: "noise", ..table }), None);
    }
}
