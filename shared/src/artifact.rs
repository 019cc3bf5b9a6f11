//! Artifacts: content-addressed trees of files, as a manifest of flat entries.
//!
//! A manifest cannot say what an archive could: no absolute path, no `..`, no device, no link out of the tree,
//! no path twice. It is checked once, when it is made; whoever holds a [`Manifest`] may unpack it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::Digest;

/// More files than a checked-out repository of a large firm has; beyond it a manifest is taken for an accident.
pub const MAX_ENTRIES: usize = 200_000;
/// The longest path that Linux file systems take in one call.
pub const MAX_PATH_BYTES: usize = 4096;
/// The largest single file of an artifact.
pub const MAX_FILE_BYTES: u64 = 4 << 30;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Node {
    /// A regular file.
    File {
        /// The digest of its content.
        digest: Digest,
        /// Its length in bytes.
        size_bytes: u64,
        /// Whether it may be executed.
        executable: bool,
    },
    /// A symbolic link that stays within the tree.
    Link {
        /// Where it points, relative to its own folder.
        target: String,
    },
}

/// A path in the tree and what stands there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Relative, with `/` between its parts.
    pub path: String,
    /// What stands there.
    pub node: Node,
}

/// Why entries do not make an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// A path that would leave the tree or that no file system takes.
    #[error("`{path}` cannot be part of an artifact: {why}")]
    Path {
        /// The refused path.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The same path twice.
    #[error("`{0}` stands twice in the artifact")]
    Twice(String),
    /// A file in the place of a folder.
    #[error("`{0}` is a file, yet another entry needs it to be a folder")]
    FileAsFolder(String),
    /// A file over the limit.
    #[error("`{path}` has {size_bytes} bytes; an artifact's file may have {MAX_FILE_BYTES}")]
    TooLarge {
        /// The refused path.
        path: String,
        /// Its size.
        size_bytes: u64,
    },
    /// Too many entries.
    #[error("the artifact has {0} entries; it may have {MAX_ENTRIES}: exclude what the benches do not need")]
    TooMany(usize),
    /// The bytes are not a manifest.
    #[error("these bytes are not a manifest: {0}")]
    Garbled(String),
}

/// The files of an artifact, sorted by path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Manifest {
    entries: Vec<Entry>,
}

impl Manifest {
    /// The manifest of these entries, which are sorted and checked.
    pub fn new(mut entries: Vec<Entry>) -> Result<Self, ManifestError> {
        if entries.len() > MAX_ENTRIES {
            return Err(ManifestError::TooMany(entries.len()));
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let mut seen = BTreeSet::new();
        for entry in &entries {
            check_path(&entry.path)?;
            check_node(entry)?;
            if !seen.insert(entry.path.as_str()) {
                return Err(ManifestError::Twice(entry.path.clone()));
            }
        }
        for entry in &entries {
            let mut folder = entry.path.as_str();
            while let Some((parent, _)) = folder.rsplit_once('/') {
                if seen.contains(parent) {
                    return Err(ManifestError::FileAsFolder(parent.to_owned()));
                }
                folder = parent;
            }
        }
        Ok(Self { entries })
    }

    /// The entries, sorted by path.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The bytes that travel and that the artifact's digest is made of.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Plain structs of strings and numbers: nothing in them can fail to serialize.
        serde_json::to_vec(&self.entries).unwrap_or_default()
    }

    /// Reads what [`Manifest::to_bytes`] wrote; trusts nothing in it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        let entries = serde_json::from_slice(bytes).map_err(|e| ManifestError::Garbled(e.to_string()))?;
        Self::new(entries)
    }

    /// The digest by which the artifact is known.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// What the files weigh together, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.entries
            .iter()
            .map(|entry| match &entry.node {
                Node::File { size_bytes, .. } => *size_bytes,
                Node::Link { .. } => 0,
            })
            .sum()
    }
}

fn check_path(path: &str) -> Result<(), ManifestError> {
    let refuse = |why| Err(ManifestError::Path { path: path.escape_default().take(200).collect(), why });
    if path.is_empty() {
        return refuse("it is empty");
    }
    if path.len() > MAX_PATH_BYTES {
        return refuse("it is longer than 4096 bytes");
    }
    if path.starts_with('/') {
        return refuse("it is absolute; paths are relative to the tree");
    }
    if path.contains('\0') {
        return refuse("it has a NUL in it");
    }
    if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return refuse("`.`, `..` and empty parts are not allowed");
    }
    Ok(())
}

fn check_node(entry: &Entry) -> Result<(), ManifestError> {
    match &entry.node {
        Node::File { size_bytes, .. } if *size_bytes > MAX_FILE_BYTES => {
            Err(ManifestError::TooLarge { path: entry.path.clone(), size_bytes: *size_bytes })
        }
        Node::File { .. } => Ok(()),
        Node::Link { target } => check_link(&entry.path, target),
    }
}

fn check_link(path: &str, target: &str) -> Result<(), ManifestError> {
    let refuse = |why| Err(ManifestError::Path { path: format!("{path} -> {target}"), why });
    if target.is_empty() || target.starts_with('/') || target.contains('\0') {
        return refuse("a link must point to a relative path");
    }
    let mut depth = path.matches('/').count();
    for part in target.split('/') {
        match part {
            ".." if depth == 0 => return refuse("the link points out of the tree"),
            ".." => depth -= 1,
            "" | "." => {}
            _ => depth += 1,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> Entry {
        Entry {
            path: path.to_owned(),
            node: Node::File { digest: Digest::of(path.as_bytes()), size_bytes: 3, executable: false },
        }
    }

    fn link(path: &str, target: &str) -> Entry {
        Entry { path: path.to_owned(), node: Node::Link { target: target.to_owned() } }
    }

    #[test]
    fn the_digest_does_not_depend_on_the_order_of_entries() {
        let a = Manifest::new(vec![file("b"), file("a/x")]).unwrap();
        let b = Manifest::new(vec![file("a/x"), file("b")]).unwrap();
        assert_eq!(a.digest(), b.digest());
        assert_eq!(Manifest::from_bytes(&a.to_bytes()).unwrap(), b);
        assert_eq!(a.total_bytes(), 6);
    }

    #[test]
    fn nothing_leaves_the_tree() {
        for bad in ["../x", "/etc/passwd", "a/../../x", "a//b", "", ".", "a\0b"] {
            assert!(Manifest::new(vec![file(bad)]).is_err(), "{bad:?}");
        }
        for (path, target) in [("a", "../x"), ("a/b", "../../x"), ("a", "/etc/passwd"), ("a/b", "")] {
            assert!(Manifest::new(vec![link(path, target)]).is_err(), "{path} -> {target}");
        }
        assert!(Manifest::new(vec![link("a/b", "../c/d")]).is_ok());
    }

    #[test]
    fn a_path_stands_once_and_is_a_file_or_a_folder() {
        assert_eq!(Manifest::new(vec![file("a"), file("a")]).unwrap_err(), ManifestError::Twice("a".into()));
        assert_eq!(
            Manifest::new(vec![link("a", "b"), file("a/x")]).unwrap_err(),
            ManifestError::FileAsFolder("a".into())
        );
    }
}
