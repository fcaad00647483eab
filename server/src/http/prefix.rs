//! The head of each gRPC message.

/// Its bytes: whether the message is compressed, then its length.
pub(super) const PREFIX_BYTES: usize = 5;
