//! The header, in C and in C++.

use std::path::{Path, PathBuf};
use std::process::Command;

use darwin_shared::formats::Format;

use crate::conductor::{Bench, Frame, NO_SLICING, PILOT, plain, read};

/// Warnings that a user's build may have turned into errors.
const STRICT: [&str; 6] = ["-O2", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"];

/// The example, compiled; none without a compiler.
pub(crate) fn compiled(folder: &Path, compiler: &str, arguments: &[&str]) -> Option<PathBuf> {
    let slice = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = folder.join("bench");
    let mut command = Command::new(compiler);
    command.args(arguments).args(STRICT).arg("-I").arg(slice.join("include")).arg("-o").arg(&program);
    let output = match command.arg(slice.join("examples/c/bench.c")).output() {
        Ok(output) => output,
        Err(error) => {
            println!("not run: {compiler}: {error}");
            return None;
        }
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(program)
}

fn conducted(compiler: &str, arguments: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let Some(program) = compiled(folder.path(), compiler, arguments) else { return };
    let output = folder.path().join("result");
    let bench = || {
        let mut command = Command::new(&program);
        command.arg(&output);
        command
    };
    plain(&mut bench());
    let names = ["sort/small", "sort/large"];
    assert_eq!(read(Format::DarwinSamples, &output), names.map(|name| (name.to_owned(), 1_000)));

    let mut process = Bench::start(&bench());
    let benches = process.conduct_all(8, 2);
    assert_eq!(process.exit_code(), 0, "{}", process.said());
    assert_eq!(benches.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), names);
    for ((_, counts), (name, values)) in benches.iter().zip(read(Format::DarwinSamples, &output)) {
        assert_eq!((counts.kept as usize, counts.slices), (values, 8), "{name}");
    }

    let mut process = Bench::start(&bench());
    assert_eq!(process.frame(), Ok(Frame::Ready("sort/small".to_owned())));
    assert_eq!(process.slice(0, 5).0, 1, "at least skip + 1 calls");
    assert_eq!(process.slice(0, PILOT).1, 1, "at least one call");
    process.go(NO_SLICING, 0);
    assert_eq!(process.frame(), Ok(Frame::Ready("sort/large".to_owned())));
    let kept = process.conduct(1, 0).kept as usize;
    assert_eq!(process.exit_code(), 0);
    let expected = [("sort/small".to_owned(), 1_000), ("sort/large".to_owned(), kept)];
    assert_eq!(read(Format::DarwinSamples, &output), expected);
}

#[test]
fn strict_c99_makes_slices() {
    conducted("cc", &["-std=c99", "-pedantic-errors"]);
}

#[test]
fn strict_cpp11_makes_slices() {
    conducted("c++", &["-std=c++11", "-pedantic-errors", "-x", "c++"]);
}
