//! Benches in containers of the machine's own Docker daemon, from images that are made here and removed again.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use darwin_tests::images::{Images, docker};
use darwin_tests::{Daemon, Finished, World, finish, proc_fs};

const QUICK: [&str; 4] = ["--lease", "3s", "--grace", "1s"];

/// Whether images can be run here; says why not, where the count of tests that were not run finds it.
#[expect(clippy::print_stderr, reason = "what was not run is told where the others are")]
fn can() -> bool {
    match Images::can() {
        Ok(()) => true,
        Err(why) => {
            eprintln!("not run: {why}");
            false
        }
    }
}

/// An agent with this in the table `[docker]` of its configuration, beside `enabled`.
fn agent(world: &World, id: &str, more: &str) -> Result<Daemon> {
    let config = world.folder().join(format!("{id}.toml"));
    // What else this machine does must not decide a test of something else.
    let void = "[void]\nforgive = [\"foreign\", \"stolen\"]\n";
    let limits = "[limits]\noutput_max = \"1 MiB\"\n";
    std::fs::write(&config, format!("{void}{limits}[docker]\nenabled = true\n{more}"))?;
    world.agent(id, &["--config", &config.display().to_string()])
}

/// An id that no other run of this test has at the same time: containers are found by it.
fn id(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

fn compare(world: &World, suite: &Images, sides: [&str; 2], more: &[&str]) -> Result<Finished> {
    let mut arguments =
        vec!["compare", "--suite", "orders", "--baseline", sides[0], "--challenger", sides[1]];
    arguments.extend(more);
    world.darwin_in(&suite.folder, &arguments)
}

fn image(name: &str) -> String {
    format!("image:{name}")
}

fn dir(suite: &Images, variant: &str) -> String {
    format!("dir:{}", suite.folder.join(variant).display())
}

fn benches(suite: &Images) -> Vec<proc_fs::Seen> {
    proc_fs::with_command(&suite.mark).into_iter().filter(|seen| seen.command.contains("/bench ")).collect()
}

#[test]
fn images_get_the_verdicts_that_the_same_programs_get_as_processes() -> Result<()> {
    if !can() {
        return Ok(());
    }
    let world = World::new()?;
    let _coordinator = world.coordinator(&QUICK)?;
    let agent_id = id("verdicts");
    let _agent = agent(&world, &agent_id, "")?;
    let mut suite = Images::create(world.folder(), "60s", "preferred")?;
    let main = image(&suite.variant("main", 100, "")?);
    for (variant, cost, code, word) in [("faster", 80, 0, "APPROVE"), ("slower", 120, 1, "REJECT")] {
        let challenger = image(&suite.variant(variant, cost, "")?);
        let done = compare(&world, &suite, [&main, &challenger], &["--format", "json"])?;
        assert_eq!(done.code, code, "{done:?}");
        let told = format!("{}{}", done.stdout, done.stderr);
        assert!(told.contains(&format!("verdict={word}")), "{done:?}");
        let report = done.json()?;
        assert_eq!(report["baseline_image"], suite.id("main")?, "{report}");
        assert_eq!(report["challenger_image"], suite.id(variant)?, "{report}");
        if nix::unistd::geteuid().is_root() {
            let peak = &report["used"][0]["medians"]["peak_memory_bytes"];
            assert!(peak.as_u64().is_some_and(|bytes| (100_000..50_000_000).contains(&bytes)), "{report}");
        }
        assert!(report["plan"].as_str().is_some_and(|plan| plan.contains("cannot take turns")), "{report}");
        let sides = [dir(&suite, "main"), dir(&suite, variant)];
        let done = compare(&world, &suite, [&sides[0], &sides[1]], &[])?;
        assert_eq!(done.code, code, "{done:?}");
    }
    ensure!(Images::containers(&agent_id)?.is_empty(), "containers are left");

    let mixed = compare(&world, &suite, [&main, &dir(&suite, "faster")], &[])?;
    assert_eq!(mixed.code, 2, "{mixed:?}");
    assert!(mixed.stderr.contains("one side is an image and the other is not"), "{mixed:?}");
    Ok(())
}

#[test]
fn archives_are_sent_loaded_without_their_names_and_removed_again() -> Result<()> {
    if !can() {
        return Ok(());
    }
    let world = World::new()?;
    let _coordinator = world.coordinator(&QUICK)?;
    let agent_id = id("archives");
    let _agent = agent(&world, &agent_id, "")?;
    let mut suite = Images::create(world.folder(), "60s", "none")?;
    let mut archives = Vec::new();
    let mut ids = Vec::new();
    for (variant, cost) in [("main", 100), ("faster", 80)] {
        suite.variant(variant, cost, "")?;
        ids.push(suite.id(variant)?);
        archives.push(image(&suite.save_and_remove(variant)?.display().to_string()));
    }
    let done = compare(&world, &suite, [&archives[0], &archives[1]], &["--format", "json"])?;
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.json()?["challenger_image"], *ids[1]);
    world.wait_until("the images are removed", || {
        let there = docker(&["images", "--all", "--quiet", "--no-trunc"])?;
        Ok(ids.iter().all(|id| !there.contains(id)))
    })?;

    let plain = world.folder().join("plain.tar");
    std::fs::write(&plain, [0; 1024])?;
    let done = compare(&world, &suite, [&archives[0], &image(&plain.display().to_string())], &[])?;
    assert_eq!(done.code, 2, "{done:?}");
    assert!(
        done.stderr.contains("no archive of one image") && done.stderr.contains("docker save"),
        "{done:?}"
    );
    Ok(())
}

#[test]
fn a_container_can_do_nothing_but_measure() -> Result<()> {
    if !can() {
        return Ok(());
    }
    let world = World::new()?;
    let _coordinator = world.coordinator(&QUICK)?;
    let _agent = agent(&world, &id("confined"), "")?;
    let mut suite = Images::create(world.folder(), "60s", "preferred")?;
    let tries = image(&suite.variant("tries", 100, "tries")?);
    let done = world.darwin_in(&suite.folder, &["measure", "--suite", "orders", &tries])?;
    assert_eq!(done.code, 5, "{done:?}");
    let all = format!("{}{}", done.stdout, done.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
    for said in [
        "connect: Network is unreachable",
        "write /here: Read-only file system",
        "write /proc/sys/kernel/hostname: ",
        "write /tmp/here: works",
        "write /darwin/here: works",
        "root: Operation not permitted",
        "CapEff: 0000000000000000",
        "NoNewPrivs: 1",
    ] {
        assert!(all.contains(said), "{said}: {all}");
    }
    assert!(!all.contains("hostname: works") && !all.contains("Uid: 0"), "{all}");
    Ok(())
}

#[test]
fn bad_images_are_the_candidates_own_failure_and_say_why() -> Result<()> {
    if !can() {
        return Ok(());
    }
    let world = World::new()?;
    let _coordinator = world.coordinator(&QUICK)?;
    let agent_id = id("bad");
    let _agent = agent(&world, &agent_id, "memory_max = \"64 MiB\"\n")?;
    let mut suite = Images::create(world.folder(), "2s", "none")?;
    for (behaviour, said) in [
        ("hangs", "took longer than 2s"),
        ("floods", "wrote more than 1 MiB"),
        ("eats", "more memory than the 64 MiB"),
        ("writes", "more memory than the 64 MiB"),
        ("dies", "signal 6"),
    ] {
        let bad = image(&suite.variant(behaviour, 100, behaviour)?);
        let done = world.darwin_in(&suite.folder, &["measure", "--suite", "orders", &bad])?;
        let all = format!("{}{}", done.stdout, done.stderr);
        assert_eq!(done.code, 5, "{behaviour}: {all}");
        assert!(all.contains(said), "{behaviour}: {all}");
    }
    let missing = image(&suite.name("nowhere"));
    let done = world.darwin_in(&suite.folder, &["measure", "--suite", "orders", &missing])?;
    let all = format!("{}{}", done.stdout, done.stderr);
    assert_eq!(done.code, 5, "{all}");
    assert!(all.contains("there is no image") && all.contains("pull = true"), "{all}");
    let toml = suite.folder.join("darwin.toml");
    std::fs::write(&toml, std::fs::read_to_string(&toml)?.replace("./bench", "./no-such-bench"))?;
    let good = image(&suite.variant("main", 100, "")?);
    let done = world.darwin_in(&suite.folder, &["measure", "--suite", "orders", &good])?;
    let all = format!("{}{}", done.stdout, done.stderr);
    assert_eq!(done.code, 5, "{all}");
    assert!(all.contains("no-such-bench"), "{all}");
    ensure!(Images::containers(&agent_id)?.is_empty(), "containers are left");
    ensure!(benches(&suite).is_empty(), "processes are left");
    Ok(())
}

#[test]
fn a_box_runs_only_images_that_its_policy_allows_and_only_where_docker_is() -> Result<()> {
    if !can() {
        return Ok(());
    }
    let world = World::new()?;
    let _coordinator = world.coordinator(&QUICK)?;
    let _without = world.agent("without", &[])?;
    let mut suite = Images::create(world.folder(), "60s", "none")?;
    let main = image(&suite.variant("main", 100, "")?);
    let measure = ["measure", "--suite", "orders", "--rounds", "1", &main];
    let child = world.spawn_in(&suite.folder, &measure)?;
    let waits = || -> Result<String> {
        let list = world.darwin(&["job", "list", "--format", "json"])?;
        let id = job_id(&list.stdout)?;
        Ok(world.darwin(&["job", "show", &id, "--format", "json"])?.stdout)
    };
    world.wait_until("the job says why it waits", || {
        Ok(waits().is_ok_and(|text| text.contains("no agent runs images")))
    })?;
    let config = world.folder().join("strict.toml");
    std::fs::write(&config, "[docker]\nenabled = true\nimages = [\"engine*\"]\n")?;
    let strict = world.agent("strict", &["--config", &config.display().to_string()])?;
    let done = finish(child)?;
    let all = format!("{}{}", done.stdout, done.stderr);
    assert_eq!(done.code, 4, "{all}");
    assert!(all.contains("is none of those in `images`"), "{all}");
    drop(strict);

    let _allows = agent(&world, &id("allows"), &format!("images = [\"{}*\"]\n", &suite.mark[..10]))?;
    let done = world.darwin_in(&suite.folder, &measure)?;
    assert_eq!(done.code, 0, "{done:?}");
    Ok(())
}

#[test]
fn containers_run_on_leased_cores_and_what_is_done_to_them_is_not_their_fault() -> Result<()> {
    if !can() {
        return Ok(());
    }
    let cores = std::thread::available_parallelism()?.get();
    let world = World::new()?;
    let _coordinator = world.coordinator(&QUICK)?;
    let agent_id = id("meddled");
    let mut first = agent(&world, &agent_id, "")?;
    let mut suite = Images::create(world.folder(), "10m", "preferred")?;
    let hangs = image(&suite.variant("hangs", 100, "hangs")?);
    let mut child = world.spawn_in(&suite.folder, &["measure", "--suite", "orders", &hangs])?;
    let running = |world: &World| -> Result<String> {
        world.wait_until("the bench runs", || Ok(!benches(&suite).is_empty()))?;
        let all = Images::containers(&agent_id)?;
        all.first().cloned().context("a bench runs, and no container")
    };
    let container = running(&world)?;
    for bench in benches(&suite) {
        assert!(bench.cpus_allowed.parse::<u32>().is_ok_and(|cpu| cores == 1 || cpu != 0), "{bench:?}");
    }
    // Killed by somebody else: another attempt, not a failure.
    docker(&["kill", &container])?;
    world.wait_until("another container runs", || {
        Ok(Images::containers(&agent_id)?.first().is_some_and(|id| *id != container))
    })?;
    let list = world.darwin(&["job", "list", "--format", "json"])?;
    let job = job_id(&list.stdout)?;
    let shown = world.darwin(&["job", "show", &job, "--format", "json"])?;
    assert!(shown.stdout.contains("somebody else"), "{shown:?}");

    // The agent dies in the middle of it: its guard leaves nothing of it, though nobody starts the agent again.
    running(&world)?;
    first.kill_9()?;
    world.wait_until("no container is left", || Ok(Images::containers(&agent_id)?.is_empty()))?;
    child.kill()?;
    child.wait()?;
    let cancelled = world.darwin(&["job", "cancel", &job])?;
    assert_eq!(cancelled.code, 0, "{cancelled:?}");
    let _second = agent(&world, &agent_id, "")?;
    ensure!(Images::containers(&agent_id)?.is_empty(), "containers are left");
    world.wait_until("no process is left", || Ok(benches(&suite).is_empty()))?;
    Ok(())
}

#[test]
fn a_cancelled_job_leaves_no_container() -> Result<()> {
    if !can() {
        return Ok(());
    }
    let world = World::new()?;
    let _coordinator = world.coordinator(&QUICK)?;
    let agent_id = id("cancelled");
    let _agent = agent(&world, &agent_id, "")?;
    let mut suite = Images::create(world.folder(), "10m", "none")?;
    let hangs = image(&suite.variant("hangs", 100, "hangs")?);
    let child = world.spawn_in(&suite.folder, &["measure", "--suite", "orders", &hangs])?;
    world.wait_until("the bench runs", || Ok(!benches(&suite).is_empty()))?;
    let list = world.darwin(&["job", "list", "--format", "json"])?;
    world.darwin(&["job", "cancel", &job_id(&list.stdout)?])?;
    let done = finish(child)?;
    assert_eq!(done.code, 6, "{done:?}");
    world.wait_until("no container is left", || Ok(Images::containers(&agent_id)?.is_empty()))?;
    Ok(())
}

fn job_id(list: &str) -> Result<String> {
    let at = list.find("\"job_id\"").context("no job is listed")?;
    Ok(list[at..].split('"').nth(3).context("a job without an id")?.to_owned())
}

/// Nothing of a suite lies where its folder was: a guard for the helper, which removes images by name.
#[test]
fn names_of_images_are_this_runs_own() -> Result<()> {
    if !can() {
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let (one, other) =
        (Images::create(folder.path(), "1s", "none")?, Images::create(folder.path(), "1s", "none")?);
    assert_ne!(one.name("main"), other.name("main"));
    assert!(Path::new(&one.folder).join("bench").is_file());
    Ok(())
}
