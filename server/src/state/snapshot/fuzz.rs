//! Snapshots of any bytes, with checksums that fit, as a peer could send them on purpose.

use bytes::Bytes;

use super::container::{Chain, Chunk};
use crate::command::fuzz::Numbers;
use crate::command::level::FIRST_LEVEL;
use crate::mvcc::CURRENT;

/// Reads the chunks of a snapshot: a byte of length before each. Each is refused, or there are no other bytes for it.
pub(in crate::state) fn snapshot(data: &[u8]) {
    let mut numbers = Numbers::new(data);
    let (mut reading, mut writing) = (Chain::default(), Chain::default());
    while !numbers.is_empty() {
        let framed = reading.framed(numbers.bytes(200));
        let Ok(chunk) = reading.decode(&framed) else {
            return;
        };
        assert_eq!(writing.encode(&chunk), framed, "{chunk:?}");
    }
    // Without a checksum.
    let bytes = Bytes::copy_from_slice(data);
    let _ = Chain::default().decode(&bytes);
}

/// A whole one.
pub(in crate::state) fn snapshots() -> Vec<Vec<u8>> {
    let row = |key: &'static str| (Bytes::from_static(key.as_bytes()), Bytes::from_static(b"v"));
    let chunks = [
        Chunk::Header {
            feature_level: FIRST_LEVEL,
        },
        Chunk::Rows {
            space: CURRENT,
            rows: vec![row("a"), row("b")],
        },
        Chunk::Footer { rows: 2 },
    ];
    let mut chain = Chain::default();
    let parts = chunks.iter().map(|chunk| {
        let framed = chain.encode(chunk);
        let body = &framed[..framed.len() - 4];
        let length = u8::try_from(body.len()).unwrap_or(u8::MAX);
        [&[length], body].concat()
    });
    vec![parts.collect::<Vec<_>>().concat()]
}
