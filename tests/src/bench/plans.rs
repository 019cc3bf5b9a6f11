//! Plain and sliced pairs of the same benches: how far the log ratios of identical builds spread, and what that costs.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use darwin_gate::plan::Question;

use super::report::{Aim, Line, median};
use crate::World;
use crate::e2e::{Example, calibrate};

/// How often the plans take turns.
const TURNS: usize = 3;
/// Pairs of a turn.
const PAIRS: &str = "20";
const METRICS: [&str; 3] = ["latency.p50", "latency.p99", "latency.mean"];
const PLANS: [(&str, &str); 2] = [("pairs", "plain"), ("sliced", "sliced")];
/// The gate's error, and the series that share it: p50 and p99 of two benches, and the guard.
const ALPHA: f64 = 0.01;
const TESTS: u32 = 5;
/// Sliced pairs must do with this share of the invocations.
const SHARE: f64 = 1.0 / 3.0;

/// Robust and plain standard deviations of the log ratio, each turn's and each bench's.
#[derive(Debug, Default)]
struct Spread {
    robust: Vec<f64>,
    plain: Vec<f64>,
}

/// Spreads of both plans in one run, and the invocations that they need.
pub fn plans() -> Result<Vec<Line>> {
    let world = World::new()?;
    let _coordinator = world.coordinator(&[])?;
    let _agent = world.agent("bench", &[])?;
    let mut spreads: BTreeMap<(&str, &str), Spread> = BTreeMap::new();
    let examples = PLANS
        .map(|(plan, _)| Example::create(Path::new("."), world.folder().join(format!("plan-{plan}")), plan));
    for _ in 0..TURNS {
        for ((_, name), example) in PLANS.iter().zip(&examples) {
            let folder = &example.as_ref().map_err(|why| anyhow::anyhow!("{why:#}"))?.folder;
            for series in calibrate(&world, folder, PAIRS)?.series {
                if let Some(metric) = METRICS.into_iter().find(|known| *known == series.metric) {
                    let spread = spreads.entry((metric, name)).or_default();
                    spread.robust.push(series.robust_sd);
                    spread.plain.push(series.sd);
                }
            }
        }
    }
    let mut lines = Vec::new();
    for metric in METRICS {
        for (_, name) in PLANS {
            let spread = spreads.get(&(metric, name)).with_context(|| format!("no {metric}, {name}"))?;
            let mut line = |what: &str, values: &[f64]| {
                let text = format!("{name} pairs: {what} of the log ratio of {metric}");
                lines.push(Line::new(text, 100.0 * median(values.to_vec()), "%", Aim::None));
            };
            line("robust sd", &spread.robust);
            line("plain sd", &spread.plain);
        }
    }
    for percent in [2_u32, 5] {
        let needed = PLANS.map(|(_, name)| {
            let robust = spreads.get(&(METRICS[0], name)).map_or(f64::NAN, |s| median(s.robust.clone()));
            let effect = (f64::from(percent) / 100.0).ln_1p();
            2.0 * f64::from(Question::usual(ALPHA, TESTS).pairs_needed(robust, effect))
        });
        for ((_, name), needed) in PLANS.iter().zip(needed) {
            let what = format!("{name} pairs: invocations to find +{percent}% of latency.p50");
            lines.push(Line::new(what, needed, "invocations", Aim::None));
        }
        let what = format!("invocations that sliced pairs need for +{percent}%");
        lines.push(Line::new(what, needed[1] / needed[0], "of the plain ones", Aim::AtMost(SHARE)));
    }
    Ok(lines)
}
