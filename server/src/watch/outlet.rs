//! One client stream's end of the hub: its watchers, and a bounded queue of what they have not been told yet.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::Notify;

use super::hub::{Hub, OutletId};
use super::index::Index;
use super::piece::{Piece, Reader};
use crate::command::{Event, EventKind, Keys, Revision};

/// Queued bytes per outlet above which it falls back to history: some thousand small events. A revision that is larger is
/// read from history in any case: it would be held for each of any number of outlets until the slowest has told it.
pub(super) const QUEUE_BYTES_MAX: usize = 1024 * 1024;
/// Queued bytes over all outlets. Above it an outlet that has not taken its queue falls back to history, however small
/// the queue is: reading it again costs time, and ten thousand streams that stand still cost no more memory than this.
pub(super) const ALL_QUEUES_BYTES_MAX: usize = 128 << 20;
/// Cost of a queued event beside its keys and values.
const EVENT_BYTES: usize = 256;

/// Names a watcher within its outlet; chosen by the outlet's owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatcherId(pub i64);

/// The keys and kinds of event that a watcher wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Changes of which keys. Copied by the caller if they share a larger buffer.
    pub keys: Keys,
    /// From this revision on, inclusive; `None` is every change after now.
    pub start: Option<Revision>,
    /// Whether stored keys are shown.
    pub puts: bool,
    /// Whether removed keys are shown.
    pub deletes: bool,
    /// Whether it is shown what was there before.
    pub prevs: bool,
}

impl Wanted {
    pub(super) fn wants(&self, event: &Event) -> bool {
        self.keys.contains(&event.kv.key) && self.shows(event)
    }

    pub(super) fn shows(&self, event: &Event) -> bool {
        match event.kind {
            EventKind::Put => self.puts,
            EventKind::Delete => self.deletes,
        }
    }
}

/// Where a stream's owner takes its watchers' events from. Dropping it cancels them.
///
/// The order is the pump's: tell the last [`Piece`] to its end, then [`take`](Self::take) another; if that gave nothing, read
/// the [`gap`](Self::gap) from history and [`fill`](Self::fill) it, or [`pass`](Self::pass) a revision that is told part by
/// part; if there is none, wait until [`woken`](Self::woken).
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) hub: Arc<Hub>,
    pub(super) id: OutletId,
    wake: Arc<Notify>,
}

#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) wanted: Arc<Wanted>,
    /// Everything below has been queued or delivered, or was not asked for.
    pub(super) next: Revision,
    /// Whether it reads history by itself, from `next` on.
    pub(super) lags: bool,
}

/// Invariant: a watcher is in `lagging` or in the hub's index of live keys, never in both.
#[derive(Debug)]
pub(super) struct Mailbox {
    pub(super) watchers: HashMap<WatcherId, Watcher>,
    /// All of them, by key.
    index: Index<WatcherId>,
    /// Those that read history by themselves, by what they need next.
    pub(super) lagging: BTreeSet<(Revision, WatcherId)>,
    /// From this revision on the others read history, too: nothing is queued. One mark for all of them, so that falling
    /// behind and catching up cost the same for one watcher and for fifty thousand.
    pub(super) behind: Option<Revision>,
    /// The events that live watchers want, each once, in publish order, whole revisions.
    pub(super) queue: VecDeque<Arc<Event>>,
    queue_bytes: usize,
    /// The sum over all outlets.
    all_bytes: Arc<AtomicUsize>,
    pub(super) wake: Arc<Notify>,
}

impl Outlet {
    pub(super) fn new(hub: Arc<Hub>, id: OutletId, wake: Arc<Notify>) -> Self {
        Self { hub, id, wake }
    }

    /// The newest published revision.
    pub(super) fn revision(&self) -> Revision {
        self.hub.revision()
    }

    /// Adds a watcher and returns the newest published revision: it will see every change after that, and, if it
    /// starts earlier, those from its start. Replaces nothing: the id must be free.
    pub(super) fn watch(&mut self, id: WatcherId, wanted: Arc<Wanted>) -> Revision {
        let mut inner = self.hub.lock();
        let revision = inner.revision;
        let next = wanted.start.unwrap_or(revision.next());
        let lags = next <= revision;
        if !lags {
            inner.live.insert(&wanted.keys, self.id);
        }
        if let Some(mailbox) = inner.mailboxes.get_mut(&self.id) {
            debug_assert!(
                !mailbox.watchers.contains_key(&id),
                "watcher ids are unique in their outlet"
            );
            mailbox.index.insert(&wanted.keys, id);
            if lags {
                mailbox.lagging.insert((next, id));
            }
            mailbox.watchers.insert(id, Watcher { wanted, next, lags });
        }
        revision
    }

    /// Cancels a watcher. Returns whether there was one.
    ///
    /// A [`Piece`] that was taken before may name it, or its successor of the same id: that is for the owner to know.
    pub(super) fn cancel(&mut self, id: WatcherId) -> bool {
        self.hub.lock().remove(self.id, id)
    }

    /// Waits until there may be something to take, to read from history, or to say about progress.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Takes what is queued: about `bytes_max`, more where a revision would be torn. `None` if nothing is.
    pub(super) fn take(&mut self, bytes_max: usize) -> Option<Piece> {
        let mut inner = self.hub.lock();
        let newest = inner.revision;
        inner.mailboxes.get_mut(&self.id)?.take(bytes_max, newest)
    }

    /// Those that may want any of these events.
    pub(super) fn readers(&self, events: &[Arc<Event>]) -> Vec<Reader> {
        let inner = self.hub.lock();
        let mailbox = inner.mailboxes.get(&self.id);
        mailbox.map_or(Vec::new(), |mailbox| mailbox.readers(events))
    }

    /// Up to which revision *all* its watchers have been told everything, if that can be said now.
    ///
    /// It cannot while events are queued, while a watcher is behind, or before the revision a watcher starts at. Unless it
    /// said so now, [`woken`](Self::woken) returns when it is worth asking again.
    pub(super) fn progress(&mut self) -> Option<Revision> {
        let mut inner = self.hub.lock();
        let revision = inner.revision;
        let mailbox = inner.mailboxes.get(&self.id)?;
        if !mailbox.is_told() || !mailbox.lagging.is_empty() {
            return None;
        }
        if mailbox
            .watchers
            .values()
            .all(|watcher| watcher.has_started(revision))
        {
            return Some(revision);
        }
        if !inner.awaiting.contains(&self.id) {
            inner.awaiting.push(self.id);
        }
        None
    }

    /// Up to which revision one watcher has been told everything, if that can be said now.
    pub(super) fn progress_of(&self, id: WatcherId) -> Option<Revision> {
        let inner = self.hub.lock();
        let mailbox = inner.mailboxes.get(&self.id)?;
        let watcher = mailbox.watchers.get(&id)?;
        let is_told = mailbox.is_told() && !watcher.lags && watcher.has_started(inner.revision);
        is_told.then_some(inner.revision)
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.hub.lock().close(self.id);
    }
}

impl Watcher {
    fn has_started(&self, revision: Revision) -> bool {
        self.wanted.start.is_none_or(|start| start <= revision)
    }
}

impl Mailbox {
    pub(super) fn new(wake: Arc<Notify>, all_bytes: Arc<AtomicUsize>) -> Self {
        Self {
            watchers: HashMap::new(),
            index: Index::default(),
            lagging: BTreeSet::new(),
            behind: None,
            queue: VecDeque::new(),
            queue_bytes: 0,
            all_bytes,
            wake,
        }
    }

    /// Whether any watcher does not read history by itself.
    pub(super) fn has_live(&self) -> bool {
        self.watchers.len() > self.lagging.len()
    }

    /// Watchers that read history.
    pub(super) fn behind_count(&self) -> usize {
        match self.behind {
            Some(_) => self.watchers.len(),
            None => self.lagging.len(),
        }
    }

    /// Whether nothing is queued, and nothing between the queue and now was left out.
    fn is_told(&self) -> bool {
        self.queue.is_empty() && !(self.behind.is_some() && self.has_live())
    }

    /// Queues an event that a live watcher may want, once; or falls behind: the queue is full, or the revision too large.
    pub(super) fn offer(&mut self, event: &Arc<Event>) {
        if self.behind.is_some()
            || self
                .queue
                .back()
                .is_some_and(|last| Arc::ptr_eq(last, event))
        {
            return;
        }
        let revision = event.kv.mod_revision;
        let has_begun = self
            .queue
            .back()
            .is_some_and(|last| last.kv.mod_revision == revision);
        // A revision that has begun is queued whole or not at all: watchers never see half of one.
        let is_full = match has_begun {
            true => self.queue_bytes >= 2 * QUEUE_BYTES_MAX,
            false => {
                self.queue_bytes >= QUEUE_BYTES_MAX
                    || (self.queue_bytes > 0
                        && self.all_bytes.load(Relaxed) >= ALL_QUEUES_BYTES_MAX)
            }
        };
        self.wake_if_idle();
        if is_full {
            self.fall_behind(revision);
            return;
        }
        self.add_bytes(cost(event));
        self.queue.push_back(event.clone());
    }

    /// Whether a live watcher might see a change of these keys at this revision.
    pub(super) fn watches_any(&self, revision: Revision, keys: &Keys) -> bool {
        self.watchers.values().any(|watcher| {
            !watcher.lags && watcher.next <= revision && watcher.wanted.keys.meets(keys)
        })
    }

    /// Leaves revisions from this one on to history.
    pub(super) fn fall_behind(&mut self, from: Revision) {
        if self.behind.is_some() || !self.has_live() {
            return;
        }
        while let Some(last) = self.queue.back()
            && last.kv.mod_revision >= from
        {
            let bytes = cost(last);
            self.queue.pop_back();
            self.take_bytes(bytes);
        }
        self.behind = Some(from);
        self.wake.notify_one();
    }

    fn wake_if_idle(&self) {
        if self.queue.is_empty() {
            self.wake.notify_one();
        }
    }

    /// The keys of the live watchers.
    pub(super) fn live(&self) -> impl Iterator<Item = &Keys> {
        let all = self.watchers.values();
        all.filter(|watcher| !watcher.lags)
            .map(|watcher| &watcher.wanted.keys)
    }

    pub(super) fn remove(&mut self, id: WatcherId) -> Option<Watcher> {
        let watcher = self.watchers.remove(&id)?;
        self.index.remove(&watcher.wanted.keys, id);
        if watcher.lags {
            self.lagging.remove(&(watcher.next, id));
        }
        if !self.has_live() {
            // The queued events are for nobody, and nobody is behind any more.
            self.queue.clear();
            self.take_bytes(self.queue_bytes);
            self.behind = None;
        }
        Some(watcher)
    }

    /// Every watcher that wants any of these events, or perhaps more than those, by id.
    pub(super) fn readers(&self, events: &[Arc<Event>]) -> Vec<Reader> {
        let mut ids = Vec::new();
        let mut is_everyone = events.len() >= self.watchers.len();
        for event in events {
            if is_everyone {
                break;
            }
            self.index.holders_of(&event.kv.key, &mut ids);
            if ids.len() > 2 * self.watchers.len() {
                ids.sort_unstable();
                ids.dedup();
                // Most want something: to look for the others would cost more than to ask them all.
                is_everyone = ids.len() > self.watchers.len() / 2;
            }
        }
        if is_everyone {
            ids = self.watchers.keys().copied().collect();
        }
        ids.sort_unstable();
        ids.dedup();
        readers(ids)
    }

    /// All of them, by id.
    pub(super) fn everyone(&self) -> Vec<Reader> {
        let mut ids: Vec<_> = self.watchers.keys().copied().collect();
        ids.sort_unstable();
        readers(ids)
    }

    fn take(&mut self, bytes_max: usize, newest: Revision) -> Option<Piece> {
        let mut events: Vec<Arc<Event>> = Vec::new();
        let mut bytes = 0;
        while let Some(event) = self.queue.front() {
            let last = events.last().map(|last| last.kv.mod_revision);
            if bytes >= bytes_max && last != Some(event.kv.mod_revision) {
                break;
            }
            bytes += cost(event);
            events.extend(self.queue.pop_front());
        }
        let last = events.last()?.kv.mod_revision;
        self.take_bytes(bytes);
        let mut readers = self.readers(&events);
        readers.retain_mut(|reader| {
            let Some(watcher) = self.watchers.get(&reader.watcher) else {
                return false;
            };
            reader.from = watcher.next;
            // Those that lag read these from history, in their order.
            !watcher.lags && watcher.next <= last
        });
        // Only an empty queue means that there is nothing between an event and now.
        let is_all = self.queue.is_empty() && self.behind.is_none();
        let through = if is_all { newest } else { Revision(0) };
        Some(Piece::new(events, readers, through))
    }

    // Changed only under the hub's lock.
    fn add_bytes(&mut self, bytes: usize) {
        self.queue_bytes += bytes;
        self.all_bytes.fetch_add(bytes, Relaxed);
    }

    fn take_bytes(&mut self, bytes: usize) {
        self.queue_bytes -= bytes;
        self.all_bytes.fetch_sub(bytes, Relaxed);
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.take_bytes(self.queue_bytes);
    }
}

fn readers(ids: Vec<WatcherId>) -> Vec<Reader> {
    let readers = ids.into_iter().map(|watcher| Reader {
        watcher,
        from: Revision(0),
    });
    readers.collect()
}

/// Memory that an event holds. Outlets share it; each counts it as if it were alone.
pub(super) fn cost(event: &Event) -> usize {
    let prev = event
        .prev
        .as_ref()
        .map_or(0, |prev| prev.key.len() + prev.value.len());
    EVENT_BYTES + event.kv.key.len() + event.kv.value.len() + prev
}
