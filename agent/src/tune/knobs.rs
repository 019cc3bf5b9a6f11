//! Reading and writing knobs of a box, real or recorded.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use darwin_agent_core::tune::{Form, Knob, Reading};

use crate::host::{HostFs, ReadError};

/// How often the tasks of a set are gone through: some are born while others are moved.
const PASSES: u32 = 5;
/// How often a set is tried to be removed, and how long between two tries: a task that ends holds it for a moment.
const REMOVALS: u32 = 20;
const REMOVAL_PAUSE: Duration = Duration::from_millis(10);
/// How deep sets below a set are looked for.
const MAX_DEPTH: u32 = 8;

/// What a knob is at.
pub(super) fn read(host: &HostFs, knob: &Knob) -> Reading {
    if knob.form == Form::Shield && !host.exists(&knob.path) {
        return Reading::Value(String::new());
    }
    if knob.form == Form::Shield && is_empty(&host.path(&knob.path)) {
        // What could not be removed and holds nobody keeps nobody away.
        return Reading::Value(String::new());
    }
    let file = match knob.form {
        Form::Shield => Path::new(&knob.path).join("cpuset.cpus"),
        Form::Word | Form::Choice | Form::List | Form::Mask => knob.path.clone().into(),
    };
    match host.read(file) {
        Ok(text) => Reading::Value(knob.value(&text)),
        Err(ReadError::Absent { .. }) => Reading::Absent,
        Err(error @ (ReadError::Io { .. } | ReadError::Odd { .. })) => Reading::Unreadable(error.to_string()),
    }
}

/// Sets a knob. The kernel judges at the write, so it is one write, and what counts is what is read back.
pub(super) fn write(host: &HostFs, knob: &Knob, value: &str) -> Result<(), String> {
    let path = host.path(&knob.path);
    let written = match knob.form {
        Form::Shield if value.is_empty() => lower_shield(&path),
        Form::Shield => raise_shield(&path, value),
        Form::Word | Form::Choice | Form::List | Form::Mask => put(&path, &knob.text(value)),
    };
    written.map_err(|error| error.to_string())
}

/// One write of a text into a file that is there; of an empty one a line without text, as the kernel sees nothing of a write
/// without bytes.
pub(super) fn put(path: &Path, text: &str) -> io::Result<()> {
    let text = if text.is_empty() { "\n" } else { text };
    // Truncation means nothing to the kernel's files, and makes recorded ones hold what was written.
    OpenOptions::new().write(true).truncate(true).open(path)?.write_all(text.as_bytes())
}

/// Makes a cpuset with these CPUs and moves every task of the set above it that can be moved into it.
fn raise_shield(set: &Path, cpus: &str) -> io::Result<()> {
    let above = set.parent().ok_or(io::ErrorKind::InvalidInput)?;
    match fs::create_dir(set) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // A set without memory nodes takes no task, so they go first.
    put(&set.join("cpuset.mems"), fs::read_to_string(above.join("cpuset.mems"))?.trim())?;
    put(&set.join("cpuset.cpus"), cpus)?;
    move_tasks(above, set)
}

/// Moves the tasks back and removes the set.
fn lower_shield(set: &Path) -> io::Result<()> {
    let above = set.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut removed = Ok(());
    for _ in 0..REMOVALS {
        move_tasks(set, above)?;
        remove_empty_below(set, MAX_DEPTH);
        removed = fs::remove_dir(set);
        match &removed {
            // A task was born in it meanwhile, or has not quite ended.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => std::thread::sleep(REMOVAL_PAUSE),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Ok(()) | Err(_) => break,
        }
    }
    removed
}

/// Removes the sets below one that hold nobody; the kernel refuses the others.
fn remove_empty_below(set: &Path, depth: u32) {
    for entry in fs::read_dir(set).into_iter().flatten().flatten() {
        if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty_below(&entry.path(), depth - 1);
            // One that is in use stays, and its task may be moved in the next pass.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Whether a set is there and has no process.
fn is_empty(set: &Path) -> bool {
    fs::read_to_string(set.join("cgroup.procs")).is_ok_and(|processes| processes.trim().is_empty())
}

/// Moves every process that can be moved. Threads of the kernel that belong to one CPU cannot, and stay.
fn move_tasks(from: &Path, to: &Path) -> io::Result<()> {
    let target = to.join("cgroup.procs");
    for _ in 0..PASSES {
        let mut moved = 0;
        for process in fs::read_to_string(from.join("cgroup.procs"))?.lines() {
            // It may have ended, or be one that stays.
            moved += u32::from(put(&target, process).is_ok());
        }
        if moved == 0 {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shield_that_holds_nobody_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let set = dir.path().join("set");
        fs::create_dir(&set).unwrap();
        fs::write(set.join("cpuset.cpus"), "0\n").unwrap();
        let host = HostFs::new(dir.path());
        for (processes, told) in [("", ""), ("12\n", "0")] {
            fs::write(set.join("cgroup.procs"), processes).unwrap();
            assert_eq!(
                read(&host, &Knob::new("/set", Form::Shield)),
                Reading::Value(told.into()),
                "{processes}"
            );
        }
    }

    #[test]
    fn forms_are_written_as_the_kernel_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("mask"), "00000003\n").unwrap();
        fs::write(dir.path().join("choice"), "always [madvise] never\n").unwrap();
        let host = HostFs::new(dir.path());
        let mask = Knob::new("/mask", Form::Mask);
        assert_eq!(read(&host, &mask), Reading::Value("0-1".into()));
        assert_eq!(write(&host, &mask, "0"), Ok(()));
        assert_eq!(fs::read_to_string(dir.path().join("mask")).unwrap(), "00000001");
        assert_eq!(read(&host, &Knob::new("/choice", Form::Choice)), Reading::Value("madvise".into()));
        let absent = Knob::new("/none", Form::Word);
        assert_eq!(read(&host, &absent), Reading::Absent);
        assert!(write(&host, &absent, "1").unwrap_err().contains("No such file"));
        assert_eq!(read(&host, &Knob::new("/none", Form::Shield)), Reading::Value(String::new()));
    }
}
