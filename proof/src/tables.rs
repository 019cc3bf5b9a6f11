//! The tables of `docs/gate.md`, in Markdown.

use crate::bars::{Bar, Check};
use crate::calls::Calls;
use crate::extras::{Extras, REBUILT_CHANGES, Row, SLOW_PROCESSES};
use crate::noise::Model;
use crate::peers::RULES;
use crate::recorded::{self, Case};
use crate::recordings::Arm;
use crate::results::{Request, Results};
use crate::scenario::Scenario;
use crate::synthetic::PEERS_EVERY;
use crate::tally::Tally;

/// A table, with the name of its place in the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The name in the marks.
    pub name: &'static str,
    /// Markdown.
    pub text: String,
}

/// The tables whose numbers are there.
pub fn all(request: &Request, results: &Results, checks: &[Check]) -> Vec<Table> {
    let mut tables = Vec::new();
    let mut add = |name, text: Option<String>| tables.extend(text.map(|text| Table { name, text }));
    add("bars", request.only.is_empty().then(|| bars(request, checks)));
    let whole = request.only.is_empty();
    add("noise", whole.then(|| noise(results)));
    add("recordings", whole.then(|| recordings(results)));
    add("families", whole.then(|| families(results)));
    add("peers-wrong", whole.then(|| peers_wrong(request, results)));
    add("peers-found", whole.then(|| peers_found(results)));
    add("slow-processes", results.extras.as_ref().map(slow_processes));
    add("rebuilt", results.extras.as_ref().map(rebuilt));
    add("peeking", results.extras.as_ref().map(peeking));
    tables
}

fn row(cells: impl IntoIterator<Item = String>) -> String {
    format!("| {} |\n", cells.into_iter().collect::<Vec<_>>().join(" | "))
}

fn head(cells: &[&str]) -> String {
    let rule =
        cells.iter().enumerate().map(|(i, _)| if i == 0 { "---".to_owned() } else { "---:".to_owned() });
    row(cells.iter().map(|c| (*c).to_owned())) + &row(rule)
}

/// The bars with their hardest cells.
fn bars(request: &Request, checks: &[Check]) -> String {
    let mut text = format!(
        "Seed {}, {} trials a cell. Bounds are exact, one-sided, 95%.\n\n\
         | bar | asks for | cells | hardest cell | measured there | result |\n|---|---|---:|---|---|---|\n",
        request.seed, request.trials
    );
    for bar in Bar::ALL {
        let of_bar: Vec<&Check> = checks.iter().filter(|c| c.bar == bar).collect();
        let Some(hardest) = of_bar.iter().max_by(|a, b| a.strain.total_cmp(&b.strain)) else { continue };
        let missed = of_bar.iter().filter(|c| !c.passed()).count();
        let result = if missed == 0 { "PASS".to_owned() } else { format!("**MISS** in {missed}") };
        let cells = of_bar.len().to_string();
        text += &row([
            bar.to_string(),
            bar.claim().to_owned(),
            cells,
            hardest.cell.clone(),
            hardest.measured.clone(),
            result,
        ]);
    }
    text
}

fn verdicts(tally: &Tally) -> String {
    let (approved, rejected) = (tally.approvals().percent(), tally.rejections().percent());
    format!("{approved:.1} / {rejected:.1} / {:.0}", tally.mean_invocations())
}

fn noise(results: &Results) -> String {
    let scenarios: Vec<Scenario> =
        Scenario::BARRED.into_iter().filter(|s| *s != Scenario::SameNoSlower).collect();
    let names: Vec<String> = scenarios.iter().map(|s| s.name()).collect();
    let mut text =
        head(&std::iter::once("noise").chain(names.iter().map(String::as_str)).collect::<Vec<_>>());
    for (model, outcome) in &results.synthetic {
        let cells = scenarios.iter().map(|s| outcome.verdicts.get(s).map_or("–".to_owned(), verdicts));
        text += &row(std::iter::once(model.name().to_owned()).chain(cells));
    }
    text
}

fn recordings(results: &Results) -> String {
    let mut text = String::new();
    for pairs in recorded::MAX_PAIRS {
        let names: Vec<String> = Case::ALL.iter().map(|case| case.name()).collect();
        let label = format!("at most {pairs} pairs");
        text += &head(
            &std::iter::once(label.as_str()).chain(names.iter().map(String::as_str)).collect::<Vec<_>>(),
        );
        for recording in &results.recorded {
            let cells = Case::ALL
                .iter()
                .map(|case| recording.outcome.verdicts.get(&(pairs, *case)).map_or("–".to_owned(), verdicts));
            text += &row(std::iter::once(recording.name()).chain(cells));
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len() + 1);
    text
}

fn families(results: &Results) -> String {
    let mut text = head(&["noise", "all identical: REJECT", "one bench +5%: REJECT", "invocations at +5%"]);
    for (model, families) in &results.families {
        let percent = |tally: &Tally| format!("{:.2}%", tally.rejections().percent());
        let cost = format!("{:.0}", families.one_slower.mean_invocations());
        text += &row([model.name().to_owned(), percent(&families.same), percent(&families.one_slower), cost]);
    }
    text
}

/// Percent with one digit where it is small.
fn short(calls: Calls, share: crate::tally::Share) -> String {
    match (calls.of, share.percent()) {
        (0, _) => "–".to_owned(),
        (_, percent) if percent < 9.95 => format!("{percent:.1}"),
        (_, percent) => format!("{percent:.0}"),
    }
}

/// The smallest and the largest share over the recordings of a machine.
fn range(calls: impl Iterator<Item = Calls>) -> String {
    let percents: Vec<f64> = calls.filter(|c| c.of > 0).map(|c| c.either().percent()).collect();
    let low = percents.iter().copied().fold(f64::INFINITY, f64::min);
    let high = percents.iter().copied().fold(0.0, f64::max);
    if percents.is_empty() { "–".to_owned() } else { format!("{low:.1}–{high:.1}") }
}

const OURS_MEAN: &str = "**Darwin, the mean alone** (≤ 80)";
const OURS: &str = "**Darwin, p50, mean and p99** (≤ 80)";

fn as_calls(tally: Option<&Tally>) -> Calls {
    tally.map_or(Calls::default(), |t| Calls { slower: t.rejected, faster: t.approved, of: t.trials })
}

type OnRecording<'a> = dyn Fn(&recorded::Outcome, Case) -> Calls + 'a;

/// One line of the comparison: a name, and how to get its calls.
struct Line<'a> {
    name: String,
    on_noise: Box<dyn Fn(Model, Scenario) -> Calls + 'a>,
    on_recording: Box<OnRecording<'a>>,
}

fn lines(results: &Results) -> Vec<Line<'_>> {
    let of = |model: Model| results.synthetic.get(&model);
    let mut lines: Vec<Line<'_>> = RULES
        .iter()
        .enumerate()
        .map(|(index, rule)| Line {
            name: format!("{} ({})", rule.name, rule.invocations),
            on_noise: Box::new(move |model, scenario| {
                let calls = of(model).and_then(|o| o.peers.get(&scenario)?.get(index).copied());
                calls.unwrap_or_default()
            }),
            on_recording: Box::new(move |outcome, case| {
                outcome.peers.get(&case).and_then(|calls| calls.get(index).copied()).unwrap_or_default()
            }),
        })
        .collect();
    lines.push(Line {
        name: OURS_MEAN.to_owned(),
        on_noise: Box::new(move |model, scenario| {
            of(model).and_then(|o| o.mean_only.get(&scenario).copied()).unwrap_or_default()
        }),
        on_recording: Box::new(|outcome, case| outcome.mean_only.get(&case).copied().unwrap_or_default()),
    });
    lines.push(Line {
        name: OURS.to_owned(),
        on_noise: Box::new(move |model, scenario| {
            as_calls(of(model).and_then(|o| o.verdicts.get(&scenario)))
        }),
        on_recording: Box::new(|outcome, case| {
            as_calls(outcome.verdicts.get(&(recorded::MAX_PAIRS[0], case)))
        }),
    });
    lines
}

fn peers_wrong(request: &Request, results: &Results) -> String {
    let mut columns = vec!["rule (invocations)"];
    columns.extend(Model::ALL.map(Model::name));
    columns.extend(["contended", "normal"]);
    let mut text = format!(
        "{} trials a cell on noise, {} on each of four recordings a machine (smallest and largest).\n\n",
        request.trials.div_ceil(PEERS_EVERY),
        request.trials
    ) + &head(&columns);
    for line in lines(results) {
        let on_noise = Model::ALL.map(|model| {
            let calls = (line.on_noise)(model, Scenario::Same);
            short(calls, calls.either())
        });
        let on_machines = ["contended", "normal"].map(|machine| {
            let recorded = results.recorded.iter().filter(|r| r.machine == machine);
            range(recorded.map(|r| (line.on_recording)(&r.outcome, Case::Same)))
        });
        text += &row(std::iter::once(line.name).chain(on_noise).chain(on_machines));
    }
    text
}

fn peers_found(results: &Results) -> String {
    let models = [Model::ProcBias, Model::Bimodal, Model::Drift, Model::Heavy];
    let mut text = head(&[
        "rule (invocations)",
        "+2%: procbias / bimodal / drift / heavy",
        "+5%: the same",
        "p99 alone +10%: the same",
        "contended, 2% more work: book / chase / parse / udp",
        "5% more work: the same",
    ]);
    for line in lines(results) {
        let on_noise = |scenario| {
            let cells = models.map(|model| {
                let calls = (line.on_noise)(model, scenario);
                short(calls, calls.slower())
            });
            cells.join(" / ")
        };
        let on_recordings = |arm| {
            let contended = results.recorded.iter().filter(|r| r.machine == "contended");
            let cells = contended.map(|r| {
                let calls = (line.on_recording)(&r.outcome, Case::Slower(arm));
                short(calls, calls.slower())
            });
            cells.collect::<Vec<_>>().join(" / ")
        };
        text += &row([
            line.name.clone(),
            on_noise(Scenario::Slower(2)),
            on_noise(Scenario::Slower(5)),
            on_noise(Scenario::SlowerTail),
            on_recordings(Arm::More2),
            on_recordings(Arm::More5),
        ]);
    }
    text
}

fn rejections(rows: &[Row], columns: &[String], first: &str) -> String {
    let mut text =
        head(&std::iter::once(first).chain(columns.iter().map(String::as_str)).collect::<Vec<_>>());
    for line in rows {
        let cells = line.tallies.iter().map(|t| format!("{:.1}%", t.rejections().percent()));
        text += &row(std::iter::once(line.setting.clone()).chain(cells));
    }
    text
}

fn slow_processes(extras: &Extras) -> String {
    let name = |slower: f64| match slower {
        0.0 => "identical: REJECT".to_owned(),
        slower => format!("1 in 10 slower by {:.0}%", 100.0 * slower),
    };
    rejections(&extras.slow_processes, &SLOW_PROCESSES.map(name), "setting")
}

fn rebuilt(extras: &Extras) -> String {
    let name = |change: f64| match change {
        0.0 => "rebuilt, same source: REJECT".to_owned(),
        change => format!("+{:.0}%", 100.0 * change),
    };
    rejections(&extras.rebuilt, &REBUILT_CHANGES.map(name), "setting")
}

fn peeking(extras: &Extras) -> String {
    let mut text = head(&["how one looks at identical builds", "called different"]);
    for (how, share) in &extras.peeking {
        text += &row([how.clone(), format!("{:.1}%", share.percent())]);
    }
    text
}
