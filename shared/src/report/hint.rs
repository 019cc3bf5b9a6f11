//! What a newcomer most likely has to mend when a command failed, read from its last words.

use crate::state::{Failure, FailureCause};
use crate::text::plain;

/// The longest name of a program that is repeated.
const MAX_NAME_CHARS: usize = 60;
/// So many of the last lines are searched: what ended the command stands at the end.
const LINES_SEARCHED: usize = 40;
/// How an environment that knows Rust's tools reads.
const RUST_ENV: &str = "env = { PATH = \"/home/you/.cargo/bin:/usr/bin:/bin\", CARGO_HOME = \"/home/you/.cargo\", \
                        RUSTUP_HOME = \"/home/you/.rustup\" }";

/// What would mend this failure, if its cause is one of the usual ones: a program that is not found in the small
/// environment that commands get, or rustup without its folders.
pub(super) fn failure_hint(failure: &Failure) -> Option<String> {
    if let FailureCause::NotStarted(why) = &failure.cause {
        let (name, _) = why.strip_prefix('`')?.split_once("` is not found")?;
        return Some(missing(name));
    }
    let FailureCause::ExitCode(_) = failure.cause else { return None };
    failure.log_tail.lines().rev().take(LINES_SEARCHED).find_map(|line| {
        if line.contains("rustup could not choose a version") {
            return Some(format!(
                "commands get a HOME of their own: tell rustup where its folders are, {RUST_ENV}"
            ));
        }
        not_found(line).map(missing)
    })
}

/// The program that a shell, `env` or `make` says it cannot find: `sh: 1: cargo: not found`,
/// `bash: line 1: cargo: command not found`, `env: 'cargo': No such file or directory`, `make: cargo: No such …`.
fn not_found(line: &str) -> Option<&str> {
    let line = line.trim_end();
    let told = line.strip_suffix(": command not found").or_else(|| {
        let of_shell = line.strip_suffix(": not found")?;
        // The shell's own words begin with its name: others say `not found` of other things.
        let shell = of_shell.split(": ").next()?;
        shell.rsplit('/').next()?.ends_with("sh").then_some(of_shell)
    });
    let told = told.or_else(|| {
        let starter =
            ["env: ", "/usr/bin/env: ", "make: "].iter().find(|starter| line.starts_with(**starter))?;
        line.strip_prefix(*starter)?.strip_suffix(": No such file or directory")
    })?;
    let name = told.rsplit(": ").next()?.trim_matches(['\'', '‘', '’', '"', '`']);
    (!name.is_empty() && !name.contains(char::is_whitespace)).then_some(name)
}

fn missing(name: &str) -> String {
    let name = plain(name, MAX_NAME_CHARS);
    if name.contains('/') {
        return format!(
            "`{name}` is not there: is it committed, does `files` of darwin.toml include it, or should `setup` build it?"
        );
    }
    if matches!(name.as_str(), "cargo" | "rustc" | "rustup") {
        return format!(
            "`{name}` is not found: commands do not get your shell's environment. Say in the suite of darwin.toml where it \
             is, {RUST_ENV}, or write its whole path"
        );
    }
    format!(
        "`{name}` is not found: commands do not get your shell's environment. Install it for the whole system, or say in the \
         suite of darwin.toml where it is, env = {{ PATH = \"/folder/of/it:/usr/bin:/bin\" }}, or write its whole path"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Arm;
    use crate::state::Stage;

    fn hint(cause: FailureCause, log_tail: &str) -> Option<String> {
        failure_hint(&Failure {
            stage: Stage::Setup,
            arm: Arm::Baseline,
            variant: "main".into(),
            cause,
            log_tail: log_tail.into(),
        })
    }

    #[test]
    fn a_missing_tool_is_named_with_what_mends_it() {
        for log in [
            "/bin/sh: 1: cargo: not found\n",
            "Building\nbash: line 1: cargo: command not found\n",
            "env: ‘cargo’: No such file or directory\n",
            "make: cargo: No such file or directory\nmake: *** [Makefile:2: all] Error 127\n",
        ] {
            let hint = hint(FailureCause::ExitCode(127), log).unwrap();
            assert!(hint.starts_with("`cargo` is not found") && hint.contains("CARGO_HOME"), "{log}: {hint}");
        }
        let started = FailureCause::NotStarted("`hyperfine` is not found in PATH=/usr/bin:/bin".into());
        assert!(hint(started, "").unwrap().starts_with("`hyperfine` is not found"));
        let script = hint(FailureCause::ExitCode(127), "sh: 1: ./bench.sh: not found\n").unwrap();
        assert!(script.contains("committed"), "{script}");
        let rustup = "error: rustup could not choose a version of cargo to run, because one wasn't specified";
        assert!(hint(FailureCause::ExitCode(1), rustup).unwrap().contains("RUSTUP_HOME"));
    }

    #[test]
    fn what_only_sounds_like_it_gets_no_hint() {
        for log in ["", "test_x: user 7: not found\nassert 1 == 2\n", "404: not found\n", "file not found\n"]
        {
            assert_eq!(hint(FailureCause::ExitCode(1), log), None, "{log}");
        }
        assert_eq!(hint(FailureCause::Signal(9), "sh: 1: cargo: not found"), None);
        assert_eq!(hint(FailureCause::NotStarted("`x` does not exist".into()), ""), None);
    }
}
