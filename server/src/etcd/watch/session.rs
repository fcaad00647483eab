//! The responses of one watch stream, in order. Plain values: no clock, no channel, no state.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use coord_proto::etcd::etcdserverpb::{
    self as pb, WatchRequest, WatchResponse, watch_request::RequestUnion,
};
use coord_proto::etcd::mvccpb;
use prost::Message;

use super::super::check::{self, RECEIVE_BYTES_MAX};
use super::super::convert;
use super::super::header::signed;
use super::said::Said;
use super::wire;
use crate::command::{Keys, Revision, Unavailable};
use crate::coordinator::LargeRevision;
use crate::watch::{Extent, Hub, Needs, Past, Pump, Told, Turn, Wanted, WatcherId};

/// The watcher id of answers that concern no watcher, or one that was not made.
const NO_WATCHER: i64 = -1;
/// Watchers of one stream.
const WATCHERS_MAX: usize = 50_000;
/// Memory of a watcher beside its keys.
const WATCHER_BYTES: usize = 600;

/// Memory that a watcher will hold.
pub(super) fn bytes_of(request: &pb::WatchCreateRequest) -> usize {
    WATCHER_BYTES + request.key.len() + request.range_end.len()
}

/// One stream's watchers and what their client is still to be told.
pub(super) struct Session<L = LargeRevision> {
    pump: Pump<L>,
    cluster: u64,
    member: u64,
    watchers: BTreeMap<i64, Opened>,
    /// Their clients' ids.
    ids: HashMap<WatcherId, i64>,
    /// Watchers that were ended here and not cancelled by their client yet: as in etcd, their ids are not free before.
    lost: BTreeSet<i64>,
    next_id: i64,
    /// Memory that their watchers hold.
    watched_bytes: usize,
    /// The large revision that is being told: to whom, and whether in fragments.
    large: Option<(i64, bool)>,
    /// Requests for progress that are not answered yet.
    progress_asked: usize,
}

struct Opened {
    watcher: WatcherId,
    prev_kv: bool,
    fragment: bool,
    progress_notify: bool,
    /// Memory that it holds.
    bytes: usize,
    /// Whether anything was sent since the last notice.
    was_told: bool,
    is_due_notice: bool,
}

impl<L> Session<L> {
    pub(super) fn new(hub: &Arc<Hub>, cluster: u64, member: u64) -> Self {
        Self {
            pump: Pump::new(hub, wire::event_bytes),
            cluster,
            member,
            watchers: BTreeMap::new(),
            ids: HashMap::new(),
            lost: BTreeSet::new(),
            next_id: 0,
            watched_bytes: 0,
            large: None,
            progress_asked: 0,
        }
    }

    /// Answers a request. Its other effects come with the next [`turn`](Self::turn).
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
        self.pump.woken().await;
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

    /// Bytes of the changes that it holds between two turns.
    pub(super) fn held_bytes(&self) -> usize {
        self.pump.held_bytes()
    }

    /// Whether its next turn reads history.
    pub(super) fn reads_history(&self) -> bool {
        self.pump.reads_history()
    }

    /// The pieces of history that its next turn reads.
    pub(super) fn needs(&self) -> Vec<Needs<'_, L>> {
        self.pump.needs()
    }

    /// Whether a response has begun and not ended: only its next turn may be said now.
    pub(super) fn is_inside_a_response(&self) -> bool {
        self.pump.is_inside_a_revision()
    }

    /// About how many bytes the next turn makes, if it is more than some that nobody notices.
    pub(super) fn turn_bytes(&mut self) -> usize {
        self.pump.next_bytes()
    }

    /// The next responses: the rest of a piece of the changes, else the next piece, queued or from history for
    /// watchers that are behind, else progress.
    ///
    /// `None` if there is nothing to do until [`woken`](Self::woken); nothing said if that piece concerned nobody.
    ///
    /// Errors: those of `past`; the stream must end, its client resumes it.
    pub(super) fn turn(
        &mut self,
        term: u64,
        past: &impl Past<Large = L, Error = Unavailable>,
    ) -> Result<Option<Vec<Said>>, Unavailable> {
        let mut said = Vec::new();
        match self.pump.turn(past)? {
            Turn::Told(told) => {
                for told in told {
                    self.tell(told, term, &mut said);
                }
            }
            Turn::Lost { watchers, oldest } => self.lose(&watchers, oldest, term, &mut said),
            Turn::Idle => {
                self.progress(term, &mut said);
                if said.is_empty() {
                    return Ok(None);
                }
            }
        }
        Ok(Some(said))
    }

    /// Answers a request to watch, for which the connection has no room.
    pub(super) fn has_no_room(&self, term: u64) -> WatchResponse {
        self.refused("etcdserver: too many requests", term)
    }

    /// Answers a request to watch that is refused, in these words.
    pub(super) fn refused(&self, why: &str, term: u64) -> WatchResponse {
        WatchResponse {
            watch_id: NO_WATCHER,
            created: true,
            canceled: true,
            cancel_reason: why.to_owned(),
            ..self.response(self.pump.revision(), term)
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
        let bytes = WATCHER_BYTES + bytes_of_keys(&keys);
        let (watcher, revision) = self.pump.watch(Wanted {
            keys,
            start: (start > 0).then_some(Revision(start)),
            puts: !hides(pb::watch_create_request::FilterType::Noput),
            deletes: !hides(pb::watch_create_request::FilterType::Nodelete),
            prevs: request.prev_kv,
        });
        self.watched_bytes += bytes;
        self.ids.insert(watcher, id);
        self.watchers.insert(
            id,
            Opened {
                watcher,
                prev_kv: request.prev_kv,
                fragment: request.fragment,
                progress_notify: request.progress_notify,
                bytes,
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
                self.watched_bytes -= opened.bytes;
                self.ids.remove(&opened.watcher);
                self.pump.cancel(opened.watcher);
            }
            // As etcd: it was told that it ended, and is told again that it was cancelled.
            None => self.lost.remove(&id).then_some(())?,
        }
        Some(WatchResponse {
            watch_id: id,
            canceled: true,
            ..self.response(self.pump.revision(), term)
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

    fn lose(&mut self, lost: &[WatcherId], oldest: Revision, term: u64, said: &mut Vec<Said>) {
        let mut ids: Vec<i64> = lost.iter().filter_map(|id| self.ids.remove(id)).collect();
        ids.sort_unstable();
        for id in ids {
            if let Some(opened) = self.watchers.remove(&id) {
                self.watched_bytes -= opened.bytes;
            }
            self.lost.insert(id);
            said.push(Said::Response(WatchResponse {
                watch_id: id,
                canceled: true,
                compact_revision: signed(oldest),
                ..self.response(Revision(0), term)
            }));
        }
    }

    fn progress(&mut self, term: u64, said: &mut Vec<Said>) {
        if self.progress_asked > 0
            && let Some(revision) = self.pump.progress()
        {
            // Requests that had to wait are answered together.
            self.progress_asked = 0;
            said.push(Said::Response(WatchResponse {
                watch_id: NO_WATCHER,
                ..self.response(revision, term)
            }));
        }
        let mut due = Vec::new();
        for (id, opened) in &mut self.watchers {
            if std::mem::take(&mut opened.is_due_notice) {
                due.push((*id, opened.watcher));
            }
        }
        for (id, watcher) in due {
            // One that has not reached its start is told nothing, now or until the next notice.
            if let Some(revision) = self.pump.progress_of(watcher) {
                said.push(Said::Response(WatchResponse {
                    watch_id: id,
                    ..self.response(revision, term)
                }));
            }
        }
    }

    fn tell(&mut self, told: Told, term: u64, said: &mut Vec<Said>) {
        let Told {
            watcher,
            events,
            through,
            extent,
        } = told;
        if let Extent::GoesOn | Extent::Ends = extent {
            let is_last = extent == Extent::Ends;
            let current = match is_last {
                true => self.large.take(),
                false => self.large,
            };
            let Some((id, in_fragments)) = current else {
                return;
            };
            // Previous values that it does not want to see were not read.
            let events = events.iter().map(|event| convert::event(event, true));
            if in_fragments {
                let head = self.head(id, through, term);
                split(&head, events, is_last, said);
            } else {
                said.push(Said::GoesOn(WatchResponse {
                    events: events.collect(),
                    ..WatchResponse::default()
                }));
            }
            return;
        }
        let Some(id) = self.ids.get(&watcher).copied() else {
            return;
        };
        let Some(opened) = self.watchers.get_mut(&id) else {
            return;
        };
        opened.was_told = true;
        opened.is_due_notice = false;
        let (prev_kv, fragment) = (opened.prev_kv, opened.fragment);
        let head = self.head(id, through, term);
        let events = events.iter().map(|event| convert::event(event, prev_kv));
        if let Extent::Begins { bytes } = extent {
            let bytes = bytes + head.encoded_len() as u64;
            let in_fragments =
                (fragment && bytes > RECEIVE_BYTES_MAX as u64) || bytes > wire::MESSAGE_BYTES_MAX;
            self.large = Some((id, in_fragments));
            if in_fragments {
                split(&head, events, false, said);
            } else {
                let response = WatchResponse {
                    events: events.collect(),
                    ..head
                };
                said.push(Said::Begins { response, bytes });
            }
        } else if fragment {
            split(&head, events, true, said);
        } else {
            said.push(Said::Response(WatchResponse {
                events: events.collect(),
                ..head
            }));
        }
    }

    fn head(&self, id: i64, through: Revision, term: u64) -> WatchResponse {
        WatchResponse {
            watch_id: id,
            ..self.response(through, term)
        }
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
pub(super) fn watched_keys(request: &pb::WatchCreateRequest) -> Keys {
    let first = bytes::Bytes::from_static(b"\0");
    let key = if request.key.is_empty() {
        &first
    } else {
        &request.key
    };
    convert::keys(key, &request.range_end)
}

/// Responses that a client with etcd's default limits can receive, all but the last marked as fragments: the last, too, if
/// more is to come.
fn split(
    head: &WatchResponse,
    events: impl Iterator<Item = mvccpb::Event>,
    is_last: bool,
    said: &mut Vec<Said>,
) {
    let mut response = head.clone();
    let mut bytes = 0;
    for event in events {
        let size = event.encoded_len();
        if bytes > 0 && bytes + size > RECEIVE_BYTES_MAX {
            response.fragment = true;
            said.push(Said::Response(std::mem::replace(
                &mut response,
                head.clone(),
            )));
            bytes = 0;
        }
        bytes += size;
        response.events.push(event);
    }
    response.fragment = !is_last;
    said.push(Said::Response(response));
}

fn bytes_of_keys(keys: &Keys) -> usize {
    match keys {
        Keys::One(key) => key.len(),
        Keys::Range { start, end } => start.len() + end.as_ref().map_or(0, bytes::Bytes::len),
    }
}
