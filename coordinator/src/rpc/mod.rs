//! The gRPC services: one file each. They check what came, ask the loop, and put the answer into the wire's words.

mod agents;
mod artifacts;
mod jobs;
mod link;
mod list;
mod logs;
mod status;
mod verdicts;
pub(crate) mod view;

pub(crate) use agents::AgentsService;
pub(crate) use artifacts::{ArtifactCheck, ArtifactsService};
pub(crate) use jobs::JobsService;
pub(crate) use link::LinkService;
pub(crate) use logs::LogRelay;
pub(crate) use verdicts::VerdictsService;
