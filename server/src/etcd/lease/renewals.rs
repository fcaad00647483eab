//! One stream of renewals: taken as fast as they come, done in order and overlapping, answered as the client takes it.
//!
//! Clients send one renewal for each lease, all of them at once, and some read no answer before they have sent the last.
//! So what waits is kept here, as ids; left with the connection, each would hold a frame there, and h2 ends a connection
//! of which some thousand frames are waiting.

use std::collections::VecDeque;
use std::sync::Arc;

use coord_proto::etcd::etcdserverpb as pb;
use futures::stream::{FuturesOrdered, StreamExt};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::super::error;
use super::super::gate::{Credentials, Gate};
use super::super::header;
use crate::budget::{Held, Share};
use crate::command::LeaseId;
use crate::http::come;

/// Renewals of one stream that may be under way: those that arrive together share a round to the leader.
const UNDER_WAY_MAX: usize = 256;
/// Renewals of one stream that may wait: a megabyte of ids, counted like requests. While those have no room, a few.
const WAITING_MAX: usize = 128 * 1024;
const WAITING_ALWAYS: usize = 1024;
/// Answers that wait for the client.
const ANSWERS_MAX: usize = 64;

type Answer = Result<pb::LeaseKeepAliveResponse, Status>;

/// One stream, as its task holds it.
pub(super) struct Stream {
    gate: Gate,
    credentials: Arc<Credentials>,
    requests: Streaming<pb::LeaseKeepAliveRequest>,
    waiting: VecDeque<i64>,
    held: Held,
    /// Whether the client may send more.
    is_open: bool,
}

impl Stream {
    pub(super) fn new(
        gate: Gate,
        credentials: Credentials,
        requests: Streaming<pb::LeaseKeepAliveRequest>,
        share: Arc<Share>,
    ) -> Self {
        Self {
            gate,
            credentials: Arc::new(credentials),
            requests,
            waiting: VecDeque::new(),
            held: share.hold_request(),
            is_open: true,
        }
    }

    /// Serves it until `end` says why it must end, its client goes, or has closed its side and everything is answered.
    pub(super) fn serve(
        mut self,
        end: impl Future<Output = Status> + Send + 'static,
    ) -> mpsc::Receiver<Answer> {
        let (answers, receiver) = mpsc::channel(ANSWERS_MAX);
        tokio::spawn(async move {
            tokio::select! {
                () = answers.closed() => {}
                status = end => {
                    // A client that does not read is told nothing; its connection is closed soon anyway.
                    let _ = answers.try_send(Err(status));
                }
                () = self.run(&answers) => {}
            }
        });
        receiver
    }

    fn has_room(&self) -> bool {
        let waiting = self.waiting.len();
        waiting < WAITING_ALWAYS || (waiting < WAITING_MAX && self.held.has_room())
    }

    async fn run(&mut self, answers: &mpsc::Sender<Answer>) {
        let mut under_way = FuturesOrdered::new();
        let mut done: Option<Answer> = None;
        loop {
            while under_way.len() < UNDER_WAY_MAX
                && let Some(id) = self.waiting.pop_front()
            {
                under_way.push_back(renewed(self.gate.clone(), self.credentials.clone(), id));
            }
            self.held.set(self.waiting.len() * size_of::<i64>());
            if !self.is_open && under_way.is_empty() && done.is_none() {
                return;
            }
            let is_done = done.is_some();
            tokio::select! {
                came = come(&mut self.requests), if self.is_open && self.has_room() => {
                    self.waiting.extend(came.requests.into_iter().map(|request| request.id));
                    self.is_open = came.is_open;
                    if let Some(status) = came.broken {
                        let _ = answers.try_send(Err(status));
                        return;
                    }
                }
                Some(answer) = under_way.next(), if !is_done => done = Some(answer),
                permit = answers.reserve(), if is_done => {
                    let (Ok(permit), Some(answer)) = (permit, done.take()) else { return };
                    let goes_on = answer.is_ok();
                    permit.send(answer);
                    if !goes_on {
                        return;
                    }
                }
            }
        }
    }
}

async fn renewed(gate: Gate, credentials: Arc<Credentials>, id: i64) -> Answer {
    // Each for itself: a token may end while its stream stays.
    let principal = gate.principal(&credentials).await?;
    gate.coordinator
        .may_renew(&principal, LeaseId(id))
        .map_err(|error| error::status(&error))?;
    let ttl = gate
        .coordinator
        .renew(LeaseId(id))
        .await
        .map_err(|error| error::status(&error))?;
    let header = Some(header::at(&gate.coordinator, gate.coordinator.revision()));
    Ok(pb::LeaseKeepAliveResponse { header, id, ttl })
}
