//! The Watch service: many watchers on one stream, one task per stream.
//!
//! [`session`] decides what is said, over plain values; the task here waits, for the client, for the hub and for room
//! towards the client. It holds at most two turns of responses, counted in its connection's share, so a client that
//! stops reading costs a bounded amount of memory and makes its own watchers lag.

mod session;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use coord_proto::etcd::etcdserverpb as pb;
use coord_proto::etcd::mvccpb::KeyValue;
use futures::stream::Stream;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use self::session::{Past, Session};
use super::gate::{Gate, OnLearner};
use crate::budget::{Budget, Held, Share};
use crate::clock::Moment;
use crate::command::{KvRefusal, Refusal, Revision, Unavailable};
use crate::coordinator::Error;
use crate::http::come;

/// Turns of responses that wait for the client.
const TURNS_MAX: usize = 2;
/// About how many bytes of history one turn reads: some milliseconds of work.
const HISTORY_BYTES: usize = 256 * 1024;
/// A turn that makes more is counted before it is made.
const UNCOUNTED_BYTES_MAX: usize = 512 * 1024;
/// Answers to requests that wait for the client, counted like all it is sent. While those have no room, a few.
const ANSWERS_MAX: usize = 64 * 1024;
const ANSWERS_ALWAYS: usize = 1024;

/// See [`pb::watch_server::Watch`].
pub(super) struct WatchService(pub(super) Gate);

/// Pause before a stream looks again whether there is room for another turn.
const ROOM_PAUSE: Duration = Duration::from_millis(50);

/// Responses, and what they hold.
type Turn = Result<(Vec<pb::WatchResponse>, Held), Status>;

#[tonic::async_trait]
impl pb::watch_server::Watch for WatchService {
    type WatchStream = Responses;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Responses>, Status> {
        self.0
            .admit_stream(request.metadata(), OnLearner::Refuses)?;
        let end = self.0.end_of_stream(request.metadata());
        let (turns, responses) = mpsc::channel(TURNS_MAX);
        let gate = self.0.clone();
        let share = request.extensions().get::<Arc<Share>>().cloned();
        let share = share.unwrap_or_else(|| Budget::default().share());
        // The task ends with the stream: when the client goes, `turns` closes.
        tokio::spawn(async move {
            tokio::select! {
                () = turns.closed() => {}
                status = end => {
                    // A client that does not read is told nothing; its connection is closed soon anyway.
                    let _ = turns.try_send(Err(status));
                }
                () = serve(&gate, request.into_inner(), &share, &turns) => {}
            }
        });
        Ok(Response::new(Responses {
            turns: responses,
            current: VecDeque::new(),
            held: None,
        }))
    }
}

/// Serves one stream until its client goes. A client that only closed its own side is told of changes as before.
async fn serve(
    gate: &Gate,
    mut stream: Streaming<pb::WatchRequest>,
    share: &Arc<Share>,
    turns: &mpsc::Sender<Turn>,
) {
    let coordinator = &gate.coordinator;
    let identity = coordinator.identity();
    let outlet = coordinator.hub().open();
    let mut session = Session::new(outlet, identity.cluster.0, identity.member.0);
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
        let bytes = if answers.is_empty() {
            session.turn_bytes()
        } else {
            0
        };
        let reads = (answers.is_empty() && session.reads_history()).then_some(&reading);
        tokio::select! {
            came = come(&mut stream), if is_open && may_ask => {
                for request in came.requests {
                    answers.extend(answer(&mut session, request, &watchers, coordinator.term()));
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
                if !answers.is_empty() {
                    room.send(Ok(counted(std::mem::take(&mut answers), held)));
                    continue;
                }
                match session.turn(coordinator.term(), |from, upto| history(gate, from, upto)) {
                    Ok(None) => {
                        may_have_work = false;
                        reading = share.hold_standing();
                    }
                    Ok(Some(said)) => {
                        match session.told_bytes() {
                            // With it goes the turn that it may have taken.
                            0 => reading = share.hold_standing(),
                            told => reading.set(told),
                        }
                        watchers.set(session.watched_bytes());
                        if !said.is_empty() {
                            room.send(Ok(counted(said, held)));
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

/// Waits until another turn may be made, which makes about so many bytes, and reads history if `reads` is to count it.
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
        reading.grow_in_turn(HISTORY_BYTES).await;
    }
    let held = share.hold();
    if bytes > UNCOUNTED_BYTES_MAX {
        held.grow_in_turn(bytes).await;
    } else {
        while !share.has_room() {
            tokio::time::sleep(ROOM_PAUSE).await;
        }
    }
    Some((room, held))
}

fn counted(said: Vec<pb::WatchResponse>, held: Held) -> (Vec<pb::WatchResponse>, Held) {
    let size = |kv: &KeyValue| kv.key.len() + kv.value.len();
    let events = said.iter().flat_map(|response| &response.events);
    let kvs = events.flat_map(|event| event.kv.iter().chain(&event.prev_kv));
    held.set(size_of_val(said.as_slice()) + kvs.map(size).sum::<usize>());
    (said, held)
}

/// Up to a tenth later, so that the watchers of a thousand clients are not told in the same moment.
fn notice_after(last: Moment, interval: Duration) -> Moment {
    last.after(interval.mul_f64(1.0 + rand::random::<f64>() / 10.0))
}

fn history(gate: &Gate, from: Revision, upto: Revision) -> Result<Past, Unavailable> {
    match gate.coordinator.history(from, upto, HISTORY_BYTES) {
        Ok(history) => Ok(Past::Kept {
            events: history.events,
            next: history.next,
        }),
        Err(Error::Refused(Refusal::Kv(KvRefusal::Compacted { oldest }))) => {
            Ok(Past::Compacted { oldest })
        }
        Err(Error::Unavailable(unavailable)) => Err(unavailable),
        Err(Error::Refused(refusal)) => {
            tracing::error!(%refusal, %from, %upto, "history is not readable");
            Err(Unavailable::Stopped)
        }
    }
}

/// The stream of responses, as the client takes them.
pub(super) struct Responses {
    turns: mpsc::Receiver<Turn>,
    current: VecDeque<pb::WatchResponse>,
    held: Option<Held>,
}

impl Stream for Responses {
    type Item = Result<pb::WatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(response) = self.current.pop_front() {
                return Poll::Ready(Some(Ok(response)));
            }
            self.held = None;
            match ready!(self.turns.poll_recv(cx)) {
                Some(Ok((turn, held))) => {
                    self.current = turn.into();
                    self.held = Some(held);
                }
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                None => return Poll::Ready(None),
            }
        }
    }
}
