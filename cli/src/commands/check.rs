//! `darwin check`: the system sensor. Says whether measuring makes sense now, and if not, what mends it.

use std::time::Duration;

use darwin_proto::v1::agents_client::AgentsClient;
use darwin_proto::v1::{self, ListAgentsRequest, StatusRequest};
use darwin_shared::exit_code::ExitCode;
use darwin_shared::fleet::SensorStatus;
use darwin_shared::report::visible;
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::agent::{agent_json, readings, readings_json, row};
use crate::failure::{Failed, call};
use crate::session::Session;
use crate::ui::{Ui, table};

/// The embedded agent has read its sensor well within this.
const AGENT_WITHIN: Duration = Duration::from_secs(5);
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
    let health = health(&status, &agents);
    ui.show(
        "check",
        || human(&health, &status, &agents, session),
        || json_of(&health, &status, &agents, session),
    )?;
    ui.machine_line(&format!("status={}", health.status))?;
    Ok(match health.status {
        SensorStatus::Ok => ExitCode::Success,
        SensorStatus::Degraded | SensorStatus::Down => ExitCode::NotOk,
    })
}

/// All agents; an embedded one is waited for, since it starts with this command.
async fn agents(client: &mut AgentsClient<Channel>, session: &Session) -> Result<Vec<v1::Agent>, Failed> {
    let failed = call(session.url());
    let began = std::time::Instant::now();
    loop {
        let agents = client.list(ListAgentsRequest {}).await.map_err(&failed)?.into_inner().agents;
        let there = agents.iter().any(|agent| agent.state != "away" && agent.sensor.is_some());
        if there || !session.is_embedded() || began.elapsed() > AGENT_WITHIN {
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
        let sensor = agent.sensor.iter().flat_map(|sensor| &sensor.readings);
        degraded.extend(
            sensor.filter(|r| matches!(r.status.as_str(), "warn" | "fail")).map(|r| reason(&name, r)),
        );
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

fn human(health: &Health, status: &v1::StatusResponse, agents: &[v1::Agent], session: &Session) -> String {
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
    let verdict = std::iter::once(health.status.to_string());
    let lines: Vec<String> =
        verdict.chain(health.reasons.iter().map(|reason| format!("  {reason}"))).collect();
    parts.push(lines.join("\n") + "\n");
    parts.join("\n")
}

fn json_of(health: &Health, status: &v1::StatusResponse, agents: &[v1::Agent], session: &Session) -> Value {
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
            sensor: Some(v1::SensorReport { status: "ok".into(), readings }),
            ..v1::Agent::default()
        }
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
    }
}
