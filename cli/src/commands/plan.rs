//! `darwin gate --plan`: how many pairs a change needs, and what a number of pairs can see. Nothing is judged.

use std::collections::BTreeMap;

use darwin_gate::calibration::{AaPair, CALIBRATION_PAIRS_MIN};
use darwin_gate::plan::{Question, robust_sd};
use darwin_gate::{Block, Policy, SeriesKey, Verdict};
use darwin_shared::exit_code::ExitCode;
use serde_json::{Value, json};

use crate::args::GateArgs;
use crate::calibrations::{percent, rounds_needed, spread};
use crate::failure::Failed;
use crate::ui::{Ui, table};

/// The numbers of pairs whose resolution is told: the gate's usual looks.
const PAIRS: [u32; 9] = [10, 14, 20, 28, 40, 56, 80, 112, 160];
/// The changes that are planned for unless others are named, in percent.
const EFFECTS_PERCENT: [u8; 3] = [1, 2, 5];

/// What is planned for.
struct Plan {
    question: Question,
    /// The noise, of which series if files tell it: the robust standard deviation of a pair's log ratio.
    noise: Vec<(Option<SeriesKey>, f64)>,
    /// The changes that are to be seen, as shares.
    effects: Vec<f64>,
}

/// Plans with the noise that is given.
pub(crate) fn of_noise(args: &GateArgs, policy: &Policy, ui: &Ui) -> Result<ExitCode, Failed> {
    let Some(noise) = args.noise else {
        return Err(Failed::usage(
            "--plan needs the noise: --noise 3%, as `darwin measure --calibrate` says it, or ten or more pairs of files",
        ));
    };
    if !(noise.fraction() > 0.0 && noise.fraction() <= 1.0) {
        return Err(Failed::usage(
            "--noise must be above 0% and at most 100%: 3% is usual on a busy machine",
        ));
    }
    let noise = vec![(None, noise.fraction())];
    Plan { question: question(args, policy, args.gated)?, noise, effects: effects(args)? }.show(ui)
}

/// Plans with the noise of these pairs of files, series by gated series.
pub(crate) fn of_blocks(
    args: &GateArgs,
    policy: &Policy,
    blocks: &[Block],
    verdict: &Verdict,
    ui: &Ui,
) -> Result<ExitCode, Failed> {
    let pairs = blocks.len();
    if pairs < CALIBRATION_PAIRS_MIN as usize {
        let word = if pairs == 1 { "pair" } else { "pairs" };
        return Err(Failed::usage(format!(
            "{pairs} {word} of files cannot tell the noise: give {CALIBRATION_PAIRS_MIN} or more with --baseline and \
             --challenger, or say --noise"
        )));
    }
    let gated = verdict.findings.iter().filter(|finding| finding.gated).map(|finding| &finding.series);
    let mut effects_of: BTreeMap<&SeriesKey, Vec<f64>> = gated.map(|series| (series, Vec::new())).collect();
    for block in blocks {
        for (series, effects) in &mut effects_of {
            if let (Some(baseline), Some(challenger)) =
                (block.baseline.get(*series), block.challenger.get(*series))
            {
                let pair = AaPair::of(series.metric.better(), baseline.value, challenger.value, block.order);
                effects.extend(pair.map(|pair| pair.log_effect));
            }
        }
    }
    if effects_of.is_empty() {
        return Err(Failed::usage("no series of these files is gated: name one with --primary or --margin"));
    }
    let gated = u32::try_from(effects_of.len()).unwrap_or(u32::MAX);
    let noise =
        effects_of.into_iter().map(|(series, effects)| (Some(series.clone()), robust_sd(&effects))).collect();
    Plan { question: question(args, policy, gated)?, noise, effects: effects(args)? }.show(ui)
}

fn question(args: &GateArgs, policy: &Policy, tests: u32) -> Result<Question, Failed> {
    let power = args.power.fraction();
    if !(0.5..=0.999).contains(&power) {
        return Err(Failed::usage(
            "--power must be from 50% to 99.9%: it is the chance to see a change that is there",
        ));
    }
    Ok(Question { alpha: policy.alpha, tests, power })
}

fn effects(args: &GateArgs) -> Result<Vec<f64>, Failed> {
    if args.effect.is_empty() {
        return Ok(EFFECTS_PERCENT.map(|percent| f64::from(percent) / 100.0).to_vec());
    }
    let effects: Vec<f64> = args.effect.iter().map(|effect| effect.fraction()).collect();
    if effects.iter().any(|effect| *effect <= 0.0) {
        return Err(Failed::usage("--effect must be above 0%: it is the change that is to be seen"));
    }
    Ok(effects)
}

impl Plan {
    fn show(&self, ui: &Ui) -> Result<ExitCode, Failed> {
        ui.show("gate --plan", || self.human(), || self.json())?;
        Ok(ExitCode::Success)
    }

    fn human(&self) -> String {
        let Question { alpha, tests, power } = self.question;
        let share = |fraction: f64| darwin_gate::Ratio::new(fraction).unwrap_or_default().to_string();
        let series = if tests == 1 { "gated series" } else { "gated series share it" };
        let title = format!("error {} ({tests} {series}) · power {}", share(alpha), share(power));
        let tables = match self.noise.as_slice() {
            [(None, sd)] => format!("noise {} · {title}\n\n{}", spread(*sd), self.of_one(*sd)),
            _ => format!("noise of the files' pairs · {title}\n\n{}", self.of_many()),
        };
        format!("{tables}\nA pair is one process of each version, side by side.\n")
    }

    fn of_one(&self, sd: f64) -> String {
        let needs = self
            .effects
            .iter()
            .map(|effect| vec![percent(effect.ln_1p()), rounds_needed(self.question, sd, *effect)]);
        let mut head = vec!["PAIRS".to_owned(), "SMALLEST CHANGE SEEN".to_owned()];
        head.extend(self.effects.iter().map(|effect| format!("CHANCE TO SEE {}", percent(effect.ln_1p()))));
        let sees = PAIRS.map(|pairs| {
            let mut row = vec![pairs.to_string(), percent(self.question.smallest_effect(sd, pairs))];
            let chance = |effect: &f64| self.question.chance(sd, effect.ln_1p(), pairs);
            row.extend(self.effects.iter().map(|effect| format!("{:.0}%", 100.0 * chance(effect))));
            row
        });
        let needs = table(&["CHANGE", "PAIRS NEEDED"], needs.collect());
        format!("{needs}\n{}", headed(&head, sees.to_vec()))
    }

    fn of_many(&self) -> String {
        let mut head = vec!["BENCH".to_owned(), "METRIC".to_owned(), "NOISE".to_owned()];
        head.extend(self.effects.iter().map(|effect| format!("PAIRS FOR {}", percent(effect.ln_1p()))));
        let mut columns = vec!["BENCH".to_owned(), "METRIC".to_owned()];
        columns.extend(PAIRS.map(|pairs| format!("IN {pairs} PAIRS")));
        let name = |series: &Option<SeriesKey>| match series {
            Some(SeriesKey { bench, metric }) => [bench.clone(), metric.to_string()],
            None => [String::new(), String::new()],
        };
        let (mut needs, mut sees) = (Vec::new(), Vec::new());
        for (series, sd) in &self.noise {
            let mut row = name(series).to_vec();
            row.push(spread(*sd));
            row.extend(self.effects.iter().map(|effect| rounds_needed(self.question, *sd, *effect)));
            needs.push(row);
            let mut row = name(series).to_vec();
            row.extend(PAIRS.map(|pairs| percent(self.question.smallest_effect(*sd, pairs))));
            sees.push(row);
        }
        format!("{}\nThe smallest change seen\n{}", headed(&head, needs), headed(&columns, sees))
    }

    fn json(&self) -> Value {
        let Question { alpha, tests, power } = self.question;
        let series = self.noise.iter().map(|(series, sd)| {
            let needs = self.effects.iter().map(
                |effect| json!({ "effect_ratio": effect, "pairs": self.question.pairs_needed(*sd, effect.ln_1p()) }),
            );
            let sees = PAIRS.iter().map(|pairs| {
                let effect = self.question.smallest_effect(*sd, *pairs).exp_m1();
                let chances = self.effects.iter().map(|effect| {
                    json!({ "effect_ratio": effect, "chance": self.question.chance(*sd, effect.ln_1p(), *pairs) })
                });
                json!({
                    "pairs": pairs,
                    "effect_ratio": Some(effect).filter(|effect| effect.is_finite()),
                    "chances": chances.collect::<Value>(),
                })
            });
            json!({
                "bench": series.as_ref().map(|series| &series.bench),
                "metric": series.as_ref().map(|series| series.metric.to_string()),
                "log_ratio_robust_sd": sd,
                "needs": needs.collect::<Value>(),
                "sees": sees.collect::<Value>(),
            })
        });
        let series: Value = series.collect();
        json!({ "schema": "darwin-plan/1", "alpha": alpha, "gated_series": tests, "power": power, "series": series })
    }
}

fn headed(head: &[String], rows: Vec<Vec<String>>) -> String {
    table(&head.iter().map(String::as_str).collect::<Vec<_>>(), rows)
}
