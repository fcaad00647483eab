//! One member's state in the hands of many: one lock, one way to take it.

use std::sync::{Arc, Mutex};

use super::State;

/// A member's state, for all who read or change it. Clones share it.
///
/// It is reached only inside [`with`](Self::with): a guard that cannot leave a closure cannot be held across an await, and
/// nothing that borrows from the state can either.
#[derive(Clone)]
pub struct Handle(Arc<Mutex<State>>);

impl Handle {
    /// The first handle of this state.
    pub fn new(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    /// Does `work` while nobody else has the state. Nobody waits long for it: work is done in slices and turns.
    ///
    /// Panics if earlier work panicked: it may have left half a change, which nobody must see. A product ends with the
    /// first panic; in tests the ones that follow it say so as well.
    pub fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(
            &mut self
                .0
                .lock()
                .expect("nothing panics while it has the state"),
        )
    }

    /// The state itself, if this is the last handle.
    pub fn into_state(self) -> Option<State> {
        let state = Arc::into_inner(self.0)?;
        Some(
            state
                .into_inner()
                .expect("nothing panics while it has the state"),
        )
    }
}
