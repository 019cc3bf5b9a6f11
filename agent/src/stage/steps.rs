//! The steps of a suite that run before any measuring: on the housekeeping cores, in the variant's folder.

use std::path::Path;
use std::sync::Arc;

use darwin_shared::spec::Step;
use darwin_shared::state::Stage;

use super::{SideStaging, Unready};
use crate::docker::StagedImage;
use crate::run::{Folders, Outcome, Process, Slot, Surroundings, fill};

impl SideStaging<'_> {
    pub(super) async fn step(
        &self,
        stage: Stage,
        step: &Step,
        dir: Option<&Path>,
        image: Option<&Arc<StagedImage>>,
        build: Option<u32>,
        slot: &mut Slot,
    ) -> Result<(), Unready> {
        slot.scratch.empty().map_err(|error| Unready::Box(format!("the scratch folder: {error}")))?;
        let Folders { dir, home, output, .. } = Folders::new(&slot.scratch, dir, image.map(|image| &**image));
        let around = Surroundings {
            attempt: self.job.attempt,
            arm: self.arm,
            dir: &dir,
            home: &home,
            output: &output,
            round: 0,
            build,
            in_image: image.is_some(),
        };
        let process = Process {
            argv: fill(&step.command, &around, self.job.spec.seed),
            env: around.environment(&self.job.spec),
            cwd: &dir,
            image,
            attempt: self.job.attempt,
            placing: None,
            fifo: false,
            count_stolen: false,
            timeout: step.timeout,
            limits: &self.job.limits,
            stage,
            arm: self.arm,
        };
        match process.run(slot, &self.job.logs, &self.job.started, &self.job.stop).await {
            Outcome::Well(..) => Ok(()),
            Outcome::Failed(cause, log_tail) => Err(Unready::Candidate(stage, cause, log_tail)),
            Outcome::Broken(why) => Err(Unready::Box(why)),
            Outcome::Stopped => Err(Unready::Stopped),
        }
    }
}
