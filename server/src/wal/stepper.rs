//! Says when a log that has no thread of its own writes: for a simulation, whose disk takes its time in virtual time.

use std::sync::{Arc, Mutex, MutexGuard, Weak};

use tokio::sync::Notify;

use super::queue::Shared;

/// Drives one log at a time: the newest that was opened with it. Clones are the same one.
#[derive(Clone, Default)]
pub struct Stepper(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    log: Weak<Shared>,
    waits: Option<Waits>,
}

/// How what is queued waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Waits {
    /// Nobody waits for it: it may be written with what comes next.
    Idly,
    /// Somebody waits until it is durable.
    Urgently,
}

impl Stepper {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0
            .state
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    pub(super) fn attach(&self, log: &Arc<Shared>) {
        *self.lock() = State {
            log: Arc::downgrade(log),
            waits: None,
        };
    }

    pub(super) fn note(&self, waits: Waits) {
        let mut state = self.lock();
        if state.waits < Some(waits) {
            state.waits = Some(waits);
            self.0.wake.notify_one();
        }
    }

    /// Returns once something is queued that waits at least like this.
    pub async fn queued(&self, at_least: Waits) -> Waits {
        loop {
            if let Some(waits) = self.lock().waits
                && waits >= at_least
            {
                return waits;
            }
            self.0.wake.notified().await;
        }
    }

    /// Writes all that is queued now, on the calling thread, and tells those who waited.
    pub fn step(&self) {
        let log = {
            let mut state = self.lock();
            state.waits = None;
            state.log.upgrade()
        };
        if let Some(log) = log {
            log.step();
        }
    }
}
