//! A commit, through the `git` program: `git archive` streamed into a manifest, nothing checked out.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use darwin_shared::artifact::{Entry, MAX_ENTRIES, Manifest, ManifestError, Node};
use tar::{Archive, EntryType};

use super::{Blobs, PackError, PackRoot, Packed, seal, wants};

/// How like a name must be to be offered, from 0 to 1; below it, offers are noise.
const LIKE_ENOUGH: f64 = 0.6;
/// How many names are offered.
const MAX_OFFERS: usize = 3;
/// Of so many refs the names are compared; a repository with more has them by the hundred thousand.
const MAX_REFS: usize = 20_000;
/// How much of git's complaint is shown, in bytes.
const MAX_COMPLAINT_BYTES: u64 = 4096;
/// The first line of a file that stands for another one in git-lfs.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// Packs the folder of `darwin.toml` as it is in the commit.
pub(super) fn pack(name: &str, root: &PackRoot) -> Result<Packed, PackError> {
    let repository = Repository::of(name, &root.folder)?;
    let commit = repository.resolve(name)?;
    let short = commit.get(..7).unwrap_or(&commit);
    let label = if commit.starts_with(name) { short.to_owned() } else { format!("{name}@{short}") };
    let (entries, blobs, warnings) = repository.read(name, &commit, root)?;
    Ok(seal(label, &Manifest::new(entries)?, blobs, warnings))
}

/// A folder in a git repository.
struct Repository<'a> {
    folder: &'a Path,
    /// The folder's path from the repository's root, with a `/` at its end; empty at the root.
    prefix: String,
}

impl<'a> Repository<'a> {
    fn of(name: &str, folder: &'a Path) -> Result<Self, PackError> {
        let no_repository =
            || PackError::NoRepository { reference: name.to_owned(), folder: folder.display().to_string() };
        let output = git(folder).args(["rev-parse", "--show-prefix"]).output();
        match output {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(PackError::NoGit(name.to_owned())),
            Err(source) => Err(PackError::Read { what: "the git program".to_owned(), source }),
            Ok(output) if !output.status.success() => {
                let message = complaint(&output.stderr);
                // A repository of another user's is one, yet git wants to be told that it is trusted.
                if message.contains("safe.directory") {
                    return Err(PackError::Git { command: "rev-parse", message });
                }
                Err(no_repository())
            }
            Ok(output) => {
                let prefix = String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned();
                Ok(Self { folder, prefix })
            }
        }
    }

    fn resolve(&self, name: &str) -> Result<String, PackError> {
        let output = self.run("rev-parse", &["--verify", "--quiet", &format!("{name}^{{commit}}")])?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() && !text.is_empty() {
            return Ok(text);
        }
        Err(PackError::UnknownRef { reference: name.to_owned(), near: self.near(name) })
    }

    /// The end of a sentence that offers refs like `name`.
    fn near(&self, name: &str) -> String {
        let format = "--format=%(refname:short)";
        let Ok(output) = self.run("for-each-ref", &[format, "refs/heads", "refs/tags", "refs/remotes"])
        else {
            return String::new();
        };
        let text = String::from_utf8_lossy(&output.stdout);
        let mut like: Vec<(f64, &str)> = text
            .lines()
            .take(MAX_REFS)
            .map(|known| (strsim::jaro_winkler(name, known), known))
            .filter(|(likeness, _)| *likeness >= LIKE_ENOUGH)
            .collect();
        like.sort_by(|a, b| b.0.total_cmp(&a.0));
        let offers: Vec<String> =
            like.iter().take(MAX_OFFERS).map(|(_, known)| format!("`{known}`")).collect();
        match offers.as_slice() {
            [] if text.trim().is_empty() => ": the repository has no commits or branches yet".to_owned(),
            [] => "; `git branch --all` lists the branches (is it fetched?)".to_owned(),
            offers => format!("; did you mean {}?", offers.join(" or ")),
        }
    }

    fn read(
        &self,
        name: &str,
        commit: &str,
        root: &PackRoot,
    ) -> Result<(Vec<Entry>, Blobs, Vec<String>), PackError> {
        let folder = self.prefix.trim_end_matches('/');
        if !self.run("rev-parse", &["--verify", "--quiet", &format!("{commit}:{folder}")])?.status.success() {
            return Err(PackError::NoSuchFolder { reference: name.to_owned(), folder: folder.to_owned() });
        }
        // Run in a subfolder, `git archive` gives that subfolder alone, with paths from there.
        let mut child = git(self.folder)
            .args(["archive", "--format=tar", commit])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(PackError::read("the git program"))?;
        let read = match child.stdout.take() {
            Some(stdout) => read_archive(stdout, name, root),
            None => Err(PackError::Git { command: "archive", message: "it has no output".to_owned() }),
        };
        let mut stderr = Vec::new();
        if let Some(pipe) = child.stderr.take() {
            pipe.take(MAX_COMPLAINT_BYTES)
                .read_to_end(&mut stderr)
                .map_err(PackError::read("git's errors"))?;
        }
        let status = child.wait().map_err(PackError::read("the git program"))?;
        // A broken archive is git's fault only if git says so; what we refused in it comes first.
        match read {
            Err(PackError::Read { .. }) | Ok(_) if !status.success() => {
                let message = format!("{} ({status})", complaint(&stderr));
                Err(PackError::Git { command: "archive", message })
            }
            other => other,
        }
    }

    fn run(&self, command: &'static str, args: &[&str]) -> Result<std::process::Output, PackError> {
        git(self.folder).arg(command).args(args).output().map_err(PackError::read("the git program"))
    }
}

/// `git` in this folder, with no more of an environment than it needs: nothing of ours may change what it gives.
fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder).env_clear().stdin(Stdio::null());
    for name in ["PATH", "HOME", "XDG_CONFIG_HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.env("LC_ALL", "C").env("GIT_TERMINAL_PROMPT", "0").env("GIT_OPTIONAL_LOCKS", "0");
    command
}

fn complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(600).collect();
    if text.trim().is_empty() { "it gave no reason".to_owned() } else { text.trim().to_owned() }
}

fn read_archive(
    stream: impl Read,
    name: &str,
    root: &PackRoot,
) -> Result<(Vec<Entry>, Blobs, Vec<String>), PackError> {
    let bad_archive = || PackError::read("git's archive");
    let mut archive = Archive::new(stream);
    let mut entries = Vec::new();
    let mut blobs = Blobs::default();
    let mut noticed = Noticed::default();
    let mut dropped = 0;
    for item in archive.entries().map_err(bad_archive())? {
        let mut item = item.map_err(bad_archive())?;
        let path = item.path_bytes().into_owned();
        let path = String::from_utf8(path).map_err(|e| {
            PackError::NotUtf8(String::from_utf8_lossy(e.as_bytes()).escape_debug().to_string())
        })?;
        let kind = item.header().entry_type();
        if !matches!(kind, EntryType::Regular | EntryType::Continuous | EntryType::Symlink) {
            continue;
        }
        if !wants(&root.files, &path) {
            dropped += 1;
            continue;
        }
        if entries.len() == MAX_ENTRIES {
            return Err(ManifestError::TooMany(entries.len() + 1).into());
        }
        let node = if kind == EntryType::Symlink {
            let target = item.link_name_bytes().unwrap_or_default().into_owned();
            let target =
                String::from_utf8(target).map_err(|_| PackError::NotUtf8(format!("that {path} links to")))?;
            Node::Link { target }
        } else {
            let size_bytes = item.size();
            let executable = item.header().mode().map_err(bad_archive())? & 0o111 != 0;
            let digest = blobs.take_stream(&mut item, size_bytes).map_err(bad_archive())?;
            noticed.look_at(&path, blobs.get(&digest));
            Node::File { digest, size_bytes, executable }
        };
        entries.push(Entry { path, node });
    }
    // An archive is padded after its end: git must be able to write that too, or a closed pipe kills it.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink()).map_err(bad_archive())?;
    if entries.is_empty() {
        return Err(PackError::Empty { reference: name.to_owned(), dropped });
    }
    Ok((entries, blobs, noticed.warnings(name)))
}

/// What an archive of git's does not say by itself.
#[derive(Default)]
struct Noticed {
    submodules: bool,
    lfs_pointers: usize,
}

impl Noticed {
    fn look_at(&mut self, path: &str, blob: Option<&super::BlobSource>) {
        self.submodules |= path == ".gitmodules";
        if let Some(super::BlobSource::Memory(bytes)) = blob {
            self.lfs_pointers += usize::from(bytes.starts_with(LFS_POINTER));
        }
    }

    fn warnings(&self, name: &str) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.submodules {
            warnings.push(format!(
                "`{name}` has submodules, which are not packed; dir:PATH packs a full checkout"
            ));
        }
        if self.lfs_pointers > 0 {
            let count = self.lfs_pointers;
            warnings.push(format!(
                "{count} files of `{name}` are git-lfs pointers, not the files; dir:PATH packs a full checkout"
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use darwin_shared::config::Files;
    use darwin_shared::spec::Source;

    use super::*;

    struct Repo {
        dir: tempfile::TempDir,
    }

    impl Repo {
        fn new() -> Self {
            let repo = Self { dir: tempfile::tempdir().unwrap() };
            repo.git(&["init", "--quiet", "--initial-branch=main"]);
            repo
        }

        fn git(&self, args: &[&str]) {
            let status = Command::new("git")
                .current_dir(self.dir.path())
                .args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"])
                .args(args)
                .status()
                .unwrap();
            assert!(status.success(), "git {args:?}");
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn commit(&self) {
            self.git(&["add", "--all"]);
            self.git(&["commit", "--quiet", "--message=x"]);
        }

        fn root(&self, folder: &str) -> PackRoot {
            let folder: PathBuf = self.dir.path().join(folder);
            PackRoot { folder, files: Files::default() }
        }
    }

    fn paths(packed: &Packed) -> Vec<String> {
        let Source::Tree(digest) = &packed.variant.source else { panic!("not a tree") };
        let bytes = packed.blobs.get(digest).unwrap().read_at(0, 1 << 20).unwrap();
        Manifest::from_bytes(&bytes).unwrap().entries().iter().map(|entry| entry.path.clone()).collect()
    }

    #[test]
    fn packs_a_commit_and_not_the_checkout() {
        let repo = Repo::new();
        repo.write("a.py", "old");
        repo.write("deep/b.py", "b");
        repo.commit();
        repo.write("a.py", "not committed");
        repo.write("c.py", "new");
        let packed = pack("main", &repo.root("")).unwrap();
        assert_eq!(paths(&packed), ["a.py", "deep/b.py"]);
        assert!(packed.blobs.get(&darwin_shared::ids::Digest::of(b"old")).is_some());
        assert!(packed.variant.label.starts_with("main@"), "{}", packed.variant.label);
        assert_eq!(packed.variant.label.len(), "main@".len() + 7);
        assert!(packed.warnings.is_empty());
    }

    #[test]
    fn an_archive_is_read_to_the_end_of_its_padding() {
        struct Counted<'a>(&'a [u8], &'a mut usize);
        impl Read for Counted<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let read = self.0.read(buffer)?;
                *self.1 += read;
                Ok(read)
            }
        }
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o644);
        builder.append_data(&mut header, "a.py", &b"a"[..]).unwrap();
        let mut bytes = builder.into_inner().unwrap();
        bytes.resize(10_240, 0);
        let mut seen = 0;
        let repo = Repo::new();
        read_archive(Counted(&bytes, &mut seen), "main", &repo.root("")).unwrap();
        assert_eq!(seen, bytes.len());
    }

    #[test]
    fn the_same_tree_has_the_same_digest_in_any_commit() {
        let repo = Repo::new();
        repo.write("a.py", "a");
        repo.commit();
        repo.git(&["commit", "--quiet", "--allow-empty", "--message=y"]);
        let root = repo.root("");
        assert_eq!(
            pack("main", &root).unwrap().variant.source,
            pack("main~1", &root).unwrap().variant.source
        );
    }

    #[test]
    fn a_subfolder_is_packed_alone() {
        let repo = Repo::new();
        repo.write("README.md", "x");
        repo.write("engine/darwin.toml", "");
        repo.write("engine/src/a.py", "a");
        repo.commit();
        let packed = pack("HEAD", &repo.root("engine")).unwrap();
        assert_eq!(paths(&packed), ["darwin.toml", "src/a.py"]);
    }

    #[test]
    fn a_folder_that_the_commit_lacks_is_named() {
        let repo = Repo::new();
        repo.write("a", "a");
        repo.commit();
        repo.write("engine/a", "a");
        let error = pack("HEAD", &repo.root("engine")).unwrap_err().to_string();
        assert!(error.contains("no folder `engine`"), "{error}");
    }

    #[test]
    fn unknown_refs_get_near_names() {
        let repo = Repo::new();
        repo.write("a", "a");
        repo.commit();
        repo.git(&["branch", "feature/faster-book"]);
        let error = pack("feature/faster-bok", &repo.root("")).unwrap_err().to_string();
        assert_eq!(error, "git knows no commit `feature/faster-bok`; did you mean `feature/faster-book`?");
        let error = pack("zzz", &repo.root("")).unwrap_err().to_string();
        assert!(error.contains("git branch --all"), "{error}");
    }

    #[test]
    fn outside_a_repository_it_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let root = PackRoot { folder: dir.path().to_owned(), files: Files::default() };
        let error = pack("main", &root).unwrap_err().to_string();
        assert!(error.contains("not in a git repository") && error.contains("dir:PATH"), "{error}");
    }

    #[test]
    fn submodules_and_pointers_are_told() {
        let repo = Repo::new();
        repo.write(".gitmodules", "");
        repo.write("model.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
        repo.commit();
        let packed = pack("main", &repo.root("")).unwrap();
        assert_eq!(packed.warnings.len(), 2);
    }
}
