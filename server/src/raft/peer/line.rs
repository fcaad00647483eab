//! Connections to peers: made when needed, given up when they fail.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use coord_proto::peer::peer_client::PeerClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::MESSAGE_BYTES_MAX;
use super::dial;
use super::handshake::CallStamp;
use crate::command::MemberId;
use crate::metrics::{PeerTraffic, metrics};
use crate::network::Network;
use crate::state;

/// How long a connect may take.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// The time between two probes of an idle or stalled connection, which is dropped when a probe stays unanswered as
/// long.
const PROBE: Duration = Duration::from_secs(2);
/// Bytes that may be under way unread on one call, and on one connection: enough for a long fast link.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// The purpose of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::raft) enum Purpose {
    /// The log, and what is forwarded to the leader.
    Log,
    /// Heartbeats, votes and other short questions.
    Control,
    /// Snapshots.
    Snapshot,
}

/// Makes a client for one URL; connects at the first call, and again after a failure, resolving the name each time.
///
/// Errors: a URL that is none.
pub(super) fn client(network: &Network, url: &str) -> Result<PeerClient<Channel>, Status> {
    // TLS is ours to speak, not tonic's, which must not know of it.
    let (plain, is_tls) = match url.strip_prefix("https://") {
        Some(rest) => (format!("http://{rest}"), true),
        None => (url.to_owned(), false),
    };
    let endpoint = Endpoint::from_shared(plain)
        .map_err(|error| Status::unavailable(format!("{url} is no URL: {error}")))?
        .connect_timeout(CONNECT_MAX)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PROBE)
        .keep_alive_timeout(PROBE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    Ok(PeerClient::new(dial::lazily(network, &endpoint, is_tls))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX))
}

/// One connection to one member, by one of its URLs at a time. It follows the member to other URLs.
pub(super) struct Line {
    stamp: CallStamp,
    pub(super) to: MemberId,
    network: Network,
    /// Asked only for what other members published, and for the cluster's level.
    pub(super) members: state::Handle,
    pub(super) counted: PeerTraffic,
    state: Mutex<LineState>,
}

#[derive(Default)]
struct LineState {
    urls: Vec<String>,
    client: Option<PeerClient<Channel>>,
    /// The number of the URL that is tried.
    turn: usize,
    /// The last refusal that was logged.
    refused: Option<String>,
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, LineState> {
        self.state
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    /// A call to the member. If it has published itself, the call is for its data directory only: one that was wiped
    /// must not answer for what it has forgotten.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let incarnation = self.members.with(|state| state.incarnation(self.to));
        self.stamp.request(self.to, incarnation, message)
    }

    /// A client for the next call.
    pub(super) fn client(&self) -> Result<PeerClient<Channel>, Status> {
        let mut state = self.lock();
        if let Some(client) = &state.client {
            return Ok(client.clone());
        }
        let url = state.urls.get(state.turn % state.urls.len().max(1));
        let url =
            url.ok_or_else(|| Status::unavailable(format!("member {} has no peer URL", self.to)))?;
        let made = client(&self.network, url)?;
        state.client = Some(made.clone());
        Ok(made)
    }

    /// Notes that a call failed: the next one connects anew, by the next URL. Says once why a peer refuses this member.
    pub(super) fn failed(&self, status: &Status) {
        self.counted.sent_failures.inc();
        let mut state = self.lock();
        if status.code() == Code::FailedPrecondition {
            let why = status.message().to_owned();
            if state.refused.as_ref() != Some(&why) {
                tracing::warn!(peer = %self.to, reason = why, "a peer refuses this member's calls");
                state.refused = Some(why);
            }
        }
        state.client = None;
        state.turn = state.turn.wrapping_add(1);
    }

    /// From the next call on the member is reached here. Calls under way go on where they are.
    fn move_to(&self, urls: &[String]) {
        let mut state = self.lock();
        if state.urls != urls {
            tracing::info!(peer = %self.to, urls = urls.join(","), "the member's peer URLs");
            *state = LineState {
                urls: urls.to_vec(),
                ..LineState::default()
            };
        }
    }
}

type Lines = HashMap<(MemberId, Purpose), Arc<Line>>;

/// All connections of this member. Clones share them.
#[derive(Clone)]
pub(in crate::raft) struct Peers {
    stamp: CallStamp,
    network: Network,
    members: state::Handle,
    lines: Arc<Mutex<Lines>>,
}

impl Peers {
    pub(in crate::raft) fn new(stamp: CallStamp, network: Network, members: state::Handle) -> Self {
        Self {
            stamp,
            network,
            members,
            lines: Arc::default(),
        }
    }

    /// This member.
    pub(in crate::raft) fn own(&self) -> MemberId {
        self.stamp.member
    }

    /// The connection to a member that is reached at `urls`.
    pub(super) fn line(&self, to: MemberId, urls: &[String], purpose: Purpose) -> Arc<Line> {
        let line = self.line_made_at(to, urls, purpose);
        line.move_to(urls);
        line
    }

    /// The connection to a member; one that is new is made for `urls`, one that is known stays where it is.
    pub(super) fn line_made_at(
        &self,
        to: MemberId,
        urls: &[String],
        purpose: Purpose,
    ) -> Arc<Line> {
        let made = || {
            let state = LineState {
                urls: urls.to_vec(),
                ..LineState::default()
            };
            Arc::new(Line {
                stamp: self.stamp,
                to,
                network: self.network.clone(),
                members: self.members.clone(),
                counted: metrics().peers.with(&to.to_string()),
                state: Mutex::new(state),
            })
        };
        self.lock()
            .entry((to, purpose))
            .or_insert_with(made)
            .clone()
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    /// Moves every connection to where the membership says that its member is now, and forgets those to members that are
    /// gone. One that somebody holds stays: openraft makes it before the membership that names its member can be seen.
    pub(in crate::raft) fn follow<'a>(&self, urls: impl Fn(MemberId) -> Option<&'a [String]>) {
        let mut lines = self.lock();
        lines.retain(|(member, _), line| {
            let urls = urls(*member);
            if let Some(urls) = urls {
                line.move_to(urls);
            }
            urls.is_some() || Arc::strong_count(line) > 1
        });
    }
}
