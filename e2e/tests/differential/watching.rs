//! A stream of watches on one server, and what it told each watcher.
//!
//! Each stream is read by a task of its own, whether anybody waits for it or not. All calls to a server share a connection, and
//! HTTP/2 bounds what is under way on it (65,535 bytes): events that nobody reads on one stream take the room of the answer
//! that is waited for on another, which then never comes.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use coord_proto::etcd::etcdserverpb as pb;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use prost::Message;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use super::operation::{Who, decoded, encoded, message};
use super::side::Side;

/// Longer than a busy server takes to tell of anything.
const PATIENCE: Duration = Duration::from_secs(20);
/// etcd does not answer while a watcher is behind, and looks for those ten times a second: asked sooner it only has more to read.
const AGAIN: Duration = Duration::from_millis(110);
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// The id in progress of all watchers, and in refusals.
const NO_ID: i64 = -1;

/// A stream of one server.
pub(crate) struct Stream {
    asks: mpsc::Sender<pb::WatchRequest>,
    /// All that was told, until an error or the end.
    tells: mpsc::UnboundedReceiver<Result<pb::WatchResponse, Status>>,
    /// News of each watcher since they were last compared.
    pub(crate) told: BTreeMap<i64, Vec<Value>>,
    /// Watchers that there are.
    pub(crate) watchers: Vec<i64>,
    /// Watchers that a compaction ended; etcd tells of no progress until they are given up.
    compacted: Vec<i64>,
    /// Those that were given up then, and not answered yet.
    ending: Vec<i64>,
}

/// The subject of a message.
enum About {
    Created,
    Progress(i64),
    Other,
}

impl Stream {
    pub(crate) async fn open(side: &Side, who: Who) -> Result<Self> {
        let (asks, requests) = mpsc::channel(16);
        let mut request = Request::new(ReceiverStream::new(requests));
        side.sign(who, &mut request)?;
        let mut client =
            WatchClient::new(side.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        // The answer begins when there is something to tell: a first watcher, of a key that nobody writes.
        let first = pb::WatchCreateRequest {
            key: "never".into(),
            watch_id: 1000,
            ..pb::WatchCreateRequest::default()
        };
        asks.send(asking(RequestUnion::CreateRequest(first)))
            .await?;
        let opening = tokio::time::timeout(PATIENCE, client.watch(request));
        let tells = opening
            .await
            .context("a stream does not open")??
            .into_inner();
        let mut stream = Self {
            asks,
            tells: read(tells),
            told: BTreeMap::new(),
            watchers: Vec::new(),
            compacted: Vec::new(),
            ending: Vec::new(),
        };
        stream.until_created(side).await?;
        Ok(stream)
    }

    /// Asks for a watcher, and waits until it is there, or is refused.
    pub(crate) async fn watch(&mut self, side: &Side, create: &Value) -> Result<()> {
        let kind = message("etcdserverpb.WatchCreateRequest").context("it is defined")?;
        let create = pb::WatchCreateRequest::decode(encoded(kind, create)?.as_slice())?;
        self.ask(RequestUnion::CreateRequest(create)).await?;
        self.until_created(side).await
    }

    /// Gives a watcher up; one that there is will be answered.
    pub(crate) async fn cancel(&mut self, id: i64) -> Result<()> {
        if self.watchers.contains(&id) {
            self.ending.push(id);
        }
        let cancel = pb::WatchCancelRequest { watch_id: id };
        self.ask(RequestUnion::CancelRequest(cancel)).await
    }

    /// Waits until all was told up to `revision`. Without a watcher there is nothing to be told.
    pub(crate) async fn settle(&mut self, side: &Side, revision: i64) -> Result<()> {
        let settling = async {
            while !(self.watchers.is_empty() && self.ending.is_empty() && self.compacted.is_empty())
            {
                for id in std::mem::take(&mut self.compacted) {
                    self.cancel(id).await?;
                    self.ending.push(id);
                }
                let progress = pb::WatchProgressRequest {};
                self.ask(RequestUnion::ProgressRequest(progress)).await?;
                let pause = tokio::time::sleep(AGAIN);
                tokio::pin!(pause);
                loop {
                    tokio::select! {
                        told = self.tells.recv() => {
                            let told = told.context("the stream ended")??;
                            let about = self.hear(side, told)?;
                            let is_all = self.ending.is_empty() && self.compacted.is_empty();
                            if let About::Progress(now) = about && now >= revision && is_all {
                                return Ok(());
                            }
                        }
                        () = &mut pause => break,
                    }
                }
            }
            Ok(())
        };
        let settled = tokio::time::timeout(PATIENCE, settling).await;
        settled.with_context(|| {
            let Self {
                watchers,
                told,
                compacted,
                ending,
                ..
            } = self;
            format!(
                "a stream tells of no progress to {revision}: {watchers:?}, {told:?}, {compacted:?}, {ending:?}"
            )
        })?
    }

    async fn until_created(&mut self, side: &Side) -> Result<()> {
        let waiting = async {
            loop {
                let told = self.tells.recv().await.context("the stream ended")??;
                if let About::Created = self.hear(side, told)? {
                    return Ok(());
                }
            }
        };
        let created = tokio::time::timeout(PATIENCE, waiting).await;
        created.context("a watcher is not answered")?
    }

    async fn ask(&self, request: RequestUnion) -> Result<()> {
        if self.asks.send(asking(request)).await.is_err() {
            bail!("the stream ended");
        }
        Ok(())
    }

    fn hear(&mut self, side: &Side, told: pb::WatchResponse) -> Result<About> {
        let id = told.watch_id;
        let is_progress = id == NO_ID && !told.created && !told.canceled;
        if is_progress && told.events.is_empty() {
            let revision = told.header.map_or(0, |header| header.revision);
            return Ok(About::Progress(revision));
        }
        let kind = message("etcdserverpb.WatchResponse").context("it is defined")?;
        let mut json = decoded(kind, &told.encode_to_vec())?;
        side.name(&mut json);
        let events = json.as_object_mut().and_then(|json| json.remove("events"));
        let lines = self.told.entry(id).or_default();
        if let Some(Value::Array(events)) = events {
            // How they were packed is no promise, nor is the revision that goes with them.
            lines.extend(events);
            return Ok(About::Other);
        }
        if told.canceled && id != NO_ID {
            self.watchers.retain(|watcher| *watcher != id);
            match told.compact_revision {
                0 => self.ending.retain(|ending| *ending != id),
                _ => self.compacted.push(id),
            }
            // At what moment a watcher ended is no promise either.
            json["header"] = json!({});
        }
        lines.push(json);
        if told.created {
            if !told.canceled {
                self.watchers.push(id);
            }
            return Ok(About::Created);
        }
        Ok(About::Other)
    }
}

/// Reads a stream as fast as it comes, until nobody wants it any more.
fn read(
    mut tells: Streaming<pb::WatchResponse>,
) -> mpsc::UnboundedReceiver<Result<pb::WatchResponse, Status>> {
    let (heard, news) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let told = tokio::select! {
                told = tells.message() => told,
                () = heard.closed() => return,
            };
            let Some(told) = told.transpose() else { return };
            let is_last = told.is_err();
            if heard.send(told).is_err() || is_last {
                return;
            }
        }
    });
    news
}

fn asking(request: RequestUnion) -> pb::WatchRequest {
    pb::WatchRequest {
        request_union: Some(request),
    }
}
