//! `darwin gate --plan` and `darwin measure --calibrate`: what they say, and how they refuse.

use serde_json::Value;

use super::program::{darwin, sample, stderr, stdout};

fn run(args: &[&str]) -> std::process::Output {
    let home = tempfile::tempdir().unwrap();
    darwin(home.path()).args(args).output().unwrap()
}

#[test]
fn a_plan_says_pairs_and_what_they_see() {
    let output = run(&["gate", "--plan", "--noise", "3%", "--effect", "1%", "--gated", "3"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    insta::assert_snapshot!(stdout(&output));
    let output = run(&["gate", "--plan", "--noise", "3%", "--format", "json"]);
    let json: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(json["schema"], "darwin-plan/1");
    assert_eq!(json["series"][0]["needs"][0]["pairs"], 171);
    assert_eq!(json["series"][0]["sees"][8]["pairs"], 160);
}

#[test]
fn a_plan_takes_the_noise_from_ten_pairs_of_files_and_not_from_fewer() {
    let home = tempfile::tempdir().unwrap();
    let text = |level: usize| {
        let values: Vec<String> = (0..100).map(|at| (level + at % 7).to_string()).collect();
        format!(
            "{{\"schema\":\"darwin-samples/1\",\"tool\":\"t\"}}\n{{\"name\":\"b\",\"metric\":\"latency\",\"unit\":\"ns\",\"values\":[{}]}}\n",
            values.join(",")
        )
    };
    let args = |pairs: usize| {
        let mut args = vec!["gate".to_owned(), "--plan".to_owned()];
        for pair in 0..pairs {
            for (side, level) in [("baseline", 1000), ("challenger", 990 + 5 * (pair * 3 % 5))] {
                let path = home.path().join(format!("{side}-{pair}.json"));
                std::fs::write(&path, text(level)).unwrap();
                args.extend([format!("--{side}"), path.display().to_string()]);
            }
        }
        args
    };
    let output = darwin(home.path()).args(args(10)).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    insta::assert_snapshot!(stdout(&output));
    let few = darwin(home.path()).args(args(9)).output().unwrap();
    assert_eq!(few.status.code(), Some(2));
    assert!(
        stderr(&few).contains("9 pairs of files cannot tell the noise: give 10 or more"),
        "{}",
        stderr(&few)
    );
}

#[test]
fn what_cannot_be_planned_is_refused_with_what_would_be_right() {
    let file = sample("pytest-benchmark/baseline.json").display().to_string();
    for (args, want) in [
        (vec!["gate", "--plan"], "--plan needs the noise: --noise 3%"),
        (vec!["gate", "--plan", "--noise", "0%"], "--noise must be above 0%"),
        (vec!["gate", "--plan", "--noise", "101%"], "at most 100%"),
        (vec!["gate", "--plan", "--noise", "3"], "write `3%`"),
        (vec!["gate", "--plan", "--noise", "nan%"], "--noise"),
        (vec!["gate", "--plan", "--noise", "3%", "--effect", "0%"], "--effect must be above 0%"),
        (vec!["gate", "--plan", "--noise", "3%", "--power", "10%"], "--power must be from 50% to 99.9%"),
        (vec!["gate", "--plan", "--noise", "3%", "--alpha", "2"], "alpha = 2"),
        (vec!["gate", "--noise", "3%", &file, &file], "--noise"),
        (vec!["gate", "--plan", "--noise", "3%", "--format", "junit"], "use --format human or json"),
        (vec!["measure", "--pairs", "20"], "--calibrate"),
        (vec!["measure", "--calibrate", "--pairs", "9"], "9 is not in 10..=1000"),
        (vec!["measure", "--calibrate", "--", "true"], "cannot be used with"),
        (vec!["measure", "--calibrate"], "there is no darwin.toml"),
    ] {
        let output = run(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(want), "{args:?}: {}", stderr(&output));
    }
}
