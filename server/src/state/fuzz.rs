//! The functions of this room that read any bytes.

/// Permissions of any shape.
pub fn permissions(data: &[u8]) {
    super::auth::fuzz::permissions(data);
}

/// The chunks of a snapshot.
pub fn snapshot(data: &[u8]) {
    super::snapshot::fuzz::snapshot(data);
}

/// Snapshots to begin with.
pub fn snapshots() -> Vec<Vec<u8>> {
    super::snapshot::fuzz::snapshots()
}
