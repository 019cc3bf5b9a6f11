//! A probe's loop that reads what the test wants it to read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use darwin_shared::probe::{GapSummary, Signature};
use serde_json::{Value, json};

/// The first argument that turns the agent's binary into a loop.
const LOOP_ARG: &str = "__probe-loop";
/// How long the agent is told to probe before and after the rounds. The loop itself is told for how long only, and knows
/// by that which of both it is.
pub(crate) const BEFORE: Duration = Duration::from_millis(100);
pub(crate) const AFTER: Duration = Duration::from_millis(300);
/// The longest gap that a bad probe sees.
pub(crate) const BAD_GAP_NS: u64 = 4_200_000;

/// The folder in which the program of this number says how its probes turn out: the loop's environment is empty.
fn folder(pid: u32) -> PathBuf {
    Path::new("/tmp").join(format!("darwin-probing-{pid}"))
}

/// What the probes of this program see; forgotten when it is dropped.
pub(crate) struct Script(PathBuf);

impl Script {
    /// So many bad probes before the rounds, and so many after them; all others are good.
    pub(crate) fn write(bad_before: u32, bad_after: u32) -> Self {
        let script = Self(folder(std::process::id()));
        std::fs::create_dir_all(&script.0).unwrap();
        for (moment, count) in [("before", bad_before), ("after", bad_after)] {
            std::fs::write(script.0.join(moment), count.to_string()).unwrap();
        }
        script
    }

    /// Bad probes that nobody has made yet.
    pub(crate) fn left(&self) -> u32 {
        ["before", "after"].map(|moment| bad_ones(&self.0.join(moment))).iter().sum()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn bad_ones(file: &Path) -> u32 {
    std::fs::read_to_string(file).unwrap().parse().unwrap()
}

/// Becomes the loop if the process was started as one, and then never returns.
pub(crate) fn main_if_asked() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(LOOP_ARG) {
        return;
    }
    let plan: Value = serde_json::from_str(&arguments.next().expect("a plan")).unwrap();
    let watch_ns = plan["watch_ns"].as_u64().unwrap();
    let moment = if Duration::from_nanos(watch_ns) < BEFORE { "before" } else { "after" };
    let file = script().join(moment);
    let bad = bad_ones(&file);
    std::fs::write(&file, bad.saturating_sub(1).to_string()).unwrap();
    let gaps = gaps(bad > 0, watch_ns);
    let reading = |cpu: &Value| json!({ "cpu": cpu, "fifo": false, "gaps": gaps, "kernels": null });
    let cpus: Vec<Value> = plan["cpus"].as_array().unwrap().iter().map(reading).collect();
    let readings = json!({ "tsc": true, "cpus": cpus });
    std::fs::write(plan["output"].as_str().unwrap(), readings.to_string()).unwrap();
    std::process::exit(0);
}

/// The folder of the program that this one descends from, by way of a launcher.
fn script() -> PathBuf {
    let mut pid = std::process::id();
    while pid > 1 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent");
        pid = parent.trim().parse().unwrap();
        if folder(pid).is_dir() {
            return folder(pid);
        }
    }
    panic!("nobody above says what this probe sees")
}

/// Like those of a shielded core with its tick; or of one that somebody takes away again and again.
fn gaps(bad: bool, observed_ns: u64) -> GapSummary {
    let (count, rate, p99_ns, max_ns, stolen_share) =
        if bad { (400, 2_000.0, 900_000, BAD_GAP_NS, 0.2) } else { (40, 250.0, 9_000, 60_000, 0.000_5) };
    GapSummary {
        observed_ns,
        threshold_ns: 1_000,
        count,
        count_over_1us: count,
        rate_per_s: rate,
        rate_over_1us_per_s: rate,
        p50_ns: p99_ns / 10,
        p90_ns: p99_ns / 2,
        p99_ns,
        p99_9_ns: p99_ns,
        max_ns,
        stolen_share,
        top: Vec::new(),
        signatures: vec![Signature::Tick { hz: 250 }],
        involuntary_switches: 0,
        steal_share: Some(0.0),
        causes: Vec::new(),
    }
}
