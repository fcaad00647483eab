//! The Watch service: many watchers on one stream, one task per stream.
//!
//! [`session`] decides what is said, over plain values; the task here waits, for the client, for the hub and for room
//! towards the client; [`wire`] makes bytes of it. It holds at most two turns of responses, counted in its connection's
//! share, so a client that stops reading costs a bounded amount of memory and makes its own watchers lag.

mod said;
mod session;
#[cfg(test)]
mod tests;
mod wire;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coord_proto::etcd::etcdserverpb as pb;
use http::{HeaderValue, Request, Response, header::CONTENT_TYPE};
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::{Status, Streaming};

use self::said::Said;
use self::session::Session;
use self::wire::{Responses, Turn, Writer};
use super::check::STREAM_REQUEST_BYTES_MAX;
use super::gate::{self, Credentials, Gate, OnLearner};
use super::record::{self, Recorder, Watchers};
use crate::budget::{Budget, Held, Share};
use crate::clock::Moment;
use crate::command::{KvRefusal, Refusal, Revision, Unavailable};
use crate::coordinator::{Error, History, LargeRevision};
use crate::http::{Remote, come};
use crate::watch::{Changes, Part, Past};

/// Turns of responses that wait for the client.
const TURNS_MAX: usize = 2;
/// About how many bytes of history one turn reads: some milliseconds of work.
const HISTORY_BYTES: usize = 256 * 1024;
/// A turn that makes more is counted before it is made.
const UNCOUNTED_BYTES_MAX: usize = 512 * 1024;
/// Answers to requests that wait for the client, counted like all it is sent. While those have no room, a few.
const ANSWERS_MAX: usize = 64 * 1024;
const ANSWERS_ALWAYS: usize = 1024;
/// Pause before a stream looks again whether there is room for another turn.
const ROOM_PAUSE: Duration = Duration::from_millis(50);

/// Its one method.
const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// `/etcdserverpb.Watch/Watch`.
pub(super) struct WatchService {
    gate: Gate,
    recorder: Option<Recorder>,
}

impl WatchService {
    /// Watchers are recorded, if there is a recorder.
    pub(super) fn new(gate: Gate, recorder: Option<Recorder>) -> Self {
        Self { gate, recorder }
    }

    /// Answers a call. Its body says what is told, until the client goes.
    pub(super) fn call<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match self.open(request) {
            Ok(responses) => {
                let mut response = Response::new(Body::new(responses));
                let kind = HeaderValue::from_static("application/grpc");
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            Err(status) => status.into_http(),
        }
    }

    fn open<B>(&self, request: Request<B>) -> Result<Responses, Status>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        if parts.uri.path() != WATCH {
            return Err(Status::unimplemented(""));
        }
        let encoding = parts.headers.get("grpc-encoding");
        if let Some(encoding) = encoding.filter(|encoding| *encoding != "identity") {
            let encoding = String::from_utf8_lossy(encoding.as_bytes());
            return Err(Status::unimplemented(format!(
                "Content is compressed with `{encoding}` which isn't supported"
            )));
        }
        let metadata = MetadataMap::from_headers(parts.headers);
        self.gate.admit_stream(&metadata, OnLearner::Refuses)?;
        let end = self.gate.end_of_stream(&metadata);
        let (turns, responses) = mpsc::channel(TURNS_MAX);
        let gate = self.gate.clone();
        let certificate = gate::certificate(&parts.extensions).map(AsRef::as_ref);
        let mut credentials = Credentials::new(&metadata, certificate);
        let recording = self.recorder.as_ref().map(|recorder| {
            credentials = record::recorded(&metadata, certificate);
            let remote = parts.extensions.get::<Remote>().cloned();
            recorder.watchers(WATCH, credentials.clone(), remote)
        });
        let share = parts.extensions.get::<Arc<Share>>().cloned();
        let share = share.unwrap_or_else(|| Budget::default().share());
        let max = Some(STREAM_REQUEST_BYTES_MAX);
        let requests = Streaming::new_request(wire::Requests, body, None, max);
        // The task ends with the stream: when the client goes, `turns` closes.
        tokio::spawn(async move {
            tokio::select! {
                () = turns.closed() => {}
                status = end => {
                    // A client that does not read is told nothing; its connection is closed soon anyway.
                    let _ = turns.try_send(Err(status));
                }
                () = serve(&gate, &credentials, recording, requests, &share, &turns) => {}
            }
        });
        Ok(Responses::new(responses))
    }
}

/// Serves one stream until its client goes. A client that only closed its own side is told of changes as before.
async fn serve(
    gate: &Gate,
    credentials: &Credentials,
    mut recording: Option<Watchers>,
    mut stream: Streaming<pb::WatchRequest>,
    share: &Arc<Share>,
    turns: &mpsc::Sender<Turn>,
) {
    let coordinator = &gate.coordinator;
    let identity = coordinator.identity();
    let past = Kept(gate);
    let mut session = Session::new(coordinator.hub(), identity.cluster.0, identity.member.0);
    let mut writer = Writer::default();
    let interval = gate.requests.progress_interval;
    let mut next_notice = notice_after(Moment::now(), interval);
    let mut may_have_work = false;
    let mut is_open = true;
    // Taken as they come: left with the connection, each would hold a frame there, and h2 ends a connection of which some
    // thousand frames are waiting.
    let mut answers = Vec::new();
    let waiting = share.hold();
    let watchers = share.hold_standing();
    let mut reading = share.hold_standing();
    loop {
        waiting.set(size_of_val(answers.as_slice()));
        let may_ask =
            answers.len() < ANSWERS_ALWAYS || (answers.len() < ANSWERS_MAX && waiting.has_room());
        // Nothing may come between two parts of a response.
        let answers_first = !answers.is_empty() && !session.is_inside_a_response();
        let bytes = if answers_first {
            0
        } else {
            session.turn_bytes()
        };
        let reads = (!answers_first && session.reads_history()).then_some(&reading);
        tokio::select! {
            came = come(&mut stream), if is_open && may_ask => {
                for request in came.requests {
                    let term = coordinator.term();
                    let denied = denied(gate, credentials, &request).await;
                    let asked = recording.is_some().then(|| request.clone());
                    let answer = match &denied {
                        Some(why) => vec![session.refused(&in_words(why), term)],
                        None => answer(&mut session, request, &watchers, term),
                    };
                    if let (Some(recording), Some(asked)) = (&mut recording, asked) {
                        recording.asked(&asked, denied.as_ref(), answer.first());
                    }
                    answers.extend(answer.into_iter().map(Said::Response));
                }
                may_have_work = true;
                is_open = came.is_open;
                if let Some(status) = came.broken {
                    // If it is the client's end of the stream, nobody hears this.
                    let _ = turns.try_send(Err(status));
                    return;
                }
            },
            room = room(turns, share, bytes, reads), if may_have_work => {
                let Some((room, held)) = room else { return };
                if answers_first {
                    room.send(counted(&mut writer, &std::mem::take(&mut answers), held));
                    continue;
                }
                let near = coordinator.history_ahead(session.needs(), HISTORY_BYTES);
                let turn = match near.await {
                    Ok(()) => session.turn(coordinator.term(), &past),
                    Err(error) => Err(unreadable(error)),
                };
                match turn {
                    Ok(None) => {
                        may_have_work = false;
                        reading = share.hold_standing();
                    }
                    Ok(Some(said)) => {
                        match session.held_bytes() {
                            // With it goes the turn that it may have taken.
                            0 => reading = share.hold_standing(),
                            held => reading.set(held),
                        }
                        watchers.set(session.watched_bytes());
                        if !said.is_empty() {
                            let turn = counted(&mut writer, &said, held);
                            let is_broken = turn.is_err();
                            room.send(turn);
                            if is_broken {
                                return;
                            }
                        }
                        // A long history is read in many turns; others run in between.
                        tokio::task::yield_now().await;
                    }
                    Err(unavailable) => {
                        room.send(Err(super::error::unavailable(unavailable)));
                        return;
                    }
                }
            }
            () = session.woken(), if !may_have_work => may_have_work = true,
            () = tokio::time::sleep_until(next_notice.instant()) => {
                next_notice = notice_after(next_notice, interval);
                session.notice();
                may_have_work = true;
            }
        }
    }
}

/// Why a watcher that is asked for may not be.
async fn denied(
    gate: &Gate,
    credentials: &Credentials,
    request: &pb::WatchRequest,
) -> Option<Status> {
    let Some(pb::watch_request::RequestUnion::CreateRequest(create)) = &request.request_union
    else {
        return None;
    };
    let keys = session::watched_keys(create);
    match gate.principal(credentials).await {
        Ok(principal) => {
            let may = gate.coordinator.may_watch(&principal, &keys);
            Some(super::error::refused(&may.err()?))
        }
        Err(status) => Some(status),
    }
}

/// A refusal as etcd words it where it is no status.
fn in_words(denied: &Status) -> String {
    let (code, words) = (denied.code(), denied.message());
    format!("rpc error: code = {code:?} desc = {words}")
}

/// Answers a request, unless it asks for a watcher that there is no room for.
fn answer(
    session: &mut Session,
    request: pb::WatchRequest,
    watchers: &Held,
    term: u64,
) -> Vec<pb::WatchResponse> {
    if let Some(pb::watch_request::RequestUnion::CreateRequest(create)) = &request.request_union
        && watchers.grow(session::bytes_of(create)).is_err()
    {
        return vec![session.has_no_room(term)];
    }
    let said = session.request(request, term);
    watchers.set(session.watched_bytes());
    said
}

/// Waits until another turn may be made, of about `bytes`, and reads history if `reads` is to count it.
/// `None` if the client has gone.
async fn room<'a>(
    turns: &'a mpsc::Sender<Turn>,
    share: &Arc<Share>,
    bytes: usize,
    reads: Option<&Held>,
) -> Option<(mpsc::Permit<'a, Turn>, Held)> {
    let room = turns.reserve().await.ok()?;
    if let Some(reading) = reads {
        reading.set(0);
        // A piece of history is small on any machine.
        let _ = reading.grow_in_turn(HISTORY_BYTES).await;
    }
    let held = share.hold();
    // A single change is, too: where even that is not borne, it is told all the same.
    if bytes <= UNCOUNTED_BYTES_MAX || held.grow_in_turn(bytes).await.is_err() {
        while !share.has_room() {
            tokio::time::sleep(ROOM_PAUSE).await;
        }
    }
    Some((room, held))
}

fn counted(writer: &mut Writer, said: &[Said], held: Held) -> Turn {
    let bytes = writer.write(said)?;
    held.set(bytes.len());
    Ok((bytes, held))
}

/// Up to a tenth later, so that the watchers of a thousand clients are not told in the same moment.
fn notice_after(last: Moment, interval: Duration) -> Moment {
    last.after(interval.mul_f64(1.0 + rand::random::<f64>() / 10.0))
}

/// The history that this member keeps.
struct Kept<'a>(&'a Gate);

impl Past for Kept<'_> {
    type Large = LargeRevision;
    type Error = Unavailable;

    fn changes(
        &self,
        from: Revision,
        upto: Revision,
    ) -> Result<Changes<LargeRevision>, Unavailable> {
        match self.0.coordinator.history(from, upto, HISTORY_BYTES) {
            Ok(History::Changes { events, next }) => Ok(Changes::Kept { events, next }),
            Ok(History::Large(large)) => Ok(Changes::Large {
                revision: large.revision(),
                large,
            }),
            Err(Error::Refused(Refusal::Kv(KvRefusal::Compacted { oldest }))) => {
                Ok(Changes::Compacted { oldest })
            }
            Err(error) => Err(unreadable(error)),
        }
    }

    fn part(
        &self,
        large: &LargeRevision,
        places: Range<u32>,
        prevs: bool,
    ) -> Result<Part, Unavailable> {
        let part = self
            .0
            .coordinator
            .part(large, places, prevs, HISTORY_BYTES)
            .map_err(unreadable)?;
        Ok(Part {
            changes: part.changes,
            next: part.next,
        })
    }
}

fn unreadable(error: Error) -> Unavailable {
    match error {
        Error::Unavailable(unavailable) => unavailable,
        Error::Refused(refusal) => {
            tracing::error!(%refusal, "history is not readable");
            Unavailable::Stopped
        }
    }
}
