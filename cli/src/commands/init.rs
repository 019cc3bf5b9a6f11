//! `darwin init`: a commented `darwin.toml` for the benches that are found. Never overwrites anything.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use darwin_shared::config::{BenchKind, CargoProject, FILE_NAME, Findings, template};
use darwin_shared::exit_code::ExitCode;
use darwin_shared::ids::ProjectName;
use ignore::WalkBuilder;
use serde_json::json;

use crate::args::InitArgs;
use crate::failure::Failed;
use crate::rust_tools;
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
    let found = detect(folder);
    let text = template(&project(folder)?, &found);
    let created = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
    let written = created.and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Failed::usage(format!("{} is there already and is left as it is", path.display())));
        }
        Err(e) => return Err(Failed::usage(format!("cannot write {}: {e}", path.display()))),
    }
    let human = || format!("wrote {}\n", path.display());
    ui.show("init", human, || json!({ "schema": "darwin-init/1", "path": path.display().to_string() }))?;
    let found = match found.kinds.as_slice() {
        [] => "found no benches that it knows: the file has a command to fill in, which is timed as it is"
            .to_owned(),
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

/// The kinds of benches of which there are traces, in a fixed order, and what Python's need.
fn detect(folder: &Path) -> Findings {
    let mut traces = Traces::default();
    let walk = WalkBuilder::new(folder).max_depth(Some(MAX_DEPTH)).sort_by_file_name(Ord::cmp).build();
    for found in walk.filter_map(Result::ok).take(MAX_LOOKED_AT) {
        if found.file_type().is_some_and(|kind| kind.is_file()) {
            let path = found.path().strip_prefix(folder).unwrap_or(found.path());
            traces.look_at(path, &|word| read_small(found.path()).is_ok_and(|text| text.contains(word)));
        }
    }
    let (pip, tests) = (traces.pip(), traces.tests(folder));
    traces.kinds.sort_unstable();
    traces.kinds.dedup();
    let cargo =
        traces.cargo.then(|| CargoProject { env: rust_tools::environment(&|name| std::env::var_os(name)) });
    Findings { kinds: traces.kinds, pip, tests, cargo }
}

/// What was seen on the way through the files.
#[derive(Debug, Default)]
struct Traces {
    kinds: Vec<BenchKind>,
    /// The first Python test with a bench in it.
    bench_file: Option<PathBuf>,
    /// Files for `pip install -r`; those that name pytest-benchmark are enough by themselves.
    requirements: Vec<(PathBuf, bool)>,
    /// Whether the folder itself can be installed.
    installable: bool,
    /// Whether the folder is a Cargo project, or has benches of one.
    cargo: bool,
}

impl Traces {
    fn look_at(&mut self, path: &Path, says: &dyn Fn(&str) -> bool) {
        let Some(file) = path.file_name().and_then(|name| name.to_str()) else { return };
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let at_root = path.components().count() == 1;
        let mut named = false;
        if matches!(file, "pyproject.toml" | "setup.cfg" | "setup.py" | "tox.ini" | "Pipfile") {
            named = says("pytest-benchmark");
            self.installable |=
                at_root && (file == "setup.py" || says("[build-system]") || says("[project]"));
        } else if file.starts_with("requirements") && extension == "txt" {
            named = says("pytest-benchmark");
            self.requirements.push((path.to_owned(), named));
        }
        let bench = extension == "py" && file.contains("test") && says("(benchmark");
        if bench && self.bench_file.is_none() {
            self.bench_file = Some(path.to_owned());
        }
        if named || bench {
            self.kinds.push(BenchKind::PytestBenchmark);
        }
        if file == "Cargo.toml" {
            let criterion = says("criterion");
            self.cargo |= at_root || criterion;
            self.kinds.extend(criterion.then_some(BenchKind::Criterion));
        }
        let script =
            matches!(extension, "sh" | "mk" | "yml" | "yaml") || matches!(file, "Makefile" | "justfile");
        if script && says("hyperfine") {
            self.kinds.push(BenchKind::Hyperfine);
        }
    }

    /// The arguments with which pip installs what the benches need.
    fn pip(&self) -> String {
        let whole = self.requirements.iter().find(|(_, named)| *named);
        let mut words = Vec::new();
        if let Some((path, _)) = whole.or(self.requirements.first()) {
            words.push(format!("-r {}", shell_words::quote(&path.to_string_lossy())));
        } else if self.installable {
            words.push("-e .".to_owned());
        }
        if whole.is_none() {
            words.push("pytest pytest-benchmark".to_owned());
        }
        words.join(" ")
    }

    /// Where pytest is to look: the outermost folder of the benches, so that the unit tests are there too.
    fn tests(&self, folder: &Path) -> String {
        let outermost = |path: &PathBuf| {
            let mut parts = path.components();
            let first = parts.next()?.as_os_str().to_string_lossy().into_owned();
            parts.next().map(|_| first)
        };
        let found = match &self.bench_file {
            Some(path) => outermost(path),
            None => folder.join("tests").is_dir().then(|| "tests".to_owned()),
        };
        shell_words::quote(found.as_deref().unwrap_or(".")).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn finds_what_there_are_traces_of() {
        let kinds = |files: &[(&str, &str)]| detect(folder(files).path()).kinds;
        let files = [
            ("bench/run.sh", "hyperfine --warmup 3 ./x"),
            ("rust/Cargo.toml", "[dev-dependencies]\ncriterion = \"0.5\""),
            ("requirements-dev.txt", "pytest-benchmark==4.0.0"),
        ];
        assert_eq!(kinds(&[]), []);
        assert_eq!(kinds(&files[..1]), [BenchKind::Hyperfine]);
        let all = [BenchKind::PytestBenchmark, BenchKind::Criterion, BenchKind::Hyperfine];
        assert_eq!(kinds(&files), all);
        let cargo = |files: &[(&str, &str)]| detect(folder(files).path()).cargo.is_some();
        assert!(cargo(&files) && cargo(&[("Cargo.toml", "[package]")]));
        assert!(!cargo(&files[..1]) && !cargo(&[("vendored/x/Cargo.toml", "[package]")]));
    }

    #[test]
    fn pythons_setup_fits_the_repository() {
        let bench = ("perf/deep/test_x.py", "def test_x(benchmark): pass");
        let needs = |files: &[(&str, &str)]| {
            let found = detect(folder(files).path());
            (found.pip, found.tests)
        };
        let wanted = |pip: &str, tests: &str| (pip.to_owned(), tests.to_owned());
        assert_eq!(needs(&[bench]), wanted("pytest pytest-benchmark", "perf"));
        assert_eq!(needs(&[("test_x.py", bench.1)]), wanted("pytest pytest-benchmark", "."));
        let project = ("pyproject.toml", "[project]\nname = \"x\"");
        assert_eq!(needs(&[bench, project]), wanted("-e . pytest pytest-benchmark", "perf"));
        let bare = ("requirements.txt", "numpy");
        assert_eq!(needs(&[bench, bare]), wanted("-r requirements.txt pytest pytest-benchmark", "perf"));
        let whole = ("requirements-dev.txt", "-r requirements.txt\npytest-benchmark");
        assert_eq!(needs(&[bench, bare, whole]), wanted("-r requirements-dev.txt", "perf"));
        let spaced = ("my tests/test_x.py", bench.1);
        assert_eq!(needs(&[spaced]), wanted("pytest pytest-benchmark", "'my tests'"));
    }

    #[test]
    fn odd_folders_still_have_a_project() {
        let dir = tempfile::tempdir().unwrap();
        let odd = dir.path().join(".my engine (2)");
        std::fs::create_dir(&odd).unwrap();
        assert_eq!(project(&odd).unwrap().as_str(), "my-engine--2-");
    }
}
