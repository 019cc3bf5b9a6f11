//! An archive of `docker save`: sent as an artifact of one file.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use darwin_shared::artifact::{Entry, Manifest, Node};
use darwin_shared::image::{ARCHIVE_FILE, Image};
use darwin_shared::spec::{Source, Variant};
use serde::Deserialize;
use tar::Archive;

use super::{Blobs, PackError, Packed, seal};

/// The archive's own list of its images.
const LIST_FILE: &str = "manifest.json";
/// The longest such list: one image takes some hundred bytes for each of its layers.
const MAX_LIST_BYTES: u64 = 1 << 20;

/// An image in the archive's list, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Listed {
    #[serde(rename = "Config")]
    _config: String,
}

/// Packs an archive, once it is seen to hold one image.
pub(super) fn pack(path: &Path) -> Result<Packed, PackError> {
    let refuse = |why: String| PackError::NotAnImage { path: path.to_owned(), why };
    let file = File::open(path).map_err(PackError::read(path))?;
    let images = match listed(file) {
        Ok(Some(images)) => images,
        Ok(None) => return Err(refuse(format!("it has no {LIST_FILE}"))),
        Err(error) => return Err(refuse(error.to_string())),
    };
    if images != 1 {
        return Err(refuse(format!("it has {images} images")));
    }
    let mut blobs = Blobs::default();
    let (digest, size_bytes) = blobs.take_file(path.to_owned()).map_err(PackError::read(path))?;
    let node = Node::File { digest, size_bytes, executable: false };
    let manifest = Manifest::new(vec![Entry { path: ARCHIVE_FILE.to_owned(), node }])?;
    let Packed { variant: Variant { label, source }, blobs, warnings } =
        seal(format!("image:{}", path.display()), &manifest, blobs, Vec::new());
    let source = match source {
        Source::Tree(digest) => Source::Image(Image::Archive(digest)),
        other @ (Source::Path(_) | Source::Image(_) | Source::Nothing) => other,
    };
    Ok(Packed { variant: Variant { label, source }, blobs, warnings })
}

/// How many images the archive lists; none if it has no list.
fn listed(file: File) -> io::Result<Option<usize>> {
    for entry in Archive::new(file).entries_with_seek()? {
        let entry = entry?;
        if entry.path()?.as_os_str() == LIST_FILE {
            let mut text = Vec::new();
            entry.take(MAX_LIST_BYTES).read_to_end(&mut text)?;
            let images: Vec<Listed> = serde_json::from_slice(&text)
                .map_err(|error| io::Error::other(format!("its {LIST_FILE} cannot be read: {error}")))?;
            return Ok(Some(images.len()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &str)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut builder = tar::Builder::new(file.reopen().unwrap());
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            builder.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        builder.finish().unwrap();
        file
    }

    #[test]
    fn one_image_is_packed_as_one_file() {
        let file = archive(&[("a.json", "{}"), (LIST_FILE, r#"[{"Config":"a.json","Layers":[]}]"#)]);
        let packed = pack(file.path()).unwrap();
        let Source::Image(Image::Archive(digest)) = packed.variant.source else { panic!("no archive") };
        let manifest = packed.blobs.get(&digest).unwrap().read_at(0, 1 << 20).unwrap();
        let manifest = Manifest::from_bytes(&manifest).unwrap();
        assert_eq!(manifest.entries().len(), 1);
        assert_eq!(manifest.entries()[0].path, ARCHIVE_FILE);
        assert_eq!(packed.blobs.digests().count(), 2);
    }

    #[test]
    fn anything_else_is_refused_with_the_reason() {
        let said = |files: &[(&str, &str)]| pack(archive(files).path()).unwrap_err().to_string();
        assert!(said(&[("etc/passwd", "x")]).contains("it has no manifest.json"));
        let two = r#"[{"Config":"a.json"},{"Config":"b.json"}]"#;
        assert!(said(&[(LIST_FILE, two)]).contains("it has 2 images"));
        assert!(said(&[(LIST_FILE, "{}")]).contains("cannot be read"));
        assert!(said(&[]).contains("docker save -o"));
        assert!(pack(Path::new("/nowhere.tar")).unwrap_err().to_string().contains("/nowhere.tar"));
    }
}
