//! The canonical bytes of an [`Envelope`](super::Envelope).
