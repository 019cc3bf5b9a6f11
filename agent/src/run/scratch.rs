//! A slot's folders on tmpfs: what a bench may write to, emptied before every invocation.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

/// Where shared memory is mounted on every Linux that we know.
const SHARED_MEMORY: &str = "/dev/shm";
/// The digits of a digest that name a folder: enough that no two agents of a box meet.
const NAME_DIGITS: usize = 16;

/// How the scratch folders of agents begin.
const PREFIX: &str = "darwin-agent-";

/// The folder for the scratch of an agent with this state folder: on tmpfs where there is one that takes files.
pub(crate) fn scratch_root(state_dir: &Path) -> PathBuf {
    let shared = Path::new(SHARED_MEMORY);
    let folder = shared.join(format!("{PREFIX}{}", short_name(state_dir)));
    let on_tmpfs = statfs(shared).is_ok_and(|fs| fs.filesystem_type() == TMPFS_MAGIC);
    let writable = nix::unistd::access(shared, nix::unistd::AccessFlags::W_OK).is_ok();
    // Everybody may write there: what somebody else made under our name is not for us.
    let free = fs::symlink_metadata(&folder)
        .map_or(true, |found| found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw());
    if on_tmpfs && writable && free { folder } else { state_dir.join("scratch") }
}

/// The name of the agent whose scratch folder this is, if it is one.
pub(crate) fn scratch_name(folder: &Path) -> Option<&str> {
    let name = folder.file_name()?.to_str()?.strip_prefix(PREFIX)?;
    (name.len() == NAME_DIGITS && name.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(name)
}

/// A name for things of this state folder that must not meet those of another agent.
pub(crate) fn short_name(state_dir: &Path) -> String {
    let digest = blake3::hash(state_dir.as_os_str().as_encoded_bytes());
    digest.to_hex().chars().take(NAME_DIGITS).collect()
}

/// The folder of one slot. Paths are as long for every invocation of either side.
#[derive(Debug, Clone)]
pub(crate) struct Scratch {
    home: PathBuf,
}

impl Scratch {
    /// The folder under `root` for a slot of this name, which is made and emptied.
    pub(crate) fn open(root: &Path, name: &str) -> io::Result<Self> {
        let scratch = Self { home: root.join(name) };
        scratch.empty()?;
        Ok(scratch)
    }

    /// `HOME`, `TMPDIR`, and the working folder of a command without files.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Where a bench writes its result: a file that is not there yet.
    pub(crate) fn output(&self) -> PathBuf {
        self.home.join("darwin-result")
    }

    /// The folder that a container may write to, which is made for it.
    pub(crate) fn for_container(&self) -> PathBuf {
        self.home.join("container")
    }

    /// Where on the box a container's result is.
    pub(crate) fn output_of_container(&self) -> PathBuf {
        self.for_container().join("darwin-result")
    }

    /// Makes the folder anew unless it is empty.
    pub(crate) fn empty(&self) -> io::Result<()> {
        match fs::read_dir(&self.home) {
            Ok(mut entries) => match entries.next() {
                None => return Ok(()),
                Some(_) => remove_all(&self.home)?,
            },
            // A bench may have taken its own right to look into it.
            Err(_) => remove_all(&self.home)?,
        }
        fs::create_dir_all(&self.home)
    }
}

/// Removes a folder, also where a bench took the right to do so away from its own folders.
pub(crate) fn remove_all(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            unlock(folder);
            fs::remove_dir_all(folder)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Takes back the right to list and change folders. What cannot be unlocked shows when it cannot be removed.
fn unlock(folder: &Path) {
    let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            unlock(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invocation_finds_nothing_of_the_one_before() {
        let root = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(root.path(), "s0").unwrap();
        fs::write(scratch.output(), "1").unwrap();
        fs::create_dir(scratch.home().join("locked")).unwrap();
        fs::write(scratch.home().join("locked/file"), "1").unwrap();
        fs::set_permissions(scratch.home().join("locked"), fs::Permissions::from_mode(0o000)).unwrap();
        scratch.empty().unwrap();
        assert!(!scratch.output().exists());
        assert_eq!(fs::read_dir(scratch.home()).unwrap().count(), 0);
    }

    #[test]
    fn folders_of_two_agents_differ_and_are_as_long() {
        let (a, b) = (scratch_root(Path::new("/var/a")), scratch_root(Path::new("/var/b")));
        assert_ne!(a, b);
        assert_eq!(a.as_os_str().len(), b.as_os_str().len());
        if a.starts_with(SHARED_MEMORY) {
            assert_eq!(scratch_name(&a), Some(&*short_name(Path::new("/var/a"))));
        }
    }
}
