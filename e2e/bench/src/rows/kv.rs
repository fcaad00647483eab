//! Puts, gets, ranges and compare-and-swap.

use anyhow::Result;
use bytes::Bytes;
use coord_proto::etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use coord_proto::etcd::etcdserverpb::request_op::Request;
use coord_proto::etcd::etcdserverpb::{
    Compare, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, TxnRequest,
    TxnResponse,
};

use crate::data::{KEYS, PREFIX, PREFIX_END, Random, key};
use crate::load::Operator;
use crate::wire::{CallError, Connection, Rpc};

fn each<O>(
    connections: &[Connection],
    clients: usize,
    make: impl Fn(Connection, u64) -> O,
) -> Vec<O> {
    (0..clients)
        .map(|client| {
            let connection = connections[client % connections.len()].clone();
            make(connection, client as u64)
        })
        .collect()
}

/// Overwrites random keys.
pub(super) struct Put {
    connection: Connection,
    random: Random,
}

/// Clients that overwrite random keys.
pub(super) fn puts(connections: &[Connection], clients: usize) -> Vec<Put> {
    each(connections, clients, |connection, client| Put {
        connection,
        random: Random::new(client),
    })
}

impl Operator for Put {
    async fn step(&mut self) -> Result<(), CallError> {
        let request = PutRequest {
            key: key(self.random.below(KEYS)),
            value: self.random.value(),
            ..PutRequest::default()
        };
        self.connection
            .call::<PutResponse>(Rpc::Put, &request)
            .await?;
        Ok(())
    }
}

/// Reads, and checks how many keys came.
pub(super) struct Read {
    connection: Connection,
    random: Random,
    shape: Shape,
}

#[derive(Clone, Copy)]
enum Shape {
    One { linearizable: bool },
    Exactly(u64),
    Page(i64),
}

/// Clients that read random keys.
pub(super) fn gets(connections: &[Connection], clients: usize, linearizable: bool) -> Vec<Read> {
    reads(connections, clients, Shape::One { linearizable })
}

/// Clients that read a range of exactly `keys` keys, beginning anywhere.
pub(super) fn ranges(connections: &[Connection], clients: usize, keys: u64) -> Vec<Read> {
    reads(connections, clients, Shape::Exactly(keys))
}

/// Clients that read the first `limit` of all keys.
pub(super) fn pages(connections: &[Connection], clients: usize, limit: i64) -> Vec<Read> {
    reads(connections, clients, Shape::Page(limit))
}

fn reads(connections: &[Connection], clients: usize, shape: Shape) -> Vec<Read> {
    each(connections, clients, |connection, client| Read {
        connection,
        random: Random::new(client),
        shape,
    })
}

impl Operator for Read {
    async fn step(&mut self) -> Result<(), CallError> {
        let (request, wanted) = match self.shape {
            Shape::One { linearizable } => {
                let request = RangeRequest {
                    key: key(self.random.below(KEYS)),
                    serializable: !linearizable,
                    ..RangeRequest::default()
                };
                (request, 1)
            }
            Shape::Exactly(keys) => {
                let first = self.random.below(KEYS - keys);
                let request = RangeRequest {
                    key: key(first),
                    range_end: key(first + keys),
                    ..RangeRequest::default()
                };
                (request, keys as usize)
            }
            Shape::Page(limit) => {
                let request = RangeRequest {
                    key: Bytes::from_static(PREFIX.as_bytes()),
                    range_end: Bytes::from_static(PREFIX_END.as_bytes()),
                    limit,
                    ..RangeRequest::default()
                };
                (request, limit as usize)
            }
        };
        let answer: RangeResponse = self.connection.call(Rpc::Range, &request).await?;
        if answer.kvs.len() != wanted {
            return Err(CallError::Malformed("not as many keys as asked for"));
        }
        Ok(())
    }
}

/// Replaces a key's value if nobody else has; each client keeps to keys of its own, so it always succeeds.
pub(super) struct Swap {
    connection: Connection,
    random: Random,
    /// Key and the revision it was last seen at.
    own: Vec<(Bytes, i64)>,
}

/// Clients that compare and swap.
pub(super) async fn swaps(connections: &[Connection], clients: usize) -> Result<Vec<Swap>> {
    let all = RangeRequest {
        key: Bytes::from_static(PREFIX.as_bytes()),
        range_end: Bytes::from_static(PREFIX_END.as_bytes()),
        keys_only: true,
        ..RangeRequest::default()
    };
    let all: RangeResponse = connections[0].call(Rpc::Range, &all).await?;
    let mut swaps = each(connections, clients, |connection, client| Swap {
        connection,
        random: Random::new(client),
        own: Vec::new(),
    });
    for (nth, kv) in all.kvs.into_iter().enumerate() {
        swaps[nth % clients].own.push((kv.key, kv.mod_revision));
    }
    Ok(swaps)
}

impl Operator for Swap {
    async fn step(&mut self) -> Result<(), CallError> {
        let nth = self.random.below(self.own.len() as u64) as usize;
        let (key, seen) = &mut self.own[nth];
        let request = TxnRequest {
            compare: vec![Compare {
                result: CompareResult::Equal as i32,
                target: CompareTarget::Mod as i32,
                key: key.clone(),
                range_end: Bytes::new(),
                target_union: Some(TargetUnion::ModRevision(*seen)),
            }],
            success: vec![RequestOp {
                request: Some(Request::RequestPut(PutRequest {
                    key: key.clone(),
                    value: self.random.value(),
                    ..PutRequest::default()
                })),
            }],
            failure: Vec::new(),
        };
        let answer: TxnResponse = self.connection.call(Rpc::Txn, &request).await?;
        if !answer.succeeded {
            return Err(CallError::Malformed("a swap nobody contested failed"));
        }
        *seen = answer.header.map_or(0, |header| header.revision);
        Ok(())
    }
}
