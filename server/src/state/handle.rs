//! One member's state in the hands of many: one lock, one way to take it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::State;

/// A member's state, for all who read or change it. Clones share it.
///
/// It is reached only inside [`with`](Self::with): a guard that cannot leave a closure cannot be held across an await, and
/// nothing that borrows from the state can either.
#[derive(Clone)]
pub struct Handle(Arc<Held>);

struct Held {
    state: Mutex<State>,
    /// [`State::feature_level`] when the last work ended.
    level: AtomicU32,
}

impl Handle {
    /// The first handle of this state.
    pub fn new(state: State) -> Self {
        Self(Arc::new(Held {
            level: AtomicU32::new(state.feature_level()),
            state: Mutex::new(state),
        }))
    }

    /// Does `work` while nobody else has the state. Nobody waits long for it: work is done in slices and turns.
    ///
    /// Panics if earlier work panicked: it may have left half a change, which nobody must see. A product ends with the
    /// first panic; in tests the ones that follow it say so as well.
    pub fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self
            .0
            .state
            .lock()
            .expect("nothing panics while it has the state");
        let done = work(&mut state);
        self.0.level.store(state.feature_level(), Ordering::Relaxed);
        done
    }

    /// The feature level of the cluster as far as this member has applied its log: what it writes and says is of this level.
    /// Waits for nobody.
    pub fn feature_level(&self) -> u32 {
        self.0.level.load(Ordering::Relaxed)
    }

    /// The state itself, if this is the last handle.
    pub fn into_state(self) -> Option<State> {
        let held = Arc::into_inner(self.0)?;
        Some(
            held.state
                .into_inner()
                .expect("nothing panics while it has the state"),
        )
    }
}
