//! Agents that leave, talk nonsense, or never were.

use std::path::Path;
use std::process::Command;

use crate::conductor::{Bench, Frame, NoFrame};
use crate::{c, rust};

/// Ends the bench in each wrong way, and looks whether it leaves with an error and nothing more on its lips.
pub(crate) fn check(start: &dyn Fn() -> Bench, gone: &str, garbage: &str) {
    let mut bench = start();
    assert!(matches!(bench.frame(), Ok(Frame::Ready(_))), "{}", bench.said());
    bench.leave();
    assert_ends(&mut bench, gone);

    let mut bench = start();
    bench.frame().unwrap();
    bench.slice(0, 0);
    bench.send(b"G\x01\x02");
    bench.leave();
    assert_ends(&mut bench, gone);

    let mut bench = start();
    bench.frame().unwrap();
    bench.send(b"hello");
    assert_ends(&mut bench, garbage);
}

fn assert_ends(bench: &mut Bench, why: &str) {
    assert_eq!(bench.frame(), Err(NoFrame::Closed), "nothing more is said to the agent");
    let (code, said) = (bench.exit_code(), bench.said());
    assert!((1..124).contains(&code), "it exits by itself, and not by a signal: {code}");
    assert!(said.contains(why), "{said}");
}

/// The variable's values that must be refused, each with a part of what is said.
pub(crate) const REFUSED: [(&str, &str); 4] = [
    ("1:8", "1:<go_fd>:<done_fd>"),
    ("1:8:x", "1:<go_fd>:<done_fd>"),
    ("1:8:8", "1:<go_fd>:<done_fd>"),
    ("1:8:77", "not open"),
];

fn assert_refused(command: &Command) {
    for (value, why) in REFUSED {
        let mut bench = Bench::start_with(command, value);
        let (code, said) = (bench.exit_code(), bench.said());
        assert!(code > 0 && said.contains(why), "{value}: {code}, {said}");
    }
}

fn is_plain_for_another_version(command: &Command, output: &Path) {
    let mut bench = Bench::start_with(command, "2:8:9:more");
    assert_eq!(bench.frame(), Err(NoFrame::Closed));
    assert_eq!(bench.exit_code(), 0, "{}", bench.said());
    assert!(output.exists());
}

#[test]
fn a_rust_bench_ends_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("result");
    let command = rust::bench(&output);
    check(&|| Bench::start(&command), "AgentGone", "NoFrame");
    let with_debug_words = [("1:8", "Malformed"), ("1:8:8", "Malformed"), ("1:8:77", "NotAPipe")];
    for (value, why) in with_debug_words {
        let mut bench = Bench::start_with(&command, value);
        let (code, said) = (bench.exit_code(), bench.said());
        assert!(code > 0 && said.contains(why), "{value}: {code}, {said}");
    }
    assert!(!output.exists(), "half a result is none");
    is_plain_for_another_version(&command, &output);
}

#[test]
fn a_c_bench_ends_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = c::compiled(folder.path(), "cc", &["-std=c99"]) else { return };
    let output = folder.path().join("result");
    let mut command = Command::new(program);
    command.arg(&output);
    check(&|| Bench::start(&command), "agent is gone", "neither `G` nor `E`");
    assert_refused(&command);
    is_plain_for_another_version(&command, &output);
}
