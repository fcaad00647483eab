//! How watchers that are behind become live again.
//!
//! All of an outlet share one read of history: from where the furthest behind of them stands, in chunks. Between chunks
//! new changes are published; a watcher is live as soon as a chunk ends at the newest one, which is decided under the
//! lock that orders publishes, so nothing falls in between.

use std::sync::Arc;

use super::hub::Inner;
use super::outlet::{Mailbox, Outlet, WatcherId};
use super::piece::{Piece, Reader};
use crate::command::{Event, Revision};

/// History that an outlet's watchers need next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// From this revision.
    pub(super) from: Revision,
    /// To before this one, which has not been published yet.
    pub(super) upto: Revision,
}

impl Outlet {
    /// The history to read next; `None` if no watcher is behind, or if queued events must be taken first.
    pub(super) fn gap(&self) -> Option<Gap> {
        let inner = self.hub.lock();
        let mailbox = inner.mailboxes.get(&self.id)?;
        // Events queued for a watcher are older than those that history would give it now.
        if !mailbox.queue.is_empty() {
            return None;
        }
        let of_one = mailbox.lagging.first().map(|(next, _)| *next);
        let of_all = mailbox.behind.filter(|_| mailbox.has_live());
        let from = of_one.into_iter().chain(of_all).min()?;
        Some(Gap {
            from,
            upto: inner.revision.next(),
        })
    }

    /// Takes history from the start of `gap` to before `next`, whole revisions, for the watchers that want it.
    pub(super) fn fill(&mut self, gap: Gap, events: Vec<Event>, next: Revision) -> Piece {
        let events: Vec<_> = events.into_iter().map(Arc::new).collect();
        let through = Revision(next.0.saturating_sub(1));
        let readers = self.pass_by(gap, next, |mailbox| mailbox.readers(&events));
        Piece::new(events, readers, through)
    }

    /// Goes past a revision at or after the start of `gap`, the first there that changed anything, and answers with the
    /// watchers that may want it: it is too large for one piece.
    pub(super) fn pass(&mut self, gap: Gap, revision: Revision) -> Vec<Reader> {
        let mut readers = self.pass_by(gap, revision.next(), Mailbox::everyone);
        readers.retain(|reader| reader.from <= revision);
        readers
    }

    /// Moves those that stand before `next` there; of the readers, those that stood in the gap, and where.
    fn pass_by(
        &mut self,
        gap: Gap,
        next: Revision,
        readers: impl FnOnce(&Mailbox) -> Vec<Reader>,
    ) -> Vec<Reader> {
        let mut inner = self.hub.lock();
        let Inner {
            revision: newest,
            live,
            mailboxes,
            ..
        } = &mut *inner;
        let newest = *newest;
        let Some(mailbox) = mailboxes.get_mut(&self.id) else {
            return Vec::new();
        };
        let behind = mailbox.behind;
        let mut readers = readers(mailbox);
        readers.retain_mut(|reader| {
            let Some(watcher) = mailbox.watchers.get(&reader.watcher) else {
                return false;
            };
            let from = match (watcher.lags, behind) {
                (true, _) => watcher.next,
                (false, Some(behind)) => watcher.next.max(behind),
                (false, None) => return false,
            };
            reader.from = from;
            // One that was added below the gap since needs a gap of its own.
            from >= gap.from
        });
        if behind.is_some_and(|behind| behind >= gap.from) {
            mailbox.behind = behind
                .map(|behind| behind.max(next))
                .filter(|at| *at <= newest);
        }
        // Those that stand behind what was read are where they were.
        let moved = (gap.from, WatcherId(i64::MIN))..(next, WatcherId(i64::MIN));
        let moved: Vec<_> = mailbox.lagging.range(moved).copied().collect();
        for (from, id) in moved {
            mailbox.lagging.remove(&(from, id));
            let Some(watcher) = mailbox.watchers.get_mut(&id) else {
                continue;
            };
            watcher.next = next;
            watcher.lags = watcher.next <= newest;
            if watcher.lags {
                mailbox.lagging.insert((watcher.next, id));
            } else {
                live.insert(&watcher.wanted.keys, self.id);
            }
        }
        readers
    }

    /// Ends every watcher that needs history below `oldest`, which is gone, and says which.
    pub(super) fn lose(&mut self, oldest: Revision) -> Vec<WatcherId> {
        let mut inner = self.hub.lock();
        let Some(mailbox) = inner.mailboxes.get_mut(&self.id) else {
            return Vec::new();
        };
        let behind = mailbox.behind;
        let needs = |watcher: &super::outlet::Watcher| match (watcher.lags, behind) {
            (true, _) => watcher.next,
            (false, Some(behind)) => watcher.next.max(behind),
            (false, None) => Revision(u64::MAX),
        };
        let all = mailbox.watchers.iter();
        let lost = all.filter(|(_, watcher)| needs(watcher) < oldest);
        let mut lost: Vec<WatcherId> = lost.map(|(id, _)| *id).collect();
        lost.sort_unstable();
        mailbox.behind = behind.map(|behind| behind.max(oldest));
        for id in &lost {
            inner.remove(self.id, *id);
        }
        lost
    }
}
