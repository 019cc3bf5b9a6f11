//! `darwin compare`: packs both sides, submits, waits, reports.

use darwin_shared::exit_code::ExitCode;
use darwin_shared::spec::{Source, Variant, Work};

use crate::args::CompareArgs;
use crate::calibrations;
use crate::failure::Failed;
use crate::pack::{self, Blobs, Packed};
use crate::session::Session;
use crate::submit::{submit_and_leave, submit_and_wait};
use crate::suite::FoundSuite;
use crate::ui::Ui;

/// A compare, ready to be submitted.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// What is compared.
    pub work: Work,
    /// The files of both sides.
    pub blobs: Blobs,
}

/// Reads and packs all that can be wrong before anything is started.
pub(crate) fn prepare(args: &CompareArgs, ui: &Ui) -> Result<(FoundSuite, Prepared), Failed> {
    let found = FoundSuite::load(args.submit.config.as_deref(), args.suite.as_deref())?;
    let baseline = pack::pack(&args.baseline, &found.root)?;
    let challenger = pack::pack(&args.challenger, &found.root)?;
    let prepared = both(baseline, challenger, ui);
    Ok((found, prepared))
}

/// Both sides together, with what people should know of them.
pub(crate) fn both(baseline: Packed, challenger: Packed, ui: &Ui) -> Prepared {
    for warning in baseline.warnings.iter().chain(&challenger.warnings) {
        ui.warn(warning);
    }
    if same_files(&baseline.variant, &challenger.variant) {
        ui.warn("both sides are the same files: nothing but noise can differ");
    }
    let mut blobs = baseline.blobs;
    blobs.merge(challenger.blobs);
    Prepared { work: Work::Compare { baseline: baseline.variant, challenger: challenger.variant }, blobs }
}

fn same_files(baseline: &Variant, challenger: &Variant) -> bool {
    matches!(baseline.source, Source::Tree(_) | Source::Image(_)) && baseline.source == challenger.source
}

/// Submits what was prepared.
pub(crate) async fn run(
    args: &CompareArgs,
    (found, prepared): (FoundSuite, Prepared),
    session: &Session,
    ui: &Ui,
) -> Result<ExitCode, Failed> {
    let seed = args.submit.seed.unwrap_or_else(rand::random);
    let mut spec = found.spec(prepared.work, seed)?;
    calibrations::apply(session, &mut spec, ui).await?;
    if args.submit.detach {
        return submit_and_leave(session, &spec, &prepared.blobs, ui).await;
    }
    let report = submit_and_wait(session, &spec, &prepared.blobs, ui).await?;
    let report = report.taking(args.inconclusive.map(Into::into));
    ui.report(&report);
    ui.github_summary(&report);
    Ok(report.exit_code())
}
