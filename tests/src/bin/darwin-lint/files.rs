//! The house rules for files.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::Finding;

/// Longer than this a file has more than one idea. Lines of tests beside the code do not count.
const MAX_LINES: usize = 600;
/// Folders of the decision cores, which must give the same answer for the same events, on every run.
const CORES: &[&str] = &["gate/src", "coordinator/core/src", "agent/core/src"];
/// Folders that hold nothing of ours.
const FOREIGN: &[&str] = &["target", ".git", "node_modules", ".venv"];

// Put together here, so that this file does not find itself.
const IGNORED: &str = concat!("#[", "ignore");
const UNDONE: &[&str] = &[concat!("todo", "!("), concat!("unimplemented", "!(")];
const UNORDERED: &[&str] = &[concat!("Hash", "Map"), concat!("Hash", "Set")];

pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for path in files_below(root)? {
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        let read = || std::fs::read_to_string(&path).with_context(|| format!("cannot read {name}"));
        if path.extension().is_some_and(|extension| extension == "rs") {
            findings.extend(of_source(&name, &read()?));
        } else if path.file_name().is_some_and(|file| file == "Cargo.toml") {
            findings.extend(of_manifest(&name, &read()?)?);
        }
    }
    findings.sort();
    Ok(findings)
}

fn files_below(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
            let foreign = FOREIGN.iter().any(|name| entry.file_name() == *name);
            let kind =
                entry.file_type().with_context(|| format!("cannot look at {}", entry.path().display()))?;
            if kind.is_dir() && !foreign {
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
        }
    }
    Ok(files)
}

fn of_source(name: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = code_lines(text);
    if !is_test(name) && lines > MAX_LINES {
        findings
            .push(format!("{name}: {lines} lines beside its tests; at most {MAX_LINES}: split it by idea"));
    }
    let in_core = CORES.iter().any(|core| Path::new(name).starts_with(core));
    for (number, line) in (1..).zip(text.lines()) {
        let code = line.split("//").next().unwrap_or_default();
        if code.contains(IGNORED) {
            findings.push(format!(
                "{name}:{number}: a test that never runs; let it run, or print `not run: <why>` where the box lacks something"
            ));
        }
        for word in UNDONE.iter().filter(|word| code.contains(*word)) {
            findings.push(format!(
                "{name}:{number}: `{word})` would panic in the field; do it, or refuse by a typed error"
            ));
        }
        for word in UNORDERED.iter().filter(|word| in_core && code.contains(*word)) {
            let ordered = word.replace("Hash", "BTree");
            findings.push(format!(
                "{name}:{number}: `{word}` in a decision core has another order on every run; use `{ordered}`"
            ));
        }
    }
    findings
}

/// Whether the whole file is tests.
fn is_test(name: &str) -> bool {
    let path = Path::new(name);
    path.components().any(|part| part.as_os_str() == "tests")
        || path.file_stem().is_some_and(|stem| stem == "tests" || stem.to_string_lossy().ends_with("_tests"))
}

/// Lines before the module of tests that ends a file.
fn code_lines(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let begins_tests =
        |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{');
    lines.windows(2).position(begins_tests).unwrap_or(lines.len())
}

fn of_manifest(name: &str, text: &str) -> anyhow::Result<Vec<Finding>> {
    let manifest: toml::Table = text.parse().with_context(|| format!("{name} is not TOML"))?;
    if !manifest.contains_key("package") {
        return Ok(Vec::new());
    }
    let inherits =
        manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
    if inherits == Some(true) {
        return Ok(Vec::new());
    }
    Ok(vec![format!("{name}: without the workspace's lints; add `[lints]` with `workspace = true`")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        let code = "fn f() {}\n".repeat(MAX_LINES);
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "// x\n".repeat(500));
        assert_eq!(of_source("shared/src/a.rs", &format!("{code}{tests}")), Vec::<String>::new());
        let found = of_source("shared/src/a.rs", &format!("fn g() {{}}\n{code}{tests}"));
        assert_eq!(found, ["shared/src/a.rs: 601 lines beside its tests; at most 600: split it by idea"]);
        assert!(of_source("shared/tests/a.rs", &"fn f() {}\n".repeat(5000)).is_empty());
        assert!(of_source("agent/src/machine/property_tests.rs", &"fn f() {}\n".repeat(5000)).is_empty());
    }

    #[test]
    fn words_that_do_not_belong_are_found_with_their_line() {
        let text = format!("fn a() {{\n    {})\n}}\n// {})\n{}]\n", UNDONE[0], UNDONE[0], IGNORED);
        let found = of_source("agent/src/a.rs", &text);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with("agent/src/a.rs:2: ") && found[1].starts_with("agent/src/a.rs:5: "),
            "{found:?}"
        );
        let map = format!("use std::collections::{};\n", UNORDERED[0]);
        assert!(of_source("agent/src/a.rs", &map).is_empty());
        assert!(of_source("agent/core/src/a.rs", &map)[0].contains("use `BTreeMap`"));
    }

    #[test]
    fn a_crate_without_the_lints_is_found() {
        let package = "[package]\nname = \"x\"\n";
        assert_eq!(of_manifest("x/Cargo.toml", package).unwrap().len(), 1);
        assert!(
            of_manifest("x/Cargo.toml", &format!("{package}[lints]\nworkspace = true\n")).unwrap().is_empty()
        );
        assert!(of_manifest("Cargo.toml", "[workspace]\n").unwrap().is_empty());
    }
}
