//! `darwin job probe`: how quiet the boxes are, by a look at their own cores; and what earlier looks saw.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use darwin_gate::{Policy, Unit};
use darwin_proto::MAX_MESSAGE_BYTES;
use darwin_proto::convert::read_probe;
use darwin_proto::v1::agents_client::AgentsClient;
use darwin_proto::v1::verdicts_client::VerdictsClient;
use darwin_proto::v1::{self, ListAgentsRequest, ProbesRequest};
use darwin_shared::exit_code::ExitCode;
use darwin_shared::fleet::{AGENT_LABEL, Tier};
use darwin_shared::formats::Format;
use darwin_shared::ids::{PoolName, ProjectName, SuiteName};
use darwin_shared::probe::{CpuProbe, ProbeLevel, RoundProbe, Usual, share};
use darwin_shared::report::visible;
use darwin_shared::spec::{
    Budget, Command, CoreRequest, JobSpec, Layout, PairPlan, Scheduler, Step, Steps, Work,
};
use darwin_shared::state::Outcome;
use darwin_shared::units::{format_utc, format_value};
use serde_json::{Value, json};
use tonic::Code;

use crate::args::ProbeArgs;
use crate::failure::{Failed, call};
use crate::follow::{OnInterrupt, Stops, follow};
use crate::pack::Blobs;
use crate::session::Session;
use crate::submit::submit;
use crate::ui::{Ui, table};

/// Under this name probes are recorded; `darwin history --project boxes --suite probe` shows their lines over time.
const PROJECT: &str = "boxes";
const SUITE: &str = "probe";
/// Tries for infrastructure's sake.
const ATTEMPTS: u32 = 3;
/// What a probe may take beside its length: waiting for cores is not part of it.
const BESIDE: Duration = Duration::from_mins(2);
/// The embedded agent joins within this.
const JOINS_WITHIN: Duration = Duration::from_secs(10);
/// The archive is written behind the job's end; on the slowest disk it has caught up within this.
const WRITTEN_WITHIN: Duration = Duration::from_secs(20);
/// How often is looked meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the columns say, for whoever sees them for the first time.
const LEGEND: &str = "GAPS/S    how often a second the core was taken away; P50, P99, MAX: for how long\n\
                      STOLEN    the share of time that this took\n\
                      CAPACITY  the time for a fixed amount of work, over the best that this CPU ever had\n\
                      USUAL     this probe over what the box usually is: gaps a second, P99, stolen\n";

/// A probe with where it was made.
struct Found {
    told: v1::ArchivedProbe,
    probe: RoundProbe,
}

/// Probes the boxes, or shows what earlier probes saw.
pub(crate) async fn run(args: &ProbeArgs, session: &Session, ui: &Ui) -> Result<ExitCode, Failed> {
    ui.shows("job probe")?;
    if args.history {
        return history(args, session, ui).await;
    }
    let boxes = boxes(args, session, ui).await?;
    let mut stops = Stops::listen()?;
    let mut jobs = Vec::new();
    for agent in &boxes {
        let spec = spec(args, agent)?;
        jobs.push((agent, submit(session, &spec, &Blobs::default(), ui).await?));
    }
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for (agent, job_id) in jobs {
        let report = follow(session, &job_id, ui, &mut stops, OnInterrupt::Cancel).await?;
        match report.outcome {
            Outcome::Measured(_) => found.extend(written(&job_id, session).await?),
            Outcome::Judged(_)
            | Outcome::Failed(_)
            | Outcome::Cancelled { .. }
            | Outcome::Expired
            | Outcome::Parked { .. } => failed.push((agent.agent_id.clone(), report.machine_line())),
        }
    }
    for (agent, how) in &failed {
        ui.warn(&format!("{} was not probed: {how}", visible(agent)));
    }
    ui.show("job probe", || human(&found), || probes_json(&found))?;
    let is_unfit =
        |found: &Found| found.probe.probe.tier != Tier::Dev && found.probe.probe.level() == ProbeLevel::Fail;
    Ok(if failed.is_empty() && !found.iter().any(is_unfit) { ExitCode::Success } else { ExitCode::NotOk })
}

/// The boxes that are asked for and take work.
async fn boxes(args: &ProbeArgs, session: &Session, ui: &Ui) -> Result<Vec<v1::Agent>, Failed> {
    let began = Instant::now();
    loop {
        let agents = AgentsClient::new(session.channel())
            .list(ListAgentsRequest {})
            .await
            .map_err(call(session.url()))?
            .into_inner()
            .agents;
        let in_pool = |agent: &v1::Agent| {
            let pool = agent.facts.as_ref().map(|facts| facts.pool.as_str());
            args.pool.as_deref().is_none_or(|wanted| pool == Some(wanted))
        };
        let is_named =
            |agent: &v1::Agent| args.agent.as_deref().is_none_or(|wanted| agent.agent_id == wanted);
        let wanted = agents.into_iter().filter(|agent| in_pool(agent) && is_named(agent));
        let (take, rest): (Vec<_>, Vec<_>) =
            wanted.partition(|agent| matches!(agent.state.as_str(), "ready" | "busy"));
        if take.is_empty() && session.is_embedded() && began.elapsed() < JOINS_WITHIN {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        }
        let told: Vec<String> = rest
            .iter()
            .map(|agent| format!("{} is {}", visible(&agent.agent_id), visible(&agent.state)))
            .collect();
        if take.is_empty() {
            let why = if told.is_empty() { "there is none".to_owned() } else { told.join(", ") };
            return Err(Failed::system(format!(
                "no box can be probed now: {why}; `darwin agent list` shows all of them"
            )));
        }
        if !told.is_empty() {
            ui.warn(&format!("not probed: {}", told.join(", ")));
        }
        return Ok(take);
    }
}

/// The job that probes all leased cores of this box, and no other.
fn spec(args: &ProbeArgs, agent: &v1::Agent) -> Result<JobSpec, Failed> {
    let facts = agent.facts.clone().unwrap_or_default();
    let length = Duration::from_secs(args.seconds.into());
    let scheduler = if args.fifo { Scheduler::Fifo } else { Scheduler::Other };
    // The box runs no command of ours; the field cannot be left out.
    let step = Step { command: Command::Argv(vec!["probe".to_owned()]), timeout: length + BESIDE };
    let spec = JobSpec {
        project: ProjectName::new(PROJECT).map_err(Failed::usage)?,
        suite: SuiteName::new(SUITE).map_err(Failed::usage)?,
        work: Work::Probe { length },
        steps: Steps { setup: None, check: None, run: step },
        format: Format::Process,
        env: BTreeMap::new(),
        pool: Some(PoolName::new(facts.pool).map_err(Failed::usage)?),
        labels: BTreeMap::from([(AGENT_LABEL.to_owned(), agent.agent_id.clone())]),
        cores: CoreRequest { count: facts.lease_cores.max(1), scheduler, ..CoreRequest::default() },
        plan: PairPlan::default(),
        layout: Layout::default(),
        policy: Policy::default(),
        budget: Budget { rounds_min: 1, rounds_max: 1, time: length * 2 + BESIDE },
        priority: 0,
        attempts: ATTEMPTS,
        seed: 0,
    };
    spec.check().map_err(Failed::usage)?;
    Ok(spec)
}

/// What the archive has of this job, as soon as it has it.
async fn written(job_id: &str, session: &Session) -> Result<Vec<Found>, Failed> {
    let began = Instant::now();
    loop {
        let request = ProbesRequest { job_id: job_id.to_owned(), limit: 1, ..ProbesRequest::default() };
        let found = fetch(request, session).await?;
        if !found.is_empty() {
            return Ok(found);
        }
        if began.elapsed() > WRITTEN_WITHIN {
            let text = "the probe is done, but the coordinator's archive has nothing of it; its log says why";
            return Err(Failed::system(text).about(job_id));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn fetch(request: ProbesRequest, session: &Session) -> Result<Vec<Found>, Failed> {
    let mut client = VerdictsClient::new(session.channel()).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let told = match client.probes(request).await {
        Ok(answer) => answer.into_inner().probes,
        Err(status) if status.code() == Code::Unimplemented => {
            return Err(Failed::system("the coordinator is older than probes; run one of this version"));
        }
        Err(status) => return Err(call(session.url())(status)),
    };
    let mut found = Vec::with_capacity(told.len());
    for told in told {
        let probe =
            told.probe.clone().map(read_probe).transpose().map_err(|e| Failed::protocol("a probe", e))?;
        // What another version tells of and this one does not know is left out.
        found.extend(probe.flatten().map(|probe| Found { told, probe }));
    }
    Ok(found)
}

async fn history(args: &ProbeArgs, session: &Session, ui: &Ui) -> Result<ExitCode, Failed> {
    let request = ProbesRequest {
        agent: args.agent.clone().unwrap_or_default(),
        pool: args.pool.clone().unwrap_or_default(),
        job_id: String::new(),
        jobs_only: !ui.shows_all(),
        limit: args.limit,
    };
    let found = fetch(request, session).await?;
    ui.show("job probe --history", || past(&found), || probes_json(&found))?;
    Ok(ExitCode::Success)
}

fn time(ns: u64) -> String {
    if ns == 0 { "-".to_owned() } else { format_value(ns as f64, Unit::Nanoseconds) }
}

fn ratio(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}x"))
}

fn human(found: &[Found]) -> String {
    if found.is_empty() {
        return "nothing was probed\n".to_owned();
    }
    let head =
        ["BOX", "CPU", "GAPS/S", "P50", "P99", "MAX", "STOLEN", "CAPACITY", "RHYTHM", "BY WHOM", "USUAL", ""];
    let rows = found.iter().flat_map(|found| found.probe.probe.cpus.iter().map(|cpu| row(found, cpu)));
    let mut text = table(&head, rows.collect());
    for Found { told, probe } in found {
        let probe = &probe.probe;
        let policy = if probe.fifo { ", SCHED_FIFO" } else { "" };
        let clock = if probe.tsc { "" } else { ", without a steady time stamp counter" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "\n{}: {}, tier {}, watched for {}{policy}{clock}",
            visible(&told.agent),
            probe.level(),
            probe.tier,
            humantime::format_duration(Duration::from_nanos(probe.length_ns)),
        );
        for cpu in probe.cpus.iter().filter(|cpu| cpu.level > ProbeLevel::Ok) {
            for reason in &cpu.reasons {
                let _ = writeln!(text, "  CPU {}: {}", cpu.cpu, visible(reason));
            }
        }
    }
    format!("{text}\n{LEGEND}")
}

fn row(found: &Found, cpu: &CpuProbe) -> Vec<String> {
    let gaps = &cpu.gaps;
    let rhythm: Vec<String> = gaps.signatures.iter().map(ToString::to_string).collect();
    // The three greatest say enough; JSON has all.
    let whom: Vec<String> = gaps
        .causes
        .iter()
        .take(3)
        .filter(|cause| cause.share >= 0.01)
        .map(|cause| format!("{} {}", cause.cause, share(cause.share)))
        .collect();
    vec![
        found.told.agent.clone(),
        cpu.cpu.to_string(),
        format!("{:.0}", gaps.rate_per_s),
        time(gaps.p50_ns),
        time(gaps.p99_ns),
        time(gaps.max_ns),
        share(gaps.stolen_share),
        ratio(cpu.capacity.and_then(|capacity| capacity.of_best())),
        rhythm.join(", "),
        whom.join(", "),
        against_usual(cpu),
        cpu.level.to_string(),
    ]
}

/// This probe over what is usual, or that nothing is.
fn against_usual(cpu: &CpuProbe) -> String {
    let Some(Usual { probes, rate_per_s, p99_ns, stolen_share }) = cpu.usual else {
        return "the first probe".to_owned();
    };
    let over =
        |now: f64, usual: f64| if usual > 0.0 { format!("{:.1}x", now / usual) } else { "-".to_owned() };
    let gaps = &cpu.gaps;
    format!(
        "{} {} {} of {probes}",
        over(gaps.rate_per_s, rate_per_s),
        over(gaps.p99_ns as f64, p99_ns),
        over(gaps.stolen_share, stolen_share)
    )
}

fn past(found: &[Found]) -> String {
    if found.is_empty() {
        return "no probe is recorded yet: `darwin job probe` makes one, and --verbose shows those around the rounds of \
                other jobs too\n"
            .to_owned();
    }
    let head = [
        "RECORDED (UTC)",
        "BOX",
        "FOR",
        "CPUS",
        "GAPS/S",
        "P99",
        "MAX",
        "STOLEN",
        "CAPACITY",
        "TIER",
        "",
        "JOB",
    ];
    let rows = found.iter().map(|Found { told, probe: RoundProbe { moment, probe, .. } }| {
        let worst = probe.worst();
        let gaps = worst.map(|cpu| &cpu.gaps);
        vec![
            format_utc(told.recorded_unix_ms),
            told.agent.clone(),
            moment.to_string(),
            probe.cpus.len().to_string(),
            gaps.map_or_else(String::new, |gaps| format!("{:.0}", gaps.rate_per_s)),
            gaps.map_or_else(String::new, |gaps| time(gaps.p99_ns)),
            gaps.map_or_else(String::new, |gaps| time(gaps.max_ns)),
            gaps.map_or_else(String::new, |gaps| share(gaps.stolen_share)),
            ratio(worst.and_then(|cpu| cpu.capacity?.of_best())),
            probe.tier.to_string(),
            probe.level().to_string(),
            told.job_id.clone(),
        ]
    });
    format!("{}Of several CPUs the one that is the worst off is shown\n", table(&head, rows.collect()))
}

fn probes_json(found: &[Found]) -> Value {
    let probes = found.iter().map(|Found { told, probe: RoundProbe { moment, probe, worse } }| {
        json!({
            "agent": told.agent,
            "pool": told.pool,
            "job_id": told.job_id,
            "attempt": told.attempt,
            "round": told.round,
            "recorded_unix_ms": told.recorded_unix_ms,
            "moment": moment,
            "worse": worse,
            "level": probe.level(),
            "probe": probe,
        })
    });
    json!({ "schema": "darwin-probes/1", "probes": probes.collect::<Value>() })
}

#[cfg(test)]
mod tests {
    use darwin_shared::probe::{
        BoxProbe, CapacitySummary, Cause, CauseShare, GapSummary, KernelTimes, ProbeMoment, Signature,
    };

    use super::*;

    fn cpu(cpu: u32, level: ProbeLevel) -> CpuProbe {
        let times = |median_ns| KernelTimes { median_ns, p90_ns: median_ns, min_ns: median_ns, runs: 50 };
        let capacity = CapacitySummary {
            width: times(630_000),
            latency: times(840_000),
            width_of_best: Some(1.02),
            latency_of_best: Some(1.0),
        };
        let gaps = GapSummary {
            observed_ns: 10_000_000_000,
            threshold_ns: 1_000,
            count: 8_120,
            count_over_1us: 8_120,
            rate_per_s: 812.0,
            rate_over_1us_per_s: 812.0,
            p50_ns: 5_100,
            p90_ns: 21_000,
            p99_ns: 93_000,
            p99_9_ns: 210_000,
            max_ns: 4_200_000,
            stolen_share: 0.021,
            top: Vec::new(),
            signatures: vec![Signature::Tick { hz: 250 }, Signature::RealTimeHole],
            involuntary_switches: 3,
            steal_share: Some(0.0),
            causes: vec![
                CauseShare { cause: Cause::Unexplained, count: 5_000, share: 0.61 },
                CauseShare { cause: Cause::Timer, count: 3_000, share: 0.37 },
                CauseShare { cause: Cause::OtherTask, count: 3, share: 0.0004 },
            ],
        };
        let usual = Usual { probes: 12, rate_per_s: 800.0, p99_ns: 90_000.0, stolen_share: 0.02 };
        let reasons = match level {
            ProbeLevel::Ok => Vec::new(),
            ProbeLevel::Warn | ProbeLevel::Fail => {
                vec!["one thing".to_owned(), "another\u{1b}[2J".to_owned()]
            }
        };
        let (capacity, usual) = if cpu == 6 { (Some(capacity), Some(usual)) } else { (None, None) };
        CpuProbe { cpu, gaps, capacity, usual, level, reasons }
    }

    fn found() -> [Found; 2] {
        let probe = |tier, cpus| BoxProbe {
            tier,
            boot_id: "b".to_owned(),
            length_ns: 10_000_000_000,
            fifo: tier == Tier::Shielded,
            tsc: tier == Tier::Shielded,
            cpus,
        };
        let told = |agent: &str| v1::ArchivedProbe {
            agent: agent.to_owned(),
            pool: "xeon-6".to_owned(),
            job_id: "01J".to_owned(),
            attempt: 1,
            round: 0,
            recorded_unix_ms: 1_764_000_000_000,
            probe: None,
        };
        let of = |probe| RoundProbe { moment: ProbeMoment::Job, probe, worse: String::new() };
        let shielded = probe(Tier::Shielded, vec![cpu(6, ProbeLevel::Ok), cpu(7, ProbeLevel::Fail)]);
        [
            Found { told: told("ny4-07"), probe: of(shielded) },
            Found { told: told("laptop"), probe: of(probe(Tier::Dev, vec![cpu(1, ProbeLevel::Ok)])) },
        ]
    }

    #[test]
    fn people_read_a_table_and_why() {
        insta::assert_snapshot!(format!("{}\n{}", human(&found()), past(&found())));
        assert_eq!(human(&[]), "nothing was probed\n");
    }

    #[test]
    fn programs_read_all_of_it() {
        let json = probes_json(&found());
        assert_eq!(
            (&json["schema"], &json["probes"][0]["level"]),
            (&json!("darwin-probes/1"), &json!("fail"))
        );
        assert_eq!(json["probes"][1]["probe"]["cpus"][0]["gaps"]["causes"][0]["cause"], "unexplained");
    }
}
