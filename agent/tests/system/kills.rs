//! `kill -9` of the agent at random moments, again and again.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::common::{System, eventually, text};

/// Lives of the agent.
const LIVES: usize = 30;
/// The longest that one is left alone: from its very start to the middle of a round.
const LONGEST: Duration = Duration::from_millis(600);

/// When a process started, in ticks since the box did; none if it is gone.
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    (fields.next()? != "Z").then_some(())?;
    fields.nth(18)?.parse().ok()
}

/// Everything that has to do with this scratch folder, with when it started: launchers hold it open, benches have it in
/// their environment.
fn of_agent(scratch: &Path) -> Vec<(u64, String)> {
    let name = scratch.as_os_str().as_encoded_bytes();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| {
        let dir = PathBuf::from(format!("/proc/{pid}"));
        let environ = std::fs::read(dir.join("environ")).unwrap_or_default();
        let holds = std::fs::read_dir(dir.join("fd")).is_ok_and(|files| {
            files.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|to| to == scratch))
        });
        let ours = holds || environ.windows(name.len()).any(|window| window == name);
        let what = std::fs::read(dir.join("cmdline")).unwrap_or_default();
        let what = String::from_utf8_lossy(&what).replace('\0', " ");
        started(pid).filter(|_| ours).map(|started| (started, format!("{pid} {what}")))
    })
    .collect()
}

/// The cgroups of the agent with this scratch folder, in all hierarchies.
fn cgroups(scratch: &Path) -> Vec<PathBuf> {
    let name = scratch.file_name().unwrap().to_str().unwrap().trim_start_matches("darwin-agent-").to_owned();
    let roots = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let roots =
        roots.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4));
    let folders =
        roots.map(|root| Path::new(root).join("darwin").join(&name)).filter(|folder| folder.is_dir());
    folders
        .flat_map(|folder| {
            let below: Vec<PathBuf> = std::fs::read_dir(&folder)
                .map(|entries| {
                    entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
                })
                .unwrap_or_default();
            std::iter::once(folder).chain(below)
        })
        .collect()
}

/// Where the agent with this state folder keeps its scratch.
fn scratch_of(state: &Path) -> PathBuf {
    let digest = blake3::hash(state.as_os_str().as_encoded_bytes()).to_hex();
    PathBuf::from(format!("/dev/shm/darwin-agent-{}", &digest[..16]))
}

#[test]
fn nothing_of_an_earlier_life_runs_or_piles_up() {
    let system = match System::start() {
        Ok(system) => system,
        Err(why) => return println!("not run: {why}"),
    };
    // Each bench leaves a stubborn tree behind, and each set-up takes a moment.
    let suite = system.suite(
        "setup = \"sleep 0.05; echo made > made\"\ncheck = \"test -e made; sleep 0.02\"\n\
         run = \"trap '' TERM; echo $HOME > $DARWIN_OUTPUT; (trap '' TERM; setsid sleep 500 &) ; sleep 0.1\"\n\
         format = \"process\"\n[suite.steps.budget]\nrounds = { min = 1, max = 3 }\n",
    );
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let scratch = scratch_of(&system.agent_folder());
    let ups = || system.agent_log().matches("the agent is up").count();
    // Of each of four hierarchies the agent's folder, and one for each slot and the stager.
    let cgroups_max = 4 * (std::thread::available_parallelism().unwrap().get() + 2);
    for life in 0..LIVES {
        let ups_before = ups();
        let mut agent = system.agent();
        if dice.random_bool(0.8) {
            eventually("the agent is up", || ups() > ups_before);
            let born = started(agent.0.id()).unwrap();
            let mut older = of_agent(&scratch);
            older.retain(|(started, _)| *started < born);
            assert!(older.is_empty(), "life {life}: an earlier one still runs {older:?}");
            assert!(scratch.is_dir(), "it is elsewhere");
        }
        assert!(cgroups(&scratch).len() <= cgroups_max, "life {life}: {:?}", cgroups(&scratch));
        if life % 3 == 0 {
            system.submit(&suite);
        }
        std::thread::sleep(dice.random_range(Duration::ZERO..LONGEST));
        agent.0.kill().unwrap();
        assert_eq!(agent.0.wait().unwrap().signal(), Some(9));
    }
    eventually("all is gone though nobody starts the agent again", || of_agent(&scratch).is_empty());
    assert!(cgroups(&scratch).is_empty(), "{:?}", cgroups(&scratch));

    let mut last = system.agent();
    let done = system.darwin(&suite, &["measure", "--quiet", "--", "true"]).output().unwrap();
    assert!(done.status.success(), "{done:?}\n{}", system.agent_log());
    println!(
        "{} jobs: {}",
        LIVES.div_ceil(3),
        text(&system.darwin(&suite, &["job", "list"]).output().unwrap())
    );
    kill(Pid::from_raw(last.0.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert!(last.0.wait().unwrap().success());
    assert!(!scratch.exists() && cgroups(&scratch).is_empty() && of_agent(&scratch).is_empty());
}
