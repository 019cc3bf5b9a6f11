//! A folder on this machine: what git would track there, as it is now.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use darwin_shared::artifact::{Entry, MAX_ENTRIES, Manifest, ManifestError, Node};
use darwin_shared::config::Files;
use ignore::WalkBuilder;

use super::{Blobs, PackError, Packed, seal, wants};

/// Packs a folder. What `.gitignore` names is left out, as it would not be in a commit either.
pub(super) fn pack(folder: &Path, files: &Files) -> Result<Packed, PackError> {
    let reference = format!("dir:{}", folder.display());
    let meta = std::fs::metadata(folder).map_err(PackError::read(folder))?;
    if !meta.is_dir() {
        let source = std::io::Error::from(std::io::ErrorKind::NotADirectory);
        return Err(PackError::Read { what: folder.display().to_string(), source });
    }
    let mut entries = Vec::new();
    let mut blobs = Blobs::default();
    let mut dropped = 0;
    for found in
        WalkBuilder::new(folder).hidden(false).filter_entry(|entry| entry.file_name() != ".git").build()
    {
        let found = found.map_err(|e| PackError::Read {
            what: folder.display().to_string(),
            source: e.into_io_error().unwrap_or_else(|| std::io::Error::other("the walk through it failed")),
        })?;
        let is_plain = found.file_type().is_some_and(|kind| kind.is_file() || kind.is_symlink());
        if !is_plain || found.depth() == 0 {
            continue;
        }
        let path = found.path().strip_prefix(folder).unwrap_or(found.path());
        let path = path
            .to_str()
            .ok_or_else(|| PackError::NotUtf8(path.display().to_string().escape_debug().to_string()))?
            .to_owned();
        if !wants(files, &path) {
            dropped += 1;
            continue;
        }
        if entries.len() == MAX_ENTRIES {
            return Err(ManifestError::TooMany(entries.len() + 1).into());
        }
        let node = node(found.path(), &mut blobs)?;
        entries.push(Entry { path, node });
    }
    if entries.is_empty() {
        return Err(PackError::Empty { reference, dropped });
    }
    Ok(seal(reference, &Manifest::new(entries)?, blobs, Vec::new()))
}

fn node(path: &Path, blobs: &mut Blobs) -> Result<Node, PackError> {
    let meta = std::fs::symlink_metadata(path).map_err(PackError::read(path))?;
    if meta.is_symlink() {
        let target = std::fs::read_link(path).map_err(PackError::read(path))?;
        let target = target
            .to_str()
            .ok_or_else(|| PackError::NotUtf8(target.display().to_string().escape_debug().to_string()))?
            .to_owned();
        return Ok(Node::Link { target });
    }
    let executable = meta.permissions().mode() & 0o111 != 0;
    let (digest, size_bytes) = blobs.take_file(path.to_owned()).map_err(PackError::read(path))?;
    Ok(Node::File { digest, size_bytes, executable })
}

#[cfg(test)]
mod tests {
    use darwin_shared::spec::Source;

    use super::*;

    fn everything() -> Files {
        Files::default()
    }

    fn manifest_of(packed: &Packed) -> Manifest {
        let Source::Tree(digest) = &packed.variant.source else { panic!("not a tree") };
        let blob = packed.blobs.get(digest).unwrap();
        Manifest::from_bytes(&blob.read_at(0, 1 << 20).unwrap()).unwrap()
    }

    #[test]
    fn packs_files_links_and_modes_and_leaves_out_what_git_ignores() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at(".git/objects")).unwrap();
        std::fs::create_dir_all(at("src")).unwrap();
        std::fs::write(at(".gitignore"), "*.pyc\n").unwrap();
        std::fs::write(at("src/a.py"), "a").unwrap();
        std::fs::write(at("src/a.pyc"), "b").unwrap();
        std::fs::write(at("run.sh"), "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(at("run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("src/a.py", at("link")).unwrap();
        let packed = pack(dir.path(), &everything()).unwrap();
        let shown: Vec<String> = manifest_of(&packed)
            .entries()
            .iter()
            .map(|entry| match &entry.node {
                Node::File { executable, size_bytes, .. } => {
                    format!("{} {size_bytes} {executable}", entry.path)
                }
                Node::Link { target } => format!("{} -> {target}", entry.path),
            })
            .collect();
        assert_eq!(shown, [".gitignore 6 false", "link -> src/a.py", "run.sh 10 true", "src/a.py 1 false"]);
        let again = pack(dir.path(), &everything()).unwrap();
        assert_eq!(again.variant.source, packed.variant.source);
    }

    #[test]
    fn a_link_out_of_the_tree_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("secrets")).unwrap();
        let error = pack(dir.path(), &everything()).unwrap_err().to_string();
        assert!(error.contains("secrets -> /etc/passwd") && error.contains("files.exclude"), "{error}");
    }

    #[test]
    fn nothing_to_pack_is_said() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.log"), "x").unwrap();
        let none = Files::new(vec!["**".into()], vec!["*.log".into()]).unwrap();
        let error = pack(dir.path(), &none).unwrap_err().to_string();
        assert!(error.contains("leave out all 1"), "{error}");
        assert!(pack(&dir.path().join("missing"), &none).unwrap_err().to_string().contains("missing"));
        assert!(pack(&dir.path().join("a.log"), &none).is_err());
    }
}
