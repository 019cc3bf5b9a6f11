//! The one map from errors to gRPC statuses.

use darwin_coordinator_core::Refusal;
use darwin_shared::ids::{IdError, JobId};
use tonic::Status;

use crate::handle::{CallError, Stopping};
use crate::stores::{ArchiveError, BlobError, RecordError};

/// A status that says the error in the error's own words.
pub(crate) trait ToStatus {
    fn to_status(&self) -> Status;
}

impl ToStatus for CallError {
    fn to_status(&self) -> Status {
        match self {
            Self::Refused(refusal) => refusal.to_status(),
            Self::Stopping(stopping) => stopping.to_status(),
        }
    }
}

impl ToStatus for Stopping {
    fn to_status(&self) -> Status {
        Status::unavailable(self.to_string())
    }
}

impl ToStatus for Refusal {
    fn to_status(&self) -> Status {
        let text = self.to_string();
        match self {
            Self::QueueFull(_) => Status::resource_exhausted(text),
            Self::RequestIdReused(_) => Status::already_exists(text),
            Self::NoSuchJob(_) | Self::NoSuchAgent(_) => Status::not_found(text),
            Self::Finished { .. } => Status::failed_precondition(text),
        }
    }
}

impl ToStatus for BlobError {
    fn to_status(&self) -> Status {
        let text = self.to_string();
        match self {
            Self::Mismatch { .. } => Status::data_loss(text),
            Self::Missing(_) => Status::not_found(text),
            Self::Disk { .. } | Self::Unreadable { .. } => Status::unavailable(text),
        }
    }
}

impl ToStatus for ArchiveError {
    fn to_status(&self) -> Status {
        Status::unavailable(self.to_string())
    }
}

impl ToStatus for RecordError {
    fn to_status(&self) -> Status {
        Status::internal(self.to_string())
    }
}

/// The job id in a request.
pub(crate) fn job_id(text: &str) -> Result<JobId, Status> {
    text.trim().to_uppercase().parse().map_err(|e: IdError| Status::invalid_argument(e.to_string()))
}
