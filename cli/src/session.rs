//! A coordinator to talk to: one that runs already, or one in this process.

use std::time::Duration;

use darwin_proto::v1::StatusRequest;
use darwin_proto::v1::agents_client::AgentsClient;
use tonic::transport::{Channel, Endpoint};

use crate::embedded::{Embedded, Running};
use crate::failure::{Failed, call, unreachable};
use crate::settings::{Target, data_dir};
use crate::ui::Ui;

/// A coordinator on loopback answers in a millisecond; one that takes this long is not there.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Room for an upload on the way, so that one chunk's answer is not waited for before the next is sent.
const WINDOW_BYTES: u32 = 4 << 20;

/// What a command needs of the embedded coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// An agent too, to run something undisturbed.
    Work,
    /// An agent too; one that runs already in another process will do.
    Join,
    /// Only what is recorded.
    Look,
}

/// A connection to a coordinator.
#[derive(Debug)]
pub(crate) struct Session {
    channel: Channel,
    url: String,
    embedded: Option<Embedded>,
}

impl Session {
    /// Connects, starting the embedded coordinator if it is that one.
    pub(crate) async fn open(target: &Target, need: Need, ui: &Ui) -> Result<Self, Failed> {
        match target {
            Target::Remote(url) => Self::connect(url.clone(), None).await,
            Target::Embedded => match Embedded::start(&data_dir()?, need, ui).await? {
                Running::Here(embedded) => {
                    let session = Self::connect(embedded.url(), Some(embedded)).await?;
                    if need == Need::Work {
                        session.tell_of_leftovers(ui).await?;
                    }
                    Ok(session)
                }
                Running::Elsewhere { url } => Self::connect(url, None).await,
            },
        }
    }

    async fn connect(url: String, embedded: Option<Embedded>) -> Result<Self, Failed> {
        let endpoint = Endpoint::from_shared(url.clone())
            .map_err(|e| Failed::usage(format!("`{url}` is not an address: {e}")))?
            .connect_timeout(CONNECT_WITHIN)
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        let channel = endpoint.connect().await.map_err(|e| unreachable(&url, &e))?;
        Ok(Self { channel, url, embedded })
    }

    /// Jobs of an earlier life of the embedded coordinator come before what is submitted now.
    async fn tell_of_leftovers(&self, ui: &Ui) -> Result<(), Failed> {
        let status = AgentsClient::new(self.channel()).status(StatusRequest {}).await;
        let status = status.map_err(call(&self.url))?.into_inner();
        let jobs = status.jobs_queued + status.jobs_active;
        if jobs > 0 {
            ui.hint(&format!(
                "jobs of an earlier run that was left go first: {jobs}; `darwin job list` shows and `darwin job cancel` ends them"
            ));
        }
        Ok(())
    }

    /// The connection; cheap to clone.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Where the coordinator is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Whether the coordinator ends with this process.
    pub(crate) fn is_embedded(&self) -> bool {
        self.embedded.is_some()
    }

    /// Ends the embedded coordinator and its agent, if there are any.
    pub(crate) async fn close(self) -> Result<(), Failed> {
        drop(self.channel);
        match self.embedded {
            Some(embedded) => embedded.stop().await,
            None => Ok(()),
        }
    }
}
