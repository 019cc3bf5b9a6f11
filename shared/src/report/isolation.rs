//! How the benches were kept apart: the agent's line about it, taken apart for people and programs.

use std::fmt;

use crate::fleet::IsolationLevel;
use crate::text::visible;

/// How the benches of an attempt were kept apart, as the kernel said when it was asked back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isolation<'a> {
    /// How well.
    pub level: IsolationLevel,
    facts: &'a str,
}

impl<'a> Isolation<'a> {
    /// Reads a line like `cpuset: CPUs 6 of node 0; SCHED_FIFO 10; 1 thread read back`. None of an empty one, and of a level
    /// that another version knows.
    pub fn read(line: &'a str) -> Option<Self> {
        let (level, facts) = line.split_once(": ").unwrap_or((line, ""));
        Some(Self { level: level.parse().ok()?, facts })
    }

    /// What was read back of the benches and what was done for them, one by one.
    pub fn facts(self) -> impl Iterator<Item = &'a str> {
        self.facts.split("; ").filter(|fact| !fact.is_empty())
    }

    /// By what, in a few words: `isolated by cpuset + fifo`.
    pub fn in_short(self) -> String {
        let has = |wanted: &str| self.facts().any(|fact| fact.starts_with(wanted));
        let mut by = vec![match self.level {
            IsolationLevel::Isolated if has("an isolated partition") => "isolated partition",
            IsolationLevel::Isolated => "isolated cores",
            IsolationLevel::Cpuset => "cpuset",
            IsolationLevel::Fifo => "fifo",
            // Others may run there too: to call that isolated would promise too much.
            IsolationLevel::Affinity => return "not isolated, affinity alone".to_owned(),
            IsolationLevel::None => return "not isolated".to_owned(),
        }];
        if has("shielded") {
            by.push("shield");
        }
        if has("SCHED_FIFO ") && self.level != IsolationLevel::Fifo {
            by.push("fifo");
        }
        format!("isolated by {}", by.join(" + "))
    }
}

/// All of it in a line, fit for a terminal.
impl fmt::Display for Isolation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.level)?;
        self.facts().try_for_each(|fact| write!(f, "; {}", visible(fact)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_is_told_in_short() {
        for (line, short) in [
            ("cpuset: CPUs 6 of node 0; SCHED_FIFO 10; in /darwin/a/b", "isolated by cpuset + fifo"),
            ("cpuset: CPUs 6 of node 0; ordinary class; shielded", "isolated by cpuset + shield"),
            ("cpuset: CPUs 6 of node 0; ordinary class; no SCHED_FIFO: x", "isolated by cpuset"),
            ("fifo: CPUs 6 of node 0; SCHED_FIFO 10", "isolated by fifo"),
            ("isolated: CPUs 6 of node 0; an isolated partition", "isolated by isolated partition"),
            ("isolated: CPUs 6 of node 0; SCHED_FIFO 10", "isolated by isolated cores + fifo"),
            ("affinity: CPUs 6 of node 0; ordinary class", "not isolated, affinity alone"),
            ("none", "not isolated"),
        ] {
            assert_eq!(Isolation::read(line).map(Isolation::in_short).as_deref(), Some(short), "{line}");
        }
        assert_eq!((Isolation::read(""), Isolation::read("enclave: x")), (None, None));
    }

    #[test]
    fn all_of_it_is_one_line_that_no_terminal_obeys() {
        let isolation = Isolation::read("cpuset: CPUs 6 of node 0; in /darwin/\u{1b}[2J").unwrap();
        assert_eq!(isolation.to_string(), "cpuset; CPUs 6 of node 0; in /darwin/\\u{1b}[2J");
        assert_eq!(isolation.facts().count(), 2);
        assert_eq!(Isolation::read("fifo").unwrap().to_string(), "fifo");
    }
}
