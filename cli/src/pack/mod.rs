//! From what a person names (`main`, `dir:.`, `path:/opt/engine`) to what a coordinator takes: a manifest and blobs.
//!
//! Nothing here talks to a coordinator: packing gives a [`Packed`], and `upload` sends what is lacking.

mod blobs;
mod dir;
mod git;
mod image;
mod reference;

use std::path::{Path, PathBuf};

use darwin_shared::artifact::{Manifest, ManifestError};
use darwin_shared::config::Files;
use darwin_shared::ids::Digest;
use darwin_shared::image::Image;
use darwin_shared::spec::{Source, Variant};
use thiserror::Error;

pub(crate) use blobs::{BlobSource, Blobs};
pub(crate) use reference::Reference;

/// Where a side's files come from, and which of them belong to it.
#[derive(Debug)]
pub(crate) struct PackRoot {
    /// The folder that holds `darwin.toml`; of a git reference, this folder of the commit is packed and no more.
    pub folder: PathBuf,
    /// Which files belong to the artifact.
    pub files: Files,
}

/// Whether the file at this path is packed. `.git` never is: it differs between clones.
fn wants(files: &Files, path: &str) -> bool {
    !path.split('/').any(|part| part == ".git") && files.wants(path)
}

/// One side, ready to be submitted.
#[derive(Debug)]
pub(crate) struct Packed {
    /// What stands in the job's spec.
    pub variant: Variant,
    /// The manifest's bytes and all files' contents by digest; empty if there are no files to send.
    pub blobs: Blobs,
    /// What people should know: submodules that are not packed, files that are only pointers.
    pub warnings: Vec<String>,
}

/// Why a side could not be packed.
#[derive(Debug, Error)]
pub(crate) enum PackError {
    /// The `git` program is not there.
    #[error("`{0}` is a git ref, and there is no `git` program: install git, or name a folder with dir:PATH")]
    NoGit(String),
    /// The folder is in no repository.
    #[error(
        "`{reference}` is a git ref, and {folder} is not in a git repository: run darwin inside one, or name a \
         folder with dir:PATH"
    )]
    NoRepository {
        /// What was asked for.
        reference: String,
        /// Where it was looked for.
        folder: String,
    },
    /// Git does not know the ref.
    #[error("git knows no commit `{reference}`{near}")]
    UnknownRef {
        /// What was asked for.
        reference: String,
        /// Names like it, as the end of the sentence.
        near: String,
    },
    /// The commit has no such folder.
    #[error("the commit `{reference}` has no folder `{folder}`, where darwin.toml stands now")]
    NoSuchFolder {
        /// What was asked for.
        reference: String,
        /// The folder in the repository.
        folder: String,
    },
    /// Git said no.
    #[error("git {command} failed: {message}")]
    Git {
        /// The subcommand.
        command: &'static str,
        /// What it wrote.
        message: String,
    },
    /// A file or folder could not be read.
    #[error("cannot read {what}: {source}")]
    Read {
        /// Which.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// A name that no manifest can hold.
    #[error("the file name {0} is not UTF-8: rename it, or exclude it with `files.exclude`")]
    NotUtf8(String),
    /// The files do not make an artifact.
    #[error("{0}; `files.exclude` in darwin.toml leaves files out")]
    Manifest(#[from] ManifestError),
    /// A file that is no archive of one image.
    #[error("{} is no archive of one image: {why}; `docker save -o FILE.tar IMAGE` writes one", path.display())]
    NotAnImage {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Nothing is left after `files`.
    #[error("`{reference}` has no files in it{}", match .dropped {
        0 => String::new(),
        n => format!(": `files.include` and `files.exclude` leave out all {n}"),
    })]
    Empty {
        /// What was asked for.
        reference: String,
        /// How many files the patterns left out.
        dropped: usize,
    },
}

impl PackError {
    fn read(what: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.as_ref().display().to_string();
        move |source| Self::Read { what, source }
    }
}

/// Packs the side that `reference` names.
pub(crate) fn pack(reference: &Reference, root: &PackRoot) -> Result<Packed, PackError> {
    match reference {
        Reference::Git(name) => git::pack(name, root),
        Reference::Dir(folder) => dir::pack(folder, &root.files),
        Reference::Path(path) => Ok(Packed {
            variant: Variant { label: reference.to_string(), source: Source::Path(path.clone()) },
            blobs: Blobs::default(),
            warnings: Vec::new(),
        }),
        Reference::Image(name) => Ok(Packed {
            variant: Variant {
                label: reference.to_string(),
                source: Source::Image(Image::Named(name.clone())),
            },
            blobs: Blobs::default(),
            warnings: Vec::new(),
        }),
        Reference::ImageArchive(path) => image::pack(path),
    }
}

/// What both ways of packing end with: the manifest becomes a blob itself, and its digest the source.
fn seal(label: String, manifest: &Manifest, mut blobs: Blobs, warnings: Vec<String>) -> Packed {
    let bytes = manifest.to_bytes();
    let digest = Digest::of(&bytes);
    blobs.add(digest, BlobSource::Memory(bytes.into()));
    Packed { variant: Variant { label, source: Source::Tree(digest) }, blobs, warnings }
}
