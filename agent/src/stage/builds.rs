//! Several relinked builds of one variant: whether they are several.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use blake3::{Hash, Hasher};
use darwin_shared::state::{FailureCause, Stage};
use walkdir::WalkDir;

use super::{Unready, box_failed};
use crate::run::Built;

/// Refuses builds that are the same to the byte: then nothing was laid out anew, and the luck of the one layout that
/// they share would be judged as if it were a change.
pub(super) async fn check_apart(builds: &[Built]) -> Result<(), Unready> {
    if builds.len() < 2 {
        return Ok(());
    }
    let dirs: Vec<PathBuf> = builds.iter().filter_map(|built| built.dir.clone()).collect();
    let read = move || dirs.iter().map(|dir| contents(dir)).collect::<io::Result<Vec<Hash>>>();
    let hashes = tokio::task::spawn_blocking(read).await.map_err(io::Error::other).flatten();
    let hashes = hashes.map_err(|error| box_failed(&error))?;
    let Some((first, second)) = twins(&hashes) else { return Ok(()) };
    let why = format!(
        "builds {first} and {second} are the same to the byte: `setup` must lay each out anew, by its number in \
         {{build}} or $DARWIN_BUILD, or `builds` must be left out"
    );
    Err(Unready::Candidate(Stage::Setup, FailureCause::BadArtifact(why), String::new()))
}

/// The first two that are equal.
fn twins(hashes: &[Hash]) -> Option<(usize, usize)> {
    hashes.iter().enumerate().find_map(|(second, hash)| {
        let first = hashes[..second].iter().position(|earlier| earlier == hash)?;
        Some((first, second))
    })
}

/// What is in a folder: names, modes, links and bytes of its files.
fn contents(dir: &Path) -> io::Result<Hash> {
    let mut hasher = Hasher::new();
    for entry in WalkDir::new(dir).sort_by_file_name() {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type());
        let name = path.strip_prefix(dir).unwrap_or(path).as_os_str().as_bytes();
        hasher.update(&(name.len() as u64).to_le_bytes()).update(name);
        if kind.is_symlink() {
            hasher.update(b"link").update(fs::read_link(path)?.as_os_str().as_bytes());
        } else if kind.is_file() {
            let file = File::open(path)?;
            let metadata = file.metadata()?;
            hasher.update(b"file").update(&metadata.permissions().mode().to_le_bytes());
            hasher.update(&metadata.len().to_le_bytes()).update_reader(file)?;
        }
    }
    Ok(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(file: &str, text: &str) -> (tempfile::TempDir, Built) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("bin")).unwrap();
        fs::write(dir.path().join(file), text).unwrap();
        let build = Built { dir: Some(dir.path().to_owned()), _reserved: None };
        (dir, build)
    }

    #[tokio::test]
    async fn builds_that_are_one_build_are_refused_with_their_numbers() {
        let all = [built("bin/a", "1"), built("bin/a", "2"), built("bin/b", "1"), built("bin/a", "2")];
        let builds: Vec<Built> = all.iter().map(|(_, built)| built.clone()).collect();
        check_apart(&builds[..3]).await.unwrap();
        check_apart(&builds[..1]).await.unwrap();
        let Err(Unready::Candidate(Stage::Setup, FailureCause::BadArtifact(why), _)) =
            check_apart(&builds).await
        else {
            panic!("the second and the fourth are the same");
        };
        assert!(why.starts_with("builds 1 and 3 are the same to the byte"), "{why}");
    }
}
