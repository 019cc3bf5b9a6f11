//! Unpacking an artifact: files copied out of the cache, so that a bench that changes its files changes only its own.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use darwin_shared::artifact::{Manifest, Node};

use super::Unready;
use super::blobs::Blobs;

/// Unpacks the files at `tree`, where nothing may be yet. It appears there as a whole.
pub(super) async fn unpack(manifest: Manifest, blobs: Blobs, tree: PathBuf) -> Result<(), Unready> {
    let done = tokio::task::spawn_blocking(move || unpack_now(&manifest, &blobs, &tree)).await;
    done.map_err(io::Error::other)
        .flatten()
        .map_err(|error| Unready::Box(format!("cannot unpack the artifact: {error}")))
}

fn unpack_now(manifest: &Manifest, blobs: &Blobs, tree: &Path) -> io::Result<()> {
    let aside = tree.with_extension("partial");
    crate::run::remove_all(&aside)?;
    crate::run::remove_all(tree)?;
    fs::create_dir_all(&aside)?;
    let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
    for entry in manifest.entries() {
        // The manifest was checked: no path of it leaves the tree, and none lies below a file or a link.
        let path = aside.join(&entry.path);
        if let Some(folder) = path.parent()
            && folders.insert(folder.to_owned())
        {
            fs::create_dir_all(folder)?;
        }
        match &entry.node {
            Node::File { digest, executable, .. } => {
                let blob = blobs.path(*digest);
                fs::copy(&blob, &path)?;
                Blobs::touch(&blob);
                let mode = if *executable { 0o755 } else { 0o644 };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            }
            Node::Link { target } => symlink(target, &path)?,
        }
    }
    fs::rename(&aside, tree)
}

#[cfg(test)]
mod tests {
    use darwin_shared::artifact::Entry;
    use darwin_shared::ids::Digest;

    use super::*;

    #[tokio::test]
    async fn files_links_and_the_right_to_execute_arrive() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path().join("blobs")).unwrap();
        let digest = Digest::of(b"#!/bin/sh\n");
        let mut incoming = blobs.receive(digest, 10).unwrap();
        incoming.write(b"#!/bin/sh\n").unwrap();
        incoming.finish().unwrap();
        let entry = |path: &str, node| Entry { path: path.to_owned(), node };
        let manifest = Manifest::new(vec![
            entry("bin/run", Node::File { digest, size_bytes: 10, executable: true }),
            entry("notes", Node::File { digest, size_bytes: 10, executable: false }),
            entry("bin/again", Node::Link { target: "run".to_owned() }),
        ])
        .unwrap();
        let tree = folder.path().join("work/tree");
        unpack(manifest, blobs.clone(), tree.clone()).await.unwrap();
        let mode = |name: &str| fs::metadata(tree.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("bin/run"), mode("notes"), mode("bin/again")), (0o755, 0o644, 0o755));
        fs::write(tree.join("notes"), "changed").unwrap();
        assert_eq!(blobs.read(digest).unwrap(), b"#!/bin/sh\n", "the cache does not change with the tree");
    }
}
