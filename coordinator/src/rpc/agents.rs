//! The service of the fleet, and of the coordinator's own health.

use std::time::Instant;

use darwin_coordinator_core::Refusal;
use darwin_proto::convert::duration_to_wire;
use darwin_proto::v1;
use darwin_shared::ids::AgentId;
use tonic::{Request, Response, Status};

use super::status::ToStatus;
use super::view;
use crate::handle::Handle;
use crate::health::Health;

/// The service of the fleet.
#[derive(Debug, Clone)]
pub(crate) struct AgentsService {
    pub(crate) handle: Handle,
    pub(crate) health: Health,
    pub(crate) started: Instant,
}

fn agent_id(text: &str) -> Result<AgentId, Status> {
    AgentId::new(text).map_err(|e| Status::invalid_argument(e.to_string()))
}

impl AgentsService {
    async fn one(&self, id: AgentId) -> Result<Response<v1::Agent>, Status> {
        let wanted = id.clone();
        let seen = self
            .handle
            .query(move |core, _, now| core.agent(&wanted).map(|agent| view::agent(core, agent, now)))
            .await
            .map_err(|e| e.to_status())?;
        seen.map(Response::new).ok_or_else(|| Refusal::NoSuchAgent(id).to_status())
    }

    async fn set_drained(&self, text: &str, drained: bool) -> Result<Response<v1::Agent>, Status> {
        let id = agent_id(text)?;
        self.handle.set_drained(id.clone(), drained).await.map_err(|e| e.to_status())?;
        self.one(id).await
    }
}

#[tonic::async_trait]
impl v1::agents_server::Agents for AgentsService {
    async fn list(
        &self,
        _: Request<v1::ListAgentsRequest>,
    ) -> Result<Response<v1::ListAgentsResponse>, Status> {
        let agents = self
            .handle
            .query(|core, _, now| core.agents().map(|agent| view::agent(core, agent, now)).collect())
            .await
            .map_err(|e| e.to_status())?;
        Ok(Response::new(v1::ListAgentsResponse { agents }))
    }

    async fn show(&self, request: Request<v1::ShowAgentRequest>) -> Result<Response<v1::Agent>, Status> {
        self.one(agent_id(&request.into_inner().agent_id)?).await
    }

    async fn drain(&self, request: Request<v1::DrainAgentRequest>) -> Result<Response<v1::Agent>, Status> {
        self.set_drained(&request.into_inner().agent_id, true).await
    }

    async fn resume(&self, request: Request<v1::ResumeAgentRequest>) -> Result<Response<v1::Agent>, Status> {
        self.set_drained(&request.into_inner().agent_id, false).await
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        let (queued, active) =
            self.handle.query(|core, _, _| core.counts()).await.map_err(|e| e.to_status())?;
        Ok(Response::new(v1::StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            up_for: Some(duration_to_wire(self.started.elapsed())),
            jobs_queued: queued as u64,
            jobs_active: active as u64,
            parts: self.health.readings().into_iter().map(v1::Reading::from).collect(),
        }))
    }
}
