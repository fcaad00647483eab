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
use crate::command::{Refusal, Revision, Unavailable};
use crate::coordinator::Error;

/// etcd's `--watch-progress-notify-interval`.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(600);
/// Turns of responses that wait for the client.
const TURNS_MAX: usize = 2;
/// About how many bytes of history one turn reads: some milliseconds of work.
const HISTORY_BYTES: usize = 256 * 1024;

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
        self.0.admit(request.metadata(), OnLearner::Refuses)?;
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

/// Serves one stream until its client ends it.
async fn serve(
    gate: &Gate,
    mut requests: Streaming<pb::WatchRequest>,
    share: &Arc<Share>,
    turns: &mpsc::Sender<Turn>,
) {
    let coordinator = &gate.coordinator;
    let identity = coordinator.identity();
    let outlet = coordinator.hub().open();
    let mut session = Session::new(outlet, identity.cluster.0, identity.member.0);
    let mut next_notice = notice_after(Moment::now());
    let mut may_have_work = false;
    loop {
        let said = tokio::select! {
            request = requests.message() => match request {
                Ok(Some(request)) => {
                    may_have_work = true;
                    session.request(request, coordinator.term())
                }
                Ok(None) => return,
                Err(status) => {
                    // If it is the client's end of the stream, nobody hears this.
                    let _ = turns.try_send(Err(super::error::received(status)));
                    return;
                }
            },
            room = room(turns, share), if may_have_work => {
                let Some(room) = room else { return };
                match session.turn(coordinator.term(), |from, upto| history(gate, from, upto)) {
                    Ok(None) => may_have_work = false,
                    Ok(Some(said)) => {
                        if !said.is_empty() {
                            room.send(Ok(counted(said, share)));
                        }
                        // A long history is read in many turns; others run in between.
                        tokio::task::yield_now().await;
                    }
                    Err(unavailable) => {
                        room.send(Err(super::error::unavailable(unavailable)));
                        return;
                    }
                }
                continue;
            }
            () = session.woken(), if !may_have_work => {
                may_have_work = true;
                continue;
            }
            () = tokio::time::sleep_until(next_notice.instant()) => {
                next_notice = notice_after(next_notice);
                session.notice();
                may_have_work = true;
                continue;
            }
        };
        if !said.is_empty() && turns.send(Ok(counted(said, share))).await.is_err() {
            return;
        }
    }
}

/// Waits until another turn may be made. `None` if the client has gone.
async fn room<'a>(turns: &'a mpsc::Sender<Turn>, share: &Share) -> Option<mpsc::Permit<'a, Turn>> {
    let room = turns.reserve().await.ok()?;
    while !share.has_room() {
        tokio::time::sleep(ROOM_PAUSE).await;
    }
    Some(room)
}

fn counted(said: Vec<pb::WatchResponse>, share: &Arc<Share>) -> (Vec<pb::WatchResponse>, Held) {
    let size = |kv: &KeyValue| kv.key.len() + kv.value.len();
    let events = said.iter().flat_map(|response| &response.events);
    let kvs = events.flat_map(|event| event.kv.iter().chain(&event.prev_kv));
    let held = share.hold();
    held.set(kvs.map(size).sum());
    (said, held)
}

/// Up to a tenth later, so that the watchers of a thousand clients are not told in the same moment.
fn notice_after(last: Moment) -> Moment {
    last.after(PROGRESS_INTERVAL.mul_f64(1.0 + rand::random::<f64>() / 10.0))
}

fn history(gate: &Gate, from: Revision, upto: Revision) -> Result<Past, Unavailable> {
    match gate.coordinator.history(from, upto, HISTORY_BYTES) {
        Ok(history) => Ok(Past::Kept {
            events: history.events,
            next: history.next,
        }),
        Err(Error::Refused(Refusal::Compacted { oldest })) => Ok(Past::Compacted { oldest }),
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
