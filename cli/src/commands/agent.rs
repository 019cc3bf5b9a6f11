//! `darwin agent`: the fleet.

use darwin_proto::v1::agents_client::AgentsClient;
use darwin_proto::v1::{self, DrainAgentRequest, ListAgentsRequest, ResumeAgentRequest, ShowAgentRequest};
use darwin_shared::exit_code::ExitCode;
use darwin_shared::report::visible;
use serde_json::{Value, json};
use tonic::Code;

use crate::args::AgentCommand;
use crate::failure::{Failed, call};
use crate::session::Session;
use crate::ui::{Ui, table};

/// What a person with an embedded coordinator is told who looks for agents.
const EMBEDDED_AGENT: &str =
    "no agents now: the embedded one is there while something is measured; `darwin check` shows it";

/// Does what is asked.
pub(crate) async fn run(command: &AgentCommand, session: &Session, ui: &Ui) -> Result<ExitCode, Failed> {
    let mut client = AgentsClient::new(session.channel());
    let failed = call(session.url());
    let agent = match command {
        AgentCommand::List => {
            let agents = client.list(ListAgentsRequest {}).await.map_err(failed)?.into_inner().agents;
            return list(&agents, session, ui);
        }
        AgentCommand::Show(name) => client.show(ShowAgentRequest { agent_id: name.agent.clone() }).await,
        AgentCommand::Drain(name) => client.drain(DrainAgentRequest { agent_id: name.agent.clone() }).await,
        AgentCommand::Resume(name) => {
            client.resume(ResumeAgentRequest { agent_id: name.agent.clone() }).await
        }
    };
    let agent = match agent {
        Err(status) if status.code() == Code::NotFound && session.is_embedded() => {
            return Err(Failed::usage(EMBEDDED_AGENT));
        }
        agent => agent.map_err(failed)?.into_inner(),
    };
    let (name, told): (_, fn(&v1::Agent) -> String) = match command {
        AgentCommand::List | AgentCommand::Show(_) => ("agent show", human),
        AgentCommand::Drain(_) => ("agent drain", state),
        AgentCommand::Resume(_) => ("agent resume", state),
    };
    let json = || {
        let mut json = agent_json(&agent);
        json["schema"] = "darwin-agent/1".into();
        json
    };
    ui.show(name, || told(&agent), json)?;
    Ok(ExitCode::Success)
}

fn list(agents: &[v1::Agent], session: &Session, ui: &Ui) -> Result<ExitCode, Failed> {
    let human = || {
        if agents.is_empty() {
            let none =
                if session.is_embedded() { EMBEDDED_AGENT } else { "no agents; start one with darwin-agent" };
            return format!("{none}\n");
        }
        table(
            &["AGENT", "STATE", "SENSOR", "POOL", "CORES", "ISOLATION", "ATTEMPTS", "SILENT"],
            agents.iter().map(row).collect(),
        )
    };
    ui.show(
        "agent list",
        human,
        || json!({ "schema": "darwin-agents/1", "agents": agents.iter().map(agent_json).collect::<Value>() }),
    )?;
    Ok(ExitCode::Success)
}

/// An agent as a line of a table.
pub(crate) fn row(agent: &v1::Agent) -> Vec<String> {
    let facts = agent.facts.clone().unwrap_or_default();
    let sensor = agent.sensor.as_ref().map_or("unknown", |sensor| sensor.status.as_str());
    vec![
        agent.agent_id.clone(),
        agent.state.clone(),
        sensor.to_owned(),
        facts.pool,
        format!("{} ({})", facts.lease_cores, facts.lease_cpus),
        facts.isolation,
        agent.attempts.len().to_string(),
        silent_for(agent).map(|seconds| format!("{seconds:.0}s")).unwrap_or_default(),
    ]
}

fn silent_for(agent: &v1::Agent) -> Option<f64> {
    let silent = agent.silent_for.as_ref()?;
    Some(silent.seconds as f64 + f64::from(silent.nanos) / 1e9)
}

fn human(agent: &v1::Agent) -> String {
    let facts = agent.facts.clone().unwrap_or_default();
    let labels: Vec<String> = facts.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let rows = [
        ("agent", agent.agent_id.clone()),
        ("state", agent.state.clone()),
        ("pool", facts.pool),
        ("labels", labels.join(" ")),
        ("version", facts.version),
        ("host", facts.hostname),
        ("cpu", facts.cpu_model),
        ("kernel", facts.kernel),
        ("leases", format!("{} cores: {}", facts.lease_cores, facts.lease_cpus)),
        ("keeps", facts.housekeeping_cpus),
        ("isolation", facts.isolation),
        ("tier", facts.tier),
        ("refuses", agent.sensor.as_ref().map(|sensor| sensor.refuses.clone()).unwrap_or_default()),
        ("attempts", agent.attempts.join(" ")),
        ("silent for", silent_for(agent).map(|seconds| format!("{seconds:.1}s")).unwrap_or_default()),
    ];
    let rows = rows.into_iter().filter(|(_, value)| !value.is_empty());
    let facts = table(&["", ""], rows.map(|(name, value)| vec![name.to_owned(), value]).collect());
    let readings = agent.sensor.as_ref().map(|sensor| readings(&sensor.readings)).unwrap_or_default();
    format!("{}\n{readings}", facts.trim_start_matches('\n'))
}

/// What became of the wish, in a line.
fn state(agent: &v1::Agent) -> String {
    let attempts = match agent.attempts.as_slice() {
        [] => String::new(),
        attempts => format!("; it goes on with {}", attempts.join(" ")),
    };
    visible(&format!("{} is {}{attempts}", agent.agent_id, agent.state)) + "\n"
}

/// The sensor's readings as a table; what is not well is followed by why it matters and what mends it.
pub(crate) fn readings(readings: &[v1::Reading]) -> String {
    let rows = readings.iter().flat_map(|reading| {
        let row = |name: &str, status: &str, value: &str| {
            vec![name.to_owned(), status.to_owned(), value.to_owned()]
        };
        // What is not known has no value, and the reason says why there is none.
        let value = if reading.value.is_empty() { &reading.why } else { &reading.value };
        let mut rows = vec![row(&reading.name, &reading.status, value)];
        if matches!(reading.status.as_str(), "warn" | "fail") {
            let more = [("why", &reading.why), ("fix", &reading.remedy)];
            let told = more.into_iter().filter(|(_, text)| !text.is_empty());
            rows.extend(told.map(|(word, text)| row("", "", &format!("{word}: {text}"))));
        }
        rows
    });
    table(&["CHECK", "STATUS", "VALUE"], rows.collect())
}

/// An agent for programs.
pub(crate) fn agent_json(agent: &v1::Agent) -> Value {
    let facts = agent.facts.clone().unwrap_or_default();
    json!({
        "agent_id": agent.agent_id,
        "state": agent.state,
        "pool": facts.pool,
        "labels": facts.labels,
        "version": facts.version,
        "hostname": facts.hostname,
        "cpu_model": facts.cpu_model,
        "kernel": facts.kernel,
        "lease_cpus": facts.lease_cpus,
        "lease_cores": facts.lease_cores,
        "housekeeping_cpus": facts.housekeeping_cpus,
        "isolation": facts.isolation,
        "tier": facts.tier,
        "attempts": agent.attempts,
        "silent_for_s": silent_for(agent),
        "sensor": agent.sensor.as_ref().map(|sensor| json!({
            "status": sensor.status,
            "refuses": sensor.refuses,
            "readings": readings_json(&sensor.readings),
        })),
    })
}

/// Readings for programs.
pub(crate) fn readings_json(readings: &[v1::Reading]) -> Value {
    readings
        .iter()
        .map(|reading| {
            json!({
                "name": reading.name,
                "status": reading.status,
                "value": reading.value,
                "why": reading.why,
                "remedy": reading.remedy,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_fit_a_terminal_and_say_what_mends_them() {
        let reading = |name: &str, status: &str, value: &str| v1::Reading {
            name: name.into(),
            status: status.into(),
            value: value.into(),
            why: "it matters".into(),
            remedy: if status == "warn" { "mend it".into() } else { String::new() },
        };
        let all =
            [reading("load", "ok", "0"), reading("steal", "warn", "9 %"), reading("turbo", "unknown", "")];
        let shown = "CHECK  STATUS   VALUE\nload   ok       0\nsteal  warn     9 %\n                why: it matters\n                \
                     fix: mend it\nturbo  unknown  it matters\n";
        assert_eq!(readings(&all), shown);
    }
}
