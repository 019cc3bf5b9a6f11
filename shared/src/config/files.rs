//! Which files of a folder belong to an artifact: globs, as `files = { include, exclude }` gives them.

use std::fmt;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

/// More patterns than anybody writes by hand; each costs a little for every file.
pub const MAX_PATTERNS: usize = 1000;

/// The files of a suite's artifact, as patterns over paths relative to the repository's root.
///
/// `**` is any number of folders, `*` stays within one. A folder that matches stands for all that is below it,
/// and `exclude` wins over `include`.
#[derive(Clone)]
pub struct Files {
    include: Vec<String>,
    exclude: Vec<String>,
    included: GlobSet,
    excluded: GlobSet,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { include, exclude, .. } = self;
        f.debug_struct("Files").field("include", include).field("exclude", exclude).finish_non_exhaustive()
    }
}

impl PartialEq for Files {
    fn eq(&self, other: &Self) -> bool {
        self.include == other.include && self.exclude == other.exclude
    }
}

impl Files {
    /// The filter of these patterns, or the reason why one of them is none.
    pub fn new(include: Vec<String>, exclude: Vec<String>) -> Result<Self, globset::Error> {
        let (included, excluded) = (set(&include)?, set(&exclude)?);
        Ok(Self { include, exclude, included, excluded })
    }

    /// What belongs to it.
    pub fn include(&self) -> &[String] {
        &self.include
    }

    /// What does not, though `include` has it.
    pub fn exclude(&self) -> &[String] {
        &self.exclude
    }

    /// Whether the file at this relative path belongs to the artifact.
    pub fn wants(&self, path: &str) -> bool {
        !self.skips(path) && with_folders(path).any(|part| self.included.is_match(part))
    }

    /// Whether this relative path and all below it is left out, so that a folder need not be entered.
    pub fn skips(&self, path: &str) -> bool {
        with_folders(path).any(|part| self.excluded.is_match(part))
    }
}

impl Default for Files {
    /// Everything but `.git`.
    fn default() -> Self {
        let everything = Self::new(vec!["**".to_owned()], vec![".git".to_owned()]);
        // Two constant patterns; the test `the_default_is_everything_but_git` builds them.
        #[expect(clippy::expect_used, reason = "the line above says why it cannot fail")]
        everything.expect("constant patterns are valid")
    }
}

/// The path's folders from the outermost, then the path itself.
fn with_folders(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at]).chain(std::iter::once(path))
}

/// The pattern as a glob in which `*` does not cross a `/`.
pub(super) fn glob(pattern: &str) -> Result<Glob, globset::Error> {
    let pattern = pattern.strip_suffix('/').unwrap_or(pattern);
    GlobBuilder::new(pattern).literal_separator(true).build()
}

fn set(patterns: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(glob(pattern)?);
    }
    set.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(include: &[&str], exclude: &[&str]) -> Files {
        let owned = |patterns: &[&str]| patterns.iter().map(|&p| p.to_owned()).collect();
        Files::new(owned(include), owned(exclude)).unwrap()
    }

    #[test]
    fn the_default_is_everything_but_git() {
        let files = Files::default();
        assert!(files.wants("src/main.rs") && files.wants(".gitignore") && files.wants("a"));
        assert!(!files.wants(".git/config") && !files.wants(".git") && files.skips(".git"));
        assert!(files.wants("sub/.git/config"), "only the root's `.git` is meant");
    }

    #[test]
    fn a_folder_stands_for_what_is_below_it() {
        let files = files(&["src", "tests/*.py"], &["src/generated/", "**/__pycache__"]);
        for wanted in ["src/a.py", "src/deep/b.py", "tests/test_x.py"] {
            assert!(files.wants(wanted), "{wanted}");
        }
        for unwanted in ["README.md", "src/generated/c.py", "src/x/__pycache__/d.pyc", "tests/sub/test_y.py"]
        {
            assert!(!files.wants(unwanted), "{unwanted}");
        }
        assert!(files.skips("src/x/__pycache__") && !files.skips("src/x"));
    }

    #[test]
    fn a_broken_pattern_is_refused() {
        assert!(Files::new(vec!["src/[".to_owned()], vec![]).is_err());
    }
}
