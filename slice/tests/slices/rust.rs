//! The crate's own example as a bench.

use std::path::Path;
use std::process::Command;

use darwin_shared::formats::Format;

use crate::conductor::{Bench, Frame, NO_SLICING, PILOT, SLICE_NS, plain, read};

#[path = "../../examples/sort.rs"]
#[expect(dead_code, reason = "the example's `main` is for its users; the test runs what is behind it")]
mod sort;

/// Where the process is to write its result; with it the test below is a bench.
const OUTPUT: &str = "SLICE_TEST_OUTPUT";

/// This program again, as a bench.
pub(crate) fn bench(output: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "rust::an_ordinary_run_writes_an_ordinary_result"]).env(OUTPUT, output);
    command
}

#[test]
fn an_ordinary_run_writes_an_ordinary_result() {
    if let Some(output) = std::env::var_os(OUTPUT) {
        return sort::run(Path::new(&output)).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("result");
    plain(&mut bench(&output));
    let expected = [("sort/with-copy".to_owned(), 1_000), ("sort/alone".to_owned(), 1_000)];
    assert_eq!(read(Format::DarwinSamples, &output), expected);
}

#[test]
fn slices_are_made_counted_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("result");
    let mut bench = Bench::start(&bench(&output));
    let benches = bench.conduct_all(10, 3);
    assert_eq!(bench.exit_code(), 0, "{}", bench.said());
    let names: Vec<_> = benches.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["sort/with-copy", "sort/alone"]);
    for ((name, counts), (read, values)) in benches.iter().zip(read(Format::DarwinSamples, &output)) {
        assert_eq!((name, counts.kept as usize), (&read, values));
        assert_eq!(counts.slices, 10);
        assert!(counts.left_out > 30, "three of each slice, and the pilot: {counts:?}");
    }
}

#[test]
fn least_calls_are_made_in_the_shortest_slice() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::start(&bench(&folder.path().join("result")));
    bench.frame().unwrap();
    let (kept, left_out, _) = bench.slice(0, 7);
    assert_eq!((kept, left_out), (1, 7));
    let (kept, left_out, _) = bench.slice(0, PILOT);
    assert_eq!((kept, left_out), (0, 1));
}

#[test]
fn without_slicing_a_bench_runs_to_its_normal_end() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("result");
    let mut bench = Bench::start(&bench(&output));
    assert_eq!(bench.frame(), Ok(Frame::Ready("sort/with-copy".to_owned())));
    bench.slice(SLICE_NS, PILOT);
    bench.go(NO_SLICING, 0);
    assert_eq!(bench.frame(), Ok(Frame::Ready("sort/alone".to_owned())), "no `D` comes before");
    let counts = bench.conduct(2, 0);
    assert_eq!(bench.exit_code(), 0, "{}", bench.said());
    let kept = counts.kept as usize;
    let expected = [("sort/with-copy".to_owned(), 1_000), ("sort/alone".to_owned(), kept)];
    assert_eq!(read(Format::DarwinSamples, &output), expected);
}
