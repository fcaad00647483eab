//! Actions that are due at a time.

use std::collections::BTreeMap;

use crate::faults::Action;

/// Actions by virtual time; at one time in the order in which they were added.
#[derive(Default)]
pub(crate) struct Calendar {
    actions: BTreeMap<(u64, u64), Action>,
    number: u64,
}

impl Calendar {
    /// At this virtual time.
    pub(crate) fn add(&mut self, at: u64, action: Action) {
        self.number += 1;
        self.actions.insert((at, self.number), action);
    }

    /// When something is due next.
    pub(crate) fn next(&self) -> Option<u64> {
        self.actions.keys().next().map(|(at, _)| *at)
    }

    /// Takes the next one that is due by now.
    pub(crate) fn due(&mut self, now: u64) -> Option<Action> {
        let first = self.actions.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}
