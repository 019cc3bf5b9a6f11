//! The program as people and CI meet it: exit codes, standard output, files. No coordinator is needed here.

#[cfg(test)]
#[path = "cli/files.rs"]
mod files;
#[cfg(test)]
#[path = "cli/gate.rs"]
mod gate;
#[cfg(test)]
#[path = "cli/plan.rs"]
mod plan;
#[cfg(test)]
#[path = "cli/program.rs"]
mod program;
#[cfg(test)]
#[path = "cli/usage.rs"]
mod usage;
