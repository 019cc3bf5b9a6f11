//! When darwin itself is at fault: what to report, exit code 70. And the logs of what runs inside this process.

use std::backtrace::Backtrace;
use std::io::Write as _;
use std::process;

use darwin_shared::exit_code::ExitCode;
use tracing_subscriber::EnvFilter;

/// From now on a panic ends the process with what to report, whichever thread it is in.
pub(crate) fn watch() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(|at| format!("{}:{}", at.file(), at.line())).unwrap_or_default();
        let trace = Backtrace::capture();
        let arguments = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
        // Nobody is left to tell if standard error is gone.
        let _ = writeln!(
            std::io::stderr(),
            "darwin: this is a bug in darwin, not in what it measured. Please report it with these lines:\n  \
             darwin {} on {} {}\n  arguments: {}\n  {message}\n  at {place}\n{trace}\n  \
             RUST_BACKTRACE=1 shows where it came from; {}/issues is the place",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::OS,
            std::env::consts::ARCH,
            darwin_shared::report::visible(&arguments),
            env!("CARGO_PKG_REPOSITORY"),
        );
        process::exit(ExitCode::Bug.number().into());
    }));
}

/// The embedded coordinator's and agent's logs, on standard error: errors, and more the more is asked for.
pub(crate) fn log_to_stderr(verbose: u8) {
    let default = match verbose {
        0 | 1 => "error",
        2 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("DARWIN_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(crate::ui::colours(&std::io::stderr()))
        .with_writer(std::io::stderr);
    // Set once, here; a second time could only be refused.
    let _ = logs.try_init();
}
