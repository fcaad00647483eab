//! The life of a lease: granted, a key put under it, revoked.

use bytes::Bytes;
use coord_proto::etcd::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse, PutRequest,
    PutResponse,
};

use crate::data::Random;
use crate::load::Operator;
use crate::wire::{CallError, Connection, Rpc};

/// Long enough that no lease of the load ever ends by itself.
const TTL_SECONDS: i64 = 60;

/// One client.
pub(super) struct Cycle {
    connection: Connection,
    random: Random,
    key: Bytes,
}

/// Clients, each with a key of its own.
pub(super) fn cycles(connections: &[Connection], clients: usize) -> Vec<Cycle> {
    (0..clients)
        .map(|client| Cycle {
            connection: connections[client % connections.len()].clone(),
            random: Random::new(client as u64),
            key: Bytes::from(format!("/bench/leased/{client:018}")),
        })
        .collect()
}

/// Grants a lease with an id that the server chooses.
pub(super) async fn grant(connection: &Connection) -> Result<i64, CallError> {
    let request = LeaseGrantRequest {
        ttl: TTL_SECONDS,
        id: 0,
    };
    let granted: LeaseGrantResponse = connection.call(Rpc::Grant, &request).await?;
    Ok(granted.id)
}

impl Operator for Cycle {
    async fn step(&mut self) -> Result<(), CallError> {
        let lease = grant(&self.connection).await?;
        let put = PutRequest {
            key: self.key.clone(),
            value: self.random.value(),
            lease,
            ..PutRequest::default()
        };
        self.connection.call::<PutResponse>(Rpc::Put, &put).await?;
        let revoke = LeaseRevokeRequest { id: lease };
        self.connection
            .call::<LeaseRevokeResponse>(Rpc::Revoke, &revoke)
            .await?;
        Ok(())
    }
}
