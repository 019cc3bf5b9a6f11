//! The agent's part, for tests: starts a bench with two pipes, and asks for slices.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read as _, Write as _, pipe};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use darwin_shared::formats::{self, Format, Input};
use darwin_shared::sample::Values;

/// `skip` of a pilot.
pub(crate) const PILOT: u32 = u32::MAX;
/// `slice_ns` of no slicing.
pub(crate) const NO_SLICING: u64 = u64::MAX;
/// Short, so that tests are; a call that takes longer is the one call of its slice.
pub(crate) const SLICE_NS: u64 = 1_000_000;

/// How long a bench may take on the busiest machine; one that hangs is ended, and its test fails.
const HANGS_AFTER_S: &str = "150";

/// What a bench says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    Ready(String),
    Done { kept: u32, left_out: u32, busy_ns: u64 },
}

/// Why there is no frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoFrame {
    /// The bench has closed its end.
    Closed,
    /// No frame begins so.
    Garbage(u8),
}

/// What the slices of one bench came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) slices: u32,
    pub(crate) kept: u32,
    pub(crate) left_out: u32,
}

/// A bench that runs.
#[derive(Debug)]
pub(crate) struct Bench {
    child: Child,
    go: Option<PipeWriter>,
    done: PipeReader,
    log: File,
}

impl Bench {
    /// Starts `command`, whose standard streams are taken, with the pipes as descriptors 8 and 9.
    pub(crate) fn start(command: &Command) -> Self {
        Self::start_with(command, "1:8:9")
    }

    /// The same with another value of the variable.
    pub(crate) fn start_with(command: &Command, variable: &str) -> Self {
        let ((go_read, go), (done, done_write)) = (pipe().unwrap(), pipe().unwrap());
        let log = tempfile::tempfile().unwrap();
        // A shell turns its standard streams into the two descriptors, and then becomes the bench.
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec timeout -k 5 \"$@\" 8<&0 9>&1 0</dev/null 1>&2", "bench", HANGS_AFTER_S]);
        shell.arg(command.get_program()).args(command.get_args()).env("DARWIN_SLICE", variable);
        for (name, value) in command.get_envs() {
            shell.env(name, value.unwrap());
        }
        if let Some(folder) = command.get_current_dir() {
            shell.current_dir(folder);
        }
        shell.stdin(Stdio::from(go_read)).stdout(Stdio::from(done_write)).stderr(log.try_clone().unwrap());
        Self { child: shell.spawn().unwrap(), go: Some(go), done, log }
    }

    /// Blocks until the bench speaks.
    pub(crate) fn frame(&mut self) -> Result<Frame, NoFrame> {
        let mut kind = [0];
        self.done.read_exact(&mut kind).map_err(|_| NoFrame::Closed)?;
        match kind[0] {
            b'R' => {
                let mut length = [0; 2];
                self.done.read_exact(&mut length).map_err(|_| NoFrame::Closed)?;
                let mut name = vec![0; usize::from(u16::from_le_bytes(length))];
                self.done.read_exact(&mut name).map_err(|_| NoFrame::Closed)?;
                Ok(Frame::Ready(String::from_utf8(name).unwrap()))
            }
            b'D' => {
                let mut numbers = [0; 16];
                self.done.read_exact(&mut numbers).map_err(|_| NoFrame::Closed)?;
                let number = |at: usize| u32::from_le_bytes(numbers[at..at + 4].try_into().unwrap());
                let busy_ns = u64::from_le_bytes(numbers[8..].try_into().unwrap());
                Ok(Frame::Done { kept: number(0), left_out: number(4), busy_ns })
            }
            byte => Err(NoFrame::Garbage(byte)),
        }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.go.as_mut().expect("the agent is there").write_all(bytes).unwrap();
    }

    pub(crate) fn go(&mut self, slice_ns: u64, skip: u32) {
        let mut frame = vec![b'G'];
        frame.extend(slice_ns.to_le_bytes());
        frame.extend(skip.to_le_bytes());
        self.send(&frame);
    }

    pub(crate) fn end(&mut self) {
        self.send(b"E");
    }

    /// The agent is gone.
    pub(crate) fn leave(&mut self) {
        self.go = None;
    }

    /// One slice: `(kept, left_out, busy_ns)`.
    pub(crate) fn slice(&mut self, slice_ns: u64, skip: u32) -> (u32, u32, u64) {
        self.go(slice_ns, skip);
        match self.frame() {
            Ok(Frame::Done { kept, left_out, busy_ns }) => (kept, left_out, busy_ns),
            other => panic!("{other:?} in place of the slice's end; it said {}", self.said()),
        }
    }

    /// A pilot and up to `slices` slices with `skip` left out of each, checked against the protocol's promises.
    pub(crate) fn conduct(&mut self, slices: u32, skip: u32) -> Counts {
        let (kept, pilot, busy_ns) = self.slice(SLICE_NS, PILOT);
        assert_eq!(kept, 0, "a pilot keeps nothing");
        assert!(pilot >= 1 && busy_ns > 0);
        let mut counts = Counts::default();
        for _ in 0..slices {
            let (kept, left_out, busy_ns) = self.slice(SLICE_NS, skip);
            if (kept, left_out) == (0, 0) {
                assert_eq!(busy_ns, 0, "a bench that is used up did nothing");
                break;
            }
            assert!(left_out <= skip);
            counts.slices += 1;
            counts.kept += kept;
            counts.left_out += left_out;
            if kept == 0 {
                // Used up by what was to be left out.
                break;
            }
        }
        self.end();
        Counts { left_out: counts.left_out + pilot, ..counts }
    }

    /// Conducts every bench of the process until it ends: their names, in order, with what they came to.
    pub(crate) fn conduct_all(&mut self, slices: u32, skip: u32) -> Vec<(String, Counts)> {
        let mut benches = Vec::new();
        loop {
            match self.frame() {
                Ok(Frame::Ready(name)) => benches.push((name, self.conduct(slices, skip))),
                Err(NoFrame::Closed) => return benches,
                other => panic!("{other:?} where a bench should be ready; it said {}", self.said()),
            }
        }
    }

    /// Its exit code, once it has ended by itself.
    pub(crate) fn exit_code(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap_or(-1)
    }

    /// What it has written to its standard streams.
    pub(crate) fn said(&mut self) -> String {
        use std::io::Seek as _;
        let mut text = String::new();
        self.log.rewind().unwrap();
        self.log.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.leave();
        // `timeout` hands the signal on, and a shell has the command on every machine. The bench may have ended by itself.
        if let Ok(None) = self.child.try_wait() {
            let _ = Command::new("sh").args(["-c", &format!("kill {}", self.child.id())]).status();
        }
        let _ = self.child.wait();
    }
}

/// What the product reads in a result: the benches' names and how many values each has.
pub(crate) fn read(format: Format, path: &Path) -> Vec<(String, usize)> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let read = formats::read(format, Input::file("result", &bytes)).unwrap();
    let count = |values: &Values| match values {
        Values::Samples(values) => values.len(),
        other => panic!("no samples: {other:?}"),
    };
    read.series.iter().map(|series| (series.name.clone(), count(&series.values))).collect()
}

/// The output of a bench that nobody conducts, which must end well.
pub(crate) fn plain(command: &mut Command) -> Output {
    let output = command.env_remove("DARWIN_SLICE").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}
