//! Which crate may depend on which: one direction, and nothing of the world in the cores.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::Finding;

/// What a crate of ours may use.
struct Rule {
    name: &'static str,
    /// Crates of ours that it may name, also for its tests.
    ours: &'static [&'static str],
    /// Crates from outside that must not be reached from it, not even through others.
    never: &'static [&'static [&'static str]],
}

/// Tasks, streams and clocks of an async runtime.
const ASYNC: &[&str] = &["tokio", "tokio-stream", "tokio-util", "futures", "async-trait", "backon"];
/// The wire.
const WIRE: &[&str] = &["tonic", "tonic-prost", "prost", "hyper", "h2", "tower"];
/// What adapters use of the world: stores, files, processes, cores, terminals.
const WORLD: &[&str] = &[
    "rusqlite",
    "redis",
    "clickhouse",
    "object_store",
    "nix",
    "procfs",
    "core_affinity",
    "tempfile",
    "walkdir",
    "ignore",
    "ctrlc",
    "indicatif",
    "clap",
    "directories",
    "tracing-subscriber",
];
/// Clocks that read themselves.
const CLOCKS: &[&str] = &["jiff", "chrono", "time"];

const RULES: &[Rule] = &[
    Rule {
        name: "darwin-gate",
        ours: &[],
        never: &[ASYNC, WIRE, WORLD, CLOCKS, &["miette", "tracing", "toml"]],
    },
    Rule { name: "darwin-proof", ours: &["darwin-gate"], never: &[ASYNC, WIRE] },
    Rule { name: "darwin-shared", ours: &["darwin-gate"], never: &[ASYNC, WIRE, WORLD, CLOCKS] },
    // The words of the domain only for its tests; what a bench links is the standard library alone.
    Rule {
        name: "darwin-slice",
        ours: &["darwin-shared"],
        never: &[ASYNC, WIRE, WORLD, CLOCKS, &["darwin-shared", "libc", "serde"]],
    },
    Rule {
        name: "darwin-coordinator-core",
        ours: &["darwin-gate", "darwin-shared"],
        never: &[ASYNC, WIRE, WORLD, CLOCKS],
    },
    Rule {
        name: "darwin-agent-core",
        ours: &["darwin-gate", "darwin-shared"],
        never: &[ASYNC, WIRE, WORLD, CLOCKS],
    },
    Rule { name: "darwin-proto", ours: &["darwin-gate", "darwin-shared"], never: &[WORLD, CLOCKS] },
    Rule {
        name: "darwin-coordinator",
        ours: &["darwin-coordinator-core", "darwin-gate", "darwin-proto", "darwin-shared"],
        never: &[&["core_affinity", "procfs"]],
    },
    Rule {
        name: "darwin-agent",
        ours: &["darwin-agent-core", "darwin-gate", "darwin-proto", "darwin-shared"],
        never: &[&["rusqlite", "redis", "clickhouse", "object_store"]],
    },
    Rule {
        name: "darwin-cli",
        ours: &["darwin-agent", "darwin-coordinator", "darwin-gate", "darwin-proto", "darwin-shared"],
        never: &[],
    },
    Rule {
        name: "darwin-tests",
        ours: &[
            "darwin-agent",
            "darwin-cli",
            "darwin-coordinator",
            "darwin-gate",
            "darwin-proto",
            "darwin-shared",
        ],
        never: &[],
    },
];

/// The packages and what each depends on.
#[derive(Default)]
struct Graph {
    /// Packages of the workspace.
    members: BTreeSet<String>,
    /// By a member's name: what it names, for whatever purpose.
    named: BTreeMap<String, BTreeSet<String>>,
    /// By a package's id: the ids of what it is linked with.
    linked: BTreeMap<String, Vec<String>>,
    /// By id: the name.
    names: BTreeMap<String, String>,
}

pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let rustc = output(Command::new("rustc").arg("-vV").current_dir(root))?;
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // For this host only: what other systems would link is not even downloaded here.
    let arguments = ["metadata", "--format-version", "1", "--locked", "--filter-platform", host];
    let text = output(Command::new(cargo).args(arguments).current_dir(root))?;
    let metadata = serde_json::from_str(&text).context("cargo metadata wrote no JSON")?;
    Ok(findings(&graph(&metadata)?))
}

/// What a command writes.
fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{command:?} wrote no text"))
}

fn graph(metadata: &Value) -> anyhow::Result<Graph> {
    let list = |value: &Value, key: &str| -> anyhow::Result<Vec<Value>> {
        value[key].as_array().cloned().with_context(|| format!("cargo metadata has no list `{key}`"))
    };
    let text = |value: &Value, key: &str| -> anyhow::Result<String> {
        value[key].as_str().map(str::to_owned).with_context(|| format!("cargo metadata has no text `{key}`"))
    };
    let members: BTreeSet<String> =
        list(metadata, "workspace_members")?.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect();
    let mut graph = Graph::default();
    for package in list(metadata, "packages")? {
        let (id, name) = (text(&package, "id")?, text(&package, "name")?);
        if members.contains(&id) {
            let named = list(&package, "dependencies")?;
            let named =
                named.iter().map(|dependency| text(dependency, "name")).collect::<anyhow::Result<_>>()?;
            graph.named.insert(name.clone(), named);
            graph.members.insert(name.clone());
        }
        graph.names.insert(id, name);
    }
    for node in list(&metadata["resolve"], "nodes")? {
        let mut linked = Vec::new();
        for dependency in list(&node, "deps")? {
            // A null kind is an ordinary dependency; the others are for builds and tests only.
            if list(&dependency, "dep_kinds")?.iter().any(|kind| kind["kind"].is_null()) {
                linked.push(text(&dependency, "pkg")?);
            }
        }
        graph.linked.insert(text(&node, "id")?, linked);
    }
    Ok(graph)
}

fn findings(graph: &Graph) -> Vec<Finding> {
    let mut findings = Vec::new();
    for member in &graph.members {
        let Some(rule) = RULES.iter().find(|rule| rule.name == member) else {
            findings.push(format!(
                "{member}: a crate without a rule; say in tests/src/bin/darwin-lint/edges.rs what it may use"
            ));
            continue;
        };
        let named = graph.named.get(member).into_iter().flatten();
        for other in
            named.filter(|other| graph.members.contains(*other) && !rule.ours.contains(&other.as_str()))
        {
            findings.push(format!(
                "{member} -> {other}: forbidden; {member} may use {}",
                if rule.ours.is_empty() { "no crate of ours".to_owned() } else { rule.ours.join(", ") }
            ));
        }
        findings.extend(forbidden_paths(graph, rule));
    }
    findings
}

/// The shortest way from the crate to each crate that it must not reach.
fn forbidden_paths(graph: &Graph, rule: &Rule) -> Vec<Finding> {
    let Some((start, _)) = graph.names.iter().find(|(_, name)| *name == rule.name) else { return Vec::new() };
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([start.as_str()]);
    let mut findings = Vec::new();
    while let Some(id) = queue.pop_front() {
        for next in graph.linked.get(id).into_iter().flatten() {
            if next == start || came_from.contains_key(next.as_str()) {
                continue;
            }
            came_from.insert(next, id);
            let name = graph.names.get(next).map_or("", String::as_str);
            if rule.never.iter().any(|names| names.contains(&name)) {
                let way = way(graph, &came_from, next);
                findings.push(format!(
                    "{way}: forbidden; {} must not reach {name}, not even through others",
                    rule.name
                ));
            } else {
                queue.push_back(next);
            }
        }
    }
    findings
}

fn way(graph: &Graph, came_from: &BTreeMap<&str, &str>, end: &str) -> String {
    let mut ids = vec![end];
    while let Some(before) = ids.last().and_then(|id| came_from.get(id)) {
        ids.push(before);
    }
    let names: Vec<&str> =
        ids.iter().rev().map(|id| graph.names.get(*id).map_or("?", String::as_str)).collect();
    names.join(" -> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph_of(edges: &[(&str, &str)]) -> Graph {
        let mut graph = Graph::default();
        for (from, to) in edges {
            for name in [from, to] {
                graph.names.insert((*name).to_owned(), (*name).to_owned());
                if name.starts_with("darwin-") {
                    graph.members.insert((*name).to_owned());
                }
            }
            graph.linked.entry((*from).to_owned()).or_default().push((*to).to_owned());
            if from.starts_with("darwin-") {
                graph.named.entry((*from).to_owned()).or_default().insert((*to).to_owned());
            }
        }
        graph
    }

    #[test]
    fn an_edge_the_wrong_way_is_found() {
        let found = findings(&graph_of(&[
            ("darwin-agent", "darwin-coordinator"),
            ("darwin-agent", "darwin-shared"),
            ("darwin-gate", "darwin-shared"),
        ]));
        assert_eq!(
            found,
            [
                "darwin-agent -> darwin-coordinator: forbidden; darwin-agent may use darwin-agent-core, darwin-gate, darwin-proto, darwin-shared",
                "darwin-gate -> darwin-shared: forbidden; darwin-gate may use no crate of ours",
            ]
        );
    }

    #[test]
    fn the_world_is_found_through_others() {
        let found =
            findings(&graph_of(&[("darwin-gate", "helpful"), ("helpful", "deep"), ("deep", "tokio")]));
        assert_eq!(
            found,
            [
                "darwin-gate -> helpful -> deep -> tokio: forbidden; darwin-gate must not reach tokio, not even through others"
            ]
        );
    }

    #[test]
    fn a_crate_without_a_rule_is_found_and_a_loop_ends() {
        let found = findings(&graph_of(&[("darwin-new", "a"), ("a", "b"), ("b", "a")]));
        assert!(found.len() == 1 && found[0].starts_with("darwin-new: a crate without a rule"), "{found:?}");
    }

    #[test]
    fn every_rule_names_crates_that_have_rules() {
        let known: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
        for rule in RULES {
            assert!(
                rule.ours.iter().all(|other| known.contains(other) && *other != rule.name),
                "{}",
                rule.name
            );
        }
    }

    #[test]
    fn what_cargo_tells_is_read() {
        let metadata = serde_json::json!({
            "workspace_members": ["gate 1"],
            "packages": [
                {"id": "gate 1", "name": "darwin-gate", "dependencies": [{"name": "serde"}, {"name": "tokio"}]},
                {"id": "serde 1", "name": "serde", "dependencies": []},
                {"id": "tokio 1", "name": "tokio", "dependencies": []},
            ],
            "resolve": {"nodes": [
                {"id": "gate 1", "deps": [
                    {"pkg": "serde 1", "dep_kinds": [{"kind": null}]},
                    {"pkg": "tokio 1", "dep_kinds": [{"kind": "dev"}]},
                ]},
            ]},
        });
        let read = graph(&metadata).unwrap();
        assert_eq!(read.linked["gate 1"], ["serde 1"], "what is for tests only is not linked");
        assert_eq!(findings(&read), Vec::<String>::new());
        assert!(graph(&serde_json::json!({})).is_err());
    }
}
