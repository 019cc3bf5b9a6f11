//! Archives of `docker save`: which image is in one, and the same archive without the names that it would claim, under one
//! of ours.
//!
//! Loaded as it is, an archive would take names on the box away from other images: `engine:1.4` would be what its
//! sender says. So it is loaded under a name of the agent's own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tar::{Archive, Builder, EntryType};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// The archive's own list of its images.
const LIST_FILE: &str = "manifest.json";
/// Files that give names to images, or that would let a daemon go by another list.
const NAMING_FILES: [&str; 3] = ["repositories", "index.json", "oci-layout"];
/// The longest list: one image takes some hundred bytes for each of its layers.
const MAX_LIST_BYTES: u64 = 1 << 20;
/// Files in an archive: a few for each layer.
const MAX_FILES: usize = 10_000;
/// How much is read at once, and how many such pieces wait for the daemon.
const PIECE_BYTES: usize = 256 << 10;
const PIECES: usize = 4;

/// An image in the list; what we do not know of it stays as it is.
#[derive(Debug, Serialize, Deserialize)]
struct Listed {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags")]
    tags: Option<Vec<String>>,
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

/// The id of the only image in an archive.
pub(super) async fn image_id(path: PathBuf) -> io::Result<String> {
    let read = move || {
        let listed = only(File::open(path)?)?;
        // `<digest>.json`, or `blobs/sha256/<digest>`.
        let name = listed.config.rsplit('/').next().unwrap_or_default();
        let digits = name.strip_suffix(".json").unwrap_or(name);
        if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(format!("sha256:{digits}"));
        }
        Err(io::Error::other(format!("its {LIST_FILE} names a configuration that is none")))
    };
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other).flatten()
}

fn only(file: File) -> io::Result<Listed> {
    for entry in Archive::new(file).entries_with_seek()?.take(MAX_FILES) {
        let entry = entry?;
        if entry.path()?.as_os_str() == LIST_FILE {
            return parse(entry);
        }
    }
    Err(io::Error::other(format!("it has no {LIST_FILE}; `docker save` writes archives that have one")))
}

fn parse(entry: impl Read) -> io::Result<Listed> {
    let mut text = Vec::new();
    entry.take(MAX_LIST_BYTES).read_to_end(&mut text)?;
    let images: Vec<Listed> = serde_json::from_slice(&text)
        .map_err(|error| io::Error::other(format!("its {LIST_FILE} cannot be read: {error}")))?;
    let count = images.len();
    let [image] = <[Listed; 1]>::try_from(images)
        .map_err(|_| io::Error::other(format!("it has {count} images; one is what a variant is")))?;
    Ok(image)
}

/// The archive's bytes with this name in it and no other, read as fast as they are taken.
pub(super) fn renamed(path: PathBuf, name: String) -> ReceiverStream<io::Result<Bytes>> {
    let (pieces, received) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        let mut to = Builder::new(BufWriter::with_capacity(PIECE_BYTES, Pieces(pieces.clone())));
        let copied = File::open(path)
            .and_then(|file| copy(file, &name, &mut to))
            .and_then(|()| to.into_inner()?.flush());
        if let Err(error) = copied {
            // Whoever does not listen any more knows why.
            let _ = pieces.blocking_send(Err(error));
        }
    });
    ReceiverStream::new(received)
}

fn copy(file: File, name: &str, to: &mut Builder<impl Write>) -> io::Result<()> {
    for entry in Archive::new(file).entries()?.take(MAX_FILES) {
        let entry = entry?;
        let path = entry.path()?.into_owned();
        let mut header = entry.header().clone();
        if NAMING_FILES.iter().any(|name| path.as_os_str() == *name) {
            continue;
        }
        if path.as_os_str() == LIST_FILE {
            let mut image = parse(entry)?;
            image.tags = Some(vec![name.to_owned()]);
            let text = serde_json::to_vec(&[image]).map_err(io::Error::other)?;
            header.set_size(text.len() as u64);
            to.append_data(&mut header, path, text.as_slice())?;
            continue;
        }
        match header.entry_type() {
            EntryType::Regular | EntryType::Directory => to.append_data(&mut header, path, entry)?,
            EntryType::Symlink | EntryType::Link => {
                let target = entry.link_name()?.unwrap_or_default().into_owned();
                to.append_link(&mut header, path, target)?;
            }
            _ => {
                return Err(io::Error::other(format!("{} is neither file, folder nor link", path.display())));
            }
        }
    }
    Ok(())
}

/// Writes into the channel.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;

    use super::*;

    fn archive(list: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut builder = Builder::new(file.reopen().unwrap());
        for (name, text) in [
            ("repositories", r#"{"engine":{"1.4":"x"}}"#),
            ("index.json", "{}"),
            (&*format!("{}.json", "a".repeat(64)), "{}"),
            ("layer/layer.tar", "layer"),
            (LIST_FILE, list),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        builder.finish().unwrap();
        file
    }

    fn list(images: usize) -> String {
        let image = format!(
            r#"{{"Config":"{}.json","RepoTags":["engine:1.4"],"Layers":["layer/layer.tar"]}}"#,
            "a".repeat(64)
        );
        format!("[{}]", vec![image; images].join(","))
    }

    #[tokio::test]
    async fn its_names_go_for_ours_and_the_rest_stays() {
        let file = archive(&list(1));
        assert_eq!(image_id(file.path().to_owned()).await.unwrap(), format!("sha256:{}", "a".repeat(64)));
        let mut pieces = renamed(file.path().to_owned(), "own:x".to_owned());
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.next().await {
            bytes.extend_from_slice(&piece.unwrap());
        }
        let mut names = Vec::new();
        for entry in Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            assert!(!text.contains("engine"), "{name}: {text}");
            assert!(
                name != LIST_FILE || text.contains("layer/layer.tar") && text.contains("[\"own:x\"]"),
                "{text}"
            );
            names.push(name);
        }
        assert_eq!(names, [&*format!("{}.json", "a".repeat(64)), "layer/layer.tar", LIST_FILE]);
    }

    #[tokio::test]
    async fn what_is_not_one_image_is_refused() {
        let said =
            async |text: &str| image_id(archive(text).path().to_owned()).await.unwrap_err().to_string();
        assert!(said(&list(2)).await.contains("it has 2 images"));
        assert!(said(&list(0)).await.contains("it has 0 images"));
        assert!(said("nonsense").await.contains("cannot be read"));
        assert!(said(r#"[{"Config":"../../etc/passwd"}]"#).await.contains("a configuration that is none"));
    }
}
