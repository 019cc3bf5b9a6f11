//! Every sample that is read gives the series that its tool measured.

use darwin_shared::formats::{Format, Input, detect, read};

use crate::common::{criterion_tree, read_sample, sample, summary};

fn both_ways(format: Format, name: &str) -> String {
    let named = read_sample(format, name).unwrap();
    let detected = read_sample(Format::Auto, name).unwrap();
    assert_eq!(named, detected, "{name}: auto must read the same");
    assert_eq!(detect(&sample(name)), [format], "{name}");
    summary(&named)
}

#[test]
fn pytest_benchmark() {
    insta::assert_snapshot!(
        "pytest-baseline",
        both_ways(Format::PytestBenchmark, "pytest-benchmark/baseline.json")
    );
    insta::assert_snapshot!(
        "pytest-challenger",
        both_ways(Format::PytestBenchmark, "pytest-benchmark/challenger.json")
    );
}

#[test]
fn hyperfine() {
    insta::assert_snapshot!("hyperfine-1.15", both_ways(Format::Hyperfine, "hyperfine/export-1.15.json"));
    insta::assert_snapshot!("hyperfine-1.20", both_ways(Format::Hyperfine, "hyperfine/export-1.20.json"));
    insta::assert_snapshot!(
        "hyperfine-2.0",
        both_ways(Format::Hyperfine, "hyperfine/export-2.0-schema2.json")
    );
}

#[test]
fn criterion() {
    let files = criterion_tree("criterion/target-criterion");
    let named = read(Format::Criterion, Input::tree("target/criterion", &files)).unwrap();
    let detected = read(Format::Auto, Input::tree("target/criterion", &files)).unwrap();
    assert_eq!(named, detected);
    insta::assert_snapshot!("criterion", summary(&named));
}

/// The tool's own statistics are in the same files: medians and extremes must be the ones that it computed.
#[test]
fn our_numbers_are_the_tools_numbers() {
    let text = String::from_utf8(sample("pytest-benchmark/baseline.json")).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let measured = read_sample(Format::Auto, "pytest-benchmark/baseline.json").unwrap();
    for (bench, series) in file["benchmarks"].as_array().unwrap().iter().zip(&measured.series) {
        let theirs = |name: &str| bench["stats"][name].as_f64().unwrap() * 1e9;
        let close = |ours: f64, theirs: f64| (ours - theirs).abs() <= theirs * 1e-9;
        assert!(close(series.quantile(0.0).unwrap(), theirs("min")), "{}", series.name);
        assert!(close(series.quantile(1.0).unwrap(), theirs("max")), "{}", series.name);
        assert!(close(series.mean().unwrap(), theirs("mean")), "{}", series.name);
        // pytest-benchmark's median is the middle of two for an even count; the nearest rank is the lower one.
        if series.samples() % 2 == 1 {
            assert!(close(series.quantile(0.5).unwrap(), theirs("median")), "{}", series.name);
        }
    }
}

#[test]
fn tests_of_one_name_are_told_apart_by_their_module() {
    let text = r#"{"version":"5.3.1","machine_info":{},"benchmarks":[
        {"group":null,"name":"test_add","fullname":"a/test_x.py::test_add","stats":{"data":[1e-6],"iterations":1}},
        {"group":"g","name":"test_add","fullname":"a/test_x.py::test_add","stats":{"data":[1e-6],"iterations":1}},
        {"group":null,"name":"test_add","fullname":"a/test_y.py::test_add","stats":{"data":[1e-6],"iterations":1}}]}"#;
    let measured = read(Format::Auto, Input::file("x.json", text.as_bytes())).unwrap();
    let names: Vec<&str> = measured.series.iter().map(|series| series.name.as_str()).collect();
    assert_eq!(names, ["a/test_x.py::test_add", "g/test_add", "a/test_y.py::test_add"]);
}

#[test]
fn a_name_that_a_terminal_would_obey_is_escaped_with_a_warning() {
    let text = r#"{"results":[{"command":"echo \u001b[31mred\n \u202egnp.exe <b>","times":[0.5]}]}"#;
    let measured = read(Format::Auto, Input::file("x.json", text.as_bytes())).unwrap();
    insta::assert_snapshot!(summary(&measured));
}

#[test]
fn a_clock_that_stands_still_is_warned_of() {
    let text = r#"{"results":[{"command":"true","times":[0.0, 0.001, 0.0], "memory_usage_byte":[0,0,0]}]}"#;
    let measured = read(Format::Auto, Input::file("x.json", text.as_bytes())).unwrap();
    insta::assert_snapshot!(summary(&measured));
}

#[test]
fn a_byte_order_mark_is_no_fault() {
    let mut bytes = b"\xef\xbb\xbf".to_vec();
    bytes.extend(sample("hyperfine/export-1.20.json"));
    assert!(read(Format::Auto, Input::file("x.json", &bytes)).is_ok());
}
