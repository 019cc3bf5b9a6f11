//! The folders in which variants live, and the bound on what they and the blobs may take.
//!
//! A folder's name is a digest of what made it: the artifact, its `setup`, the environment, and a number for when the
//! same is wanted by two at once. All names are equally long, so both sides of a comparison have paths of one length.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use darwin_shared::ids::{AttemptId, Digest};
use darwin_shared::spec::{Arm, Step};
use tokio::sync::{RwLock, RwLockReadGuard};

use super::blobs::Blobs;
use crate::run::remove_all;

/// The digits of a folder's name.
const NAME_DIGITS: usize = 16;
/// Copies of one artifact in use at once: as many as a box could ever have attempts under way.
const MAX_COPIES: u32 = 65_536;
/// The file that says that a folder is unpacked and set up; in it, what the folder takes, in bytes.
const READY: &str = "ready";

/// All folders and blobs.
#[derive(Debug)]
pub(crate) struct Folders {
    work: PathBuf,
    blobs: Blobs,
    max_bytes: u64,
    in_use: Mutex<BTreeSet<String>>,
    /// Staging reads, evicting writes: nothing is evicted between fetching a blob and unpacking it.
    evicting: RwLock<()>,
}

/// A folder that one attempt has to itself until this is dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    folders: Arc<Folders>,
    name: String,
    tree: PathBuf,
    /// Whether nobody could use it again.
    fleeting: bool,
}

impl Folders {
    /// The folders under the agent's state folder.
    pub(crate) fn open(state_dir: &Path, max_bytes: u64) -> io::Result<Arc<Self>> {
        let work = state_dir.join("work");
        fs::create_dir_all(&work)?;
        for entry in fs::read_dir(&work)?.flatten() {
            // What an earlier life did not get ready is of no use to anybody.
            if !entry.path().join(READY).is_file() {
                remove_all(&entry.path())?;
            }
        }
        Ok(Arc::new(Self {
            work,
            blobs: Blobs::open(state_dir.join("blobs"))?,
            max_bytes,
            in_use: Mutex::default(),
            evicting: RwLock::new(()),
        }))
    }

    pub(super) const fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    pub(super) async fn no_eviction(&self) -> RwLockReadGuard<'_, ()> {
        self.evicting.read().await
    }

    fn in_use(&self) -> MutexGuard<'_, BTreeSet<String>> {
        // Every change is one insertion or removal: a panic elsewhere leaves the set whole.
        self.in_use.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A folder for this artifact, set-up and build that nobody else uses now.
    pub(super) fn reserve(
        self: &Arc<Self>,
        artifact: Digest,
        setup: Option<&Step>,
        env: &BTreeMap<String, String>,
        build: Option<u32>,
    ) -> io::Result<Reserved> {
        let mut parts: Vec<Vec<u8>> = vec![b"tree".to_vec(), artifact.as_bytes().to_vec()];
        parts.extend(setup.into_iter().flat_map(|step| step.command.argv()).map(String::into_bytes));
        parts.push(b"env".to_vec());
        // A set-up may depend on the environment; without one, the same files do for all.
        if setup.is_some() {
            parts.extend(env.iter().map(|(key, value)| format!("{key}={value}").into_bytes()));
        }
        // As a part of its own it cannot be taken for a variable: those have a `=`.
        parts.extend(build.map(|build| format!("build {build}").into_bytes()));
        self.reserve_named(&parts, false)
    }

    /// An empty folder for a variant without files.
    pub(super) fn reserve_empty(self: &Arc<Self>, attempt: AttemptId, arm: Arm) -> io::Result<Reserved> {
        let reserved =
            self.reserve_named(&[attempt.to_string().into_bytes(), arm.to_string().into_bytes()], true)?;
        fs::create_dir_all(reserved.tree())?;
        Ok(reserved)
    }

    fn reserve_named(self: &Arc<Self>, parts: &[Vec<u8>], fleeting: bool) -> io::Result<Reserved> {
        let mut in_use = self.in_use();
        let name = (0..=MAX_COPIES).map(|copy| folder_name(parts, copy)).find(|name| !in_use.contains(name));
        let name = name.ok_or_else(|| io::Error::other("too many copies of one artifact are in use"))?;
        in_use.insert(name.clone());
        drop(in_use);
        let reserved =
            Reserved { folders: Arc::clone(self), tree: self.work.join(&name).join("tree"), name, fleeting };
        if !reserved.is_ready() {
            remove_all(&reserved.folder())?;
            fs::create_dir_all(reserved.folder())?;
        }
        Ok(reserved)
    }

    /// Makes room in the background, if there is too little.
    pub(super) fn evict_later(self: &Arc<Self>) {
        let folders = Arc::clone(self);
        tokio::spawn(async move {
            let _alone = folders.evicting.write().await;
            let work = Arc::clone(&folders);
            match tokio::task::spawn_blocking(move || work.evict()).await {
                Ok(Ok(freed)) if freed > 0 => tracing::info!(freed_bytes = freed, "made room in the cache"),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "no room could be made in the cache"),
                Err(error) => tracing::warn!(%error, "no room could be made in the cache"),
            }
        });
    }

    /// Removes what was used longest ago, until the rest is within the bound. Says how many bytes went.
    fn evict(&self) -> io::Result<u64> {
        let mut found: Vec<(SystemTime, u64, PathBuf, Option<String>)> = Vec::new();
        for (path, bytes, used) in self.blobs.list()? {
            found.push((used, bytes, path, None));
        }
        for entry in fs::read_dir(&self.work)?.flatten() {
            let path = entry.path();
            let ready = path.join(READY);
            let bytes =
                fs::read_to_string(&ready).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
            let used = fs::metadata(&ready).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            found.push((used, bytes, path, Some(entry.file_name().to_string_lossy().into_owned())));
        }
        let mut total: u64 = found.iter().map(|(_, bytes, _, _)| bytes).sum();
        found.sort();
        let mut freed = 0;
        for (_, bytes, path, name) in found {
            if total <= self.max_bytes {
                break;
            }
            let Some(name) = name else {
                fs::remove_file(path)?;
                (total, freed) = (total - bytes, freed + bytes);
                continue;
            };
            // Held over the removal, so that nobody reserves it meanwhile.
            let in_use = self.in_use();
            if !in_use.contains(&name) {
                remove_all(&path)?;
                (total, freed) = (total - bytes, freed + bytes);
            }
        }
        Ok(freed)
    }
}

fn folder_name(parts: &[Vec<u8>], copy: u32) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    hasher.update(&copy.to_le_bytes());
    hasher.finalize().to_hex().chars().take(NAME_DIGITS).collect()
}

impl Reserved {
    fn folder(&self) -> PathBuf {
        self.folders.work.join(&self.name)
    }

    /// Where the variant's files are, or shall be.
    pub(crate) fn tree(&self) -> &Path {
        &self.tree
    }

    /// Whether it is unpacked and set up.
    pub(super) fn is_ready(&self) -> bool {
        self.folder().join(READY).is_file()
    }

    /// Marks it as used now.
    pub(super) fn touch(&self) {
        // At worst it is evicted early.
        let _ = File::open(self.folder().join(READY)).and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// Says that it can be used again as it is.
    pub(super) async fn mark_ready(&self) -> io::Result<()> {
        let folder = self.folder();
        let mark = move || {
            let aside = folder.join("ready.new");
            fs::write(&aside, size_of(&folder).to_string())?;
            fs::rename(aside, folder.join(READY))
        };
        tokio::task::spawn_blocking(mark).await.map_err(io::Error::other)?
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.fleeting {
            // What stays is found and removed when the cache is cleaned.
            let _ = remove_all(&self.folder());
        }
        self.folders.in_use().remove(&self.name);
    }
}

/// What a folder takes, in bytes, as far as it can be read.
fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(folders: &Arc<Folders>, artifact: &[u8], bytes: usize, age_s: u64) -> (Reserved, PathBuf) {
        let reserved = folders.reserve(Digest::of(artifact), None, &BTreeMap::new(), None).unwrap();
        fs::create_dir_all(reserved.tree()).unwrap();
        fs::write(reserved.tree().join("file"), vec![0; bytes]).unwrap();
        let marker = reserved.folder().join(READY);
        fs::write(&marker, bytes.to_string()).unwrap();
        let used = SystemTime::now() - std::time::Duration::from_secs(age_s);
        File::open(marker).unwrap().set_modified(used).unwrap();
        let folder = reserved.folder();
        (reserved, folder)
    }

    #[test]
    fn the_same_artifact_wanted_twice_gets_two_folders_of_equal_length() {
        let state = tempfile::tempdir().unwrap();
        let folders = Folders::open(state.path(), 1000).unwrap();
        let (a, first) = ready(&folders, b"x", 1, 0);
        let b = folders.reserve(Digest::of(b"x"), None, &BTreeMap::new(), None).unwrap();
        assert_ne!(a.tree(), b.tree());
        assert_eq!(a.tree().as_os_str().len(), b.tree().as_os_str().len());
        assert!(a.is_ready() && !b.is_ready());
        drop(a);
        let again = folders.reserve(Digest::of(b"x"), None, &BTreeMap::new(), None).unwrap();
        assert!(again.is_ready() && again.folder() == first);
    }

    #[test]
    fn the_least_recently_used_goes_first_and_what_is_in_use_stays() {
        let state = tempfile::tempdir().unwrap();
        let folders = Folders::open(state.path(), 100).unwrap();
        let (_used, oldest) = ready(&folders, b"in use", 60, 300);
        let (old, older) = ready(&folders, b"old", 60, 200);
        let (new, newer) = ready(&folders, b"new", 30, 100);
        drop((old, new));
        assert_eq!(folders.evict().unwrap(), 60);
        assert_eq!((oldest.exists(), older.exists(), newer.exists()), (true, false, true));
    }

    #[test]
    fn a_set_up_is_shared_only_with_the_same_command_and_environment() {
        let state = tempfile::tempdir().unwrap();
        let folders = Folders::open(state.path(), 100).unwrap();
        let step = |text: &str| Step {
            command: darwin_shared::spec::Command::Shell(text.to_owned()),
            timeout: std::time::Duration::from_secs(1),
        };
        let env = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        let built = |setup: Option<&Step>, env: &BTreeMap<String, String>, build| {
            folders.reserve(Digest::of(b"x"), setup, env, build).unwrap().name.clone()
        };
        let name = |setup: Option<&Step>, env: &BTreeMap<String, String>| built(setup, env, None);
        let plain = name(None, &BTreeMap::new());
        assert_eq!(plain, name(None, &env));
        let made = name(Some(&step("make")), &env);
        assert_eq!(made, name(Some(&step("make")), &env));
        for other in [plain, name(Some(&step("make all")), &env), name(Some(&step("make")), &BTreeMap::new())]
        {
            assert_ne!(made, other);
        }
        let first = built(Some(&step("make")), &env, Some(0));
        assert_ne!(first, made);
        assert_ne!(first, built(Some(&step("make")), &env, Some(1)));
    }
}
