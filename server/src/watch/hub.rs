//! The one place that orders delivery.

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::index::Index;
use super::outlet::{Mailbox, Outlet, WatcherId};
use crate::command::{Event, Keys, Revision};

/// Takes each change once, in order, and queues it for the outlets that have live watchers of its key.
#[derive(Debug)]
pub struct Hub(Mutex<Inner>);

/// How much a hub has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HubCounts {
    /// Open outlets: client streams.
    pub outlets: usize,
    /// Watchers in all.
    pub watchers: usize,
    /// Watchers that read history.
    pub lagging: usize,
    /// Events queued, for each outlet that wants them.
    pub queued: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct OutletId(u64);

#[derive(Debug)]
pub(super) struct Inner {
    /// Everything up to here has been published.
    pub(super) revision: Revision,
    /// The index of live watchers by key: an outlet as often as it has live watchers of that key.
    pub(super) live: Index<OutletId>,
    pub(super) mailboxes: HashMap<OutletId, Mailbox>,
    /// Outlets to wake at the next publish, whatever it holds.
    pub(super) awaiting: Vec<OutletId>,
    /// Bytes queued in all of them.
    queued_bytes: Arc<AtomicUsize>,
    opened: u64,
    scratch: Vec<OutletId>,
}

impl Hub {
    /// A hub in front of a state that is at `revision`.
    pub fn new(revision: Revision) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Inner {
            revision,
            live: Index::default(),
            mailboxes: HashMap::new(),
            awaiting: Vec::new(),
            queued_bytes: Arc::default(),
            opened: 0,
            scratch: Vec::new(),
        })))
    }

    /// Tells watchers what one applied batch changed. Never waits for a client.
    ///
    /// `events` are in `(mod_revision, sub)` order, follow everything published before, and are readable as history by
    /// now; `revision` is the store's after the batch. Publish before answering the batch's proposers, so that a
    /// watch that is opened after a write was acknowledged does not see that write.
    pub fn publish(&self, revision: Revision, events: Vec<Event>) {
        let mut inner = self.lock();
        debug_assert!(
            events
                .windows(2)
                .all(|pair| pair[0].kv.mod_revision <= pair[1].kv.mod_revision),
            "events are published in revision order"
        );
        debug_assert!(
            revision >= inner.revision,
            "revisions are published in order"
        );
        inner.revision = revision;
        if !inner.mailboxes.is_empty() {
            for event in events {
                inner.offer(event);
            }
        }
        inner.wake_awaiting();
    }

    /// Takes a revision whose events nobody holds, because they are too large: all changes of it are of keys in `keys`, and
    /// readable as history by now. Streams with watchers of such keys read it there; all others go on.
    pub fn publish_large(&self, revision: Revision, keys: &Keys) {
        let mut inner = self.lock();
        debug_assert!(
            revision > inner.revision,
            "revisions are published in order"
        );
        inner.revision = revision;
        for mailbox in inner.mailboxes.values_mut() {
            if mailbox.watches_any(revision, keys) {
                mailbox.fall_behind(revision);
            }
        }
        inner.wake_awaiting();
    }

    /// Carries on after the state jumped to `revision` without publishing what lies between: a snapshot was installed.
    /// Every watcher reads the gap as history, or learns that it is compacted.
    pub fn reset(&self, revision: Revision) {
        let mut inner = self.lock();
        debug_assert!(
            revision >= inner.revision,
            "a snapshot is never older than what it replaces"
        );
        let unseen = inner.revision.next();
        inner.revision = revision;
        for mailbox in inner.mailboxes.values_mut() {
            if unseen <= revision {
                mailbox.fall_behind(unseen);
            }
            mailbox.wake.notify_one();
        }
    }

    /// The newest published revision.
    pub fn revision(&self) -> Revision {
        self.lock().revision
    }

    /// Opens an outlet without watchers. Dropping it cancels them all.
    pub(super) fn open(self: &Arc<Self>) -> Outlet {
        let wake = Arc::new(Notify::new());
        let mut inner = self.lock();
        inner.opened += 1;
        let id = OutletId(inner.opened);
        let mailbox = Mailbox::new(wake.clone(), inner.queued_bytes.clone());
        inner.mailboxes.insert(id, mailbox);
        drop(inner);
        Outlet::new(self.clone(), id, wake)
    }

    /// How much there is to do. Visits every outlet.
    pub fn counts(&self) -> HubCounts {
        let inner = self.lock();
        let mut counts = HubCounts {
            outlets: inner.mailboxes.len(),
            ..HubCounts::default()
        };
        for mailbox in inner.mailboxes.values() {
            counts.watchers += mailbox.watchers.len();
            counts.lagging += mailbox.behind_count();
            counts.queued += mailbox.queue.len();
        }
        counts
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Queues an event for every outlet that may want it; those without room fall behind.
    fn offer(&mut self, event: Event) {
        let mut outlets = std::mem::take(&mut self.scratch);
        outlets.clear();
        self.live.holders_of(&event.kv.key, &mut outlets);
        if !outlets.is_empty() {
            let event = Arc::new(event);
            for outlet in &outlets {
                if let Some(mailbox) = self.mailboxes.get_mut(outlet) {
                    mailbox.offer(&event);
                }
            }
        }
        self.scratch = outlets;
    }

    fn wake_awaiting(&mut self) {
        for outlet in std::mem::take(&mut self.awaiting) {
            if let Some(mailbox) = self.mailboxes.get(&outlet) {
                mailbox.wake.notify_one();
            }
        }
    }

    /// Forgets a watcher. Returns whether there was one.
    pub(super) fn remove(&mut self, outlet: OutletId, id: WatcherId) -> bool {
        let watcher = self
            .mailboxes
            .get_mut(&outlet)
            .and_then(|mailbox| mailbox.remove(id));
        if let Some(watcher) = &watcher
            && !watcher.lags
        {
            self.live.remove(&watcher.wanted.keys, outlet);
        }
        watcher.is_some()
    }

    /// Forgets an outlet and its watchers.
    pub(super) fn close(&mut self, outlet: OutletId) {
        let Some(mailbox) = self.mailboxes.remove(&outlet) else {
            return;
        };
        for keys in mailbox.live() {
            self.live.remove(keys, outlet);
        }
    }
}
