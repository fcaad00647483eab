//! Up to where the state needs the log no more.

use std::sync::{Arc, Mutex};

use crate::command::LogPosition;

/// Up to where the state store is on disk for good. The log is cut only below.
#[derive(Clone, Default)]
pub(in crate::raft) struct DurableMark(Arc<Mutex<Option<LogPosition>>>);

impl DurableMark {
    pub(in crate::raft) fn get(&self) -> Option<LogPosition> {
        *self
            .0
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    /// For a log without a state below it.
    #[cfg(test)]
    pub(in crate::raft) fn unbounded() -> Self {
        let leader = crate::command::MemberId(u64::MAX);
        let far = LogPosition {
            term: u64::MAX,
            leader,
            index: u64::MAX,
        };
        Self(Arc::new(Mutex::new(Some(far))))
    }

    pub(in crate::raft) fn raise(&self, to: Option<LogPosition>) {
        let mut mark = self
            .0
            .lock()
            .expect("nothing panics while it holds the lock");
        if mark.map(|at| at.index) < to.map(|to| to.index) {
            *mark = to;
        }
    }
}
