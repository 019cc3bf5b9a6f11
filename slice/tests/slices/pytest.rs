//! The plugin, in a venv with the pytest-benchmark that the example project pins, and in one with the oldest.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use darwin_shared::formats::Format;
use serde_json::Value;
use tempfile::TempDir;

use crate::conductor::{Bench, Counts, Frame, NO_SLICING, NoFrame, PILOT, SLICE_NS, plain, read};
use crate::hostile;

const SLICE: &str = env!("CARGO_MANIFEST_DIR");
/// Samples left out of each slice.
const SKIP: u32 = 3;

/// Folders with a Python each, made once for all tests.
struct Venvs {
    newest: TempDir,
    oldest: TempDir,
    /// pytest without pytest-benchmark.
    bare: TempDir,
}

/// The venvs; none where Python or its package index cannot be had.
fn venvs() -> Option<&'static Venvs> {
    static VENVS: OnceLock<Result<Venvs, String>> = OnceLock::new();
    let made = VENVS.get_or_init(|| {
        let pinned = format!("{SLICE}/../examples/orderbook/requirements.txt");
        Ok(Venvs {
            newest: venv(&["-r", &pinned, "pytest-xdist"])?,
            oldest: venv(&["pytest<8.4", "pytest-benchmark==4.0.0"])?,
            bare: venv(&["pytest"])?,
        })
    });
    match made {
        Ok(venvs) => Some(venvs),
        Err(why) => {
            println!("not run: {why}");
            None
        }
    }
}

fn venv(packages: &[&str]) -> Result<TempDir, String> {
    let folder = tempfile::tempdir().unwrap();
    let run = |command: &mut Command| match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{command:?}: {error}")),
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(folder.path()))?;
    let pip = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "--retries", "1"];
    run(Command::new(folder.path().join("bin/python")).args(pip).args(packages))?;
    Ok(folder)
}

/// pytest in `venv` with the plugin in reach, and where its result goes.
fn pytest(venv: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(venv.path().join("bin/python"));
    command.args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]).args(arguments);
    command.current_dir(format!("{SLICE}/tests/project"));
    command.env("PYTHONPATH", format!("{SLICE}/python")).env("PYTEST_PLUGINS", "darwin_slice");
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn json(path: &Path) -> String {
    format!("--benchmark-json={}", path.display())
}

/// The benches of a result: full name, number of values, iterations, and what the plugin adds.
fn benches(path: &Path) -> Vec<(String, usize, u64, Value)> {
    let text = std::fs::read(path).unwrap();
    let result: Value = serde_json::from_slice(&text).unwrap();
    let bench = |bench: &Value| {
        let stats = &bench["stats"];
        let values = stats["data"].as_array().unwrap().len();
        assert_eq!(stats["rounds"], values);
        let name = bench["fullname"].as_str().unwrap().to_owned();
        (name, values, stats["iterations"].as_u64().unwrap(), bench["extra_info"]["darwin_slice"].clone())
    };
    result["benchmarks"].as_array().unwrap().iter().map(bench).collect()
}

fn result() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("result.json");
    (folder, path)
}

/// The benches of `test_benches.py` that are sliced, in order.
const SLICED: [&str; 9] = [
    "test_call",
    "test_short_call",
    "test_parametrised[100]",
    "test_parametrised[300]",
    "test_keywords_of_any_name",
    "test_pedantic_stream",
    "test_pedantic_batches",
    "test_without_the_collector_if_asked",
    "test_programs_that_it_starts_get_nothing_of_the_agent",
];

fn every_kind_of_bench(venv: &TempDir, arguments: &[&str]) {
    let (_folder, path) = result();
    let json = json(&path);
    let mut bench = Bench::start(&pytest(venv, &[&["test_benches.py", &json], arguments].concat()));
    let conducted = bench.conduct_all(6, SKIP);
    assert_eq!(bench.exit_code(), 0, "{}", bench.said());
    assert!(bench.said().contains("11 passed, 1 skipped"), "{}", bench.said());
    let full = |name: &str| format!("test_benches.py::{name}");
    let names: Vec<_> = conducted.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, SLICED.map(full));

    let found = benches(&path);
    for (name, counts) in &conducted {
        let (_, values, iterations, added) = found.iter().find(|bench| bench.0 == *name).unwrap();
        assert_eq!(*values, counts.kept as usize, "{name}: every kept call is in the result, and no other");
        assert_eq!(added["plan"], "sliced");
        let told = |key: &str| u32::try_from(added[key].as_u64().unwrap()).unwrap();
        let told = Counts { slices: told("slices"), kept: told("kept"), left_out: told("left_out") };
        assert_eq!(told, *counts, "{name}");
        match name.as_str() {
            "test_benches.py::test_short_call" => assert!(*iterations > 1 && iterations.is_power_of_two()),
            "test_benches.py::test_pedantic_batches" => assert_eq!(*iterations, 4),
            _ => assert_eq!(*iterations, 1, "{name}"),
        }
        if name.contains("pedantic") {
            assert!(counts.kept + counts.left_out <= 400, "at most the declared rounds: {counts:?}");
        }
    }
    let few = found.iter().find(|bench| bench.0.contains("few_rounds")).unwrap();
    assert_eq!((few.1, &few.3), (3, &Value::Null), "too few rounds to share: as always");
    assert_eq!(read(Format::PytestBenchmark, &path).len(), SLICED.len() + 1);
}

#[test]
fn every_kind_of_bench_in_slices() {
    let Some(venvs) = venvs() else { return };
    every_kind_of_bench(&venvs.newest, &[]);
    every_kind_of_bench(&venvs.newest, &["--benchmark-disable-gc"]);
    every_kind_of_bench(&venvs.oldest, &["--benchmark-disable-gc"]);
    every_kind_of_bench(&venvs.newest, &["--benchmark-timer=time.process_time", "--benchmark-warmup=on"]);
}

#[test]
fn failing_tests_fail_and_the_others_go_on() {
    let Some(venvs) = venvs() else { return };
    for venv in [&venvs.newest, &venvs.oldest] {
        let (_folder, path) = result();
        let mut bench = Bench::start(&pytest(venv, &["test_failing.py", &json(&path)]));
        for name in ["test_fails_in_a_slice", "test_skips_in_a_slice"] {
            assert_eq!(bench.frame(), Ok(Frame::Ready(format!("test_failing.py::{name}"))));
            // It fails at its 201st call; from then on it has no more calls to make.
            assert!((0..=200).any(|_| bench.slice(SLICE_NS, 0) == (0, 0, 0)));
            bench.end();
        }
        let conducted = bench.conduct_all(3, 0);
        assert_eq!(conducted.len(), 1);
        assert_eq!(bench.exit_code(), 1);
        assert!(bench.said().contains("1 failed, 1 passed, 1 skipped"), "{}", bench.said());
        let found = benches(&path);
        assert_eq!(
            (found.len(), found[0].1),
            (1, conducted[0].1.kept as usize),
            "a failed bench has no result"
        );
    }
}

#[test]
fn without_slicing_pytest_runs_its_benches_as_always() {
    let Some(venvs) = venvs() else { return };
    let (_folder, path) = result();
    let arguments = ["test_benches.py", "-k", "pedantic_stream or test_call", &json(&path)];
    let mut bench = Bench::start(&pytest(&venvs.newest, &arguments));
    assert!(matches!(bench.frame(), Ok(Frame::Ready(_))));
    bench.go(NO_SLICING, 0);
    assert_eq!(bench.frame(), Ok(Frame::Ready("test_benches.py::test_pedantic_stream".to_owned())));
    let (_, pilot, _) = bench.slice(SLICE_NS, PILOT);
    bench.go(NO_SLICING, 0);
    assert_eq!(bench.frame(), Err(NoFrame::Closed));
    assert_eq!(bench.exit_code(), 0, "{}", bench.said());
    let found = benches(&path);
    assert_eq!((found[0].3.clone(), found[1].3.clone()), (Value::Null, Value::Null));
    assert_eq!(found[1].1, 400 - pilot as usize, "the set-up has no more to give");
}

/// Runs under `variable` without anybody who asks: what pytest said, and whether a bench spoke.
fn alone(command: &Command, variable: &str) -> (i32, String) {
    let mut bench = Bench::start_with(command, variable);
    assert_eq!(bench.frame(), Err(NoFrame::Closed), "{}", bench.said());
    (bench.exit_code(), bench.said())
}

#[test]
fn where_nothing_can_be_sliced_it_runs_plain_and_says_so() {
    let Some(venvs) = venvs() else { return };
    let call = ["test_benches.py", "-k", "test_parametrised"];
    let with = |more: &[&'static str]| [&call[..], more].concat();
    for (arguments, passed, why) in [
        (with(&["-n", "1"]), "2 passed", "not sliced: pytest-xdist"),
        (with(&["--benchmark-cprofile=tottime"]), "2 passed", "not sliced: a profiler"),
        (with(&["--benchmark-disable"]), "2 passed", ""),
        (with(&["--benchmark-skip"]), "2 skipped", ""),
    ] {
        let (code, said) = alone(&pytest(&venvs.newest, &arguments), "1:8:9");
        assert!(code == 0 && said.contains(passed) && said.contains(why), "{arguments:?}: {said}");
    }
    let (code, said) = alone(&pytest(&venvs.newest, &call), "2:8:9");
    assert!(code == 0 && said.contains("not sliced: DARWIN_SLICE=2:8:9 is not version 1"), "{said}");
    let (code, said) = alone(&pytest(&venvs.bare, &["--version"]), "1:8:9");
    assert_eq!(code, 0, "{said}");
    let (code, said) = alone(&pytest(&venvs.bare, &call), "1:8:9");
    assert!(code == 1 && said.contains("fixture 'benchmark' not found"), "{said}");
    assert!(said.contains("not sliced: pytest-benchmark is not here"), "{said}");
}

#[test]
fn without_the_variable_it_does_nothing() {
    let Some(venvs) = venvs() else { return };
    for venv in [&venvs.newest, &venvs.oldest] {
        let (_folder, path) = result();
        let arguments = ["test_benches.py", "--benchmark-max-time=0.01", &json(&path)];
        let output = plain(&mut pytest(venv, &arguments));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("11 passed, 1 skipped") && !said.contains("darwin"), "{said}");
        let found = benches(&path);
        assert_eq!(found.len(), SLICED.len() + 1);
        assert!(found.iter().all(|bench| bench.3 == Value::Null));
    }
}

#[test]
fn a_hostile_agent_ends_pytest() {
    let Some(venvs) = venvs() else { return };
    let (_folder, path) = result();
    let command = pytest(&venvs.newest, &["test_benches.py", &json(&path)]);
    hostile::check(&|| Bench::start(&command), "the agent is gone", "neither `G` nor `E`");
    assert!(!path.exists(), "half a result is none");
    for (value, _) in hostile::REFUSED {
        let (code, said) = alone(&command, value);
        assert!(code == 4 && said.contains("darwin_slice: DARWIN_SLICE"), "{value}: {code}, {said}");
    }
}
