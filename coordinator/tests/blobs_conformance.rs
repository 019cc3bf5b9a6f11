//! One suite for every engine of the blobs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use darwin_coordinator::stores::{BlobError, Blobs, FolderBlobs, MemoryBlobs};
use darwin_shared::ids::Digest;

fn only_whole_and_right_bytes_get_a_name(blobs: &dyn Blobs) {
    let digest = Digest::of(b"hello");

    let mut short = blobs.begin(digest, 5).unwrap();
    short.write(b"hell").unwrap();
    assert!(matches!(short.finish(), Err(BlobError::Mismatch { .. })));

    let mut wrong = blobs.begin(digest, 5).unwrap();
    wrong.write(b"hallo").unwrap();
    assert!(matches!(wrong.finish(), Err(BlobError::Mismatch { .. })));

    let mut long = blobs.begin(digest, 5).unwrap();
    assert!(matches!(long.write(b"hello!"), Err(BlobError::Mismatch { .. })));
    drop(long);
    assert!(!blobs.has(&digest));
    assert!(matches!(blobs.read(&digest), Err(BlobError::Missing(missing)) if missing == digest));

    for _ in 0..2 {
        let mut right = blobs.begin(digest, 5).unwrap();
        right.write(b"hel").unwrap();
        right.write(b"lo").unwrap();
        right.finish().unwrap();
        assert!(blobs.has(&digest));
        assert_eq!(blobs.open(&digest).unwrap().size_bytes, 5);
        assert_eq!(blobs.read(&digest).unwrap(), b"hello");
    }

    let empty = Digest::of(b"");
    blobs.begin(empty, 0).unwrap().finish().unwrap();
    assert_eq!(blobs.read(&empty).unwrap(), b"");
}

#[test]
fn the_model_keeps_the_rules() {
    only_whole_and_right_bytes_get_a_name(&MemoryBlobs::default());
}

#[test]
fn the_folder_keeps_the_rules_and_leaves_no_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = FolderBlobs::open(folder.path()).unwrap();
    only_whole_and_right_bytes_get_a_name(&blobs);
    assert_eq!(std::fs::read_dir(folder.path().join("incoming")).unwrap().count(), 0);
    drop(blobs);
    assert!(FolderBlobs::open(folder.path()).unwrap().has(&Digest::of(b"hello")));
}
