//! The first file system of a virtual box: our programs, what they are linked with, and a busybox.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::world::{PROGRAMS, programs};

/// Builds it in a folder.
pub(super) fn build(folder: &Path, script: &str) -> Result<PathBuf> {
    let root = folder.join("root");
    let programs = programs()?;
    for name in PROGRAMS {
        let from = programs.join(name);
        let to = place(&root, &Path::new("/bin").join(name), &from)?;
        for library in libraries(&from)? {
            place(&root, &library, &library)?;
        }
        // What only a debugger wants would fill the box's memory.
        let _ = Command::new("strip").arg(&to).status();
    }
    place(&root, Path::new("/bin/busybox"), &which("busybox")?)?;
    for (name, text) in [
        ("init", include_str!("guest/init")),
        ("prelude.sh", include_str!("guest/prelude.sh")),
        ("show.sh", script),
    ] {
        let path = root.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    }
    pack(&root, &folder.join("initrd"))
}

/// Copies a file to where it is on the box.
fn place(root: &Path, at: &Path, from: &Path) -> Result<PathBuf> {
    let to = root.join(at.strip_prefix("/").unwrap_or(at));
    fs::create_dir_all(to.parent().context("a file without a folder")?)?;
    fs::copy(from, &to).with_context(|| from.display().to_string())?;
    Ok(to)
}

/// What a program is linked with, as paths of this machine.
fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let done = Command::new("ldd").arg(program).output().context("ldd is needed")?;
    let text = String::from_utf8_lossy(&done.stdout);
    Ok(text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

fn which(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file());
    found.with_context(|| format!("{program} is needed: tests/src/vm/fetch installs it"))
}

/// Packs a folder as the kernel wants it.
fn pack(root: &Path, to: &Path) -> Result<PathBuf> {
    let names = Command::new("find").arg(".").current_dir(root).output()?.stdout;
    let mut cpio = Command::new("busybox")
        .args(["cpio", "-o", "-H", "newc"])
        .current_dir(root)
        .stdin(Stdio::piped())
        .stdout(File::create(to)?)
        .stderr(Stdio::null())
        .spawn()?;
    cpio.stdin.take().context("no standard input")?.write_all(&names)?;
    ensure!(cpio.wait()?.success(), "the box's files cannot be packed");
    Ok(to.to_owned())
}
