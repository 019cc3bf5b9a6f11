//! Job specs.

use std::time::Duration;

use darwin_gate::Policy;
use darwin_shared::formats::Format;
use darwin_shared::ids::{PoolName, ProjectName, SuiteName};
use darwin_shared::image::{Image, ImageName};
use darwin_shared::spec::{
    Budget, Command, CoreRequest, Exclusive, Isolation, JobSpec, Layout, MAX_BUDGET, MAX_COMMAND_BYTES,
    MAX_TIMEOUT, PairPlan, Scheduler, Source, SpecError, Step, Steps, Variant, Work,
};

use super::text::{MAX_PATH_BYTES, bounded, labels, short, to_short};
use super::{ConvertError, digest, digest_bytes, duration, duration_to_wire, required};
use crate::v1;

impl TryFrom<v1::JobSpec> for JobSpec {
    type Error = ConvertError;

    /// Also checks the whole by [`JobSpec::check`].
    fn try_from(spec: v1::JobSpec) -> Result<Self, ConvertError> {
        let pool = Some(spec.pool).filter(|pool| !pool.is_empty()).map(PoolName::new).transpose();
        let spec = Self {
            project: ProjectName::new(spec.project).map_err(|why| ConvertError::because("project", why))?,
            suite: SuiteName::new(spec.suite).map_err(|why| ConvertError::because("suite", why))?,
            work: required("work", spec.work)?.try_into()?,
            steps: nested("steps", spec.steps)?,
            format: spec.format.parse::<Format>().map_err(|why| ConvertError::because("format", why))?,
            env: spec.env.into_iter().collect(),
            pool: pool.map_err(|why| ConvertError::because("pool", why))?,
            labels: labels("labels", spec.labels)?,
            cores: nested("cores", spec.cores)?,
            plan: plan("plan", &spec.plan)?,
            layout: layout("layout", &spec.layout)?,
            policy: nested::<_, Policy>("policy", spec.policy)?,
            budget: nested("budget", spec.budget)?,
            priority: spec.priority,
            attempts: spec.attempts,
            seed: spec.seed,
        };
        spec.check().map_err(|why| ConvertError::because(field_of(&why), why))?;
        Ok(spec)
    }
}

/// The message of a field that must be there, converted.
fn nested<M, T: TryFrom<M, Error = ConvertError>>(
    field: &str,
    message: Option<M>,
) -> Result<T, ConvertError> {
    T::try_from(required(field, message)?).map_err(|error| error.within(field))
}

/// The field of the message that a spec's error is about.
fn field_of(error: &SpecError) -> String {
    match error {
        SpecError::Command { what, .. } => format!("steps.{what}.command"),
        SpecError::Range { what: "timeout", .. } => "steps".to_owned(),
        SpecError::Range { what, .. } => what.replace("budget.rounds.", "budget.rounds_"),
        SpecError::NoOutput(_) => "steps.run.command".to_owned(),
        SpecError::SlicedProcess => "plan".to_owned(),
        SpecError::NotInImages { what: "setup", .. } => "steps.setup".to_owned(),
        SpecError::NotInImages { what, .. } => (*what).to_owned(),
        SpecError::Policy(_) => "policy".to_owned(),
        SpecError::Env(_) => "env".to_owned(),
        SpecError::NotBuilt { .. } => "policy.builds".to_owned(),
        SpecError::ImageOnOneSide | SpecError::RelativePath(_) => "work".to_owned(),
    }
}

impl From<JobSpec> for v1::JobSpec {
    fn from(spec: JobSpec) -> Self {
        Self {
            project: spec.project.to_string(),
            suite: spec.suite.to_string(),
            steps: Some(spec.steps.into()),
            format: spec.format.to_string(),
            env: spec.env.into_iter().collect(),
            pool: spec.pool.map(|pool| pool.to_string()).unwrap_or_default(),
            labels: spec.labels.into_iter().collect(),
            cores: Some(spec.cores.into()),
            plan: spec.plan.word().to_owned(),
            layout: spec.layout.word().to_owned(),
            policy: Some((&spec.policy).into()),
            budget: Some(spec.budget.into()),
            priority: spec.priority,
            attempts: spec.attempts,
            seed: spec.seed,
            work: Some(spec.work.into()),
        }
    }
}

impl TryFrom<v1::job_spec::Work> for Work {
    type Error = ConvertError;

    fn try_from(work: v1::job_spec::Work) -> Result<Self, ConvertError> {
        Ok(match work {
            v1::job_spec::Work::Compare(compare) => Self::Compare {
                baseline: nested("compare.baseline", compare.baseline)?,
                challenger: nested("compare.challenger", compare.challenger)?,
            },
            v1::job_spec::Work::Measure(measure) => {
                Self::Measure { variant: nested("measure.variant", measure.variant)? }
            }
            v1::job_spec::Work::Probe(probe) => {
                Self::Probe { length: duration("probe.length", probe.length)? }
            }
        })
    }
}

impl From<Work> for v1::job_spec::Work {
    fn from(work: Work) -> Self {
        match work {
            Work::Compare { baseline, challenger } => Self::Compare(v1::Compare {
                baseline: Some(baseline.into()),
                challenger: Some(challenger.into()),
            }),
            Work::Measure { variant } => Self::Measure(v1::Measure { variant: Some(variant.into()) }),
            Work::Probe { length } => Self::Probe(v1::Probe { length: Some(duration_to_wire(length)) }),
        }
    }
}

impl TryFrom<v1::Variant> for Variant {
    type Error = ConvertError;

    fn try_from(variant: v1::Variant) -> Result<Self, ConvertError> {
        let source = match variant.source {
            Some(v1::variant::Source::Tree(bytes)) => Source::Tree(digest("tree", &bytes)?),
            Some(v1::variant::Source::Path(path)) => Source::Path(absolute(path)?),
            Some(v1::variant::Source::Image(name)) => {
                let name = ImageName::new(name).map_err(|why| ConvertError::because("image", why))?;
                Source::Image(Image::Named(name))
            }
            Some(v1::variant::Source::ImageArchive(bytes)) => {
                Source::Image(Image::Archive(digest("image_archive", &bytes)?))
            }
            None => Source::Nothing,
        };
        let label = short("label", variant.label)?;
        if label.is_empty() {
            return Err(ConvertError::new("label", "is empty; people must know the variant by something"));
        }
        Ok(Self { label, source })
    }
}

fn absolute(path: String) -> Result<String, ConvertError> {
    let path = bounded("path", path, MAX_PATH_BYTES)?;
    if !path.starts_with('/') || path.contains('\0') {
        return Err(ConvertError::new(
            "path",
            "is not absolute; it names a folder on the box, so it starts with `/`",
        ));
    }
    Ok(path)
}

impl From<Variant> for v1::Variant {
    fn from(variant: Variant) -> Self {
        let source = match variant.source {
            Source::Tree(digest) => Some(v1::variant::Source::Tree(digest_bytes(&digest))),
            Source::Path(path) => Some(v1::variant::Source::Path(path)),
            Source::Image(Image::Named(name)) => Some(v1::variant::Source::Image(name.into())),
            Source::Image(Image::Archive(digest)) => {
                Some(v1::variant::Source::ImageArchive(digest_bytes(&digest)))
            }
            Source::Nothing => None,
        };
        Self { label: to_short(&variant.label), source }
    }
}

impl TryFrom<v1::Steps> for Steps {
    type Error = ConvertError;

    fn try_from(steps: v1::Steps) -> Result<Self, ConvertError> {
        Ok(Self {
            setup: steps.setup.map(|step| nested("setup", Some(step))).transpose()?,
            check: steps.check.map(|step| nested("check", Some(step))).transpose()?,
            run: nested("run", steps.run)?,
        })
    }
}

impl From<Steps> for v1::Steps {
    fn from(steps: Steps) -> Self {
        Self {
            setup: steps.setup.map(Into::into),
            check: steps.check.map(Into::into),
            run: Some(steps.run.into()),
        }
    }
}

impl TryFrom<v1::Step> for Step {
    type Error = ConvertError;

    fn try_from(step: v1::Step) -> Result<Self, ConvertError> {
        let command = match required("command", step.command)? {
            v1::step::Command::Shell(text) => Command::Shell(bounded("shell", text, MAX_COMMAND_BYTES)?),
            v1::step::Command::Argv(v1::Argv { args }) => Command::Argv(args),
        };
        let timeout = duration("timeout", step.timeout)?;
        within("timeout", timeout, Duration::from_millis(1), MAX_TIMEOUT)?;
        Ok(Self { command, timeout })
    }
}

fn within(field: &str, value: Duration, least: Duration, most: Duration) -> Result<(), ConvertError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(ConvertError::new(field, format!("is {value:?}; it must be from {least:?} to {most:?}")))
}

impl From<Step> for v1::Step {
    fn from(step: Step) -> Self {
        let command = match step.command {
            Command::Shell(text) => v1::step::Command::Shell(text),
            Command::Argv(args) => v1::step::Command::Argv(v1::Argv { args }),
        };
        Self { timeout: Some(duration_to_wire(step.timeout)), command: Some(command) }
    }
}

impl TryFrom<v1::CoreRequest> for CoreRequest {
    type Error = ConvertError;

    fn try_from(cores: v1::CoreRequest) -> Result<Self, ConvertError> {
        let v1::CoreRequest { count, isolation: kept_off, exclusive: alone, scheduler: class } = cores;
        Ok(Self {
            count,
            isolation: isolation("isolation", kept_off)?,
            exclusive: exclusive("exclusive", alone)?,
            scheduler: scheduler("scheduler", class)?,
        })
    }
}

impl From<CoreRequest> for v1::CoreRequest {
    fn from(cores: CoreRequest) -> Self {
        Self {
            count: cores.count,
            isolation: v1::Isolation::from(cores.isolation).into(),
            exclusive: v1::Exclusive::from(cores.exclusive).into(),
            scheduler: v1::Scheduler::from(cores.scheduler).into(),
        }
    }
}

fn plan(field: &str, word: &str) -> Result<PairPlan, ConvertError> {
    // A peer from before there was a choice leaves it out.
    if word.is_empty() {
        return Ok(PairPlan::default());
    }
    PairPlan::ALL
        .into_iter()
        .find(|plan| plan.word() == word)
        .ok_or_else(|| ConvertError::new(field, "is no plan; plans are `auto`, `pairs`, `sliced`"))
}

fn layout(field: &str, word: &str) -> Result<Layout, ConvertError> {
    // A peer from before there was a choice leaves it out.
    if word.is_empty() {
        return Ok(Layout::default());
    }
    Layout::ALL
        .into_iter()
        .find(|layout| layout.word() == word)
        .ok_or_else(|| ConvertError::new(field, "is no layout; layouts are `randomized`, `fixed`"))
}

fn isolation(field: &str, value: i32) -> Result<Isolation, ConvertError> {
    match v1::Isolation::try_from(value) {
        Ok(v1::Isolation::Required) => Ok(Isolation::Required),
        Ok(v1::Isolation::Preferred) => Ok(Isolation::Preferred),
        Ok(v1::Isolation::None) => Ok(Isolation::None),
        Ok(v1::Isolation::Unspecified) => Err(ConvertError::unspecified(field)),
        Err(_) => Err(ConvertError::unknown_value(field, value)),
    }
}

impl From<Isolation> for v1::Isolation {
    fn from(isolation: Isolation) -> Self {
        match isolation {
            Isolation::Required => Self::Required,
            Isolation::Preferred => Self::Preferred,
            Isolation::None => Self::None,
        }
    }
}

fn exclusive(field: &str, value: i32) -> Result<Exclusive, ConvertError> {
    match v1::Exclusive::try_from(value) {
        Ok(v1::Exclusive::Core) => Ok(Exclusive::Core),
        Ok(v1::Exclusive::Llc) => Ok(Exclusive::Llc),
        Ok(v1::Exclusive::Node) => Ok(Exclusive::Node),
        Ok(v1::Exclusive::Host) => Ok(Exclusive::Host),
        Ok(v1::Exclusive::Unspecified) => Err(ConvertError::unspecified(field)),
        Err(_) => Err(ConvertError::unknown_value(field, value)),
    }
}

impl From<Exclusive> for v1::Exclusive {
    fn from(exclusive: Exclusive) -> Self {
        match exclusive {
            Exclusive::Core => Self::Core,
            Exclusive::Llc => Self::Llc,
            Exclusive::Node => Self::Node,
            Exclusive::Host => Self::Host,
        }
    }
}

fn scheduler(field: &str, value: i32) -> Result<Scheduler, ConvertError> {
    match v1::Scheduler::try_from(value) {
        Ok(v1::Scheduler::Other) => Ok(Scheduler::Other),
        Ok(v1::Scheduler::Fifo) => Ok(Scheduler::Fifo),
        Ok(v1::Scheduler::Unspecified) => Err(ConvertError::unspecified(field)),
        Err(_) => Err(ConvertError::unknown_value(field, value)),
    }
}

impl From<Scheduler> for v1::Scheduler {
    fn from(scheduler: Scheduler) -> Self {
        match scheduler {
            Scheduler::Other => Self::Other,
            Scheduler::Fifo => Self::Fifo,
        }
    }
}

impl TryFrom<v1::Budget> for Budget {
    type Error = ConvertError;

    fn try_from(budget: v1::Budget) -> Result<Self, ConvertError> {
        let time = duration("time", budget.time)?;
        within("time", time, Duration::from_secs(1), MAX_BUDGET)?;
        Ok(Self { rounds_min: budget.rounds_min, rounds_max: budget.rounds_max, time })
    }
}

impl From<Budget> for v1::Budget {
    fn from(budget: Budget) -> Self {
        let Budget { rounds_min, rounds_max, time } = budget;
        Self { rounds_min, rounds_max, time: Some(duration_to_wire(time)) }
    }
}

#[cfg(test)]
mod tests {
    use darwin_shared::ids::Digest;

    use super::*;

    #[test]
    fn images_survive_the_wire_and_bad_names_do_not() {
        let name = ImageName::new("reg.example.com:5000/team/engine:1.4").unwrap();
        for image in [Image::Named(name), Image::Archive(Digest::of(b"archive"))] {
            let variant = Variant { label: "image:x".to_owned(), source: Source::Image(image) };
            assert_eq!(Variant::try_from(v1::Variant::from(variant.clone())), Ok(variant));
        }
        let source = Some(v1::variant::Source::Image("../engine".to_owned()));
        let refused = Variant::try_from(v1::Variant { label: "x".to_owned(), source }).unwrap_err();
        assert!(refused.to_string().contains("names no image"), "{refused}");
    }
}
