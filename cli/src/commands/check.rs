//! `darwin check`: the system sensor. Says whether measuring makes sense now, and if not, what mends it.

use std::collections::BTreeMap;
use std::time::Duration;

use darwin_gate::calibration::CALIBRATION_IS_OLD_AFTER_MS;
use darwin_gate::plan::Question;
use darwin_proto::v1::agents_client::AgentsClient;
use darwin_proto::v1::{self, ListAgentsRequest, StatusRequest};
use darwin_shared::exit_code::ExitCode;
use darwin_shared::fleet::{AgentFacts, SensorStatus};
use darwin_shared::report::visible;
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::agent::{agent_json, readings, readings_json, row};
use super::calibrate::calibration_json;
use crate::calibrations::{self, age, pairing, percent, spread};
use crate::failure::{Failed, call};
use crate::session::Session;
use crate::ui::{Ui, table};

/// The embedded agent has read its sensor well within this.
const AGENT_WITHIN: Duration = Duration::from_secs(5);
/// Its second reading follows the first one within this, unless it is at work, and then no second one is due.
const SECOND_READING_WITHIN: Duration = Duration::from_millis(800);
/// What is told of a calibration is what a suite with the usual error and rounds sees.
const USUAL_ALPHA: f64 = 0.01;
/// As many pairs as a suite has rounds unless it says otherwise.
const USUAL_PAIRS: u32 = 40;
/// How often it is looked for meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What the whole system's sensor says.
#[derive(Debug, PartialEq, Eq)]
struct Health {
    status: SensorStatus,
    /// What speaks against `ok`, the worst first, each with what mends it.
    reasons: Vec<String>,
}

/// Asks and tells.
pub(crate) async fn run(session: &Session, ui: &Ui) -> Result<ExitCode, Failed> {
    let mut client = AgentsClient::new(session.channel());
    let failed = call(session.url());
    let agents = agents(&mut client, session).await?;
    let status = client.status(StatusRequest {}).await.map_err(failed)?.into_inner();
    let noise = calibrations::fetch(session, "", "").await?;
    let mut health = health(&status, &agents);
    health.hear(noise.audit.as_ref());
    ui.show(
        "check",
        || human(&health, &status, &agents, &noise, session),
        || json_of(&health, &status, &agents, &noise, session),
    )?;
    ui.machine_line(&format!("status={}", health.status))?;
    Ok(match health.status {
        SensorStatus::Ok => ExitCode::Success,
        SensorStatus::Degraded | SensorStatus::Down => ExitCode::NotOk,
    })
}

/// All agents; an embedded one is waited for, since it starts with this command, until it has read its sensor twice:
/// shares of time are known from the second reading on.
async fn agents(client: &mut AgentsClient<Channel>, session: &Session) -> Result<Vec<v1::Agent>, Failed> {
    let failed = call(session.url());
    let began = std::time::Instant::now();
    let mut first: Option<(std::time::Instant, v1::SensorReport)> = None;
    loop {
        let agents = client.list(ListAgentsRequest {}).await.map_err(&failed)?.into_inner().agents;
        let there =
            agents.iter().filter(|agent| agent.state != "away").find_map(|agent| agent.sensor.as_ref());
        let read_twice = match (&first, there) {
            (_, None) => false,
            (None, Some(sensor)) => {
                first = Some((std::time::Instant::now(), sensor.clone()));
                false
            }
            (Some((at, first)), Some(sensor)) => sensor != first || at.elapsed() > SECOND_READING_WITHIN,
        };
        if read_twice || !session.is_embedded() || began.elapsed() > AGENT_WITHIN {
            return Ok(agents);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn health(status: &v1::StatusResponse, agents: &[v1::Agent]) -> Health {
    let mut down = Vec::new();
    let mut degraded = Vec::new();
    for part in &status.parts {
        match part.status.as_str() {
            "ok" => {}
            "fail" => down.push(reason("coordinator", part)),
            _ => degraded.push(reason("coordinator", part)),
        }
    }
    let able = agents.iter().filter(|agent| matches!(agent.state.as_str(), "ready" | "busy")).count();
    if agents.is_empty() {
        down.push("no agent has joined: start darwin-agent on a box".to_owned());
    } else if able == 0 {
        down.push("no agent takes work: see `darwin agent list`".to_owned());
    }
    for agent in agents {
        let name = visible(&agent.agent_id);
        match agent.state.as_str() {
            "ready" | "busy" => {}
            "draining" | "drained" => {
                degraded.push(format!(
                    "{name} is {}: `darwin agent resume {name}` lets it work again",
                    agent.state
                ));
            }
            other => degraded.push(format!("{name} is {}", visible(other))),
        }
        let Some(sensor) = agent.sensor.as_ref().filter(|sensor| sensor.status != "ok") else { continue };
        if !sensor.refuses.is_empty() {
            degraded.push(visible(&format!("{name} measures nothing: {}", sensor.refuses)));
        }
        let bad = sensor.readings.iter().filter(|r| matches!(r.status.as_str(), "warn" | "fail"));
        degraded.extend(bad.map(|r| reason(&name, r)));
    }
    let status = match (down.is_empty(), degraded.is_empty()) {
        (false, _) => SensorStatus::Down,
        (true, false) => SensorStatus::Degraded,
        (true, true) => SensorStatus::Ok,
    };
    down.append(&mut degraded);
    Health { status, reasons: down }
}

fn reason(who: &str, reading: &v1::Reading) -> String {
    let part =
        |joint: &str, text: &str| if text.is_empty() { String::new() } else { format!("{joint}{text}") };
    let (why, remedy) = (part("; ", &reading.why), part(" -> ", &reading.remedy));
    visible(&format!("{who}: {} is {}{why}{remedy}", reading.name, reading.value))
}

impl Health {
    /// A gate that is wrong more often than it promises is no gate.
    fn hear(&mut self, audit: Option<&v1::Audit>) {
        let Some(audit) = audit.filter(|audit| audit.alarm) else { return };
        self.reasons.push(format!(
            "the gate: {} of {} verdicts on identical code were false, where about {:.1} may be (evidence {:.0} to 1) -> do not \
             trust its verdicts until a calibration shows what disturbs the pairs: `darwin measure --calibrate --verbose`",
            audit.false_verdicts, audit.verdicts, audit.allowed, audit.evidence
        ));
        if self.status == SensorStatus::Ok {
            self.status = SensorStatus::Degraded;
        }
    }
}

fn human(
    health: &Health,
    status: &v1::StatusResponse,
    agents: &[v1::Agent],
    noise: &v1::CalibrationsResponse,
    session: &Session,
) -> String {
    let where_it_is =
        if session.is_embedded() { "embedded in this process".to_owned() } else { session.url().to_owned() };
    let mut parts = vec![format!(
        "coordinator {} ({where_it_is}): {} jobs wait, {} under way\n{}",
        visible(&status.version),
        status.jobs_queued,
        status.jobs_active,
        readings(&status.parts),
    )];
    if !agents.is_empty() {
        let head = ["AGENT", "STATE", "SENSOR", "POOL", "CORES", "ISOLATION", "ATTEMPTS", "SILENT"];
        parts.push(table(&head, agents.iter().map(row).collect()));
    }
    let sensors = agents.iter().filter_map(|agent| Some((agent, agent.sensor.as_ref()?)));
    parts.extend(
        sensors
            .map(|(agent, sensor)| format!("{}\n{}", visible(&agent.agent_id), readings(&sensor.readings))),
    );
    parts.push(noise_table(noise, agents, calibrations::now_unix_ms()));
    let verdict = std::iter::once(health.status.to_string());
    let lines: Vec<String> = verdict
        .chain(health.reasons.iter().map(|reason| format!("  {}", reason.replace(" -> ", "\n    -> "))))
        .collect();
    parts.push(lines.join("\n") + "\n");
    parts.join("\n")
}

/// What the boxes can resolve: of each box, suite, pairing and metric the noisiest gated series.
fn noise_table(noise: &v1::CalibrationsResponse, agents: &[v1::Agent], now_unix_ms: u64) -> String {
    let mut noisiest: BTreeMap<(&str, &str, &str, &str, &str), &v1::Calibration> = BTreeMap::new();
    let mut gated: BTreeMap<(&str, &str, &str, &str), u32> = BTreeMap::new();
    for row in noise.calibrations.iter().filter(|row| row.gated) {
        let (agent, project, suite) = (row.agent.as_str(), row.project.as_str(), row.suite.as_str());
        let how = pairing(row);
        *gated.entry((agent, project, suite, how)).or_default() += 1;
        let before = noisiest.entry((agent, project, suite, how, row.metric.as_str())).or_insert(row);
        if row.robust_sd > before.robust_sd {
            *before = row;
        }
    }
    let mut rows: Vec<Vec<String>> = noisiest
        .iter()
        .map(|((agent, project, suite, how, metric), row)| {
            // The guard for rare slow processes takes a share as well.
            let tests = gated.get(&(*agent, *project, *suite, *how)).copied().unwrap_or(1) + 1;
            let seen = Question::usual(USUAL_ALPHA, tests).smallest_effect(row.robust_sd, USUAL_PAIRS);
            vec![
                (*agent).to_owned(),
                format!("{project}/{suite}"),
                (*how).to_owned(),
                (*metric).to_owned(),
                spread(row.robust_sd),
                percent(seen),
                row.bench.clone(),
                measured(row, agents, now_unix_ms),
            ]
        })
        .collect();
    for agent in
        agents.iter().filter(|agent| !noise.calibrations.iter().any(|row| row.agent == agent.agent_id))
    {
        let mut row = vec![agent.agent_id.clone(), "none: darwin measure --calibrate".to_owned()];
        row.resize(8, String::new());
        rows.push(row);
    }
    let seen = format!("SEEN IN {USUAL_PAIRS} PAIRS");
    let head =
        ["CALIBRATION", "SUITE", "PAIRS", "METRIC", "NOISE", seen.as_str(), "NOISIEST BENCH", "MEASURED"];
    let audit = noise.audit.as_ref().filter(|audit| audit.verdicts > 0).map(|audit| {
        let word = if audit.verdicts == 1 { "verdict" } else { "verdicts" };
        format!("\nself-audit: {} {word} on identical code, {} false\n", audit.verdicts, audit.false_verdicts)
    });
    table(&head, rows) + &audit.unwrap_or_default()
}

/// How long ago, and what speaks against it.
fn measured(row: &v1::Calibration, agents: &[v1::Agent], now_unix_ms: u64) -> String {
    let told = format!("{}, {} pairs", age(row.measured_unix_ms, now_unix_ms), row.pairs);
    let facts = agents.iter().find(|agent| agent.agent_id == row.agent).and_then(|agent| agent.facts.clone());
    let fingerprint =
        facts.and_then(|facts| AgentFacts::try_from(facts).ok()).map(|facts| facts.fingerprint());
    if fingerprint.is_some_and(|now| now != row.fingerprint) {
        return format!("{told}; the box has changed: calibrate it again");
    }
    if now_unix_ms.saturating_sub(row.measured_unix_ms) > CALIBRATION_IS_OLD_AFTER_MS {
        return format!("{told}; old: calibrate it again");
    }
    told
}

fn json_of(
    health: &Health,
    status: &v1::StatusResponse,
    agents: &[v1::Agent],
    noise: &v1::CalibrationsResponse,
    session: &Session,
) -> Value {
    json!({
        "schema": "darwin-check/1",
        "status": health.status,
        "reasons": health.reasons,
        "coordinator": {
            "url": session.url(),
            "embedded": session.is_embedded(),
            "version": status.version,
            "up_for_s": status.up_for.as_ref().map(|up| up.seconds),
            "jobs_queued": status.jobs_queued,
            "jobs_active": status.jobs_active,
            "parts": readings_json(&status.parts),
        },
        "agents": agents.iter().map(agent_json).collect::<Value>(),
        "calibrations": noise.calibrations.iter().map(calibration_json).collect::<Value>(),
        "audit": noise.audit.as_ref().map(|audit| json!({
            "verdicts": audit.verdicts,
            "false_verdicts": audit.false_verdicts,
            "allowed": audit.allowed,
            "evidence": audit.evidence,
            "alarm": audit.alarm,
        })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(name: &str, status: &str) -> v1::Reading {
        v1::Reading {
            name: name.into(),
            status: status.into(),
            value: "x".into(),
            why: "it matters".into(),
            remedy: "mend it".into(),
        }
    }

    fn agent(state: &str, readings: Vec<v1::Reading>) -> v1::Agent {
        v1::Agent {
            agent_id: "ny4-07".into(),
            state: state.into(),
            sensor: Some(v1::SensorReport {
                status: if readings.iter().any(|r| r.status == "warn") { "degraded" } else { "ok" }.into(),
                readings,
                ..v1::SensorReport::default()
            }),
            ..v1::Agent::default()
        }
    }

    fn calibration(agent: &str, bench: &str, robust_sd: f64) -> v1::Calibration {
        v1::Calibration {
            agent: agent.into(),
            project: "orders".into(),
            suite: "hotpath".into(),
            bench: bench.into(),
            metric: "latency.p50".into(),
            gated: true,
            pairs: 60,
            robust_sd,
            measured_unix_ms: 1_000,
            ..v1::Calibration::default()
        }
    }

    #[test]
    fn each_box_says_what_it_can_resolve_or_how_to_find_out() {
        let (add, plain) = (calibration("ny4-07", "add", 0.01), calibration("ny4-07", "match", 0.03));
        let sliced = v1::Calibration { pairing: "sliced".into(), ..calibration("ny4-07", "match", 0.01) };
        let noise = v1::CalibrationsResponse {
            calibrations: vec![add, plain, sliced],
            audit: Some(v1::Audit { verdicts: 12, ..v1::Audit::default() }),
        };
        let other = v1::Agent { agent_id: "ny4-08".into(), ..agent("ready", vec![]) };
        let day = 24 * 3_600_000;
        insta::assert_snapshot!(noise_table(&noise, &[agent("ready", vec![]), other.clone()], 9 * day));
        let none = noise_table(&v1::CalibrationsResponse::default(), &[other], day);
        assert!(none.contains("ny4-08       none: darwin measure --calibrate"), "{none}");
    }

    #[test]
    fn a_gate_that_is_wrong_too_often_is_told() {
        let mut health = Health { status: SensorStatus::Ok, reasons: vec![] };
        let quiet = v1::Audit { verdicts: 40, false_verdicts: 1, allowed: 0.8, evidence: 5.0, alarm: false };
        health.hear(Some(&quiet));
        health.hear(None);
        assert_eq!((health.status, health.reasons.len()), (SensorStatus::Ok, 0));
        health.hear(Some(&v1::Audit { false_verdicts: 6, evidence: 900.4, alarm: true, ..quiet }));
        assert_eq!(health.status, SensorStatus::Degraded);
        assert!(
            health.reasons[0]
                .contains("6 of 40 verdicts on identical code were false, where about 0.8 may be")
        );
    }

    #[test]
    fn the_worst_part_makes_the_status() {
        let status = |parts| v1::StatusResponse { parts, ..v1::StatusResponse::default() };
        let fine = status(vec![reading("ledger", "ok")]);
        let ready = agent("ready", vec![reading("load", "ok"), reading("turbo", "unknown")]);
        assert_eq!(health(&fine, std::slice::from_ref(&ready)).status, SensorStatus::Ok);
        assert_eq!(health(&fine, &[]).status, SensorStatus::Down);
        assert_eq!(health(&fine, &[agent("away", vec![])]).status, SensorStatus::Down);
        assert_eq!(health(&fine, &[ready.clone(), agent("drained", vec![])]).status, SensorStatus::Degraded);
        let warned = health(&fine, &[agent("busy", vec![reading("governor", "warn")])]);
        assert_eq!(warned.status, SensorStatus::Degraded);
        assert_eq!(warned.reasons, ["ny4-07: governor is x; it matters -> mend it"]);
        assert_eq!(health(&status(vec![reading("ledger", "fail")]), &[ready]).status, SensorStatus::Down);
        let mut strict = agent("unhealthy", vec![reading("governor", "unknown")]);
        let refuses = "cannot verify `governor`: no such file".to_owned();
        strict.sensor = Some(v1::SensorReport { status: "down".into(), refuses, readings: vec![] });
        let stopped = health(&fine, &[strict]);
        assert_eq!(stopped.status, SensorStatus::Down);
        assert!(
            stopped
                .reasons
                .contains(&"ny4-07 measures nothing: cannot verify `governor`: no such file".to_owned())
        );
        let forgiven = v1::SensorReport {
            status: "ok".into(),
            readings: vec![reading("steal", "warn")],
            ..v1::SensorReport::default()
        };
        let forgiving = v1::Agent { sensor: Some(forgiven), ..agent("ready", vec![]) };
        assert_eq!(
            health(&fine, &[forgiving]).status,
            SensorStatus::Ok,
            "what its owner forgives is no reason"
        );
    }
}
