//! The messages of a watch stream, before they are bytes.

use coord_proto::etcd::etcdserverpb::WatchResponse;

/// A message of the stream.
#[derive(Debug)]
pub(super) enum Said {
    /// A response.
    Response(WatchResponse),
    /// The beginning of a response that is too large to be held; its events follow before anything else.
    Begins {
        /// With its first events.
        response: WatchResponse,
        /// The encoded size of all of it.
        bytes: u64,
    },
    /// More events of it, and nothing else.
    GoesOn(WatchResponse),
}
