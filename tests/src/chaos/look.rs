//! What every bench of the chaos does first: it looks whether anything of an earlier lease still runs on its cores.
//!
//! This does not hang on when somebody looks: the bench is there, and whatever it finds alive is there too.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::sight::{Ours, Role, Scanner, Seen};

/// The first argument that makes the program look and end.
const LOOK_ARG: &str = "__look";
/// How a line begins that says what must not be.
const WRONG: &str = "wrong: ";

/// Looks, if the program was started for that; says whether it was.
pub fn look_if_asked() -> Result<bool> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(LOOK_ARG) {
        return Ok(false);
    }
    let mut next = || arguments.next().context("usage: __look FILE SCRATCH MARK");
    let (file, scratch, mark) = (next()?, PathBuf::from(next()?), next()?);
    let own = std::env::var("DARWIN_ATTEMPT").context("DARWIN_ATTEMPT")?;
    let all = Scanner::new(Ours { scratch, locks: PathBuf::new(), mark }).scan()?;
    let mine = i32::try_from(std::process::id())?;
    let me = all.iter().find(|seen| seen.pid == mine).context("it does not find itself")?;
    let found = others(me, &all, &own);
    let mut lines: Vec<String> =
        found.iter().map(|seen| format!("{WRONG}a bench of attempt {own} found {seen}")).collect();
    if lines.is_empty() {
        lines.push("clean".to_owned());
    }
    let mut log = std::fs::OpenOptions::new().create(true).append(true).open(file)?;
    log.write_all(format!("{}\n", lines.join("\n")).as_bytes())?;
    Ok(true)
}

/// What lives on the same cores and is not of the same attempt.
fn others<'a>(me: &Seen, all: &'a [Seen], own: &str) -> Vec<&'a Seen> {
    let foreign = |seen: &&Seen| match &seen.role {
        Role::Launcher | Role::Guard => false,
        Role::Probe => true,
        Role::Bench(attempt) => attempt != own,
    };
    all.iter().filter(foreign).filter(|seen| seen.is_on(&me.cpus) && seen.lives()).collect()
}

/// The command by which a script looks, and says it into this file.
pub(crate) fn command(program: &str, file: &str, ours: &Ours) -> String {
    format!("'{program}' {LOOK_ARG} '{file}' '{}' '{}'", ours.scratch.display(), ours.mark)
}

/// How many looks there were, and what they found.
pub(crate) fn found(file: &std::path::Path) -> (usize, Vec<String>) {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let wrong = text.lines().filter_map(|line| line.strip_prefix(WRONG)).map(str::to_owned).collect();
    (text.lines().count(), wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_another_lease_is_found() {
        let stat = |pid: i32| super::super::sight::Stat::of(pid).unwrap().start;
        let own = i32::try_from(std::process::id()).unwrap();
        let seen = |role, cpus: &str| Seen {
            pid: own,
            parent: 1,
            start: stat(own),
            role,
            cpus: cpus.parse().unwrap(),
            container: None,
            command: String::new(),
        };
        let bench = |attempt: &str| Role::Bench(attempt.to_owned());
        let me = seen(bench("a"), "1");
        let gone = Seen { start: 0, ..seen(bench("b"), "1") };
        let all = [me.clone(), seen(bench("b"), "1"), seen(Role::Probe, "1"), seen(bench("b"), "0"), gone];
        let found = others(&me, &all, "a");
        assert_eq!(found.len(), 2, "{found:?}");
        let both = [&all[0], &all[1]];
        assert_eq!(super::super::watcher::together(&both).len(), 1);
        assert!(super::super::watcher::together(&[&all[0], &all[0]]).is_empty());
        assert!(super::super::watcher::together(&[&all[0], &all[4]]).is_empty());
    }
}
