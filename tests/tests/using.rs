//! What a process uses is measured, told and judged.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use darwin_tests::World;
use serde_json::Value;

/// Gates peak memory alone: `process` has no p50, and its mean is not gated beside a named primary metric.
const DARWIN_TOML: &str = r#"project = "e2e"

[suite.buffer]
run = ". ./size && dd if=/dev/zero of=/dev/null bs=$SIZE count=1 2>&1"
format = "process"

[suite.buffer.cores]
isolation = "none"

[suite.buffer.gate]
primary = "memory.peak"
[suite.buffer.gate.metric."memory.peak"]
margin = "5%"
[suite.buffer.gate.metric."cpu.time"]
gated = false
[suite.buffer.gate.metric."instructions"]
gated = false

[suite.buffer.budget]
rounds = { min = 1, max = 20 }
"#;

const QUICK: [&str; 4] = ["--lease", "3s", "--grace", "1s"];

fn variant(folder: &Path, name: &str, size: &str) -> Result<String> {
    let variant = folder.join(name);
    std::fs::create_dir_all(&variant)?;
    std::fs::write(variant.join("size"), format!("SIZE={size}\n"))?;
    Ok(format!("dir:{}", variant.display()))
}

#[test]
fn thirty_percent_more_memory_is_rejected() -> Result<()> {
    let world = World::new()?;
    let _coordinator = world.coordinator(&QUICK)?;
    let _agent = world.agent("only", &[])?;
    let folder = world.folder().join("buffer");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("darwin.toml"), DARWIN_TOML)?;
    let small = variant(&folder, "small", "64M")?;
    let large = variant(&folder, "large", "84M")?;

    let more = world.darwin_in(&folder, &["compare", "--baseline", &small, "--challenger", &large])?;
    println!("{}", more.stdout);
    ensure!(more.code == 1, "{more:?}");
    assert!(
        more.stdout.contains("REJECT") && more.stdout.contains("Used by a process (median): peak memory")
    );

    let less = world
        .darwin_in(&folder, &["--format", "json", "compare", "--baseline", &large, "--challenger", &small])?;
    ensure!(less.code == 0, "{less:?}");
    let report: Value = serde_json::from_str(&less.stdout).with_context(|| less.stdout.clone())?;
    assert_eq!(report["verdict"]["decision"], "APPROVE", "{report}");
    let findings = report["verdict"]["findings"].as_array().context("findings")?;
    let metrics: Vec<&str> = findings.iter().filter_map(|finding| finding["metric"].as_str()).collect();
    assert!(metrics.contains(&"memory.peak") && metrics.contains(&"cpu.time"), "{metrics:?}");
    let [baseline, challenger] = report["used"].as_array().context("used")?.as_slice() else {
        anyhow::bail!("two sides: {}", report["used"]);
    };
    for (side, mib) in [(baseline, 84.0), (challenger, 64.0)] {
        let peak = side["medians"]["peak_memory_bytes"].as_f64().context("peak")? / f64::from(1 << 20);
        assert!((mib..mib + 16.0).contains(&peak), "{side}");
        assert!(side["medians"]["page_faults_count"].as_u64().is_some_and(|faults| faults > 0), "{side}");
        // Counted, or told why not; and in the findings only if it was counted.
        let counted = side["medians"]["instructions_count"].is_u64();
        assert!(counted || side["unknown"]["instructions"].is_string(), "{side}");
        assert_eq!(metrics.contains(&"instructions"), counted, "{metrics:?}");
    }
    Ok(())
}
