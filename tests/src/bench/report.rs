//! What a benchmark found, beside what was aimed at.

use std::fmt::Write;

/// The goal of a number.
#[derive(Debug, Clone, Copy)]
pub enum Aim {
    /// So much or more.
    AtLeast(f64),
    /// So much or less.
    AtMost(f64),
    /// For information.
    None,
}

/// One number with its unit and goal.
#[derive(Debug, Clone)]
pub struct Line {
    /// What was measured.
    pub what: String,
    /// The number, in `unit`.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// The goal, in `unit`.
    pub aim: Aim,
}

impl Line {
    /// A number with its goal.
    pub fn new(what: impl Into<String>, value: f64, unit: &'static str, aim: Aim) -> Self {
        Self { what: what.into(), value, unit, aim }
    }

    /// Whether the goal is reached; none without a goal.
    pub fn reached(&self) -> Option<bool> {
        match self.aim {
            Aim::AtLeast(least) => Some(self.value >= least),
            Aim::AtMost(most) => Some(self.value <= most),
            Aim::None => None,
        }
    }
}

/// The upper median; no number without values.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// All numbers of one run.
#[derive(Debug, Default)]
pub struct Report {
    lines: Vec<Line>,
}

impl Report {
    /// Adds numbers.
    pub fn add(&mut self, lines: Vec<Line>) {
        self.lines.extend(lines);
    }

    /// The numbers as a Markdown table.
    pub fn to_markdown(&self) -> String {
        let mut text = String::from("| what | measured | aim | reached |\n|---|---:|---:|---|\n");
        for line in &self.lines {
            let aim = match line.aim {
                Aim::AtLeast(least) => format!("≥ {} {}", number(least), line.unit),
                Aim::AtMost(most) => format!("≤ {} {}", number(most), line.unit),
                Aim::None => "–".to_owned(),
            };
            let reached = match line.reached() {
                Some(true) => "yes",
                Some(false) => "**no**",
                None => "",
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} {} | {aim} | {reached} |",
                line.what,
                number(line.value),
                line.unit
            );
        }
        text
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
