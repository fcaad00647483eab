//! Requests to append whose entries follow one another.

use openraft::raft::AppendEntriesRequest;

use crate::raft::types::TypeConfig;

/// Whether the entries of a request follow one another, and what it says comes before them.
///
/// openraft does not promise it. It may go on with a range of entries that it has begun, although the log was cut
/// meanwhile because the peer is sent a snapshot; the rest of the range then begins anywhere. A peer that took it would
/// miss the entries in between.
pub(super) fn is_whole(request: &AppendEntriesRequest<TypeConfig>) -> bool {
    let mut before = request.prev_log_id.map(|previous| previous.index);
    request.entries.iter().all(|entry| {
        let index = entry.log_id.index;
        let next = before.map_or(Some(0), |before| before.checked_add(1));
        before = Some(index);
        next == Some(index)
    })
}
