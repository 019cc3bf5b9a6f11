//! A program whose first act is to tell the time: how long a job took to reach its first instruction.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::time::{ClockId, clock_gettime};

/// In C and linked statically, so that as little as possible runs before its first line.
const SOURCE: &str = r"
#include <fcntl.h>
#include <time.h>
#include <unistd.h>
int main(int argc, char **argv) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (argc != 2) return 2;
    int file = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0644);
    return file < 0 || write(file, &now, sizeof now) != sizeof now;
}
";

/// Compiles the program into a folder.
pub(super) fn compile(folder: &Path) -> Result<PathBuf> {
    let (source, program) = (folder.join("stamp.c"), folder.join("stamp"));
    std::fs::write(&source, SOURCE)?;
    let status = Command::new("cc").args(["-O2", "-static", "-o"]).arg(&program).arg(&source).status();
    ensure!(status.context("a C compiler is needed")?.success(), "the stamp program does not compile");
    Ok(program)
}

/// The time on the clock that the program reads.
pub(super) fn now() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into())
}

/// What the program wrote, once it has.
pub(super) fn read(path: &Path) -> Option<Duration> {
    let bytes = std::fs::read(path).ok()?;
    let (seconds, nanos) = bytes.split_at_checked(8)?;
    let seconds = u64::from_le_bytes(seconds.try_into().ok()?);
    let nanos = u64::from_le_bytes(nanos.try_into().ok()?);
    Some(Duration::new(seconds, u32::try_from(nanos).ok()?))
}
