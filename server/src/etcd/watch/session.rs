//! What one watch stream says, and in which order. Plain values: no clock, no channel, no state.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use coord_proto::etcd::etcdserverpb::{
    self as pb, WatchRequest, WatchResponse, watch_request::RequestUnion,
};
use prost::Message;

use super::super::check::{self, RECEIVE_BYTES_MAX};
use super::super::convert;
use super::super::header::signed;
use crate::command::{Event, Keys, Revision, Unavailable};
use crate::watch::{Outlet, Piece, Reader, Wanted, WatcherId};

/// The watcher id of answers that concern no watcher, or one that was not made.
const NO_WATCHER: i64 = -1;
/// Watchers of one stream.
const WATCHERS_MAX: usize = 50_000;
/// What a watcher holds beside its keys.
const WATCHER_BYTES: usize = 600;
/// About how many bytes of events one turn tells.
const TURN_BYTES: usize = 256 * 1024;
/// What an event holds beside keys and values, once as it is kept and once as a message.
const EVENT_BYTES: usize = 256;

/// What a watcher will hold.
pub(super) fn bytes_of(request: &pb::WatchCreateRequest) -> usize {
    WATCHER_BYTES + request.key.len() + request.range_end.len()
}

/// What there is of a piece of history.
pub(super) enum Past {
    /// The changes before `next`, whole revisions.
    Kept { events: Vec<Event>, next: Revision },
    /// It starts below the oldest kept revision.
    Compacted { oldest: Revision },
}

/// One stream's watchers and what their client is still to be told.
pub(super) struct Session {
    outlet: Outlet,
    cluster: u64,
    member: u64,
    watchers: BTreeMap<i64, Opened>,
    /// Watchers that were ended here and not cancelled by their client yet: as in etcd, their ids are not free before.
    lost: BTreeSet<i64>,
    next_id: i64,
    /// Watchers opened so far.
    opened: u64,
    /// What their watchers hold.
    watched_bytes: usize,
    telling: Option<Telling>,
    /// Requests for progress that are not answered yet.
    progress_asked: usize,
}

struct Opened {
    /// Tells it apart from others that had its id.
    number: u64,
    wanted: Arc<Wanted>,
    prev_kv: bool,
    fragment: bool,
    progress_notify: bool,
    /// Whether anything was sent since the last notice.
    was_told: bool,
    is_due_notice: bool,
}

/// A piece of the changes, on its way to one watcher after the other.
struct Telling {
    piece: Piece,
    /// Watchers that were opened when it was taken have lower numbers.
    opened: u64,
    bytes: usize,
    current: Option<Current>,
}

/// What one watcher is still to be told of a piece.
struct Current {
    id: i64,
    number: u64,
    events: VecDeque<Arc<Event>>,
    through: Revision,
}

impl Session {
    pub(super) fn new(outlet: Outlet, cluster: u64, member: u64) -> Self {
        Self {
            outlet,
            cluster,
            member,
            watchers: BTreeMap::new(),
            lost: BTreeSet::new(),
            next_id: 0,
            opened: 0,
            watched_bytes: 0,
            telling: None,
            progress_asked: 0,
        }
    }

    /// Answers a request. What it brings about beyond that comes with the next [`turn`](Self::turn).
    pub(super) fn request(&mut self, request: WatchRequest, term: u64) -> Vec<WatchResponse> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => vec![self.create(&request, term)],
            Some(RequestUnion::CancelRequest(request)) => {
                self.cancel(request.watch_id, term).into_iter().collect()
            }
            Some(RequestUnion::ProgressRequest(_)) => {
                self.progress_asked += 1;
                Vec::new()
            }
            // A request of a kind that is newer than this server: etcd ignores it, so that the others go on.
            None => Vec::new(),
        }
    }

    /// Waits until there may be something to say.
    pub(super) async fn woken(&self) {
        self.outlet.woken().await;
    }

    /// The notice interval is over: watchers that asked for it and heard nothing meanwhile are told how far they are.
    pub(super) fn notice(&mut self) {
        for opened in self.watchers.values_mut() {
            opened.is_due_notice |= opened.progress_notify && !opened.was_told;
            opened.was_told = false;
        }
    }

    /// Bytes that its watchers hold.
    pub(super) fn watched_bytes(&self) -> usize {
        self.watched_bytes
    }

    /// Bytes of the changes that it holds until all of its watchers were told.
    pub(super) fn told_bytes(&self) -> usize {
        self.telling.as_ref().map_or(0, |telling| telling.bytes)
    }

    /// Whether its next turn reads history.
    pub(super) fn reads_history(&self) -> bool {
        self.telling.is_none() && self.outlet.gap().is_some()
    }

    /// About how many bytes the next turn makes, if it is more than some that nobody notices.
    pub(super) fn turn_bytes(&mut self) -> usize {
        let Some(telling) = &mut self.telling else {
            return 0;
        };
        let current = advance(telling, &self.watchers);
        current.map_or(0, |current| match self.watchers.get(&current.id) {
            Some(opened) if opened.fragment => RECEIVE_BYTES_MAX.min(bytes(&current.events)),
            _ => bytes(&current.events),
        })
    }

    /// The next responses: what is left of a piece of the changes, else the next piece, queued or from history for
    /// watchers that are behind, else progress.
    ///
    /// `None` if there is nothing to do until [`woken`](Self::woken); no responses if that piece concerned nobody.
    ///
    /// Errors: what `history` fails with; the stream must end, its client resumes it.
    pub(super) fn turn(
        &mut self,
        term: u64,
        history: impl Fn(Revision, Revision) -> Result<Past, Unavailable>,
    ) -> Result<Option<Vec<WatchResponse>>, Unavailable> {
        if self.telling.is_none() {
            if let Some(piece) = self.outlet.take(TURN_BYTES) {
                self.begin(piece);
            } else if let Some(gap) = self.outlet.gap() {
                match history(gap.from, gap.upto)? {
                    Past::Kept { events, next } => {
                        debug_assert!(next > gap.from, "history moves on");
                        let piece = self.outlet.fill(gap, events, next);
                        self.begin(piece);
                    }
                    Past::Compacted { oldest } => return Ok(Some(self.lose(oldest, term))),
                }
            }
        }
        if let Some(mut telling) = self.telling.take() {
            let (said, has_ended) = self.tell(&mut telling, term);
            if !has_ended {
                self.telling = Some(telling);
            }
            return Ok(Some(said));
        }
        let said = self.progress(term);
        Ok((!said.is_empty()).then_some(said))
    }

    /// Answers a request to watch, for which the connection has no room.
    pub(super) fn has_no_room(&self, term: u64) -> WatchResponse {
        self.refused("etcdserver: too many requests", term)
    }

    fn refused(&self, why: &str, term: u64) -> WatchResponse {
        WatchResponse {
            watch_id: NO_WATCHER,
            created: true,
            canceled: true,
            cancel_reason: why.to_owned(),
            ..self.response(self.outlet.revision(), term)
        }
    }

    fn create(&mut self, request: &pb::WatchCreateRequest, term: u64) -> WatchResponse {
        if let Err(invalid) = check::bounds(&request.key, &request.range_end) {
            return self.refused(tonic::Status::from(invalid).message(), term);
        }
        let keys = watched_keys(request);
        if let Keys::Range {
            start,
            end: Some(end),
        } = &keys
            && start >= end
        {
            return self.refused("mvcc: watcher range is empty", term);
        }
        let Ok(start) = u64::try_from(request.start_revision) else {
            let why = "etcdserver: mvcc: required revision has been compacted";
            return self.refused(why, term);
        };
        if self.watchers.len() + self.lost.len() >= WATCHERS_MAX {
            return self.refused("etcdserver: too many watchers on one stream", term);
        }
        let id = match request.watch_id {
            0 => self.free_id(),
            id if self.is_taken(id) => {
                let why = "mvcc: duplicate watch ID provided on the WatchStream";
                return self.refused(why, term);
            }
            id => id,
        };
        let hides =
            |filter: pb::watch_create_request::FilterType| request.filters.contains(&filter.into());
        let wanted = Arc::new(Wanted {
            keys,
            start: (start > 0).then_some(Revision(start)),
            puts: !hides(pb::watch_create_request::FilterType::Noput),
            deletes: !hides(pb::watch_create_request::FilterType::Nodelete),
        });
        let revision = self.outlet.watch(WatcherId(id), wanted.clone());
        self.watched_bytes += held_bytes(&wanted);
        self.opened += 1;
        self.watchers.insert(
            id,
            Opened {
                number: self.opened,
                wanted,
                prev_kv: request.prev_kv,
                fragment: request.fragment,
                progress_notify: request.progress_notify,
                was_told: true,
                is_due_notice: false,
            },
        );
        WatchResponse {
            watch_id: id,
            created: true,
            ..self.response(revision, term)
        }
    }

    fn cancel(&mut self, id: i64, term: u64) -> Option<WatchResponse> {
        match self.watchers.remove(&id) {
            Some(opened) => {
                self.watched_bytes -= held_bytes(&opened.wanted);
                self.outlet.cancel(WatcherId(id));
            }
            // As etcd: it was told that it ended, and is told again that it was cancelled.
            None => self.lost.remove(&id).then_some(())?,
        }
        Some(WatchResponse {
            watch_id: id,
            canceled: true,
            ..self.response(self.outlet.revision(), term)
        })
    }

    fn is_taken(&self, id: i64) -> bool {
        self.watchers.contains_key(&id) || self.lost.contains(&id)
    }

    fn free_id(&mut self) -> i64 {
        while self.is_taken(self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    fn lose(&mut self, oldest: Revision, term: u64) -> Vec<WatchResponse> {
        let lost = self.outlet.lose(oldest);
        debug_assert!(!lost.is_empty(), "the gap starts where a watcher stands");
        let said = lost.into_iter().map(|WatcherId(id)| {
            if let Some(opened) = self.watchers.remove(&id) {
                self.watched_bytes -= held_bytes(&opened.wanted);
            }
            self.lost.insert(id);
            WatchResponse {
                watch_id: id,
                canceled: true,
                compact_revision: signed(oldest),
                ..self.response(Revision(0), term)
            }
        });
        said.collect()
    }

    fn progress(&mut self, term: u64) -> Vec<WatchResponse> {
        let mut said = Vec::new();
        if self.progress_asked > 0
            && let Some(revision) = self.outlet.progress()
        {
            // Requests that had to wait are answered together.
            self.progress_asked = 0;
            said.push(WatchResponse {
                watch_id: NO_WATCHER,
                ..self.response(revision, term)
            });
        }
        let due: Vec<i64> = self
            .watchers
            .iter()
            .filter(|(_, opened)| opened.is_due_notice)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            // One that has not reached its start is told nothing, now or until the next notice.
            let told = self.outlet.progress_of(WatcherId(id));
            if let Some(opened) = self.watchers.get_mut(&id) {
                opened.is_due_notice = false;
            }
            if let Some(revision) = told {
                said.push(WatchResponse {
                    watch_id: id,
                    ..self.response(revision, term)
                });
            }
        }
        said
    }

    fn begin(&mut self, piece: Piece) {
        self.telling = Some(Telling {
            bytes: piece.bytes(),
            piece,
            opened: self.opened,
            current: None,
        });
    }

    /// About a turn's part of a piece, and whether that was all.
    fn tell(&mut self, telling: &mut Telling, term: u64) -> (Vec<WatchResponse>, bool) {
        let mut said = Vec::new();
        let mut told = 0;
        while told < TURN_BYTES {
            let Some(current) = advance(telling, &self.watchers) else {
                return (said, true);
            };
            let Some(opened) = self.watchers.get_mut(&current.id) else {
                continue;
            };
            opened.was_told = true;
            opened.is_due_notice = false;
            let (prev_kv, fragment) = (opened.prev_kv, opened.fragment);
            let mut bytes = 0;
            let mut events = Vec::new();
            while let Some(event) = current.events.front() {
                let event = convert::event(event, prev_kv);
                let size = event.encoded_len();
                // What a client with etcd's default limits could not receive; only for those that asked for it.
                if fragment && bytes > 0 && bytes + size > RECEIVE_BYTES_MAX {
                    break;
                }
                bytes += size;
                events.push(event);
                current.events.pop_front();
            }
            told += bytes + size_of::<WatchResponse>();
            let (id, through) = (current.id, current.through);
            let is_part = !current.events.is_empty();
            said.push(WatchResponse {
                watch_id: id,
                events,
                fragment: is_part,
                ..self.response(through, term)
            });
        }
        (said, false)
    }

    fn response(&self, revision: Revision, term: u64) -> WatchResponse {
        let header = pb::ResponseHeader {
            cluster_id: self.cluster,
            member_id: self.member,
            revision: signed(revision),
            raft_term: term,
        };
        WatchResponse {
            header: Some(header),
            ..WatchResponse::default()
        }
    }
}

/// As for a range, but an empty key stands for the first one there can be.
fn watched_keys(request: &pb::WatchCreateRequest) -> Keys {
    let first = bytes::Bytes::from_static(b"\0");
    let key = if request.key.is_empty() {
        &first
    } else {
        &request.key
    };
    convert::keys(key, &request.range_end)
}

/// The next watcher of a piece that wants anything of it, or the one that was not told all of it yet.
fn advance<'a>(
    telling: &'a mut Telling,
    watchers: &BTreeMap<i64, Opened>,
) -> Option<&'a mut Current> {
    let opened = telling.opened;
    let is_there = |id: i64, number: u64| {
        let now = watchers.get(&id);
        now.is_some_and(|now| now.number == number && number <= opened)
    };
    let goes_on = telling
        .current
        .as_ref()
        .is_some_and(|current| !current.events.is_empty() && is_there(current.id, current.number));
    if !goes_on {
        telling.current = None;
    }
    while telling.current.is_none() {
        let Reader { watcher, from } = telling.piece.next_reader()?;
        let Some(opened) = watchers.get(&watcher.0) else {
            continue;
        };
        if !is_there(watcher.0, opened.number) {
            continue;
        }
        let events = telling.piece.events_for(&opened.wanted, from);
        if let Some(last) = events.last() {
            telling.current = Some(Current {
                id: watcher.0,
                number: opened.number,
                through: telling.piece.through(last.kv.mod_revision),
                events: events.into(),
            });
        }
    }
    telling.current.as_mut()
}

fn held_bytes(wanted: &Wanted) -> usize {
    let keys = match &wanted.keys {
        Keys::One(key) => key.len(),
        Keys::Range { start, end } => start.len() + end.as_ref().map_or(0, bytes::Bytes::len),
    };
    WATCHER_BYTES + keys
}

/// What events hold as messages.
fn bytes(events: &VecDeque<Arc<Event>>) -> usize {
    let size = |kv: &crate::command::KeyValue| kv.key.len() + kv.value.len();
    let size =
        |event: &Arc<Event>| EVENT_BYTES + size(&event.kv) + event.prev.as_ref().map_or(0, size);
    events.iter().map(size).sum()
}
