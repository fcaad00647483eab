//! The user of a call, told by the gate to those who write down what happened.

use std::sync::{Arc, OnceLock};

/// The user whom a call was made as, once that is known. It goes with the request in its extensions.
#[derive(Clone, Debug, Default)]
pub(super) struct Asker(Arc<OnceLock<String>>);

impl Asker {
    /// It is the user of this name.
    pub(super) fn is(&self, name: &str) {
        // Every part of a call has the same.
        self.0.get_or_init(|| name.to_owned());
    }

    /// The user's name, if it is known.
    pub(super) fn name(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}
