//! A stream of lease renewals.

use std::time::Duration;

use anyhow::{Context, Result};
use coord_proto::etcd::etcdserverpb as pb;
use pb::lease_client::LeaseClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

/// A renewal that takes longer on a busy machine is lost.
const PATIENCE: Duration = Duration::from_secs(15);

/// One stream of renewals. It opens with the first.
pub struct KeepAlive {
    channel: Channel,
    open: Option<(
        mpsc::UnboundedSender<pb::LeaseKeepAliveRequest>,
        Streaming<pb::LeaseKeepAliveResponse>,
    )>,
}

impl KeepAlive {
    pub(super) fn open(channel: Channel) -> Self {
        Self {
            channel,
            open: None,
        }
    }

    /// Renews a lease and returns the server's answer; its TTL is 0 if there is no such lease.
    pub async fn renew(&mut self, id: i64) -> Result<pb::LeaseKeepAliveResponse> {
        let answer = tokio::time::timeout(PATIENCE, self.exchange(id)).await;
        answer.context("no answer in time")?
    }

    async fn exchange(&mut self, id: i64) -> Result<pb::LeaseKeepAliveResponse> {
        let request = pb::LeaseKeepAliveRequest { id };
        let (requests, responses) = match &mut self.open {
            Some(open) => open,
            None => {
                let (requests, receiver) = mpsc::unbounded_channel();
                // The server may open its side only when it has read a request.
                requests.send(request)?;
                let stream = UnboundedReceiverStream::new(receiver);
                let responses = LeaseClient::new(self.channel.clone())
                    .lease_keep_alive(stream)
                    .await?
                    .into_inner();
                let (_, responses) = self.open.insert((requests, responses));
                return responses
                    .message()
                    .await?
                    .context("the server ended the stream");
            }
        };
        requests.send(request)?;
        responses
            .message()
            .await?
            .context("the server ended the stream")
    }
}
