//! What a launch costs: /bin/true through one and two slots, beside the bare cost of starting it.
//!
//! `cargo run -p darwin-agent --example launch_rate -- 2000`

#![expect(clippy::print_stdout, reason = "printing is what a measurement is for")]

use std::collections::BTreeMap;
use std::error::Error;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use darwin_agent::exec::{CgroupRoots, Launch, Launcher, LauncherConfig, OutputFile, launcher_main_if_asked};
use darwin_agent::host::HostFs;

const PROGRAM: &str = "/bin/true";

fn main() -> Result<(), Box<dyn Error>> {
    launcher_main_if_asked();
    let launches: u32 = std::env::args().nth(1).map_or(Ok(1000), |count| count.parse())?;
    tell("spawn and wait, one at a time", launches, || {
        for _ in 0..launches {
            Command::new(PROGRAM).env_clear().stdin(Stdio::null()).status()?;
        }
        Ok(())
    })?;
    for workers in ["1", "2"] {
        tell(&format!("xargs -P{workers}"), launches, || {
            let script = format!("seq {launches} | xargs -P{workers} -n1 {PROGRAM}");
            Command::new("sh").args(["-c", &script]).status()?;
            Ok(())
        })?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let roots = [("no cgroup", CgroupRoots::none()), ("cgroup", CgroupRoots::discover(&HostFs::default()))];
    for (name, cgroups) in roots {
        for slots in [1, 2] {
            let mut started = Vec::new();
            tell(&format!("{slots} slot(s), {name}"), launches, || {
                runtime.block_on(async {
                    let workers = (0..slots).map(|slot| worker(slot, launches / slots, cgroups.clone()));
                    for done in futures::future::join_all(workers).await {
                        started.extend(done?);
                    }
                    Ok(())
                })
            })?;
            started.sort_unstable();
            let at = |share: usize| started.get(started.len() * share / 100).copied().unwrap_or_default();
            println!("    asked until started: p50 {:?}, p99 {:?}", at(50), at(99));
        }
    }
    Ok(())
}

fn tell(
    what: &str,
    launches: u32,
    work: impl FnOnce() -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let begin = Instant::now();
    work()?;
    let took = begin.elapsed();
    println!(
        "{what:<32} {:>6.0} launches/s  {:>8.1?} each",
        f64::from(launches) / took.as_secs_f64(),
        took / launches
    );
    Ok(())
}

async fn worker(slot: u32, launches: u32, cgroups: CgroupRoots) -> Result<Vec<Duration>, Box<dyn Error>> {
    let config = LauncherConfig { cgroups, ..LauncherConfig::new("launch-rate", slot.to_string()) };
    let mut runner = Launcher::start(&config).await?;
    let program = Launch::new(vec![PROGRAM.into()], BTreeMap::new(), "/".into());
    let mut started = Vec::new();
    for _ in 0..launches {
        let asked = Instant::now();
        let (stdout, stderr) = (OutputFile::create("stdout")?, OutputFile::create("stderr")?);
        let mut run = runner.run(&program, &stdout, &stderr).await?;
        started.push(asked.elapsed());
        run.wait().await?;
    }
    runner.stop().await;
    Ok(started)
}
