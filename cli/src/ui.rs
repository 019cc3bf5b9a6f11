//! What goes where: reports to standard output or a file, all else to standard error, and nothing is ever asked.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use darwin_shared::report::{self, HumanOptions, Report};
use serde_json::{Value, json};

use crate::args::{Global, OutputFormat};
use crate::failure::{Failed, Message};

/// How this process talks to people and machines.
#[derive(Debug, Clone)]
pub(crate) struct Ui {
    format: OutputFormat,
    output: Option<PathBuf>,
    quiet: bool,
    verbose: u8,
}

impl Ui {
    /// As the command line says.
    pub(crate) fn new(global: &Global) -> Self {
        Self {
            format: global.format,
            output: global.output.clone(),
            quiet: global.quiet,
            verbose: global.verbose,
        }
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
    /// goes to standard error.
    pub(crate) fn report(&self, report: &Report) -> Result<(), Failed> {
        self.report_alone(report)?;
        self.machine_line(&report.machine_line())
    }

    /// A report in the wanted format, as one of several.
    pub(crate) fn report_alone(&self, report: &Report) -> Result<(), Failed> {
        let text = match self.format {
            OutputFormat::Human => {
                let colour = self.output.is_none() && colours();
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
        };
        self.emit(&text)
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
            OutputFormat::Markdown | OutputFormat::Junit | OutputFormat::Github => Err(Failed::usage(
                format!("`{command}` has no verdict to report: use --format human or json"),
            )),
        }
    }

    /// A blank line between two reports for people.
    pub(crate) fn gap(&self) -> Result<(), Failed> {
        let for_people = self.format == OutputFormat::Human && self.output.is_none();
        if for_people { to_stdout(b"\n") } else { Ok(()) }
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
        let whole = matches!(self.format, OutputFormat::Json | OutputFormat::Junit) && self.output.is_none();
        if whole {
            // Nobody is left to tell if standard error is gone.
            let _ = writeln!(io::stderr(), "{line}");
            return Ok(());
        }
        to_stdout(format!("{line}\n").as_bytes())
    }

    /// To the file of `--output`, or to standard output.
    pub(crate) fn emit(&self, text: &str) -> Result<(), Failed> {
        match &self.output {
            Some(path) => write_whole(path, text.as_bytes())
                .map_err(|e| Failed::usage(format!("cannot write {}: {e}", path.display()))),
            None => to_stdout(text.as_bytes()),
        }
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

fn colours() -> bool {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !no_colour && !dumb && io::stdout().is_terminal()
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

/// Writes aside and renames, so that a reader never sees half a report.
fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A device or a pipe cannot be replaced by renaming, and must not be.
    if std::fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_file()) {
        return std::fs::write(path, bytes);
    }
    let mut aside = tempfile::Builder::new().prefix(".darwin-").tempfile_in(folder)?;
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

/// A time for people, in UTC: `2025-11-24 16:02:11`; empty for none.
pub(crate) fn utc(unix_ms: u64) -> String {
    if unix_ms == 0 {
        return String::new();
    }
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(unix_ms);
    humantime::format_rfc3339_seconds(time).to_string().replace('T', " ").replace('Z', "")
}
