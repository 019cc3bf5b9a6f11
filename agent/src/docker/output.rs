//! What a container writes, taken from the daemon into the capped files of the invocation.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use bollard::container::{AttachContainerResults, LogOutput};
use futures::StreamExt;
use tokio::sync::Notify;

use crate::logs::Written;

/// One of the two files, and what still fits.
#[derive(Debug)]
struct Capped {
    file: File,
    left_bytes: u64,
}

impl Capped {
    fn new(file: &crate::exec::OutputFile, max_bytes: u64) -> io::Result<Self> {
        Ok(Self { file: file.as_fd().try_clone_to_owned()?.into(), left_bytes: max_bytes })
    }

    /// Writes what fits; whether all of it did.
    fn write(&mut self, bytes: &[u8]) -> bool {
        let fits = usize::try_from(self.left_bytes).unwrap_or(usize::MAX).min(bytes.len());
        // A file in memory takes whatever fits its bound; if the box has no memory left, worse will happen than this.
        let _ = self.file.write_all(&bytes[..fits]);
        self.left_bytes -= fits as u64;
        fits == bytes.len()
    }
}

/// Takes in what comes until nothing more does. What goes beyond the bound is dropped, and told of by `full`.
pub(super) async fn take(
    mut attached: AttachContainerResults,
    written: Written,
    max_bytes: u64,
    full: Arc<Notify>,
) -> io::Result<()> {
    let mut stdout = Capped::new(&written.stdout, max_bytes)?;
    let mut stderr = Capped::new(&written.stderr, max_bytes)?;
    while let Some(piece) = attached.output.next().await {
        let all = match piece.map_err(io::Error::other)? {
            LogOutput::StdErr { message } => stderr.write(&message),
            LogOutput::StdOut { message } | LogOutput::Console { message } | LogOutput::StdIn { message } => {
                stdout.write(&message)
            }
        };
        if !all {
            full.notify_one();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bollard::errors::Error;

    use super::*;

    #[tokio::test]
    async fn what_goes_beyond_the_bound_is_dropped_and_told() {
        let pieces = [("stdout", "12345"), ("stderr", "abc"), ("stdout", "67890")].map(|(to, text)| {
            let message = text.into();
            Ok::<_, Error>(match to {
                "stdout" => LogOutput::StdOut { message },
                _ => LogOutput::StdErr { message },
            })
        });
        let attached = AttachContainerResults {
            output: Box::pin(futures::stream::iter(pieces)),
            input: Box::pin(tokio::io::sink()),
        };
        let (written, full) = (Written::nothing().unwrap(), Arc::new(Notify::new()));
        take(attached, written.clone(), 7, Arc::clone(&full)).await.unwrap();
        assert_eq!(written.stdout.read_from(0, 100).unwrap(), b"1234567");
        assert_eq!(written.stderr.read_from(0, 100).unwrap(), b"abc");
        full.notified().await;
    }
}
