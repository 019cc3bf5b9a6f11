//! Bad files, and what the person who wrote them is shown.

use miette::{GraphicalReportHandler, GraphicalTheme};

use super::*;

fn shown(text: &str) -> String {
    let error = Config::parse("darwin.toml", text).expect_err("the file was taken");
    rendered(&error)
}

fn rendered(error: &ConfigError) -> String {
    let mut out = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(100)
        .render_report(&mut out, error)
        .unwrap();
    out.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// The least file with more lines in its suite.
fn with(lines: &str) -> String {
    format!("{LEAST}{lines}\n")
}

macro_rules! bad_files {
    ($($name:ident: $text:expr;)+) => {
        $(
            #[test]
            fn $name() {
                insta::assert_snapshot!(stringify!($name), shown(&$text));
            }
        )+
    };
}

bad_files! {
    empty: "";
    only_comments: "# nothing yet\n";
    no_suite: "project = \"p\"\n";
    no_project: "[suite.s]\nrun = \"./b {output}\"\n";
    bad_project: "project = \"../etc\"\n[suite.s]\nrun = \"./b {output}\"\n";
    suite_is_no_table: "project = \"p\"\nsuite = \"hotpath\"\n";
    no_run: "project = \"p\"\n[suite.hotpath]\nsetup = \"make\"\n";
    empty_run: "project = \"p\"\n[suite.s]\nrun = \"  \"\n";
    empty_argv: "project = \"p\"\n[suite.s]\nrun = []\n";
    argv_of_numbers: "project = \"p\"\n[suite.s]\nrun = [\"./b\", 7, \"{output}\"]\n";
    no_output: "project = \"p\"\n[suite.s]\nrun = \"pytest\"\nformat = \"pytest-benchmark\"\n";
    unclosed_string: "project = \"p\n[suite.s]\n";
    no_value: "project = \"p\"\n[suite.s]\nrun =\n";
    duplicate_key: with("timeout = \"1m\"\ntimeout = \"2m\"");
    unknown_root_key: format!("projct = \"x\"\n{LEAST}");
    unknown_key: with("timout = \"5m\"");
    unknown_key_without_a_neighbour: with("colour = \"red\"");
    unknown_core_key: with("[suite.s.cores]\nisolated = true");
    timeout_without_unit: with("timeout = 600");
    timeout_is_no_time: with("timeout = \"soon\"");
    timeout_negative: with("timeout = \"-5m\"");
    timeout_of_nothing: with("timeout = \"0s\"");
    timeout_too_long: with("timeout = \"30d\"");
    timeout_infinite: with("timeout = inf");
    unknown_format: with("format = \"pytest\"");
    bad_glob: with("files = { include = [\"src/[\"] }");
    glob_outside: with("files = { include = [\"../secrets\"] }");
    env_of_numbers: with("env = { THREADS = 1 }");
    env_with_equals: with("env = { \"A=B\" = \"1\" }");
    bad_pool: with("pool = \"xeon 6\"");
    no_cores: with("[suite.s.cores]\ncount = 0");
    negative_cores: with("[suite.s.cores]\ncount = -1");
    impossible_cores: with("[suite.s.cores]\ncount = 99999999999999999999");
    cores_in_words: with("[suite.s.cores]\ncount = \"all\"");
    unknown_isolation: with("[suite.s.cores]\nisolation = \"require\"");
    alpha_nan: with("[suite.s.gate]\nalpha = nan");
    alpha_infinite: with("[suite.s.gate]\nalpha = inf");
    alpha_too_large: with("[suite.s.gate]\nalpha = 5");
    alpha_in_percent: with("[suite.s.gate]\nalpha = \"1%\"");
    unknown_mode: with("[suite.s.gate]\nmode = \"no_slower\"");
    margin_without_percent: with("[suite.s.gate.metric.\"latency.p99\"]\nmargin = 0.01");
    margin_negative: with("[suite.s.gate.metric.\"latency.p99\"]\nmargin = \"-1%\"");
    unknown_metric: with("[suite.s.gate.metric.\"latency.p98\"]\nmargin = \"1%\"");
    metric_without_quotes: with("[suite.s.gate.metric.latency.p99]\nmargin = \"1%\"");
    floor_above_margin: with("[suite.s.gate.metric.\"latency.p99\"]\nmargin = \"1%\"\nfloor = \"2%\"");
    primary_not_gated: with("[suite.s.gate.metric.\"latency.p50\"]\ngated = false");
    too_few_builds: with("setup = \"make\"\n[suite.s.gate]\nbuilds = 2");
    builds_of_nothing: with("[suite.s.gate]\nbuilds = 4");
    more_builds_than_rounds: with("setup = \"make\"\n[suite.s.gate]\nbuilds = 16\n[suite.s.budget]\nrounds = { max = 12 }");
    noise_of_nothing: with("[suite.s.gate]\nassumed_noise = \"0%\"");
    rounds_as_number: with("[suite.s.budget]\nrounds = 40");
    rounds_the_wrong_way: with("[suite.s.budget]\nrounds = { min = 30, max = 20 }");
    rounds_negative: with("[suite.s.budget]\nrounds = { max = -5 }");
    rounds_in_words: with("[suite.s.budget]\nrounds = { max = \"many\" }\ntime = \"8h\"");
    rounds_beyond_a_plan: with("[suite.s.budget]\nrounds = { max = 10080 }");
    rounds_unlimited_without_time: with("[suite.s.budget]\nrounds = { max = \"unlimited\" }");
    rounds_unlimited_from_the_start: with("[suite.s.budget]\nrounds = { min = \"unlimited\", max = 40 }");
    builds_without_an_end: with("setup = \"make\"\n[suite.s.gate]\nbuilds = 4\n[suite.s.budget]\nrounds = { max = \"unlimited\" }\ntime = \"8h\"");
    budget_of_nothing: with("[suite.s.budget]\ntime = \"0s\"");
    attempts_zero: with("attempts = 0");
    priority_too_high: with("priority = 100000");
    several_at_once: "projct = \"p\"\n[suite.s]\nrun = 7\ntimeout = \"1 hour\"\n[suite.s.cores]\ncount = 0\n";
    raw_terminal_escape: "project = \"p\"\n[suite.s]\nrun = \"\u{1b}[2J\"\n";
    escaped_terminal_escape: with("\"\\u001b[2Jrun\" = 1");
    reversed_writing: with("pool = \"a\u{202e}b\"");
    custom_metric_without_name: with("[suite.s.gate.metric.\"custom.\"]\nmargin = \"1%\"");
    unknown_primary: with("[suite.s.gate]\nprimary = \"p99\"");
    command_with_nul: with("setup = \"a\\u0000b\"");
    deeply_nested: format!("a = {}1{}", "[".repeat(500), "]".repeat(500));
}

#[test]
fn a_huge_file_is_refused_before_it_is_read() {
    let text = "# padding\n".repeat(1 << 20);
    insta::assert_snapshot!(shown(&text));
}

#[test]
fn too_many_faults_are_cut() {
    use std::fmt::Write as _;
    let mut text = LEAST.to_owned();
    for n in 0..50 {
        let _ = writeln!(text, "wrong{n} = 1");
    }
    let error = Config::parse("darwin.toml", &text).expect_err("the file was taken");
    assert_eq!(error.faults().count(), MAX_FAULTS);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[a-z.=\\[\\]{}\"0-9 \n-]{0,200}") {
        if let Err(error) = Config::parse("darwin.toml", &text) {
            rendered(&error);
        }
    }

    #[test]
    fn no_change_of_a_good_file_makes_it_panic(at in 0..FULL.len(), with in "[\\PC\n]{0,3}") {
        let at = (at..=FULL.len()).find(|at| FULL.is_char_boundary(*at)).unwrap();
        let text = format!("{}{with}{}", &FULL[..at], &FULL[at..]);
        if let Err(error) = Config::parse("darwin.toml", &text) {
            rendered(&error);
        }
    }
}
