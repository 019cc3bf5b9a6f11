//! What goes where: reports to standard output or a file, all else to standard error, and nothing is ever asked.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use darwin_shared::exit_code::ExitCode;
use darwin_shared::report::{self, HumanOptions, Report};
use darwin_shared::text::may_colour;
use serde_json::{Value, json};

use crate::args::{Global, OutputFormat, Promise};
use crate::failure::{Failed, Message};

/// How this process talks to people and machines.
#[derive(Debug)]
pub(crate) struct Ui {
    format: OutputFormat,
    output: Option<PathBuf>,
    quiet: bool,
    verbose: u8,
    /// Whether the line for machines was said.
    kept: AtomicBool,
}

impl Ui {
    /// As the command line says.
    pub(crate) fn new(global: &Global) -> Self {
        Self {
            format: global.format,
            output: global.output.clone(),
            quiet: global.quiet,
            verbose: global.verbose,
            kept: AtomicBool::new(false),
        }
    }

    /// Refuses a format that a command with several reports does not have.
    pub(crate) fn not_junit(&self, command: &str) -> Result<(), Failed> {
        if self.format == OutputFormat::Junit {
            return Err(Failed::usage(format!(
                "`{command}` has more reports than a JUnit file holds: use --format human or json"
            )));
        }
        Ok(())
    }

    /// Refuses a file of `--output` that cannot be written, before hours are spent on what is to stand in it.
    pub(crate) fn check_output(&self) -> Result<(), Failed> {
        let Some(path) = &self.output else { return Ok(()) };
        writable(path).map_err(|e| Failed::usage(format!("cannot write {}: {e}", path.display())))
    }

    /// After a failure: says the line for machines that a script counts on, unless it was said before.
    pub(crate) fn keep(&self, promise: Promise, code: ExitCode, job_id: Option<&str>) {
        if self.kept.load(Ordering::Relaxed) {
            return;
        }
        let (job, error) = (job_id.unwrap_or_default(), code.number());
        // Nobody is left to tell if standard output is gone.
        let _ = match promise {
            Promise::Verdict => self.machine_line(&format!("verdict=NONE job={job} error={error} url=")),
            Promise::Status => self.machine_line(&format!("status=unknown error={error}")),
            Promise::Nothing => Ok(()),
        };
    }

    /// Whether a person watches progress on a terminal.
    pub(crate) fn draws_progress(&self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// Whether standard error may have lines of progress.
    pub(crate) fn tells_progress(&self) -> bool {
        !self.quiet
    }

    /// A hint on standard error; nothing when quiet.
    pub(crate) fn hint(&self, text: &str) {
        if !self.quiet {
            self.warn(text);
        }
    }

    /// A line on standard error, quiet or not.
    #[expect(clippy::unused_self, reason = "reads as the other voices of the interface")]
    pub(crate) fn warn(&self, text: &str) {
        // Nobody is left to tell if standard error is gone.
        let _ = writeln!(io::stderr(), "darwin: {text}");
    }

    /// A report in the wanted format, then the line for machines.
    ///
    /// The line ends standard output where that is for people or logs; JSON and JUnit must stay whole, so there it
    /// goes to standard error. That nobody could be told never changes the exit code.
    pub(crate) fn report(&self, report: &Report) {
        let told = self.report_alone(report).and_then(|()| self.machine_line(&report.machine_line()));
        if let Err(failed) = told {
            self.failed(failed);
        }
    }

    /// A report in the wanted format, without the line for machines.
    fn report_alone(&self, report: &Report) -> Result<(), Failed> {
        self.emit(&self.rendered(report))
    }

    /// Several reports as one: a list in JSON, one after the other for people. JUnit has one document for one suite.
    pub(crate) fn reports(&self, schema: &str, reports: &[Report]) -> Result<(), Failed> {
        match self.format {
            OutputFormat::Json => {
                let list: Value = reports.iter().map(report::json).collect();
                self.emit(&pretty(&json!({ "schema": schema, "reports": list })))
            }
            OutputFormat::Human | OutputFormat::Markdown | OutputFormat::Junit | OutputFormat::Github => {
                let texts: Vec<String> = reports.iter().map(|report| self.rendered(report)).collect();
                self.emit(&texts.join("\n"))
            }
        }
    }

    /// Whether a report can be shown as soon as it is there, with others after it.
    pub(crate) fn flows(&self) -> bool {
        self.format != OutputFormat::Json && self.output.is_none()
    }

    fn rendered(&self, report: &Report) -> String {
        match self.format {
            OutputFormat::Human => {
                let colour = self.output.is_none() && colours(&io::stdout());
                report::human(report, HumanOptions { colour, all: self.verbose > 0 })
            }
            OutputFormat::Json => pretty(&report::json(report)),
            OutputFormat::Markdown => report::markdown(report),
            OutputFormat::Junit => report::junit(report),
            OutputFormat::Github => {
                let github = report::github(report);
                // With a summary file GitHub shows the page; without, the log is the only place for it.
                if std::env::var_os("GITHUB_STEP_SUMMARY").is_some() {
                    github.annotations
                } else {
                    format!("{}{}", github.annotations, github.summary)
                }
            }
        }
    }

    /// A table or text for people, or JSON; the other formats have nothing to say here.
    pub(crate) fn show(
        &self,
        command: &str,
        human: impl FnOnce() -> String,
        json: impl FnOnce() -> Value,
    ) -> Result<(), Failed> {
        match self.format {
            OutputFormat::Human => self.emit(&human()),
            OutputFormat::Json => self.emit(&pretty(&json())),
            OutputFormat::Markdown | OutputFormat::Junit | OutputFormat::Github => Err(no_verdict(command)),
        }
    }

    /// Refuses, before anything is started, a format that [`Ui::show`] would refuse.
    pub(crate) fn shows(&self, command: &str) -> Result<(), Failed> {
        match self.format {
            OutputFormat::Human | OutputFormat::Json => Ok(()),
            OutputFormat::Markdown | OutputFormat::Junit | OutputFormat::Github => Err(no_verdict(command)),
        }
    }

    /// Whether a person wants to see what is usually left out.
    pub(crate) fn shows_all(&self) -> bool {
        self.verbose > 0
    }

    /// The id of a job that is left to its coordinator.
    pub(crate) fn submitted(&self, job_id: &str) -> Result<(), Failed> {
        match self.format {
            OutputFormat::Json => {
                self.emit(&pretty(&json!({ "schema": "darwin-submitted/1", "job_id": job_id })))
            }
            OutputFormat::Human | OutputFormat::Markdown | OutputFormat::Junit | OutputFormat::Github => {
                self.emit(&format!("{job_id}\n"))
            }
        }
    }

    /// The line for machines, at the end of standard output, or on standard error where that must stay whole.
    pub(crate) fn machine_line(&self, line: &str) -> Result<(), Failed> {
        self.kept.store(true, Ordering::Relaxed);
        let whole = matches!(self.format, OutputFormat::Json | OutputFormat::Junit) && self.output.is_none();
        if whole {
            // Nobody is left to tell if standard error is gone.
            let _ = writeln!(io::stderr(), "{line}");
            return Ok(());
        }
        to_stdout(format!("{line}\n").as_bytes())
    }

    /// To the file of `--output`, or to standard output. A file that cannot be written any more costs nobody the report,
    /// nor does it change the exit code.
    pub(crate) fn emit(&self, text: &str) -> Result<(), Failed> {
        let Some(path) = &self.output else { return to_stdout(text.as_bytes()) };
        write_whole(path, text.as_bytes()).or_else(|e| {
            self.warn(&format!("cannot write {}: {e}; the report goes to standard output", path.display()));
            to_stdout(text.as_bytes())
        })
    }

    /// The Markdown report on the job's page on GitHub, if this runs there. Best effort: it never changes the code.
    pub(crate) fn github_summary(&self, report: &Report) {
        let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|path| !path.is_empty()) else {
            return;
        };
        let text = format!("{}\n", report::markdown(report));
        let appended = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()));
        if let Err(e) = appended {
            self.warn(&format!("cannot append to GITHUB_STEP_SUMMARY ({}): {e}", Path::new(&path).display()));
        }
    }

    /// Why a command failed, on standard error.
    pub(crate) fn failed(&self, failed: Failed) {
        match failed.message {
            Message::Text(text) => self.warn(&text),
            Message::Config(error) => {
                // Nobody is left to tell if standard error is gone.
                let _ = writeln!(io::stderr(), "{:?}", miette::Report::new(*error));
            }
        }
    }
}

fn no_verdict(command: &str) -> Failed {
    Failed::usage(format!("`{command}` has no verdict to report: use --format human or json"))
}

/// Whether what is written to this stream may have colours.
pub(crate) fn colours(to: &impl io::IsTerminal) -> bool {
    let variable = |name| std::env::var_os(name);
    may_colour(to.is_terminal(), variable("NO_COLOR").as_deref(), variable("TERM").as_deref())
}

/// Raw bytes to standard output. A reader that has had enough (`| head`) is no error.
pub(crate) fn to_stdout(bytes: &[u8]) -> Result<(), Failed> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failed::system(format!("cannot write to standard output: {e}")))
        }
        _ => Ok(()),
    }
}

fn pretty(value: &Value) -> String {
    // A `Value` has nothing in it that could fail to serialize; its plain form is the same document.
    let text = serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string());
    format!("{text}\n")
}

/// Whether a report can be written there, as far as can be told without touching what is there.
fn writable(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(meta) if meta.is_file() => std::fs::OpenOptions::new().append(true).open(path).map(drop),
        // To open a pipe could wait for its reader, and a device may act on it.
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            // Asked first, so that the answer names no file aside, which would only puzzle whoever reads it.
            std::fs::metadata(folder_of(path))?;
            tempfile::Builder::new().prefix(".darwin-").tempfile_in(folder_of(path)).map(drop)
        }
        Err(e) => Err(e),
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes aside and renames, so that a reader never sees half a report.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A device or a pipe cannot be replaced by renaming, and must not be.
    if std::fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file()) {
        return std::fs::write(path, bytes);
    }
    let mut aside = tempfile::Builder::new().prefix(".darwin-").tempfile_in(folder_of(path))?;
    aside.write_all(bytes)?;
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    aside.as_file().set_permissions(permissions)?;
    aside.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// A table for people: aligned columns, names fit for a terminal, no lines.
pub(crate) fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    use comfy_table::{ContentArrangement, Table, presets};
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(head);
    for row in rows {
        table.add_row(row.iter().map(|cell| report::visible(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
}
