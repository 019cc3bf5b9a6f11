//! `darwin init`: a commented `darwin.toml` for the benches that are found. Never overwrites anything.

use std::io::Write as _;
use std::path::Path;

use darwin_shared::config::{BenchKind, FILE_NAME, template};
use darwin_shared::exit_code::ExitCode;
use darwin_shared::ids::ProjectName;
use ignore::WalkBuilder;

use crate::args::InitArgs;
use crate::failure::Failed;
use crate::settings::read_small;
use crate::ui::Ui;

/// So many files are looked at; benches stand near the top of a repository.
const MAX_LOOKED_AT: usize = 5_000;
/// So deep.
const MAX_DEPTH: usize = 5;

/// Looks, writes, and says what it wrote.
pub(crate) fn run(args: &InitArgs, ui: &Ui) -> Result<ExitCode, Failed> {
    let folder = args.folder.as_path();
    if !folder.is_dir() {
        return Err(Failed::usage(format!("{} is not a folder", folder.display())));
    }
    let path = folder.join(FILE_NAME);
    let kinds = detect(folder);
    let text = template(&project(folder)?, &kinds);
    let created = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
    let written = created.and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Failed::usage(format!("{} is there already and is left as it is", path.display())));
        }
        Err(e) => return Err(Failed::usage(format!("cannot write {}: {e}", path.display()))),
    }
    ui.emit(&format!("wrote {}\n", path.display()))?;
    let found = match kinds.as_slice() {
        [] => "found no benches that it knows: the file has a suite to fill in".to_owned(),
        kinds => format!("found {}", kinds.iter().map(|kind| name(*kind)).collect::<Vec<_>>().join(" and ")),
    };
    ui.hint(&format!("{found}; see that its commands are right, commit it, then: darwin compare --baseline main --challenger HEAD"));
    Ok(ExitCode::Success)
}

const fn name(kind: BenchKind) -> &'static str {
    match kind {
        BenchKind::PytestBenchmark => "pytest-benchmark",
        BenchKind::Criterion => "criterion",
        BenchKind::Hyperfine => "hyperfine",
    }
}

/// The project's name: that of the folder, with what cannot stand in a name replaced.
fn project(folder: &Path) -> Result<ProjectName, Failed> {
    let full =
        folder.canonicalize().map_err(|e| Failed::usage(format!("cannot read {}: {e}", folder.display())))?;
    let name = full.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    let name: String = name.chars().map(plain).take(100).collect();
    let name = name.trim_start_matches(['-', '.']);
    ProjectName::new(if name.is_empty() { "project" } else { name }).map_err(Failed::usage)
}

/// The kinds of benches of which there are traces, in a fixed order.
fn detect(folder: &Path) -> Vec<BenchKind> {
    let mut kinds = Vec::new();
    let walk = WalkBuilder::new(folder).max_depth(Some(MAX_DEPTH)).sort_by_file_name(Ord::cmp).build();
    for found in walk.filter_map(Result::ok).take(MAX_LOOKED_AT) {
        if !found.file_type().is_some_and(|kind| kind.is_file()) {
            continue;
        }
        if let Some(kind) = kind_of(found.path())
            && !kinds.contains(&kind)
        {
            kinds.push(kind);
        }
    }
    kinds.sort_unstable();
    kinds
}

fn kind_of(path: &Path) -> Option<BenchKind> {
    let file = path.file_name()?.to_str()?;
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let says = |word: &str| read_small(path).is_ok_and(|text| text.contains(word));
    let python_setup = matches!(file, "pyproject.toml" | "setup.cfg" | "setup.py" | "tox.ini" | "Pipfile")
        || (file.starts_with("requirements") && extension == "txt");
    if python_setup && says("pytest-benchmark")
        || extension == "py" && file.contains("test") && says("(benchmark")
    {
        return Some(BenchKind::PytestBenchmark);
    }
    if file == "Cargo.toml" && says("criterion") {
        return Some(BenchKind::Criterion);
    }
    let script = matches!(extension, "sh" | "mk" | "yml" | "yaml") || matches!(file, "Makefile" | "justfile");
    (script && says("hyperfine")).then_some(BenchKind::Hyperfine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_there_are_traces_of() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(detect(dir.path()), []);
        write("bench/run.sh", "hyperfine --warmup 3 ./x");
        assert_eq!(detect(dir.path()), [BenchKind::Hyperfine]);
        write("rust/Cargo.toml", "[dev-dependencies]\ncriterion = \"0.5\"");
        write("requirements-dev.txt", "pytest-benchmark==4.0.0");
        assert_eq!(
            detect(dir.path()),
            [BenchKind::PytestBenchmark, BenchKind::Criterion, BenchKind::Hyperfine]
        );
    }

    #[test]
    fn odd_folders_still_have_a_project() {
        let dir = tempfile::tempdir().unwrap();
        let odd = dir.path().join(".my engine (2)");
        std::fs::create_dir(&odd).unwrap();
        assert_eq!(project(&odd).unwrap().as_str(), "my-engine--2-");
    }
}
