//! `darwin measure --calibrate`: one version against itself. What its pairs show is noise, and what noise leaves to be seen.

use std::time::Duration;

use darwin_gate::plan::Question;
use darwin_gate::resolution::{NoiseSource, Unresolved, in_a_line};
use darwin_gate::{Decision, Policy};
use darwin_proto::v1;
use darwin_shared::exit_code::ExitCode;
use darwin_shared::report::{Report, visible};
use darwin_shared::round::Pairing;
use darwin_shared::spec::{JobSpec, MAX_BUDGET, Variant, Work};
use darwin_shared::state::Outcome;
use darwin_shared::units::format_change;
use serde_json::{Value, json};

use crate::args::MeasureArgs;
use crate::calibrations::{fetch, pairing, percent, rounds_needed, series, spread};
use crate::failure::Failed;
use crate::rehearsal::Rehearsal;
use crate::session::Session;
use crate::suite::FoundSuite;
use crate::ui::{Ui, table};

/// The archive is written behind the verdict; on the slowest disk it has caught up within this.
const WRITTEN_WITHIN: Duration = Duration::from_secs(20);
/// How often it is looked for meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What the columns say, for whoever sees them for the first time.
const LEGEND: &str = "NOISE         the spread of pairs of the same code (robust standard deviation)\n\
                      SEEN          the smallest change that so many pairs find in nine of ten runs\n\
                      ORDER EFFECT  how much slower the second process of a pair is; the coin evens it out\n";
/// The changes whose price in pairs is told, in percent.
const EFFECTS_PERCENT: [u8; 3] = [1, 2, 5];

/// The job that measures this variant against itself, without a look before its end.
pub(crate) fn spec(
    args: &MeasureArgs,
    found: &FoundSuite,
    variant: Variant,
    seed: u64,
) -> Result<JobSpec, Failed> {
    let work = Work::Compare { baseline: variant.clone(), challenger: variant };
    let mut spec = found.spec(work, seed)?;
    let pairs = args.pairs;
    // Each pair gets the time that the suite gives it.
    let share = f64::from(pairs) / f64::from(spec.budget.rounds_max);
    spec.budget.time = spec.budget.time.mul_f64(share.max(1.0)).min(MAX_BUDGET);
    (spec.budget.rounds_min, spec.budget.rounds_max) = (pairs, pairs);
    spec.policy.max_pairs = pairs;
    spec.policy.looks = vec![pairs];
    // Both sides are one build: there is no luck of a link layout between them.
    spec.policy.builds = 1;
    spec.check().map_err(Failed::usage)?;
    Ok(spec)
}

/// Waits for what the archive makes of the job's pairs, and shows it. `policy` is the suite's own.
pub(crate) async fn show(
    report: &Report,
    spec: &JobSpec,
    policy: &Policy,
    session: &Session,
    ui: &Ui,
) -> Result<ExitCode, Failed> {
    let (Outcome::Judged(verdict), Some(job)) = (&report.outcome, report.header.job.as_deref()) else {
        ui.report(report);
        return Ok(report.exit_code());
    };
    let rows = written(spec, job, session).await?;
    let rehearsal = Rehearsal::of(spec, &rows, policy, &EFFECTS_PERCENT, session).await?;
    let (decision, pairs) = (verdict.decision, verdict.pairs);
    let calibrated = Calibrated { report, rows: &rows, policy, decision, pairs, rehearsal };
    ui.show("measure --calibrate", || calibrated.human(ui.shows_all()), || calibrated.json())?;
    ui.machine_line(&format!("verdict=NONE job={job} calibrated={} url=", rows.len()))?;
    Ok(ExitCode::Success)
}

/// What the archive says of this job's pairs, as soon as it does.
async fn written(spec: &JobSpec, job: &str, session: &Session) -> Result<Vec<v1::Calibration>, Failed> {
    let began = std::time::Instant::now();
    loop {
        let found = fetch(session, spec.project.as_str(), spec.suite.as_str()).await?;
        let rows: Vec<v1::Calibration> =
            found.calibrations.into_iter().filter(|found| found.job_id == job).collect();
        if !rows.is_empty() {
            return Ok(rows);
        }
        if began.elapsed() > WRITTEN_WITHIN {
            return Err(Failed::system(
                "the job is done, but the coordinator's archive has no calibration of it: it needs ten pairs at least, and a \
                 coordinator of this version; its log says more",
            )
            .about(job));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

struct Calibrated<'a> {
    report: &'a Report,
    rows: &'a [v1::Calibration],
    policy: &'a Policy,
    decision: Decision,
    pairs: u32,
    rehearsal: Rehearsal,
}

impl Calibrated<'_> {
    fn question(&self) -> Question {
        let gated = self.rows.iter().filter(|row| row.gated).count();
        let tests = u32::try_from(gated).unwrap_or(u32::MAX).max(1);
        let guard = u32::from(self.policy.guard_slow_processes);
        Question::usual(self.policy.alpha, tests.saturating_add(guard))
    }

    /// How the job's pairs were run: all of them one way.
    fn pairing(&self) -> &str {
        self.rows.first().map_or(Pairing::PLAIN, pairing)
    }

    fn human(&self, all: bool) -> String {
        let header = &self.report.header;
        let known = [header.suite.as_deref(), header.project.as_deref()].into_iter().flatten().map(visible);
        let at = header.agent.as_deref().map(|agent| format!("box {}", visible(agent)));
        let of = header.baseline.as_deref().map(visible).unwrap_or_default();
        let pairs = format!("{} {} pairs of {of} with itself", self.pairs, visible(self.pairing()));
        let title: Vec<String> = known.chain(at).chain([pairs]).collect();
        let max_pairs = self.policy.max_pairs;
        let resolves = format!("SEEN IN {max_pairs} PAIRS");
        let effects = EFFECTS_PERCENT.map(|effect| format!("PAIRS FOR {effect}%"));
        let mut head = vec!["BENCH", "METRIC", "NOISE", resolves.as_str()];
        head.extend(effects.iter().map(String::as_str));
        head.push("ORDER EFFECT");
        if all {
            head.extend(["GATED", "PLAIN SD", "KURTOSIS", "LAG 1"]);
        }
        let shown = self.rows.iter().filter(|row| all || row.gated);
        let rows: Vec<Vec<String>> = shown.map(|row| self.row(row, all)).collect();
        let mut parts = vec![title.join(" · "), String::new()];
        parts.push(if rows.is_empty() {
            "no series is gated; --verbose shows the others\n".to_owned()
        } else {
            table(&head, rows)
        });
        let others = self.rows.iter().filter(|row| !row.gated).count();
        if !all && others > 0 {
            parts.push(format!("Not gated: {others} series; --verbose shows them\n"));
        }
        parts.push(LEGEND.to_owned());
        parts.extend(self.rehearsal.line(self.policy.max_pairs));
        parts.extend(self.unresolved().map(|line| format!("The suite {}", visible(&line))));
        parts.push(self.self_audit());
        parts.join("\n") + "\n"
    }

    fn row(&self, row: &v1::Calibration, all: bool) -> Vec<String> {
        let question = self.question();
        let seen = question.smallest_effect(row.robust_sd, self.policy.max_pairs);
        let mut cells = vec![row.bench.clone(), row.metric.clone(), spread(row.robust_sd), percent(seen)];
        cells.extend(
            EFFECTS_PERCENT.map(|effect| rounds_needed(question, row.robust_sd, f64::from(effect) / 100.0)),
        );
        cells.push(format_change(row.order_effect.exp_m1()));
        if all {
            let number =
                |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
            cells.push(if row.gated { "yes" } else { "no" }.to_owned());
            cells.extend([spread(row.sd), number(row.kurtosis), number(row.lag_1)]);
        }
        cells
    }

    /// Which of the suite's margins its rounds cannot resolve here.
    fn unresolved(&self) -> Option<String> {
        let tests = self.question().tests;
        let unresolved: Vec<Unresolved> = self
            .rows
            .iter()
            .filter(|row| row.gated)
            .filter_map(|row| {
                let source = NoiseSource::Calibration { agent: row.agent.clone(), pairs: row.pairs };
                Unresolved::find(self.policy, &series(row)?, row.robust_sd, tests, source)
            })
            .collect();
        in_a_line(&unresolved)
    }

    fn self_audit(&self) -> String {
        match self.decision {
            Decision::Reject => {
                "The gate called the same code worse: a false alarm, which is counted (see `darwin check`)"
                    .to_owned()
            }
            Decision::Approve | Decision::Inconclusive => {
                "The gate found no slowdown in the same code, as it should".to_owned()
            }
        }
    }

    fn json(&self) -> Value {
        let question = self.question();
        let series = self.rows.iter().map(|row| {
            let seen = question.smallest_effect(row.robust_sd, self.policy.max_pairs);
            let mut json = calibration_json(row);
            json["smallest_effect_ratio"] = finite(seen.exp_m1());
            json["pairs_for"] = EFFECTS_PERCENT
                .map(|effect| {
                    let log_effect = (f64::from(effect) / 100.0).ln_1p();
                    json!({ "effect_percent": effect, "pairs": question.pairs_needed(row.robust_sd, log_effect) })
                })
                .to_vec()
                .into();
            json
        });
        json!({
            "schema": "darwin-calibration/1",
            "job_id": self.report.header.job,
            "variant": self.report.header.baseline,
            "pairs": self.pairs,
            "pairing": self.pairing(),
            "max_pairs": self.policy.max_pairs,
            "decision": self.decision,
            "unresolved": self.unresolved(),
            "rehearsed": self.rehearsal.json(),
            "series": series.collect::<Value>(),
        })
    }
}

/// A number for JSON, which knows no infinity.
fn finite(value: f64) -> Value {
    if value.is_finite() { value.into() } else { Value::Null }
}

/// A calibration for programs.
pub(crate) fn calibration_json(row: &v1::Calibration) -> Value {
    json!({
        "agent": row.agent,
        "project": row.project,
        "suite": row.suite,
        "bench": row.bench,
        "metric": row.metric,
        "gated": row.gated,
        "pairs": row.pairs,
        "pairing": pairing(row),
        "log_ratio_robust_sd": row.robust_sd,
        "log_ratio_sd": row.sd,
        "kurtosis": row.kurtosis,
        "log_ratio_order_effect": row.order_effect,
        "lag_1": row.lag_1,
        "measured_unix_ms": row.measured_unix_ms,
        "fingerprint": row.fingerprint,
        "tier": row.tier,
        "job_id": row.job_id,
    })
}
