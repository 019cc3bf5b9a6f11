//! `darwin gate` on real, scaled, broken and foreign files.

use std::path::Path;

use serde_json::Value;

use super::program::{darwin, sample, stderr, stdout};

const BASELINE: &str = "pytest-benchmark/baseline.json";
const CHALLENGER: &str = "pytest-benchmark/challenger.json";

fn gate(home: &Path, args: &[&str]) -> std::process::Output {
    darwin(home).arg("gate").args(args).output().unwrap()
}

fn path(name: &str) -> String {
    sample(name).display().to_string()
}

/// A copy of the baseline with every sample made larger by this factor.
fn scaled(home: &Path, factor: f64) -> String {
    let mut json: Value = serde_json::from_slice(&std::fs::read(sample(BASELINE)).unwrap()).unwrap();
    for bench in json["benchmarks"].as_array_mut().unwrap() {
        let stats = bench["stats"].as_object_mut().unwrap();
        for key in ["min", "max", "mean", "median", "q1", "q3"] {
            stats[key] = (stats[key].as_f64().unwrap() * factor).into();
        }
        for value in stats["data"].as_array_mut().unwrap() {
            *value = (value.as_f64().unwrap() * factor).into();
        }
    }
    let copy = home.join(format!("scaled-{factor}.json"));
    std::fs::write(&copy, json.to_string()).unwrap();
    copy.display().to_string()
}

#[test]
fn the_shipped_pair_is_judged_with_its_assumption_named() {
    let home = tempfile::tempdir().unwrap();
    let output = gate(home.path(), &[&path(BASELINE), &path(CHALLENGER)]);
    let text = stdout(&output);
    assert!(text.contains("Latency p50") && text.contains(" -> "), "{text}");
    assert!(text.contains("assumes"), "{text}");
    let last = text.lines().last().unwrap();
    let (word, code) = [("APPROVE", 0), ("REJECT", 1), ("INCONCLUSIVE", 3)]
        .into_iter()
        .find(|(word, _)| last == format!("verdict={word} job= url="))
        .unwrap_or_else(|| panic!("{last}"));
    assert_eq!(output.status.code(), Some(code), "{word}");
    assert_ne!(code, 3, "a change of 50% is told from an assumed noise of 5%");
}

#[test]
fn code_json_and_last_line_agree_on_what_inconclusive_is_taken_for() {
    let home = tempfile::tempdir().unwrap();
    let (baseline, copy) = (path(BASELINE), scaled(home.path(), 1.01));
    for (taken, code) in [("pass", 0), ("fail", 1)] {
        let output = gate(home.path(), &[&baseline, &copy, "--inconclusive", taken, "--format", "json"]);
        assert_eq!(output.status.code(), Some(code));
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&json["exit_code"], &json["schema"]), (&code.into(), &"darwin-report/1".into()));
        assert_eq!(json["verdict"]["decision"], "INCONCLUSIVE");
        let line = format!("verdict=INCONCLUSIVE job= inconclusive={taken} url=");
        assert_eq!(stderr(&output).lines().last(), Some(line.as_str()));
    }
}

#[test]
fn one_percent_on_one_pair_is_inconclusive_and_says_what_would_settle_it() {
    let home = tempfile::tempdir().unwrap();
    let copy = scaled(home.path(), 1.01);
    let output = gate(home.path(), &[&path(BASELINE), &copy]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("INCONCLUSIVE") && text.contains("darwin compare"), "{text}");
    assert_eq!(gate(home.path(), &[&path(BASELINE), &copy, "--inconclusive", "pass"]).status.code(), Some(0));
    assert_eq!(gate(home.path(), &[&path(BASELINE), &copy, "--inconclusive", "fail"]).status.code(), Some(1));
}

#[test]
fn twice_as_slow_is_rejected() {
    let home = tempfile::tempdir().unwrap();
    let copy = scaled(home.path(), 2.0);
    let output = gate(home.path(), &[&path(BASELINE), &copy]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).ends_with("verdict=REJECT job= url=\n"));
}

#[test]
fn less_assumed_noise_settles_a_smaller_change() {
    let home = tempfile::tempdir().unwrap();
    let copy = scaled(home.path(), 1.1);
    assert_eq!(gate(home.path(), &[&path(BASELINE), &copy]).status.code(), Some(3));
    let output = gate(home.path(), &[&path(BASELINE), &copy, "--assumed-noise", "0.5%"]);
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
}

#[test]
fn several_files_a_side_are_paired() {
    let home = tempfile::tempdir().unwrap();
    // Each invocation a little different, as real ones are.
    let files: Vec<(String, String)> = (0..12)
        .map(|turn| {
            let little = 1.0 + f64::from(turn) / 1e4;
            (scaled(home.path(), little), scaled(home.path(), 1.3 * little))
        })
        .collect();
    let mut args = Vec::new();
    for (same, slow) in &files {
        args.extend(["--baseline", same.as_str(), "--challenger", slow.as_str()]);
    }
    let output = gate(home.path(), &[args.as_slice(), &["--format", "json"]].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["verdict"]["pairs"]), (Some(1), &Value::from(12)));
    assert_eq!(report["verdict"]["method"], "adaptive-sign-flip/1");
    let (same, other, slow) = (&files[0].0, &files[1].0, &files[0].1);
    let uneven = gate(home.path(), &["--baseline", same, "--baseline", other, "--challenger", slow]);
    assert_eq!(uneven.status.code(), Some(2));
    assert!(stderr(&uneven).contains("2 files of the baseline and 1 of the challenger"));
}

#[test]
fn one_measurement_is_no_two() {
    let home = tempfile::tempdir().unwrap();
    let (same, slow) = (path(BASELINE), scaled(home.path(), 1.3));
    let twice = ["--baseline", &same, "--baseline", &same, "--challenger", &slow, "--challenger", &same];
    let output = gate(home.path(), &twice);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("given twice"), "{}", stderr(&output));
    let copy = home.path().join("copy.json").display().to_string();
    std::fs::copy(&same, &copy).unwrap();
    let copied = ["--baseline", &same, "--baseline", &copy, "--challenger", &slow, "--challenger", &same];
    let output = gate(home.path(), &copied);
    assert_ne!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("has the same in it"), "{}", stderr(&output));
}

/// A result as hyperfine writes it of one run: one sample an invocation, so only its mean is there.
fn one_run(home: &Path, name: &str, seconds: f64) -> String {
    let json = serde_json::json!({ "results": [{
        "command": "replay", "mean": seconds, "stddev": null, "median": seconds, "user": seconds, "system": 0.0,
        "min": seconds, "max": seconds, "times": [seconds], "exit_codes": [0]
    }]});
    let path = home.join(name);
    std::fs::write(&path, json.to_string()).unwrap();
    path.display().to_string()
}

#[test]
fn a_timed_command_is_judged_by_its_mean() {
    let home = tempfile::tempdir().unwrap();
    let files: Vec<[String; 2]> = (0..12)
        .map(|n| {
            let drift = 1.0 + f64::from(n) / 100.0;
            [
                one_run(home.path(), &format!("b{n}.json"), 0.1 * drift),
                one_run(home.path(), &format!("c{n}.json"), 0.08 * drift),
            ]
        })
        .collect();
    let sides = |base: usize| -> Vec<&str> {
        files.iter().flat_map(|pair| ["--baseline", &pair[base], "--challenger", &pair[1 - base]]).collect()
    };
    let better = gate(home.path(), &sides(0));
    assert_eq!(better.status.code(), Some(0), "{}", stdout(&better));
    assert!(stdout(&better).contains("Latency mean  replay"), "{}", stdout(&better));
    assert_eq!(gate(home.path(), &sides(1)).status.code(), Some(1));
    // One pair is enough for a change as large.
    let one = gate(home.path(), &[&files[0][0], &files[0][1], "--assumed-noise", "1%"]);
    assert_eq!(one.status.code(), Some(0), "{}", stdout(&one));
    // Whoever names another metric is told that there is none, and what there is.
    let named = gate(home.path(), &[&files[0][0], &files[0][1], "--primary", "latency.p50"]);
    assert_eq!(named.status.code(), Some(3));
    assert!(stdout(&named).contains("latency.mean"), "{}", stdout(&named));
}

#[test]
fn what_is_no_result_is_refused_with_code_2() {
    let home = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = home.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let whole = std::fs::read(sample(BASELINE)).unwrap();
    let cases = [
        (write("empty.json", b""), "empty"),
        (write("truncated.json", &whole[..whole.len() / 2]), "too early"),
        (write("binary.json", b"\x7fELF\x02\x01\xff\xfe"), "not UTF-8"),
        (write("other.json", b"{\"hello\": 1}"), "not a format"),
        (path("foreign/go-bench-bench.txt"), "not a format"),
        (home.path().join("missing.json").display().to_string(), "No such file"),
        ("/dev/null".to_owned(), "empty"),
    ];
    for (bad, says) in cases {
        for args in [[&path(BASELINE), &bad], [&bad, &path(BASELINE)]] {
            let output = gate(home.path(), &[args[0], args[1]]);
            let text = stderr(&output);
            assert_eq!(output.status.code(), Some(2), "{bad}: {text}");
            assert!(text.contains(says) && text.contains(&bad), "{bad}: {text}");
            assert_eq!(stdout(&output), "verdict=NONE job= error=2 url=\n");
        }
    }
}

#[test]
fn each_format_is_what_it_says() {
    let home = tempfile::tempdir().unwrap();
    let run = |format: &str| gate(home.path(), &[&path(BASELINE), &path(CHALLENGER), "--format", format]);
    let json: Value = serde_json::from_slice(&run("json").stdout).unwrap();
    assert_eq!(json["schema"], "darwin-report/1");
    assert!(stderr(&run("json")).contains("verdict="), "the machine's line must not break the JSON");
    assert!(stdout(&run("junit")).starts_with("<?xml"));
    let markdown = stdout(&run("markdown"));
    assert!(markdown.starts_with("### ") && markdown.contains("| Metric |"), "{markdown}");
    assert!(stdout(&run("github")).starts_with("::"));
}

#[test]
fn a_report_goes_whole_to_a_file_and_to_githubs_summary() {
    let home = tempfile::tempdir().unwrap();
    let summary = home.path().join("summary.md");
    let report = home.path().join("report.json");
    let output = darwin(home.path())
        .args(["gate", &path(BASELINE), &path(CHALLENGER), "--format", "json", "--output"])
        .arg(&report)
        .env("GITHUB_STEP_SUMMARY", &summary)
        .output()
        .unwrap();
    serde_json::from_slice::<Value>(&std::fs::read(report).unwrap()).unwrap();
    assert!(stdout(&output).starts_with("verdict="));
    assert!(std::fs::read_to_string(summary).unwrap().contains("| Metric |"));
}

#[test]
fn a_report_that_cannot_be_delivered_never_changes_the_code() {
    let home = tempfile::tempdir().unwrap();
    let to = |file: &str| gate(home.path(), &[&path(CHALLENGER), &path(BASELINE), "--output", file]);
    // What can be known beforehand is wrong usage.
    for (file, says) in [("no/such/folder/x", "No such file"), (".", "directory")] {
        let output = to(file);
        assert_eq!(output.status.code(), Some(2), "{file}");
        assert!(stderr(&output).contains(says), "{}", stderr(&output));
        assert_eq!(stdout(&output), "verdict=NONE job= error=2 url=\n");
    }
    // A disk that is full when the report is there costs nobody the report.
    let full = to("/dev/full");
    assert_eq!(full.status.code(), Some(1));
    assert!(stdout(&full).contains("REJECT  ") && stderr(&full).contains("/dev/full"), "{}", stderr(&full));
    let nobody = std::process::Command::new(assert_cmd::cargo::cargo_bin("darwin"))
        .args(["gate", &path(CHALLENGER), &path(BASELINE)])
        .current_dir(home.path())
        .stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert_eq!(nobody.code(), Some(1));
}

#[test]
fn other_tools_results_are_read_too() {
    let home = tempfile::tempdir().unwrap();
    let hyperfine = path("hyperfine/export-1.20.json");
    let output = gate(home.path(), &[&hyperfine, &hyperfine]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let criterion = path("criterion/target-criterion");
    let output = gate(home.path(), &[&criterion, &criterion]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
}

#[test]
fn a_policy_that_cannot_be_used_is_refused() {
    let home = tempfile::tempdir().unwrap();
    for (flags, says) in [
        (["--alpha", "0.7"], "alpha"),
        (["--margin", "latency.p99=5"], "5%"),
        (["--margin", "speed=5%"], "speed"),
        (["--mode", "best"], "no-slower"),
        (["--assumed-noise", "0.05"], "%"),
    ] {
        let output = gate(home.path(), &[&path(BASELINE), &path(CHALLENGER), flags[0], flags[1]]);
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(stderr(&output).contains(says), "{flags:?}: {}", stderr(&output));
    }
}
