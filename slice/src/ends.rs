//! The two pipe ends that the environment names.

use std::fmt;
use std::fs::{File, metadata};
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

/// The environment variable of a sliced run: `1:<go_fd>:<done_fd>`.
pub const VARIABLE: &str = "DARWIN_SLICE";

const VERSION: &str = "1";

/// Why the environment's slices cannot be taken.
#[derive(Debug)]
pub enum OpenError {
    /// The variable is not `1:<go_fd>:<done_fd>`.
    Malformed {
        /// What it is.
        value: String,
    },
    /// A descriptor that the variable names is not an open pipe.
    NotAPipe {
        /// The descriptor.
        fd: RawFd,
        /// What was found instead, if anything is open there at all.
        source: Option<io::Error>,
    },
    /// The pipes cannot be taken over.
    Pipe(io::Error),
    /// This process has taken them before.
    Taken,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { value } => {
                write!(
                    f,
                    "{VARIABLE}={value:?} must be `{VERSION}:<go_fd>:<done_fd>`, with two numbers of open pipes"
                )
            }
            Self::NotAPipe { fd, source: None } => {
                write!(f, "{VARIABLE} names descriptor {fd}, which is no pipe")
            }
            Self::NotAPipe { fd, source: Some(_) } => {
                write!(f, "{VARIABLE} names descriptor {fd}, which is not open")
            }
            Self::Pipe(_) => write!(f, "cannot take the pipes of {VARIABLE}"),
            Self::Taken => write!(
                f,
                "this process has taken the pipes of {VARIABLE} before; open one `Slices` for all of its benches"
            ),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotAPipe { source, .. } => source.as_ref().map(|error| error as _),
            Self::Pipe(error) => Some(error),
            Self::Malformed { .. } | Self::Taken => None,
        }
    }
}

/// The numbers of the descriptors, `(go, done)`; none where another version is spoken.
pub(crate) fn parse(value: &str) -> Result<Option<(RawFd, RawFd)>, OpenError> {
    let malformed = || OpenError::Malformed { value: value.chars().take(80).collect() };
    let (version, ends) = value.split_once(':').unwrap_or((value, ""));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if version != VERSION && is_number(version) {
        return Ok(None);
    }
    let (go, done) = ends.split_once(':').ok_or_else(malformed)?;
    if version != VERSION || !is_number(go) || !is_number(done) {
        return Err(malformed());
    }
    match (go.parse(), done.parse()) {
        (Ok(go), Ok(done)) if go != done => Ok(Some((go, done))),
        _ => Err(malformed()),
    }
}

/// What the environment names, `(go, done)`; none where this process is to run as an ordinary bench.
pub(crate) fn open() -> Result<Option<(File, File)>, OpenError> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let Some(value) = std::env::var_os(VARIABLE) else { return Ok(None) };
    let Some((go, done)) = parse(&value.to_string_lossy())? else { return Ok(None) };
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(OpenError::Taken);
    }
    for fd in [go, done] {
        check_is_pipe(fd)?;
    }
    Ok(Some((take(go)?, take(done)?)))
}

fn check_is_pipe(fd: RawFd) -> Result<(), OpenError> {
    match metadata(format!("/dev/fd/{fd}")) {
        Ok(found) if found.file_type().is_fifo() => Ok(()),
        Ok(_) => Err(OpenError::NotAPipe { fd, source: None }),
        Err(source) => Err(OpenError::NotAPipe { fd, source: Some(source) }),
    }
}

/// The descriptor as one that programs started by the bench do not get: their copies would hide the agent's end.
fn take(fd: RawFd) -> Result<File, OpenError> {
    #[expect(
        unsafe_code,
        reason = "an inherited descriptor is a bare number: it is open by the check above, the agent made it for \
                  this process alone, and `TAKEN` lets nobody own it twice"
    )]
    // SAFETY: open, and owned by nobody else, for the reasons above.
    let inherited = unsafe { OwnedFd::from_raw_fd(fd) };
    // A clone is closed when another program is executed; the original, which is not, ends with this function.
    inherited.try_clone().map(File::from).map_err(OpenError::Pipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_numbers_of_this_version_are_taken() {
        assert_eq!(parse("1:7:8").unwrap(), Some((7, 8)));
        assert_eq!(parse("2:whatever:it:says").unwrap(), None, "another version runs as always");
        assert_eq!(parse("17").unwrap(), None);
    }

    #[test]
    fn all_else_is_refused_with_what_would_be_right() {
        for value in [
            "",
            "1",
            "1:",
            "1:3",
            "1:3:",
            "1:3:4:5",
            "1:-3:4",
            "1:3:+4",
            "1:3:3",
            "1:x:4",
            "one:3:4",
            "1:3:99999999999",
        ] {
            let said = parse(value).unwrap_err().to_string();
            assert!(said.contains("1:<go_fd>:<done_fd>") && said.contains(&format!("{value:?}")), "{said}");
        }
    }

    #[test]
    fn what_is_no_pipe_is_refused() {
        let file = File::open("/dev/null").unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        assert!(matches!(check_is_pipe(fd), Err(OpenError::NotAPipe { source: None, .. })));
        assert!(matches!(check_is_pipe(987_654), Err(OpenError::NotAPipe { source: Some(_), .. })));
    }
}
