//! What one watch stream says, and in which order. Plain values: no clock, no channel, no state.

use std::collections::BTreeMap;
use std::sync::Arc;

use coord_proto::etcd::etcdserverpb::{
    self as pb, WatchRequest, WatchResponse, watch_request::RequestUnion,
};
use coord_proto::etcd::mvccpb;
use prost::Message;

use super::super::check::RECEIVE_BYTES_MAX;
use super::super::convert;
use super::super::header::signed;
use crate::command::{Event, Keys, Revision, Unavailable};
use crate::watch::{Delivery, Outlet, Wanted, WatcherId};

/// The watcher id of answers that concern no watcher, or one that was not made.
const NO_WATCHER: i64 = -1;
/// Watchers of one stream: about 400 bytes each.
const WATCHERS_MAX: usize = 50_000;
/// About how many bytes of queued events one turn takes.
const TURN_BYTES: usize = 256 * 1024;

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
    next_id: i64,
    /// Requests for progress that are not answered yet.
    progress_asked: usize,
}

struct Opened {
    prev_kv: bool,
    fragment: bool,
    progress_notify: bool,
    /// Whether anything was sent since the last notice.
    was_told: bool,
    is_due_notice: bool,
}

impl Session {
    pub(super) fn new(outlet: Outlet, cluster: u64, member: u64) -> Self {
        Self {
            outlet,
            cluster,
            member,
            watchers: BTreeMap::new(),
            next_id: 0,
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

    /// The next responses: queued events, else a piece of history for watchers that lag, else progress.
    ///
    /// `None` if there is nothing to do until [`woken`](Self::woken); no responses if that piece concerned nobody.
    ///
    /// Errors: what `history` fails with; the stream must end, its client resumes it.
    pub(super) fn turn(
        &mut self,
        term: u64,
        history: impl Fn(Revision, Revision) -> Result<Past, Unavailable>,
    ) -> Result<Option<Vec<WatchResponse>>, Unavailable> {
        let queued = self.outlet.take(TURN_BYTES);
        if !queued.is_empty() {
            return Ok(Some(self.tell(queued, term)));
        }
        if let Some(gap) = self.outlet.gap() {
            return Ok(Some(match history(gap.from, gap.upto)? {
                Past::Kept { events, next } => {
                    debug_assert!(next > gap.from, "history moves on");
                    let deliveries = self.outlet.fill(gap, events, next);
                    self.tell(deliveries, term)
                }
                Past::Compacted { oldest } => self.lose(oldest, term),
            }));
        }
        let said = self.progress(term);
        Ok((!said.is_empty()).then_some(said))
    }

    fn create(&mut self, request: &pb::WatchCreateRequest, term: u64) -> WatchResponse {
        let refused = |session: &Self, why: &str| WatchResponse {
            watch_id: NO_WATCHER,
            created: true,
            canceled: true,
            cancel_reason: why.to_owned(),
            ..session.response(session.outlet.revision(), term)
        };
        let keys = watched_keys(request);
        if let Keys::Range {
            start,
            end: Some(end),
        } = &keys
            && start >= end
        {
            return refused(self, "mvcc: watcher range is empty");
        }
        let Ok(start) = u64::try_from(request.start_revision) else {
            return refused(
                self,
                "etcdserver: mvcc: required revision has been compacted",
            );
        };
        if self.watchers.len() >= WATCHERS_MAX {
            return refused(self, "etcdserver: too many watchers on one stream");
        }
        let id = match request.watch_id {
            0 => self.free_id(),
            id if self.watchers.contains_key(&id) => {
                return refused(self, "mvcc: duplicate watch ID provided on the WatchStream");
            }
            id => id,
        };
        let hides =
            |filter: pb::watch_create_request::FilterType| request.filters.contains(&filter.into());
        let wanted = Wanted {
            keys,
            start: (start > 0).then_some(Revision(start)),
            puts: !hides(pb::watch_create_request::FilterType::Noput),
            deletes: !hides(pb::watch_create_request::FilterType::Nodelete),
        };
        let revision = self.outlet.watch(WatcherId(id), wanted);
        self.watchers.insert(
            id,
            Opened {
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
        self.watchers.remove(&id)?;
        self.outlet.cancel(WatcherId(id));
        Some(WatchResponse {
            watch_id: id,
            canceled: true,
            ..self.response(self.outlet.revision(), term)
        })
    }

    fn free_id(&mut self) -> i64 {
        while self.watchers.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    fn lose(&mut self, oldest: Revision, term: u64) -> Vec<WatchResponse> {
        let lost = self.outlet.lose(oldest);
        debug_assert!(!lost.is_empty(), "the gap starts where a watcher stands");
        let said = lost.into_iter().map(|WatcherId(id)| {
            self.watchers.remove(&id);
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

    fn tell(&mut self, deliveries: Vec<Delivery>, term: u64) -> Vec<WatchResponse> {
        let mut said = Vec::with_capacity(deliveries.len());
        for Delivery {
            watcher: WatcherId(id),
            events,
            through,
        } in deliveries
        {
            let Some(opened) = self.watchers.get_mut(&id) else {
                continue;
            };
            opened.was_told = true;
            opened.is_due_notice = false;
            let Opened {
                prev_kv, fragment, ..
            } = *opened;
            let events = events
                .iter()
                .map(|event: &Arc<Event>| convert::event(event, prev_kv))
                .collect();
            let whole = WatchResponse {
                watch_id: id,
                ..self.response(through, term)
            };
            if fragment {
                said.extend(in_fragments(&whole, events));
            } else {
                said.push(WatchResponse { events, ..whole });
            }
        }
        said
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

/// Splits a response that a client with etcd's default limits could not receive; only for those that asked for it.
fn in_fragments(whole: &WatchResponse, events: Vec<mvccpb::Event>) -> Vec<WatchResponse> {
    let mut fragments = vec![WatchResponse {
        fragment: true,
        ..whole.clone()
    }];
    let mut bytes = 0;
    for event in events {
        let size = event.encoded_len();
        if bytes > 0 && bytes + size > RECEIVE_BYTES_MAX {
            fragments.push(WatchResponse {
                fragment: true,
                ..whole.clone()
            });
            bytes = 0;
        }
        bytes += size;
        if let Some(last) = fragments.last_mut() {
            last.events.push(event);
        }
    }
    if let Some(last) = fragments.last_mut() {
        last.fragment = false;
    }
    fragments
}
