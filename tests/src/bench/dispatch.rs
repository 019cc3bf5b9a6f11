//! Dispatching: jobs a second against the machine's own floor, time to the first instruction, memory of a long queue.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use darwin_proto::v1;
use darwin_proto::v1::jobs_client::JobsClient;
use darwin_shared::formats::Format;
use darwin_shared::ids::{ProjectName, SuiteName};
use darwin_shared::spec::{
    Budget, Command as JobCommand, CoreRequest, Isolation, JobSpec, Layout, PairPlan, Source, Step, Steps,
    Variant, Work,
};
use tonic::transport::Channel;

use super::report::{Aim, Line, median};
use super::stamp;
use crate::World;
use crate::proc_fs::{cpu_time, resident_bytes};

/// Trivial jobs in one run.
const JOBS: u32 = 10_000;
/// Single jobs whose way is timed.
const SINGLES: usize = 200;
/// How often the floor and the product take turns; the medians are reported.
const TURNS: usize = 3;
/// What one job may take, on the busiest machine.
const WITHIN: Duration = Duration::from_mins(1);

fn quantile(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    darwin_gate::stats::quantile(values, q).unwrap_or(f64::NAN)
}

/// A measurement of one process, pinned to no core in particular.
pub(super) fn process_job(argv: Vec<String>) -> Result<JobSpec> {
    let step = Step { command: JobCommand::Argv(argv), timeout: Duration::from_mins(1) };
    Ok(JobSpec {
        project: ProjectName::new("bench")?,
        suite: SuiteName::new("trivial")?,
        work: Work::Measure { variant: Variant { label: "command".to_owned(), source: Source::Nothing } },
        steps: Steps { setup: None, check: None, run: step },
        format: Format::Process,
        env: std::collections::BTreeMap::new(),
        pool: None,
        labels: std::collections::BTreeMap::new(),
        cores: CoreRequest { isolation: Isolation::None, ..CoreRequest::default() },
        plan: PairPlan::default(),
        layout: Layout::default(),
        policy: darwin_gate::Policy::default(),
        budget: Budget { rounds_max: 1, ..Budget::default() },
        priority: 0,
        attempts: 1,
        seed: 7,
    })
}

/// Raw fork and exec: `seq N | xargs -P2 -n1 true`, in processes a second.
fn floor() -> Result<f64> {
    let begin = Instant::now();
    let script = format!("seq {JOBS} | xargs -P2 -n1 true");
    let status = Command::new("sh").args(["-c", &script]).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "the floor could not be measured");
    Ok(f64::from(JOBS) / begin.elapsed().as_secs_f64())
}

/// 10,000 trivial jobs, each synced to disk, against the floor in the same run.
pub fn throughput() -> Result<Vec<Line>> {
    let (mut ratios, mut rates, mut floors, mut coordinator_us, mut agent_us) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let world = World::new()?;
        let coordinator = world.coordinator(&[])?;
        let agent = world.agent("bench", &["--lease-cpus", "0-1"])?;
        let before = floor()?;
        let cpu = (cpu_time(coordinator.pid())?, cpu_time(agent.pid())?);
        let begin = Instant::now();
        let count = JOBS.to_string();
        let done = world.darwin(&["measure", "--quiet", "--count", &count, "--quiet-jobs", "--", "true"])?;
        let rate = f64::from(JOBS) / begin.elapsed().as_secs_f64();
        ensure!(done.code == 0, "the jobs did not all succeed: {}{}", done.stdout, done.stderr);
        let per_job = |used: Duration| used.as_secs_f64() * 1e6 / f64::from(JOBS);
        coordinator_us.push(per_job(cpu_time(coordinator.pid())?.saturating_sub(cpu.0)));
        agent_us.push(per_job(cpu_time(agent.pid())?.saturating_sub(cpu.1)));
        let floor = f64::midpoint(before, floor()?);
        ratios.push(rate / floor);
        rates.push(rate);
        floors.push(floor);
    }
    Ok(vec![
        Line::new("trivial jobs, share of the floor", median(ratios), "of the floor", Aim::AtLeast(0.65)),
        Line::new("trivial jobs", median(rates), "jobs/s", Aim::None),
        Line::new("the floor, `seq 10000 \\| xargs -P2 -n1 true`", median(floors), "processes/s", Aim::None),
        Line::new("coordinator's CPU for a job", median(coordinator_us), "us", Aim::AtMost(50.0)),
        Line::new("agent's CPU for a job, without launcher and bench", median(agent_us), "us", Aim::None),
    ])
}

/// From `submit` on a connected client, and from the start of `darwin`, to the bench's first instruction.
pub fn latency() -> Result<Vec<Line>> {
    let world = World::new()?;
    let _coordinator = world.coordinator(&[])?;
    let _agent = world.agent("bench", &["--lease-cpus", "0-1"])?;
    let program = stamp::compile(world.folder())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut warm = runtime.block_on(warm_latencies(&world, &program))?;
    let mut cold = Vec::with_capacity(SINGLES);
    for turn in 0..SINGLES {
        let out = world.folder().join(format!("cold-{turn}"));
        let (program, path) = (program.display().to_string(), out.display().to_string());
        let begin = stamp::now()?;
        let done = world.darwin(&["measure", "--quiet", "--", &program, &path])?;
        ensure!(done.code == 0, "a measured command failed: {}{}", done.stdout, done.stderr);
        let reached = stamp::read(&out).context("the program left no time")?;
        cold.push(reached.saturating_sub(begin).as_secs_f64() * 1e3);
    }
    let lines = |what: &str, times: &mut [f64], p50: f64, p95: Aim| {
        vec![
            Line::new(format!("{what}, median"), quantile(times, 0.5), "ms", Aim::AtMost(p50)),
            Line::new(format!("{what}, p95"), quantile(times, 0.95), "ms", p95),
        ]
    };
    let mut all =
        lines("`submit` on a connected client to the first instruction", &mut warm, 3.0, Aim::AtMost(6.0));
    all.extend(lines("start of `darwin` to the first instruction", &mut cold, 6.0, Aim::None));
    Ok(all)
}

async fn connect(world: &World) -> Result<JobsClient<Channel>> {
    let channel = Channel::from_shared(world.url())?.tcp_nodelay(true).connect().await?;
    Ok(JobsClient::new(channel))
}

async fn warm_latencies(world: &World, program: &std::path::Path) -> Result<Vec<f64>> {
    let mut client = connect(world).await?;
    let mut times = Vec::with_capacity(SINGLES);
    for turn in 0..SINGLES {
        let out = world.folder().join(format!("warm-{turn}"));
        let spec = process_job(vec![program.display().to_string(), out.display().to_string()])?;
        let request = v1::SubmitRequest {
            request_id: format!("warm-{turn}"),
            spec: Some(spec.into()),
            submitter: "bench".to_owned(),
        };
        let begin = stamp::now()?;
        let job = client.submit(request).await?.into_inner().job_id;
        wait_for_end(&mut client, &job).await?;
        let reached = stamp::read(&out).context("the program left no time")?;
        times.push(reached.saturating_sub(begin).as_secs_f64() * 1e3);
    }
    Ok(times)
}

async fn wait_for_end(client: &mut JobsClient<Channel>, job: &str) -> Result<()> {
    let mut events = client.watch(v1::WatchJobRequest { job_id: job.to_owned() }).await?.into_inner();
    while let Some(event) = tokio::time::timeout(WITHIN, events.message()).await?? {
        if event.job.is_some_and(|job| job.state == i32::from(v1::JobState::Finished)) {
            return Ok(());
        }
    }
    bail!("job {job} was not followed to its end")
}

/// What a coordinator weighs with 10,000 jobs waiting.
pub fn queue_memory() -> Result<Vec<Line>> {
    let world = World::new()?;
    let coordinator = world.coordinator(&[])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let empty = resident_bytes(coordinator.pid())?;
    runtime.block_on(fill_queue(&world))?;
    let full = resident_bytes(coordinator.pid())?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    Ok(vec![
        Line::new("coordinator's memory with 10,000 queued jobs", mib(full), "MiB", Aim::AtMost(150.0)),
        Line::new("coordinator's memory when empty", mib(empty), "MiB", Aim::None),
    ])
}

async fn fill_queue(world: &World) -> Result<()> {
    let mut client = connect(world).await?;
    let requests: Vec<v1::SubmitRequest> = (0..JOBS)
        .map(|number| {
            let spec = process_job(vec!["true".to_owned(), number.to_string()])?;
            Ok(v1::SubmitRequest {
                request_id: format!("queued-{number}"),
                spec: Some(spec.into()),
                submitter: "bench".to_owned(),
            })
        })
        .collect::<Result<_>>()?;
    let mut answers = client.submit_many(tokio_stream::iter(requests)).await?.into_inner();
    let mut taken = 0;
    while answers.message().await?.is_some() {
        taken += 1;
    }
    ensure!(taken == JOBS, "{taken} of {JOBS} jobs were taken");
    Ok(())
}
