//! One key's change told to many watchers: the writer puts the next value once all have heard of the last.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use bytes::Bytes;
use coord_proto::etcd::etcdserverpb::watch_request::RequestUnion;
use coord_proto::etcd::etcdserverpb::{
    PutRequest, PutResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};
use tokio::sync::Notify;

use crate::data::{KEYS, PREFIX, PREFIX_END, Random, key};
use crate::load::Operator;
use crate::wire::{CallError, Connection, Incoming, Outgoing, Rpc};

#[derive(Default)]
struct Heard {
    events: AtomicU64,
    more: Notify,
}

/// The writer, and what its watchers have heard.
pub(super) struct FanOut {
    connection: Connection,
    random: Random,
    watchers: u64,
    expected: u64,
    heard: Arc<Heard>,
    /// Kept open; the readers end with their streams.
    _streams: Vec<Outgoing>,
}

/// Opens one stream on each connection and spreads the watchers of all keys over them.
pub(super) async fn fan_out(connections: &[Connection], watchers: u64) -> Result<FanOut> {
    let heard = Arc::new(Heard::default());
    let mut streams = Vec::new();
    let each = watchers / connections.len() as u64;
    for connection in connections {
        let create = create_request();
        let (mut outgoing, mut incoming) = connection.stream(Rpc::Watch, &create, false).await?;
        for _ in 1..each {
            outgoing.send(&create)?;
        }
        for _ in 0..each {
            let answer: WatchResponse = incoming.expect().await?;
            anyhow::ensure!(
                answer.created && !answer.canceled,
                "watch refused: {answer:?}"
            );
        }
        tokio::spawn(count(incoming, heard.clone()));
        streams.push(outgoing);
    }
    Ok(FanOut {
        connection: connections[0].clone(),
        random: Random::new(1),
        watchers: each * connections.len() as u64,
        expected: 0,
        heard,
        _streams: streams,
    })
}

fn create_request() -> WatchRequest {
    let create = WatchCreateRequest {
        key: Bytes::from_static(PREFIX.as_bytes()),
        range_end: Bytes::from_static(PREFIX_END.as_bytes()),
        ..WatchCreateRequest::default()
    };
    WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    }
}

async fn count(mut incoming: Incoming, heard: Arc<Heard>) {
    // A stream that breaks shows as a step that never ends, and as such in the reading.
    while let Ok(answer) = incoming.expect::<WatchResponse>().await {
        heard
            .events
            .fetch_add(answer.events.len() as u64, Ordering::Relaxed);
        heard.more.notify_one();
    }
}

impl Operator for FanOut {
    async fn step(&mut self) -> Result<(), CallError> {
        let request = PutRequest {
            key: key(self.random.below(KEYS)),
            value: self.random.value(),
            ..PutRequest::default()
        };
        self.connection
            .call::<PutResponse>(Rpc::Put, &request)
            .await?;
        self.expected += self.watchers;
        while self.heard.events.load(Ordering::Relaxed) < self.expected {
            let more = self.heard.more.notified();
            if tokio::time::timeout(std::time::Duration::from_secs(10), more)
                .await
                .is_err()
            {
                return Err(CallError::Malformed("events are missing after 10 s"));
            }
        }
        Ok(())
    }
}
