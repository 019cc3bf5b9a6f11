//! `darwin gate`: the verdict on saved result files. No coordinator, no clock, no network.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use darwin_gate::mser::WarmUps;
use darwin_gate::{Block, EndOfData, Gate, Order, Policy, Verdict};
use darwin_shared::exit_code::ExitCode;
use darwin_shared::formats::{self, Format, Input, MAX_INPUT_BYTES, TreeFile};
use darwin_shared::report::{Header, Report};
use darwin_shared::sample::{Measured, cut_warm_up};
use darwin_shared::state::Outcome;
use walkdir::WalkDir;

use super::plan;
use crate::args::{GateArgs, PolicyArgs};
use crate::failure::Failed;
use crate::ui::Ui;

/// A folder of results this large was made by accident; criterion writes four small files a bench.
const MAX_TREE_FILES: usize = 100_000;

/// Judges files.
pub(crate) fn run(args: &GateArgs, ui: &Ui) -> Result<ExitCode, Failed> {
    let policy = policy(&args.policy, Policy::default())?;
    if args.plan {
        ui.shows("gate --plan")?;
    }
    if args.plan && args.baseline_file.is_none() && args.baseline.is_empty() {
        return plan::of_noise(args, &policy, ui);
    }
    let (baseline, challenger) = sides(args)?;
    let (blocks, warm_ups) =
        blocks(&policy, side(args.format_in, &baseline, ui)?, side(args.format_in, &challenger, ui)?);
    let mut verdict = judge(policy.clone(), &blocks)?;
    if args.plan {
        return plan::of_blocks(args, &policy, &blocks, &verdict, ui);
    }
    verdict.notes.extend(warm_ups.notes());
    let header = Header {
        baseline: Some(side_name(&baseline)),
        challenger: Some(side_name(&challenger)),
        ..Header::default()
    };
    let report = Report::new(header, Outcome::Judged(Box::new(verdict)));
    let report = report.taking(args.inconclusive.map(Into::into));
    ui.report(&report);
    ui.github_summary(&report);
    Ok(report.exit_code())
}

fn sides(args: &GateArgs) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Failed> {
    let (baseline, challenger) = match (&args.baseline_file, &args.challenger_file) {
        (Some(baseline), Some(challenger)) => (vec![baseline.clone()], vec![challenger.clone()]),
        (Some(_), None) => {
            return Err(Failed::usage(
                "name two files, the baseline's and the challenger's: darwin gate BASELINE CHALLENGER",
            ));
        }
        (None, _) => (args.baseline.clone(), args.challenger.clone()),
    };
    if baseline.len() != challenger.len() {
        return Err(Failed::usage(format!(
            "{} files of the baseline and {} of the challenger cannot be paired: give as many of each, in the order \
             in which they were measured",
            baseline.len(),
            challenger.len()
        )));
    }
    Ok((baseline, challenger))
}

fn side_name(files: &[PathBuf]) -> String {
    match files {
        [file] => file.display().to_string(),
        [file, ..] => format!("{} and {} more", file.display(), files.len() - 1),
        [] => String::new(),
    }
}

/// The policy with what the command line says.
pub(crate) fn policy(args: &PolicyArgs, mut policy: Policy) -> Result<Policy, Failed> {
    if let Some(alpha) = args.alpha {
        policy.alpha = alpha;
    }
    if let Some(mode) = args.mode {
        policy.mode = mode;
    }
    if let Some(primary) = &args.primary {
        policy.primary = Some(primary.clone());
    }
    if let Some(noise) = args.assumed_noise {
        policy.assumed_noise = darwin_gate::Ratio::new(noise.fraction())
            .map_err(|e| Failed::usage(format!("--assumed-noise: {e}")))?;
    }
    for (metric, margin) in &args.margin {
        let (mut metric_policy, _) = policy.for_metric(metric);
        metric_policy.margin = *margin;
        metric_policy.gated = true;
        policy.metrics.insert(metric.clone(), metric_policy);
    }
    policy.validate().map_err(Failed::usage)?;
    Ok(policy)
}

/// The invocations of one side. A file that is given twice is refused, for the gate would take it for a second witness;
/// a copy is only told of, since exact counters may well write the same file twice.
fn side(format: Format, files: &[PathBuf], ui: &Ui) -> Result<Vec<Measured>, Failed> {
    let mut paths = HashSet::new();
    let mut contents: HashMap<blake3::Hash, &Path> = HashMap::new();
    let mut side = Vec::with_capacity(files.len());
    for path in files {
        let (measured, digest) = read(format, path, ui)?;
        let name = path.display();
        if !paths.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
            return Err(Failed::usage(format!(
                "{name} is given twice on the same side: that is no second measurement; give each invocation a file \
                 of its own"
            )));
        }
        if let Some(first) = contents.insert(digest, path) {
            ui.warn(&format!(
                "{name} has the same in it as {}: a copy is no second measurement",
                first.display()
            ));
        }
        side.push(measured);
    }
    Ok(side)
}

fn read(format: Format, path: &Path, ui: &Ui) -> Result<(Measured, blake3::Hash), Failed> {
    let name = path.display().to_string();
    let cannot = |e: std::io::Error| Failed::usage(format!("cannot read {name}: {e}"));
    let mut hasher = blake3::Hasher::new();
    let measured = if std::fs::metadata(path).map_err(cannot)?.is_dir() {
        let files = tree(path)?;
        for file in &files {
            hasher.update(file.path.as_bytes()).update(&[0]).update(&file.bytes);
        }
        formats::read(format, Input::tree(&name, &files))
    } else {
        let bytes = read_bounded(path).map_err(cannot)?;
        hasher.update(&bytes);
        formats::read(format, Input::file(&name, &bytes))
    };
    let measured = measured.map_err(Failed::usage)?;
    for warning in &measured.warnings {
        ui.hint(&format!("{name}: {warning}"));
    }
    Ok((measured, hasher.finalize()))
}

/// The bytes of a file; one more than is allowed shows the reader that it is too large.
fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_INPUT_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn tree(folder: &Path) -> Result<Vec<TreeFile>, Failed> {
    let name = folder.display();
    let mut files = Vec::new();
    let mut total_bytes = 0;
    for found in WalkDir::new(folder).sort_by_file_name() {
        let found = found.map_err(|e| Failed::usage(format!("cannot read {name}: {e}")))?;
        let path = found.path().strip_prefix(folder).unwrap_or(found.path()).to_string_lossy().into_owned();
        if !found.file_type().is_file() || !formats::criterion_wants(&path) {
            continue;
        }
        let cannot =
            |e: std::io::Error| Failed::usage(format!("cannot read {}: {e}", found.path().display()));
        let bytes = read_bounded(found.path()).map_err(cannot)?;
        total_bytes += bytes.len();
        files.push(TreeFile { path, bytes });
        // Past either bound the reader refuses it in its own words; more need not be read for that.
        if files.len() > MAX_TREE_FILES || total_bytes > MAX_INPUT_BYTES {
            break;
        }
    }
    Ok(files)
}

/// Pairs the invocations in their order, without their warm-up; both sides of a pair are cut at the same place.
fn blocks(policy: &Policy, baseline: Vec<Measured>, challenger: Vec<Measured>) -> (Vec<Block>, WarmUps) {
    let mut warm_ups = WarmUps::default();
    let pairs = (0..).zip(baseline.into_iter().zip(challenger)).map(|(round, (baseline, challenger))| {
        let mut sides = [baseline, challenger];
        warm_ups.add_round(&cut_warm_up(&mut sides, policy));
        let [baseline, challenger] = sides.map(|side| side.observations());
        // Files do not say which side was measured first; without a coin the order proves nothing.
        let order = Order::BaselineFirst;
        Block { round, order, baseline, challenger, builds: darwin_gate::Builds::default() }
    });
    (pairs.collect(), warm_ups)
}

/// Lets the gate speak at the end of these pairs.
fn judge(policy: Policy, blocks: &[Block]) -> Result<Verdict, Failed> {
    let pairs = u32::try_from(blocks.len()).map_err(Failed::usage)?;
    let mut policy = policy.with_max_pairs(pairs);
    // All data is there already: one look at the end keeps the whole of alpha for it.
    policy.looks.retain(|look| *look == pairs);
    let mut gate = Gate::new(policy, None).map_err(Failed::usage)?;
    for block in blocks {
        gate.push(block).map_err(Failed::usage)?;
    }
    Ok(gate.finish(EndOfData::MaxPairs))
}
