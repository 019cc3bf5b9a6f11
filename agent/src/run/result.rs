//! Reading what a bench wrote, off the measuring cores, once nothing of it runs any more.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use darwin_shared::formats::{self, Format, Input, MAX_INPUT_BYTES, TreeFile, criterion_wants};
use darwin_shared::sample::Measured;
use darwin_shared::state::FailureCause;

/// Folders within folders that are looked into: criterion nests group, function, value and `new`.
const MAX_DEPTH: usize = 8;
/// Entries of a result folder that are looked at; criterion writes a dozen for each bench.
const MAX_ENTRIES: usize = 200_000;

/// Reads the result at `path`, in this format.
pub(super) async fn read(format: Format, path: PathBuf, limit_bytes: u64) -> Result<Measured, FailureCause> {
    let work = move || match format {
        Format::Criterion => read_tree(&path, limit_bytes),
        Format::Auto
        | Format::PytestBenchmark
        | Format::Hyperfine
        | Format::DarwinSamples
        | Format::Process => read_file(format, &path, limit_bytes),
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(FailureCause::Unreadable(format!("the reader failed: {error}"))),
    }
}

fn read_file(format: Format, path: &Path, limit_bytes: u64) -> Result<Measured, FailureCause> {
    let bytes = match regular_file(path, limit_bytes) {
        Ok(bytes) => bytes,
        Err(Refused::Missing) => {
            let why = "it wrote no file at the path that `{output}` stands for";
            return Err(FailureCause::Unreadable(why.to_owned()));
        }
        Err(Refused::TooLarge { limit_bytes }) => return Err(FailureCause::OutputTooLarge { limit_bytes }),
        Err(Refused::Other(why)) => return Err(FailureCause::Unreadable(why)),
    };
    formats::read(format, Input::file("{output}", &bytes))
        .map_err(|error| FailureCause::Unreadable(error.to_string()))
}

fn read_tree(root: &Path, limit_bytes: u64) -> Result<Measured, FailureCause> {
    let mut paths = Vec::new();
    let mut seen = 0;
    list(root, root, 0, &mut seen, &mut paths)
        .map_err(|error| FailureCause::Unreadable(format!("criterion's folder: {error}")))?;
    if paths.is_empty() {
        let why = "criterion wrote nothing into the folder that CRITERION_HOME names";
        return Err(FailureCause::Unreadable(why.to_owned()));
    }
    let mut files = Vec::with_capacity(paths.len());
    let mut left = limit_bytes;
    for path in paths {
        match regular_file(&root.join(&path), left) {
            Ok(bytes) => {
                left = left.saturating_sub(bytes.len() as u64);
                files.push(TreeFile { path, bytes });
            }
            Err(Refused::TooLarge { .. }) => return Err(FailureCause::OutputTooLarge { limit_bytes }),
            Err(Refused::Missing) => {}
            Err(Refused::Other(why)) => return Err(FailureCause::Unreadable(why)),
        }
    }
    formats::read(Format::Criterion, Input::tree("target/criterion", &files))
        .map_err(|error| FailureCause::Unreadable(error.to_string()))
}

/// The files that criterion's reader wants, by their paths in the folder.
fn list(
    root: &Path,
    folder: &Path,
    depth: usize,
    seen: &mut usize,
    found: &mut Vec<String>,
) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        *seen += 1;
        if *seen > MAX_ENTRIES {
            return Err(io::Error::other(format!("it has more than {MAX_ENTRIES} entries")));
        }
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if depth < MAX_DEPTH {
                list(root, &path, depth + 1, seen, found)?;
            }
        } else if let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str)
            && criterion_wants(name)
        {
            found.push(name.to_owned());
        }
    }
    Ok(())
}

enum Refused {
    Missing,
    TooLarge { limit_bytes: u64 },
    Other(String),
}

/// The bytes of a regular file: a bench may have put a pipe, a device or a link in its place.
fn regular_file(path: &Path, limit_bytes: u64) -> Result<Vec<u8>, Refused> {
    let limit_bytes = limit_bytes.min(MAX_INPUT_BYTES as u64);
    let other = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Refused::Missing,
        _ => Refused::Other(format!("the result cannot be opened: {error}")),
    };
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file: File = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(other)?;
    let metadata = file.metadata().map_err(other)?;
    if !metadata.is_file() {
        return Err(Refused::Other("the result is not a regular file".to_owned()));
    }
    if metadata.len() > limit_bytes {
        return Err(Refused::TooLarge { limit_bytes });
    }
    let mut bytes = Vec::new();
    file.take(limit_bytes).read_to_end(&mut bytes).map_err(other)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_result_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result");
        let cause = |limit| read(Format::Hyperfine, path.clone(), limit);
        assert!(matches!(cause(100).await, Err(FailureCause::Unreadable(why)) if why.contains("no file")));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(cause(100).await, Err(FailureCause::Unreadable(why)) if why.contains("regular")));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(matches!(cause(1 << 20).await, Err(FailureCause::Unreadable(_))));
        fs::remove_file(&path).unwrap();
        fs::write(&path, "x".repeat(101)).unwrap();
        assert!(matches!(cause(100).await, Err(FailureCause::OutputTooLarge { limit_bytes: 100 })));
        assert!(matches!(cause(101).await, Err(FailureCause::Unreadable(_))));
    }
}
