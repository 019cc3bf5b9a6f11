//! A container that outlived its agent and the guard of it: nobody else measures on its core before it is gone.

use anyhow::{Context as _, Result, ensure};
use darwin_tests::images::{Images, docker};
use darwin_tests::{Daemon, World, finish, proc_fs};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const QUICK: [&str; 4] = ["--lease", "3s", "--grace", "1s"];

/// An agent that shares one core with the other ones of this world.
fn agent(world: &World, id: &str, images: bool) -> Result<Daemon> {
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online")?;
    let core = online.trim().rsplit(['-', ',']).next().context("no CPU is online")?;
    let locks = world.folder().join("cores");
    let config = world.folder().join(format!("{id}.toml"));
    // What else this machine does must not decide a test of something else.
    let void = "[void]\nforgive = [\"foreign\", \"stolen\"]\n";
    let text = format!(
        "core_locks = \"{}\"\nlease_cpus = \"{core}\"\n{void}[docker]\nenabled = {images}\n",
        locks.display()
    );
    std::fs::write(&config, text)?;
    world.agent(id, &["--config", &config.display().to_string()])
}

/// A container whose agent and guard are dead, and its bench.
struct Orphan {
    agent: String,
    pid: i32,
    suite: Images,
}

impl Orphan {
    /// Has an agent run one, and kills agent and guard at once.
    fn make(world: &World, name: &str) -> Result<Self> {
        let id = format!("{name}-{}", std::process::id());
        let mut first = agent(world, &id, true)?;
        let mut suite = Images::create(world.folder(), "10m", "preferred")?;
        let hangs = format!("image:{}", suite.variant("hangs", 100, "hangs")?);
        let mut orphan = Self { agent: id, pid: 0, suite };
        let mark = &orphan.suite.mark;
        let mut client = world.spawn_in(&orphan.suite.folder, &["measure", "--suite", "orders", &hangs])?;
        let bench = || {
            let all = proc_fs::with_command(mark);
            all.into_iter().find(|seen| seen.command.starts_with("./bench ")).map(|seen| seen.pid)
        };
        world.wait_until("the bench runs", || Ok(bench().is_some()))?;
        orphan.pid = bench().context("the bench is over")?;
        let guards = proc_fs::with_command("__container-guard");
        let guard = guards.iter().find(|seen| u32::try_from(seen.parent).is_ok_and(|pid| pid == first.pid()));
        let guard = guard.context("the agent has no guard")?.pid;
        kill(Pid::from_raw(guard), Signal::SIGKILL)?;
        first.kill_9()?;
        client.kill()?;
        client.wait()?;
        let jobs = world.darwin(&["job", "list", "--format", "json"])?.json()?;
        let job = jobs["jobs"][0]["job_id"].as_str().context("no job is listed")?;
        let cancelled = world.darwin(&["job", "cancel", job])?;
        ensure!(cancelled.code == 0, "{cancelled:?}");
        ensure!(orphan.lives(), "the container did not outlive its agent");
        Ok(orphan)
    }

    fn lives(&self) -> bool {
        std::fs::exists(format!("/proc/{}", self.pid)).unwrap_or(false)
    }

    /// A bench that fails if the orphan is still there.
    fn looking(&self) -> Vec<String> {
        let look = format!("test ! -e /proc/{}", self.pid);
        ["measure", "--", "sh", "-c", look.as_str()].map(str::to_owned).to_vec()
    }

    fn remove(&self) -> Result<()> {
        for id in Images::containers(&self.agent)? {
            docker(&["rm", "--force", &id])?;
        }
        Ok(())
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        // A test that failed leaves nothing running.
        let _ = self.remove();
    }
}

#[test]
fn an_agent_that_runs_images_removes_what_another_one_left_on_its_core() -> Result<()> {
    if let Err(why) = Images::can() {
        println!("not run: {why}");
        return Ok(());
    }
    let world = World::new()?;
    let _coordinator = world.coordinator(&QUICK)?;
    let orphan = Orphan::make(&world, "orphaned")?;
    let second = agent(&world, "second", true)?;
    let looking = orphan.looking();
    let done = world.darwin(&looking.iter().map(String::as_str).collect::<Vec<_>>())?;
    assert_eq!(done.code, 0, "{done:?}\n{}", second.log());
    assert!(!orphan.lives() && Images::containers(&orphan.agent)?.is_empty());
    assert!(second.log().contains("died in the midst of running containers"), "{}", second.log());
    Ok(())
}

#[test]
fn an_agent_that_runs_no_images_waits_until_it_is_gone() -> Result<()> {
    if let Err(why) = Images::can() {
        println!("not run: {why}");
        return Ok(());
    }
    if !std::fs::read_to_string("/proc/2/comm").is_ok_and(|name| name.trim() == "kthreadd") {
        println!("not run: this box hides what runs on it");
        return Ok(());
    }
    let world = World::new()?;
    let _coordinator = world.coordinator(&QUICK)?;
    let orphan = Orphan::make(&world, "awaited")?;
    let second = agent(&world, "second", false)?;
    let looking = orphan.looking();
    let looking: Vec<&str> = looking.iter().map(String::as_str).collect();
    let client = world.spawn_in(world.folder(), &looking)?;
    world.wait_until("the agent says what it waits for", || {
        Ok(second.log().contains("died in the midst of running containers"))
    })?;
    assert!(orphan.lives(), "who cannot ask the daemon removes nothing");
    orphan.remove()?;
    let done = finish(client)?;
    assert_eq!(done.code, 0, "{done:?}\n{}", second.log());
    Ok(())
}
