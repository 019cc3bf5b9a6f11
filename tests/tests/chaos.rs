//! A short run of `make chaos-agent`: some kills, and nothing is left.

use std::path::Path;

use anyhow::Result;
use darwin_tests::chaos::{self, Settings};

/// Some of each victim; all steps come in the long run only.
const KILLS: u32 = 12;

#[test]
fn kill_9_leaves_nothing() -> Result<()> {
    let seed = rand::random();
    println!("seed {seed}");
    let program = Path::new(env!("CARGO_BIN_EXE_chaos-agent"));
    let settings = Settings { seed, kills: KILLS, docker: true, look_by: program.to_owned(), keep_log: None };
    let report = match chaos::run(&settings, &mut |line| println!("{line}")) {
        Err(error) if error.to_string().starts_with("not run: ") => {
            eprintln!("{error}");
            return Ok(());
        }
        ended => ended?,
    };
    println!("{report}");
    for why in &report.not_run {
        eprintln!("not run: {why}");
    }
    assert!(report.problems.is_empty(), "seed {seed}: {report}");
    assert_eq!(report.kills.values().sum::<u32>(), KILLS);
    Ok(())
}
