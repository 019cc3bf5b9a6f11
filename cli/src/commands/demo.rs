//! `darwin demo`: two real compares of the shipped example, one that should get APPROVE and one that should get REJECT.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use darwin_gate::Decision;
use darwin_shared::config::Config;
use darwin_shared::exit_code::ExitCode;
use darwin_shared::report::Report;
use include_dir::{Dir, File, include_dir};

use super::compare::both;
use crate::args::DemoArgs;
use crate::failure::Failed;
use crate::pack::{self, Packed, Reference};
use crate::session::Session;
use crate::settings::data_dir;
use crate::submit::submit_and_wait;
use crate::suite::FoundSuite;
use crate::ui::Ui;

// Folder by folder: what a developer's runs leave beside them must not get into the binary.
static ENGINE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../examples/orderbook/orderbook");
static TESTS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../examples/orderbook/tests");
const DARWIN_TOML: &str = include_str!("../../../examples/orderbook/darwin.toml");
const FILES: &[(&str, &str)] = &[
    ("darwin.toml", DARWIN_TOML),
    ("pytest.ini", include_str!("../../../examples/orderbook/pytest.ini")),
    ("requirements.txt", include_str!("../../../examples/orderbook/requirements.txt")),
];
/// The schema of both reports together.
const SCHEMA: &str = "darwin-demo/1";
/// What Python writes beside its sources.
const LEFTOVERS: &[&str] = &["__pycache__", ".pytest_cache"];

/// A change to the example, and the verdict that it should get.
struct Change {
    name: &'static str,
    patch: &'static str,
    expected: Decision,
}

const CHANGES: [Change; 2] = [
    Change {
        name: "faster",
        patch: include_str!("../../../examples/orderbook/changes/faster.patch"),
        expected: Decision::Approve,
    },
    Change {
        name: "slower-20",
        patch: include_str!("../../../examples/orderbook/changes/slower-20.patch"),
        expected: Decision::Reject,
    },
];

/// The example on disk.
#[derive(Debug)]
pub(crate) struct Prepared {
    folder: PathBuf,
    began: Instant,
}

/// Sees that the machine has what the example needs, and unpacks it.
pub(crate) fn prepare(ui: &Ui) -> Result<Prepared, Failed> {
    ui.not_junit("demo")?;
    let began = Instant::now();
    needs_python()?;
    let folder = data_dir()?.join("demo");
    unpack(&folder)?;
    Ok(Prepared { folder, began })
}

fn needs_python() -> Result<(), Failed> {
    let probe = Command::new("python3")
        .args(["-c", "import venv, ensurepip"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match probe {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Failed::usage("the demo needs Python's venv: sudo apt-get install python3-venv")),
        Err(_) => Err(Failed::usage("the demo needs Python: sudo apt-get install python3 python3-venv")),
    }
}

fn unpack(folder: &Path) -> Result<(), Failed> {
    let failed = |e: std::io::Error| {
        Failed::system(format!("cannot unpack the example into {}: {e}", folder.display()))
    };
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(failed)?;
    }
    write_tree(&folder.join("base")).map_err(failed)?;
    for change in &CHANGES {
        let tree = folder.join(change.name);
        write_tree(&tree).map_err(failed)?;
        let patch = folder.join(format!("{}.patch", change.name));
        std::fs::write(&patch, change.patch).map_err(failed)?;
        apply(&tree, &patch)?;
    }
    Ok(())
}

fn write_tree(tree: &Path) -> std::io::Result<()> {
    for (name, text) in FILES {
        write(&tree.join(name), text.as_bytes())?;
    }
    for (folder, dir) in [("orderbook", &ENGINE), ("tests", &TESTS)] {
        for file in files(dir) {
            write(&tree.join(folder).join(file.path()), file.contents())?;
        }
    }
    Ok(())
}

fn files(dir: &'static Dir<'static>) -> Vec<&'static File<'static>> {
    let mut files: Vec<_> = dir.files().collect();
    for inner in dir.dirs() {
        let name = inner.path().file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !LEFTOVERS.contains(&name) {
            files.extend(self::files(inner));
        }
    }
    files
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, bytes)
}

/// Applies a patch with git, or with patch where there is no git.
fn apply(tree: &Path, patch: &Path) -> Result<(), Failed> {
    let mut git = Command::new("git");
    // Wherever the data folder is, the tree is no part of a repository: git must not look for one above it.
    git.args(["apply", "--whitespace=nowarn"])
        .arg(patch)
        .env("GIT_CEILING_DIRECTORIES", tree.parent().unwrap_or(tree));
    let mut plain = Command::new("patch");
    plain.args(["--strip=1", "--quiet", "--input"]).arg(patch);
    for mut program in [git, plain] {
        let output = match program.current_dir(tree).env_remove("GIT_DIR").stdin(Stdio::null()).output() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => {
                return Err(Failed::system(format!("cannot run {}: {e}", program.get_program().display())));
            }
            Ok(output) => output,
        };
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(Failed::system(format!("cannot apply {}: {}", patch.display(), text.trim())));
    }
    Err(Failed::usage("the demo needs git, to apply its changes: sudo apt-get install git"))
}

/// Runs both compares and says whether they came out as they should.
pub(crate) async fn run(
    args: &DemoArgs,
    prepared: Prepared,
    session: &Session,
    ui: &Ui,
) -> Result<ExitCode, Failed> {
    let Prepared { folder, began } = prepared;
    let mut reports = Vec::new();
    let mut told = Vec::new();
    for change in &CHANGES {
        ui.hint(&format!("base against {}: should be {}", change.name, change.expected));
        let report = compare(&folder, change, session, ui).await?;
        if ui.flows() {
            ui.reports(SCHEMA, std::slice::from_ref(&report))?;
            // A blank line between two reports.
            ui.emit("\n")?;
        }
        let got = report.decision().map_or_else(|| "NONE".to_owned(), |decision| decision.to_string());
        told.push(format!("{}={got}", change.name));
        reports.push(report);
    }
    if !ui.flows() {
        ui.reports(SCHEMA, &reports)?;
    }
    let wrong: Vec<(&Change, Report)> = CHANGES
        .iter()
        .zip(reports)
        .filter(|(change, report)| report.decision() != Some(change.expected))
        .collect();
    if args.keep {
        ui.hint(&format!("the example is in {}", folder.display()));
    } else if let Err(e) = std::fs::remove_dir_all(&folder) {
        ui.warn(&format!("cannot remove {}: {e}", folder.display()));
    }
    let seconds = began.elapsed().as_secs_f64();
    ui.hint(&format!("the demo took {seconds:.1}s"));
    ui.machine_line(&format!(
        "verdict=NONE demo={} {} elapsed_s={seconds:.1}",
        if wrong.is_empty() { "ok" } else { "odd" },
        told.join(" ")
    ))?;
    conclude(&wrong)
}

async fn compare(folder: &Path, change: &Change, session: &Session, ui: &Ui) -> Result<Report, Failed> {
    let config = Config::parse("darwin.toml", DARWIN_TOML)?;
    let found = FoundSuite::choose(&config, folder.join("base"), "darwin.toml", None)?;
    let side = |name: &str| -> Result<Packed, Failed> {
        let mut packed = pack::pack(&Reference::Dir(folder.join(name)), &found.root)?;
        name.clone_into(&mut packed.variant.label);
        Ok(packed)
    };
    let prepared = both(side("base")?, side(change.name)?, ui);
    let spec = found.spec(prepared.work, rand::random())?;
    submit_and_wait(session, &spec, &prepared.blobs, ui).await
}

fn conclude(wrong: &[(&Change, Report)]) -> Result<ExitCode, Failed> {
    let Some((_, first)) = wrong.first() else { return Ok(ExitCode::Success) };
    let told: Vec<String> = wrong
        .iter()
        .map(|(change, report)| {
            let got =
                report.decision().map_or_else(|| "no verdict".to_owned(), |decision| decision.to_string());
            format!("{} should get {} and got {got}", change.name, change.expected)
        })
        .collect();
    let code = match first.exit_code() {
        // An APPROVE that should have been another verdict is no success of the demo.
        ExitCode::Success => ExitCode::NotOk,
        code => code,
    };
    let why = match first.decision() {
        Some(_) => {
            "if this machine is busy or its speed varies, noise may be why: `darwin check` tells, and another run may do better"
        }
        None => "the report above says what failed",
    };
    Err(Failed::new(code, format!("the demo did not come out as it should: {}; {why}", told.join("; "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_unpacks_and_its_changes_apply() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("demo");
        unpack(&folder).unwrap();
        unpack(&folder).unwrap();
        let text = |tree: &str, file: &str| std::fs::read_to_string(folder.join(tree).join(file)).unwrap();
        assert!(text("base", "darwin.toml").contains("[suite.hotpath]"));
        assert!(folder.join("base/tests/unit").is_dir());
        let differs = |tree: &str| {
            ["orderbook/book.py", "orderbook/engine.py"]
                .iter()
                .any(|file| text("base", file) != text(tree, file))
        };
        assert!(differs("faster") && differs("slower-20"));
    }

    #[test]
    fn the_example_has_one_suite() {
        let config = Config::parse("darwin.toml", DARWIN_TOML).unwrap();
        FoundSuite::choose(&config, ".".into(), "darwin.toml", None).unwrap();
    }
}
