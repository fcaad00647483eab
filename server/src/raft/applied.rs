//! Up to where this member has applied, and who waits for it to get there.
//!
//! openraft has a mark of its own, but that one may run ahead of what a reader can see; this one is raised only after
//! the state and the watchers have it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

type Waiter = oneshot::Sender<()>;

#[derive(Default)]
struct Inner {
    /// The next index to apply.
    next: u64,
    waiting: BTreeMap<u64, Vec<Waiter>>,
}

/// Shared by the state machine, which raises it, and readers, who wait on it.
#[derive(Clone, Default)]
pub(super) struct AppliedMark(Arc<Mutex<Inner>>);

impl AppliedMark {
    /// Everything up to `index` is visible.
    pub(super) fn raise(&self, index: u64) {
        let mut inner = self
            .0
            .lock()
            .expect("nothing panics while it holds the lock");
        inner.next = inner.next.max(index + 1);
        let next = inner.next;
        while let Some(first) = inner.waiting.first_entry() {
            if *first.key() >= next {
                break;
            }
            for waiter in first.remove() {
                // The waiter may have gone.
                let _ = waiter.send(());
            }
        }
    }

    /// The last applied index, if any.
    pub(super) fn index(&self) -> Option<u64> {
        let inner = self
            .0
            .lock()
            .expect("nothing panics while it holds the lock");
        inner.next.checked_sub(1)
    }

    /// Tells each of `waiters` once `index` is applied.
    pub(super) fn when(&self, index: u64, waiters: impl IntoIterator<Item = Waiter>) {
        let mut inner = self
            .0
            .lock()
            .expect("nothing panics while it holds the lock");
        if index < inner.next {
            drop(inner);
            for waiter in waiters {
                let _ = waiter.send(());
            }
            return;
        }
        inner.waiting.entry(index).or_default().extend(waiters);
    }
}
