//! How lagging watchers become live again.
//!
//! All lagging watchers of an outlet share one read of history: from where the furthest behind of them stands, in
//! chunks. Between chunks new changes are published; a watcher is live as soon as a chunk ends at the newest one, which
//! is decided under the lock that orders publishes, so nothing falls in between.

use std::sync::Arc;

use super::outlet::{Deliveries, Delivery, Outlet, WatcherId};
use crate::command::{Event, Revision};

/// History that an outlet's lagging watchers need next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// From this revision.
    pub from: Revision,
    /// To before this one, which has not been published yet.
    pub upto: Revision,
}

impl Outlet {
    /// What to read next; `None` if no watcher lags, or if queued events must be taken first.
    pub fn gap(&self) -> Option<Gap> {
        let inner = self.hub.lock();
        let mailbox = inner.mailboxes.get(&self.id)?;
        // What is queued for a watcher that lags is older than what history would give it now.
        if mailbox.lagging.len() == 0 || !mailbox.queue.is_empty() {
            return None;
        }
        let from = mailbox.lagging_watchers().map(|(_, next)| next).min()?;
        Some(Gap {
            from,
            upto: inner.revision.next(),
        })
    }

    /// Takes history from the start of `gap` to before `next`, whole revisions, for the watchers that want it.
    pub fn fill(&mut self, gap: Gap, events: Vec<Event>, next: Revision) -> Vec<Delivery> {
        let mut inner = self.hub.lock();
        let newest = inner.revision;
        let Some(mailbox) = inner.mailboxes.get_mut(&self.id) else {
            return Vec::new();
        };
        let mut deliveries = Deliveries::default();
        let mut ids = Vec::new();
        for event in events {
            ids.clear();
            mailbox.lagging.watchers_of(&event.kv.key, &mut ids);
            ids.retain(|id| {
                mailbox
                    .watchers
                    .get(id)
                    .is_some_and(|watcher| watcher.next >= gap.from && watcher.wants(&event))
            });
            if ids.is_empty() {
                continue;
            }
            let event = Arc::new(event);
            for id in &ids {
                deliveries.add(*id, event.clone());
            }
        }
        let mut caught_up = Vec::new();
        for (id, watcher) in &mut mailbox.watchers {
            // One that was added below the gap since needs a gap of its own.
            if !watcher.is_live() && watcher.next >= gap.from {
                watcher.next = watcher.next.max(next);
                if watcher.next > newest {
                    caught_up.push(*id);
                }
            }
        }
        for id in caught_up {
            if let Some(keys) = inner
                .mailboxes
                .get_mut(&self.id)
                .and_then(|mailbox| mailbox.revive(id))
            {
                inner.enliven(self.id, id, &keys);
            }
        }
        deliveries.finish(|_, last| last.max(Revision(next.0.saturating_sub(1))))
    }

    /// Ends every watcher that needs history below `oldest`, which is gone, and says which.
    pub fn lose(&mut self, oldest: Revision) -> Vec<WatcherId> {
        let mut inner = self.hub.lock();
        let Some(mailbox) = inner.mailboxes.get_mut(&self.id) else {
            return Vec::new();
        };
        let mut lost: Vec<WatcherId> = mailbox
            .lagging_watchers()
            .filter(|(_, next)| *next < oldest)
            .map(|(id, _)| id)
            .collect();
        lost.sort_unstable();
        for id in &lost {
            mailbox.remove(*id);
        }
        lost
    }
}
