//! One client stream's end of the hub: its watchers, and a bounded queue of what they have not been told yet.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::Notify;

use super::hub::{Hub, OutletId, Slot};
use super::index::Index;
use crate::command::{Event, EventKind, Keys, Revision};

/// Queued bytes per outlet above which its watchers fall back to history: some thousand small events.
const QUEUE_BYTES_MAX: usize = 1024 * 1024;
/// Queued bytes over all outlets above which whoever has not taken what is queued falls back to history, at whatever
/// size: reading it again costs time, and ten thousand streams that stand still cost no more memory than this.
pub(super) const ALL_QUEUES_BYTES_MAX: usize = 128 << 20;
/// What a queued reference to an event costs beside the event itself.
const REFERENCE_BYTES: usize = 64;

/// Names a watcher within its outlet; chosen by the outlet's owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatcherId(pub i64);

/// What a watcher wants to see.
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
}

impl Wanted {
    fn shows(&self, event: &Event) -> bool {
        match event.kind {
            EventKind::Put => self.puts,
            EventKind::Delete => self.deletes,
        }
    }
}

/// Some changes for one watcher: whole revisions, in order, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// For whom.
    pub watcher: WatcherId,
    /// The changes, shared with the other watchers that get them.
    pub events: Vec<Arc<Event>>,
    /// After these events the watcher has seen everything up to here.
    pub through: Revision,
}

/// Where a stream's owner takes its watchers' events from. Dropping it cancels them.
///
/// Turn: while there is room towards the client, [`take`](Self::take); if that gave nothing, read the
/// [`gap`](Self::gap) from history and [`fill`](Self::fill) it; if there is none, wait until [`woken`](Self::woken).
#[derive(Debug)]
pub struct Outlet {
    pub(super) hub: Arc<Hub>,
    pub(super) id: OutletId,
    wake: Arc<Notify>,
}

#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) wanted: Wanted,
    /// Everything below has been queued or delivered, or was not asked for.
    pub(super) next: Revision,
    /// The newest revision queued.
    queued: Revision,
    is_live: bool,
}

#[derive(Debug)]
pub(super) struct Mailbox {
    pub(super) watchers: HashMap<WatcherId, Watcher>,
    pub(super) lagging: Index<WatcherId>,
    /// In publish order.
    pub(super) queue: VecDeque<(WatcherId, Arc<Event>)>,
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
    pub fn revision(&self) -> Revision {
        self.hub.revision()
    }

    /// Adds a watcher and returns the newest published revision: it will see every change after that, and, if it
    /// starts earlier, those from its start. Replaces nothing: the id must be free.
    pub fn watch(&mut self, id: WatcherId, wanted: Wanted) -> Revision {
        let mut inner = self.hub.lock();
        let revision = inner.revision;
        let next = wanted.start.unwrap_or(revision.next());
        let is_live = next > revision;
        if is_live {
            inner.enliven(self.id, id, &wanted.keys);
        }
        if let Some(mailbox) = inner.mailboxes.get_mut(&self.id) {
            debug_assert!(
                !mailbox.watchers.contains_key(&id),
                "watcher ids are unique in their outlet"
            );
            if !is_live {
                mailbox.lagging.insert(&wanted.keys, id);
            }
            mailbox.watchers.insert(
                id,
                Watcher {
                    wanted,
                    next,
                    queued: Revision(0),
                    is_live,
                },
            );
        }
        revision
    }

    /// Cancels a watcher; nothing more is delivered to it. Returns whether there was one.
    pub fn cancel(&mut self, id: WatcherId) -> bool {
        let mut inner = self.hub.lock();
        let Some(mailbox) = inner.mailboxes.get_mut(&self.id) else {
            return false;
        };
        let Some(watcher) = mailbox.remove(id) else {
            return false;
        };
        if watcher.is_live {
            inner.live.remove(
                &watcher.wanted.keys,
                Slot {
                    outlet: self.id,
                    watcher: id,
                },
            );
        }
        true
    }

    /// Waits until there may be something to take, to read from history, or to say about progress.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Takes what is queued: about `bytes_max`, more where a revision would be torn.
    pub fn take(&mut self, bytes_max: usize) -> Vec<Delivery> {
        let mut inner = self.hub.lock();
        let newest = inner.revision;
        inner
            .mailboxes
            .get_mut(&self.id)
            .map_or_else(Vec::new, |mailbox| mailbox.take(bytes_max, newest))
    }

    /// Up to which revision *all* its watchers have been told everything, if that can be said now.
    ///
    /// It cannot while events are queued, while a watcher lags, or before the revision a watcher starts at. Unless it
    /// said so now, [`woken`](Self::woken) returns when it is worth asking again.
    pub fn progress(&mut self) -> Option<Revision> {
        let mut inner = self.hub.lock();
        let revision = inner.revision;
        let mailbox = inner.mailboxes.get(&self.id)?;
        if !mailbox.queue.is_empty() || mailbox.lagging.len() > 0 {
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
    pub fn progress_of(&self, id: WatcherId) -> Option<Revision> {
        let inner = self.hub.lock();
        let mailbox = inner.mailboxes.get(&self.id)?;
        let watcher = mailbox.watchers.get(&id)?;
        let is_told =
            mailbox.queue.is_empty() && watcher.is_live && watcher.has_started(inner.revision);
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

    pub(super) fn is_live(&self) -> bool {
        self.is_live
    }

    pub(super) fn wants(&self, event: &Event) -> bool {
        event.kv.mod_revision >= self.next && self.wanted.shows(event)
    }
}

impl Mailbox {
    pub(super) fn new(wake: Arc<Notify>, all_bytes: Arc<AtomicUsize>) -> Self {
        Self {
            watchers: HashMap::new(),
            lagging: Index::default(),
            queue: VecDeque::new(),
            queue_bytes: 0,
            all_bytes,
            wake,
        }
    }

    /// Queues an event for a live watcher. Returns the watcher's keys if it lags from now on: the queue is full.
    pub(super) fn offer(&mut self, id: WatcherId, event: &Arc<Event>) -> Option<Keys> {
        let watcher = self.watchers.get_mut(&id)?;
        let revision = event.kv.mod_revision;
        if !watcher.is_live || !watcher.wants(event) {
            return None;
        }
        // A revision that has begun is queued whole, whatever its size: watchers never see half of one.
        let is_full = self.queue_bytes >= QUEUE_BYTES_MAX
            || (self.queue_bytes > 0 && self.all_bytes.load(Relaxed) >= ALL_QUEUES_BYTES_MAX);
        if is_full && watcher.queued != revision {
            watcher.next = revision;
            watcher.is_live = false;
            self.lagging.insert(&watcher.wanted.keys, id);
            self.wake.notify_one();
            return Some(watcher.wanted.keys.clone());
        }
        watcher.queued = revision;
        self.set_bytes(self.queue_bytes + self.cost(self.queue.back(), event));
        if self.queue.is_empty() {
            self.wake.notify_one();
        }
        self.queue.push_back((id, event.clone()));
        None
    }

    /// Makes every watcher that starts by `newest` lag from `unseen` on; `live` gets the others.
    pub(super) fn lag_from(
        &mut self,
        unseen: Revision,
        newest: Revision,
        mut live: impl FnMut(WatcherId, &Keys),
    ) {
        for (id, watcher) in &mut self.watchers {
            if !watcher.is_live {
                continue;
            }
            watcher.next = watcher.next.max(unseen);
            if watcher.next <= newest {
                watcher.is_live = false;
                self.lagging.insert(&watcher.wanted.keys, *id);
            } else {
                live(*id, &watcher.wanted.keys);
            }
        }
    }

    /// The live watchers.
    pub(super) fn live(&self) -> impl Iterator<Item = (WatcherId, &Keys)> {
        self.watchers
            .iter()
            .filter(|(_, watcher)| watcher.is_live)
            .map(|(id, watcher)| (*id, &watcher.wanted.keys))
    }

    pub(super) fn remove(&mut self, id: WatcherId) -> Option<Watcher> {
        let watcher = self.watchers.remove(&id)?;
        if !watcher.is_live {
            self.lagging.remove(&watcher.wanted.keys, id);
        }
        // Its id may be given to another watcher at once: nothing queued may reach that one.
        self.queue.retain(|(to, _)| *to != id);
        self.recount();
        Some(watcher)
    }

    /// The lagging watchers, and what each needs next.
    pub(super) fn lagging_watchers(&self) -> impl Iterator<Item = (WatcherId, Revision)> {
        self.watchers
            .iter()
            .filter(|(_, watcher)| !watcher.is_live)
            .map(|(id, watcher)| (*id, watcher.next))
    }

    /// A lagging watcher has caught up.
    pub(super) fn revive(&mut self, id: WatcherId) -> Option<Keys> {
        let watcher = self.watchers.get_mut(&id)?;
        watcher.is_live = true;
        let keys = watcher.wanted.keys.clone();
        self.lagging.remove(&keys, id);
        Some(keys)
    }

    fn take(&mut self, bytes_max: usize, newest: Revision) -> Vec<Delivery> {
        let mut deliveries = Deliveries::for_about(self.queue.len().min(self.watchers.len()));
        let mut taken = 0;
        let mut last = None;
        while let Some((_, event)) = self.queue.front() {
            let revision = event.kv.mod_revision;
            if taken >= bytes_max && last != Some(revision) {
                break;
            }
            let Some((id, event)) = self.queue.pop_front() else {
                break;
            };
            taken += REFERENCE_BYTES + event_bytes(&event);
            last = Some(revision);
            deliveries.add(id, event);
        }
        self.recount();
        let is_drained = self.queue.is_empty();
        deliveries.finish(|id, last| {
            let is_live = self
                .watchers
                .get(&id)
                .is_some_and(|watcher| watcher.is_live);
            // Only an empty queue and a live watcher mean that there is nothing between its last event and now.
            if is_drained && is_live { newest } else { last }
        })
    }

    fn recount(&mut self) {
        if self.queue.is_empty() {
            self.set_bytes(0);
            return;
        }
        let mut bytes = 0;
        let mut before = None;
        for entry in &self.queue {
            bytes += self.cost(before, &entry.1);
            before = Some(entry);
        }
        self.set_bytes(bytes);
    }

    fn set_bytes(&mut self, bytes: usize) {
        // Changes only under the hub's lock.
        let others = self.all_bytes.load(Relaxed) - self.queue_bytes;
        self.all_bytes.store(others + bytes, Relaxed);
        self.queue_bytes = bytes;
    }

    /// What queueing `event` after `before` holds in memory: watchers of one outlet share an event.
    fn cost(&self, before: Option<&(WatcherId, Arc<Event>)>, event: &Arc<Event>) -> usize {
        match before {
            Some((_, before)) if Arc::ptr_eq(before, event) => REFERENCE_BYTES,
            _ => REFERENCE_BYTES + event_bytes(event),
        }
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        self.set_bytes(0);
    }
}

fn event_bytes(event: &Event) -> usize {
    let prev = event
        .prev
        .as_ref()
        .map_or(0, |prev| prev.key.len() + prev.value.len());
    event.kv.key.len() + event.kv.value.len() + prev
}

/// Groups events by watcher, in the order in which watchers first appear.
#[derive(Default)]
pub(super) struct Deliveries {
    places: HashMap<WatcherId, usize>,
    all: Vec<Delivery>,
}

impl Deliveries {
    /// For events of about so many watchers.
    pub(super) fn for_about(watchers: usize) -> Self {
        Self {
            places: HashMap::with_capacity(watchers),
            all: Vec::with_capacity(watchers),
        }
    }

    pub(super) fn add(&mut self, watcher: WatcherId, event: Arc<Event>) {
        let place = *self.places.entry(watcher).or_insert_with(|| {
            self.all.push(Delivery {
                watcher,
                events: Vec::new(),
                through: Revision(0),
            });
            self.all.len() - 1
        });
        self.all[place].events.push(event);
    }

    /// `through` says, from a watcher and its last event's revision, up to where it has now seen everything.
    pub(super) fn finish(
        mut self,
        mut through: impl FnMut(WatcherId, Revision) -> Revision,
    ) -> Vec<Delivery> {
        for delivery in &mut self.all {
            let last = delivery
                .events
                .last()
                .map_or(Revision(0), |event| event.kv.mod_revision);
            delivery.through = through(delivery.watcher, last);
        }
        self.all
    }
}
