//! The keys and values of the load: 10,000 keys of 32 bytes, values of 256 bytes that do not compress.

use bytes::Bytes;
use coord_proto::etcd::etcdserverpb::request_op::Request;
use coord_proto::etcd::etcdserverpb::{PutRequest, RequestOp, TxnRequest, TxnResponse};

use crate::wire::{CallError, Connection, Rpc};

/// How many keys the load is spread over.
pub const KEYS: u64 = 10_000;
/// Puts in one transaction of a fill; etcd's default bound is 128.
const PUTS_PER_TXN: u64 = 100;
const VALUE_BYTES: usize = 256;

/// The prefix of every key.
pub const PREFIX: &str = "/bench/keys/";
/// The end of the range of all keys.
pub const PREFIX_END: &str = "/bench/keys0";

/// The `nth` key; 32 bytes, in order.
pub fn key(nth: u64) -> Bytes {
    Bytes::from(format!("{PREFIX}{nth:020}"))
}

/// A small generator of numbers that look random (splitmix64), the same for the same seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `[0, bound)`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    /// A fresh value.
    pub fn value(&mut self) -> Bytes {
        self.bytes(VALUE_BYTES)
    }

    /// A fresh value of `length` bytes, a multiple of 8.
    pub fn bytes(&mut self, length: usize) -> Bytes {
        let mut out = Vec::with_capacity(length);
        while out.len() < length {
            out.extend_from_slice(&self.draw().to_le_bytes());
        }
        Bytes::from(out)
    }
}

/// Writes keys `[0, keys)`, a hundred to a transaction, over all connections at once with `clients` tasks.
pub async fn fill(connections: &[Connection], keys: u64, clients: u64) -> anyhow::Result<()> {
    fill_with(connections, keys, clients, VALUE_BYTES).await
}

/// As [`fill`], with values of `value_bytes`, a multiple of 8.
pub async fn fill_with(
    connections: &[Connection],
    keys: u64,
    clients: u64,
    value_bytes: usize,
) -> anyhow::Result<()> {
    let mut tasks = Vec::new();
    for client in 0..clients {
        let connection = connections[client as usize % connections.len()].clone();
        tasks.push(tokio::spawn(async move {
            let mut random = Random::new(client);
            let mut first = client * PUTS_PER_TXN;
            while first < keys {
                let end = (first + PUTS_PER_TXN).min(keys);
                put_all(&connection, first..end, &mut random, value_bytes).await?;
                first += clients * PUTS_PER_TXN;
            }
            Ok::<(), CallError>(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

async fn put_all(
    connection: &Connection,
    keys: std::ops::Range<u64>,
    random: &mut Random,
    value_bytes: usize,
) -> Result<(), CallError> {
    let success = keys
        .map(|nth| RequestOp {
            request: Some(Request::RequestPut(PutRequest {
                key: key(nth),
                value: random.bytes(value_bytes),
                ..PutRequest::default()
            })),
        })
        .collect();
    let txn = TxnRequest {
        success,
        ..TxnRequest::default()
    };
    connection.call::<TxnResponse>(Rpc::Txn, &txn).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_32_bytes_and_lie_in_the_range() {
        for nth in [0, 9_999, u64::MAX] {
            let key = key(nth);
            assert_eq!(key.len(), 32);
            assert!(key >= PREFIX.as_bytes() && key < PREFIX_END.as_bytes());
        }
        assert!(key(9) < key(10));
    }

    #[test]
    fn the_same_seed_gives_the_same_values() {
        assert_eq!(Random::new(7).value(), Random::new(7).value());
        assert_ne!(Random::new(7).value(), Random::new(8).value());
        assert_eq!(Random::new(1).value().len(), 256);
    }
}
