//! What is refused, and in which words. The snapshots are what a person reads at 3 a.m.

use std::fmt::Write as _;
use std::fs;

use darwin_shared::formats::{
    Content, Format, Input, MAX_INPUT_BYTES, MAX_NAME_CHARS, ReadErrorKind, TreeFile, read, write_error_line,
};

use crate::common::{criterion_tree, read_sample, sample, sample_path};

fn refused(format: Format, bytes: &[u8]) -> String {
    read(format, Input::file("x.json", bytes)).unwrap_err().to_string()
}

#[test]
fn foreign_files_are_named() {
    let mut names: Vec<String> = fs::read_dir(sample_path("foreign"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    let mut text = String::new();
    for name in names {
        let error = read_sample(Format::Auto, &format!("foreign/{name}")).unwrap_err();
        let ReadErrorKind::ForeignFormat { looks_like } = error.kind else {
            panic!("{name}: {error}");
        };
        let _ = writeln!(text, "{name:32} looks like {looks_like}");
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_foreign_file_under_a_named_format() {
    let mut text = String::new();
    for (format, name) in [
        (Format::Hyperfine, "pytest-benchmark/baseline.json"),
        (Format::PytestBenchmark, "hyperfine/export-1.20.json"),
        (Format::PytestBenchmark, "foreign/google-benchmark-bench.json"),
        (Format::DarwinSamples, "hyperfine/export-1.20.json"),
        (Format::Hyperfine, "foreign/divan-stdout.txt"),
        (Format::Criterion, "hyperfine/export-1.20.json"),
        (Format::Process, "hyperfine/export-1.20.json"),
        (Format::Auto, "foreign/jmh-results.json"),
        (Format::PytestBenchmark, "pytest-benchmark/saved-without-data.json"),
        (Format::Auto, "hyperfine/with-failures.json"),
    ] {
        let _ = writeln!(text, "{format}: {}\n", read_sample(format, name).unwrap_err());
    }
    insta::assert_snapshot!(text);
}

const BENCH: &str = r#"{"name":"t","fullname":"a.py::t","stats":{"data":[1e-6],"iterations":1}}"#;

fn pytest(benches: &str) -> String {
    format!(r#"{{"machine_info":{{}},"version":"5.3.1","benchmarks":[{benches}]}}"#)
}

/// Every case with its refusal.
fn told<T: AsRef<[u8]>>(format: Format, cases: &[(&str, T)]) -> String {
    let mut text = String::new();
    for (case, bytes) in cases {
        let _ = writeln!(text, "{case}:\n  {}", refused(format, bytes.as_ref()));
    }
    text
}

#[test]
fn broken_files_say_where() {
    let whole = sample("pytest-benchmark/baseline.json");
    let deep = [b"{\"machine_info\":".to_vec(), b"[".repeat(10_000)].concat();
    let deep_and_whole = [deep.clone(), b"]".repeat(10_000), b"}".to_vec()].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("blank", b" \n\t \n".to_vec()),
        ("truncated", whole[..50_000].to_vec()),
        ("truncated early", b"{\"machine_info\": {\"no".to_vec()),
        ("truncated, kind unknown", b"{\"something\": [1, 2".to_vec()),
        ("not UTF-8", b"{\"results\": \"\xff\xfe\"}".to_vec()),
        ("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00".to_vec()),
        ("UTF-16", b"\xff\xfe{\0}\0".to_vec()),
        ("zero bytes", vec![0; 64]),
        ("a comma too many", pytest(&format!("{BENCH},")).into_bytes()),
        ("two in one", [pytest(BENCH), pytest(BENCH)].concat().into_bytes()),
        ("deep", deep),
        ("deep and whole", deep_and_whole),
        ("an empty object", b"{}".to_vec()),
        ("a number", b"17".to_vec()),
        ("two formats", br#"{"machine_info":{},"results":[{"command":"x","times":[1]}]}"#.to_vec()),
    ];
    insta::assert_snapshot!(told(Format::Auto, &cases));
}

#[test]
fn impossible_pytest_results() {
    let edited = |from: &str, to: &str| pytest(&BENCH.replace(from, to));
    let long = format!("\"{}\"", "n".repeat(10_000));
    let cases = [
        ("no benches", pytest("")),
        ("no stats", pytest(r#"{"name":"t","fullname":"t"}"#)),
        ("NaN", edited("1e-6", "1e-6, NaN")),
        ("-Infinity", edited("1e-6", "-Infinity")),
        ("1e999", edited("1e-6", "1e999")),
        ("1e305 seconds", edited("1e-6", "1e305")),
        ("negative", edited("1e-6", "1e-6, -2e-9, 3e-6")),
        ("null", edited("1e-6", "null")),
        ("text for a number", edited("1e-6", "\"fast\"")),
        ("no iterations", edited(":1}", ":0}")),
        ("empty data", edited("1e-6", "")),
        ("twice the same", pytest(&format!("{BENCH},{BENCH}"))),
        ("no name", edited("\"t\"", "\" \"")),
        ("a name of 10,000 characters", edited("\"t\"", &long)),
    ];
    insta::assert_snapshot!(told(Format::Auto, &cases));
}

#[test]
fn impossible_hyperfine_results() {
    let cases = [
        ("a newer one", r#"{"schema_version":3,"results":[]}"#.to_owned()),
        ("no runs", r#"{"results":[]}"#.to_owned()),
        ("no times", r#"{"results":[{"command":"x","mean":1.0}]}"#.to_owned()),
        ("a signal", r#"{"results":[{"command":"x","times":[1,2],"exit_codes":[0,null]}]}"#.to_owned()),
        ("a signal in 2.0", hyperfine_2("second", "null")),
        ("another unit in 2.0", hyperfine_2("fortnight", "0")),
    ];
    insta::assert_snapshot!(told(Format::Auto, &cases));
}

fn hyperfine_2(unit: &str, exit_code: &str) -> String {
    format!(
        r#"{{"schema_version":2,"results":[{{"command":"x","measurements":[
            {{"time_wall_clock":{{"value":0.5,"unit":"{unit}"}},"exit_code":{exit_code}}}]}}]}}"#
    )
}

#[test]
fn criterion_folders_that_are_not_whole() {
    let whole = criterion_tree("criterion/target-criterion");
    let read_tree = |files: &[TreeFile]| read(Format::Auto, Input::tree("target/criterion", files));
    let refused = |files: &[TreeFile]| read_tree(files).unwrap_err().to_string();
    let edited = |at: usize, from: &str, to: &str| {
        let mut files = whole.clone();
        let text = String::from_utf8(files[at].bytes.clone()).unwrap();
        assert!(text.contains(from), "{text}");
        files[at].bytes = text.replace(from, to).into_bytes();
        refused(&files)
    };
    let truncated = {
        let mut files = whole.clone();
        files[1].bytes.truncate(100);
        refused(&files)
    };
    let texts = [
        refused(&[]),
        refused(&whole[..1]),
        refused(&whole[1..]),
        truncated,
        edited(1, "[26050.0,", "["),
        edited(1, "[26050.0,", "[0.0,"),
        edited(1, "[271886.0,", "[-1.0,"),
        edited(2, "\"full_id\":\"fib 12\"", "\"full_id\":\"decode/itch/sum/64\""),
        edited(2, "full_id", "id"),
        read(Format::Hyperfine, Input::tree("target/criterion", &whole)).unwrap_err().to_string(),
    ];
    insta::assert_snapshot!(texts.join("\n"));
}

const HEADER: &str = r#"{"schema":"darwin-samples/1","tool":"h"}"#;
const GOOD: &str = r#"{"name":"a","metric":"latency","unit":"ns","values":[1]}"#;

/// A file with one series line, which differs from the good one.
fn native(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    format!("{HEADER}\n{}\n", GOOD.replace(from, to))
}

#[test]
fn native_files_say_the_line() {
    let reported = write_error_line(Some("book/cancel"), "queue overflow\u{1b}[2J").unwrap();
    let cases = [
        ("header only", format!("{HEADER}\n")),
        ("another version", r#"{"schema":"darwin-samples/2"}"#.to_owned()),
        ("no header", format!("{GOOD}\n")),
        ("two headers", format!("{HEADER}\n{GOOD}\n{HEADER}\n")),
        ("truncated", format!("{HEADER}\n{GOOD}\n{}", &GOOD[..40])),
        ("no JSON", format!("{HEADER}\n\nok, done\n")),
        ("a list", format!("{HEADER}\n[1,2]\n")),
        ("a reported error", format!("{HEADER}\n{GOOD}\n{reported}")),
        ("an error without a name", format!("{HEADER}\n{{\"error\":\"out of memory\"}}\n")),
        ("twice the same", format!("{HEADER}\n{GOOD}\n{GOOD}\n")),
        ("unknown key", native("\"unit\"", "\"units\"")),
        ("unknown metric", native("latency", "speed")),
        ("unknown unit", native("\"ns\"", "\"furlong\"")),
        ("a name too long", native("\"a\"", &format!("\"{}\"", "n".repeat(MAX_NAME_CHARS + 1)))),
    ];
    insta::assert_snapshot!(told(Format::DarwinSamples, &cases));
}

#[test]
fn impossible_native_series() {
    let with = |fields: &str| native("\"unit\"", &format!("{fields},\"unit\""));
    let valued = |fields: &str| native("\"values\":[1]", fields);
    let cases = [
        ("no values", native("[1]", "[]")),
        ("NaN", native("[1]", "[1,NaN]")),
        ("negative", native("[1]", "[1,-5]")),
        ("unit of another metric", native("\"ns\"", "\"By\"")),
        ("wrong direction", with(r#""better":"bigger""#)),
        ("custom without direction", native("latency", "custom.fills")),
        ("a bad custom name", native("\"latency\"", r#""custom.a:b","better":"bigger""#)),
        ("batch without iterations", with(r#""per":"batch""#)),
        ("iterations without batch", with(r#""iterations":10"#)),
        ("batches that do not match", with(r#""per":"batch","iterations":[10,20]"#)),
        ("means as operations", with(r#""per":"batch","iterations":10,"evidence":"A""#)),
        ("values and hist", with(r#""hist":[[1,1]]"#)),
        ("neither", native(",\"values\":[1]", "")),
        ("unsorted hist", valued(r#""hist":[[2,1],[1,1]]"#)),
        ("a count of none", valued(r#""hist":[[1,0]]"#)),
        ("too many counts", valued(r#""hist":[[1,18446744073709551615],[2,1]]"#)),
        ("an empty summary", valued(r#""summary":{}"#)),
        ("a summary as samples", valued(r#""evidence":"A","summary":{"mean":1}"#)),
        ("hdr", valued(r#""hdr":"HISTFAAAA""#)),
    ];
    insta::assert_snapshot!(told(Format::DarwinSamples, &cases));
}

#[test]
fn too_much_is_refused_before_it_is_read() {
    let huge = vec![b' '; MAX_INPUT_BYTES + 1];
    insta::assert_snapshot!(refused(Format::Auto, &huge), @"x.json: too large: 67108865 bytes, at most 67108864 are read; split the suite or measure fewer samples");
    let many = vec![BENCH; 10_001].join(",");
    insta::assert_snapshot!(refused(Format::Auto, pytest(&many).as_bytes()), @"x.json: too large: 10001 benches, at most 10000 are read; split the suite or measure fewer samples");
}

#[test]
fn the_files_own_name_cannot_paint_the_terminal() {
    let error = read(Format::Auto, Input { name: "\u{1b}[2Jx", content: Content::File(b"") }).unwrap_err();
    assert!(!error.to_string().contains('\u{1b}'));
}

#[test]
fn words_that_are_no_format_are_refused_with_the_list() {
    insta::assert_snapshot!("pytest".parse::<Format>().unwrap_err(), @"`pytest` is not a format: it is one of auto, pytest-benchmark, hyperfine, criterion, darwin-samples, process");
    for format in Format::ALL {
        assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
        assert_eq!(serde_json::to_string(&format).unwrap(), format!("\"{format}\""));
    }
}
