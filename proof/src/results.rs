//! One run of the proof: what is needed for the bars that were asked for, and everything it found.

use std::collections::{BTreeMap, BTreeSet};

use crate::bars::Bar;
use crate::extras::{self, Extras};
use crate::family::{self, Families};
use crate::flips::{self, Boundary, Excess};
use crate::golden::{self, Deviations, GoldenError};
use crate::jury::JuryError;
use crate::noise::Model;
use crate::recorded;
use crate::recordings::{self, RecordingError};
use crate::scenario::Scenario;
use crate::synthetic;

/// Verdicts replayed for the check that a replay is the same.
const REPLAYS: u32 = 100;
/// Recordings are cells beyond those of the models.
const FIRST_RECORDED_CELL: u8 = 100;

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The gate could not be asked.
    #[error(transparent)]
    Jury(#[from] JuryError),
    /// A recording cannot be read.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// The golden files cannot be compared.
    #[error(transparent)]
    Golden(#[from] GoldenError),
}

/// What was asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The seed of everything.
    pub seed: u64,
    /// Trials of every cell.
    pub trials: u32,
    /// Only these bars; all if empty.
    pub only: BTreeSet<Bar>,
}

impl Request {
    /// Whether a bar is asked for.
    pub fn wants(&self, bar: Bar) -> bool {
        self.only.is_empty() || self.only.contains(&bar)
    }

    fn wants_any(&self, bars: &[Bar]) -> bool {
        bars.iter().any(|bar| self.wants(*bar))
    }

    /// The scenarios that the bars ask for; with all bars also those of the power curves.
    fn scenarios(&self) -> Vec<Scenario> {
        let mut scenarios: BTreeSet<Scenario> = BTreeSet::new();
        for (bar, needed) in [
            (Bar::B1, &[Scenario::Same, Scenario::SameNoSlower][..]),
            (Bar::B2, &[Scenario::Same]),
            (Bar::B3, &[Scenario::Slower(1), Scenario::Slower(2), Scenario::Slower(5)]),
            (Bar::B3, &[Scenario::Faster(2), Scenario::Faster(5)]),
            (Bar::B4, &[Scenario::Slower(5)]),
            (Bar::B5, &[Scenario::Slower(2)]),
            (Bar::B6, &[Scenario::SlowerTail, Scenario::FasterWithSlowerTail]),
            (Bar::B8, &[Scenario::Same, Scenario::Slower(2)]),
        ] {
            if self.wants(bar) {
                scenarios.extend(needed);
            }
        }
        if self.only.is_empty() {
            scenarios.extend(Scenario::BARRED);
            scenarios.extend(Scenario::CURVE);
        }
        scenarios.into_iter().collect()
    }
}

/// The results on one recording, with its name.
#[derive(Debug)]
pub struct OnRecording {
    /// The state of the machine.
    pub machine: &'static str,
    /// The bench.
    pub workload: &'static str,
    /// What was found.
    pub outcome: recorded::Outcome,
}

impl OnRecording {
    /// The name in tables.
    pub fn name(&self) -> String {
        format!("{}, {}", self.workload, self.machine)
    }
}

/// Everything that was found.
#[derive(Debug, Default)]
pub struct Results {
    /// On synthetic noise.
    pub synthetic: BTreeMap<Model, synthetic::Outcome>,
    /// On the recordings.
    pub recorded: Vec<OnRecording>,
    /// Over families of benches.
    pub families: BTreeMap<Model, Families>,
    /// The exact errors of the boundaries.
    pub flips: Vec<(Boundary, Vec<Excess>)>,
    /// The comparison with the reference.
    pub golden: Option<Deviations>,
    /// What no bar asks for.
    pub extras: Option<Extras>,
}

/// Runs what is needed. `progress` is told what comes next.
pub fn run(request: &Request, mut progress: impl FnMut(&str)) -> Result<Results, RunError> {
    let mut results = Results::default();
    if request.wants(Bar::B11) {
        progress("golden files");
        results.golden = Some(golden::compare(request.seed, REPLAYS)?);
    }
    if request.wants(Bar::B9) {
        progress("exact errors of the boundaries");
        let boundaries = flips::in_use().into_iter();
        results.flips = boundaries.map(|b| (b.clone(), flips::errors(&b, request.seed))).collect();
    }
    on_noise(request, &mut results, &mut progress)?;
    if request.wants_any(&[Bar::B1, Bar::B2, Bar::B3, Bar::B7, Bar::B12]) {
        for (cell, recording) in (FIRST_RECORDED_CELL..).zip(recordings::all()?) {
            progress(&format!("recording {}", recording.name()));
            let peers = request.wants(Bar::B12);
            let outcome = recorded::run(cell, &recording, request.seed, request.trials, peers)?;
            let (machine, workload) = (recording.machine, recording.workload);
            results.recorded.push(OnRecording { machine, workload, outcome });
        }
    }
    Ok(results)
}

fn on_noise(
    request: &Request,
    results: &mut Results,
    progress: &mut impl FnMut(&str),
) -> Result<(), RunError> {
    let scenarios = request.scenarios();
    let (families, peers) = (request.wants(Bar::B10), request.wants(Bar::B12));
    if scenarios.is_empty() && !families && !peers {
        return Ok(());
    }
    for model in Model::ALL {
        progress(&format!("noise {}", model.name()));
        let extras = model == Model::BuildBias && request.only.is_empty();
        let plan = synthetic::Plan {
            seed: request.seed,
            trials: request.trials,
            scenarios: scenarios.clone(),
            peers,
            keep: families || extras,
        };
        let mut outcome = synthetic::run(model, &plan)?;
        // Tens of megabytes that nothing else asks for.
        let kept = std::mem::take(&mut outcome.kept);
        if families && model != Model::BuildBias {
            progress(&format!("families of {}", model.name()));
            let found = family::run(model as u8, &kept, request.seed, request.trials)?;
            results.families.insert(model, found);
        }
        if extras {
            progress("rare slow processes, rebuilt binaries");
            results.extras = Some(extras::run(&kept, request.seed)?);
        }
        results.synthetic.insert(model, outcome);
    }
    Ok(())
}
