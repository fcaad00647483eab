//! Bounds on the connections of a door. The limits replace hyper's and h2's where those are unlimited, or where one
//! client could hold more than its share.

use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;

/// Connections of clients at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 16_384;
/// Descriptors left to the store, the log and the peers; half of them where there are fewer than twice as many.
const DESCRIPTORS_RESERVED: usize = 1024;
/// Connections of peers at once: three for each of at most a dozen members, and programs that ask to join.
const PEER_CONNECTIONS_MAX: usize = 256;
/// Connections of peers from one address: a dozen members may share a machine, and a stranger on another one must not
/// keep them out. Members, unlike clients, reach each other without address translation.
const PEER_ADDRESS_CONNECTIONS_MAX: usize = 64;

/// Time for the head of an HTTP/1.1 request, and between two.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// Bytes buffered for the head of an HTTP/1.1 request.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of all headers of a call.
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;
/// Streams that a client has reset before they were taken up. Never reached: `Guarded` reads a few hundred frames at a
/// time, and what they opened is taken up before it reads more. h2's own bound of 20 would end the connection of a client
/// whose deadlines passed while this member stood still, with its watches and all its writes under way.
const PENDING_RESETS_MAX: usize = 16_384;
/// Streams that were reset for a client's mistakes, over the life of its connection. Data on its way to a call that ended
/// early is one. About 10 MB, if it takes nothing of what it is told.
const ERROR_RESETS_MAX: usize = 16_384;
/// Written bytes held per stream while the other side does not read.
const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// Bounds on the connections of one door.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `client` or `peer`, for the log.
    pub(super) side: &'static str,
    /// Connections at once.
    pub(super) connections_max: usize,
    /// Connections from one address; `None` is no limit: behind a proxy or a node's address translation many clients have
    /// one.
    pub(super) address_connections_max: Option<usize>,
    /// Whether a connection is evicted while it is idle and there are nearly too many, or while it takes nothing and
    /// memory is short.
    pub(super) evicts: bool,
    /// Whether HTTP/1.1 is spoken beside HTTP/2.
    http1: bool,
    /// Calls and streams at once on one connection.
    streams_max: u32,
    /// Received bytes that one stream, and one connection, may have outstanding.
    stream_window_bytes: u32,
    connection_window_bytes: u32,
    /// How often a silent connection is asked for a sign of life, and how long that may take.
    ping_interval: Duration,
    ping_max: Duration,
}

impl Limits {
    /// For clients: as many connections as there are descriptors for, or accepting one more would keep the store from
    /// opening a file.
    pub fn clients() -> Self {
        let descriptors = descriptors_max();
        let left = descriptors - DESCRIPTORS_RESERVED.min(descriptors / 2);
        Self {
            side: "client",
            connections_max: left.clamp(1, CONNECTIONS_MAX),
            address_connections_max: None,
            evicts: true,
            http1: true,
            // One client with a thousand concurrent calls is usual.
            streams_max: 4096,
            // A request of the largest size in one go.
            stream_window_bytes: 2 * 1024 * 1024,
            connection_window_bytes: 4 * 1024 * 1024,
            // A client that is gone holds its watchers no longer than 40 s. The answer may wait behind a full socket's
            // bytes, so not much less.
            ping_interval: Duration::from_secs(20),
            ping_max: Duration::from_secs(20),
        }
    }

    /// With no more calls and streams at once on one connection than these; 0 is no bound but our own, as in etcd.
    #[must_use]
    pub fn with_streams_max(mut self, streams_max: u32) -> Self {
        if streams_max > 0 {
            self.streams_max = self.streams_max.min(streams_max);
        }
        self
    }

    /// For the other members.
    pub fn peers() -> Self {
        Self {
            side: "peer",
            connections_max: PEER_CONNECTIONS_MAX,
            address_connections_max: Some(PEER_ADDRESS_CONNECTIONS_MAX),
            evicts: false,
            http1: false,
            // A peer needs a handful.
            streams_max: 256,
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 8 << 20,
            ping_interval: Duration::from_secs(2),
            ping_max: Duration::from_secs(4),
        }
    }

    /// The server of one connection.
    pub(super) fn builder(&self) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_MAX)
            .max_buf_size(HEAD_BYTES_MAX);
        builder
            .http2()
            .timer(TokioTimer::new())
            // Nobody caches the answers of gRPC; a date in each costs its look-up and its bytes.
            .auto_date_header(false)
            .max_concurrent_streams(self.streams_max)
            .max_header_list_size(HEADER_LIST_BYTES_MAX)
            .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
            .max_local_error_reset_streams(ERROR_RESETS_MAX)
            .initial_stream_window_size(self.stream_window_bytes)
            .initial_connection_window_size(self.connection_window_bytes)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .keep_alive_interval(self.ping_interval)
            .keep_alive_timeout(self.ping_max);
        match self.http1 {
            true => builder,
            false => builder.http2_only(),
        }
    }
}

/// Descriptors this process may have; no limit is a large one.
fn descriptors_max() -> usize {
    use rustix::process::{Resource, getrlimit};
    let max = getrlimit(Resource::Nofile).current;
    max.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_bounded_by_the_setting_and_by_what_a_member_bears() {
        let streams = |max| Limits::clients().with_streams_max(max).streams_max;
        let ours = Limits::clients().streams_max;
        assert_eq!((streams(0), streams(7), streams(u32::MAX)), (ours, 7, ours));
    }
}
