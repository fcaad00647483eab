//! The reads that this thread asked fjall for, for tests of where they happen.

use std::cell::RefCell;

use super::Space;

/// Rows from a key on to before another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) space: Space,
    pub(crate) start: Vec<u8>,
    pub(crate) end: Option<Vec<u8>>,
}

impl Read {
    /// Whether all of `other` is in it.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let ends_before = match (&self.end, &other.end) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(end), Some(other)) => end < other,
        };
        self.space == other.space && self.start <= other.start && !ends_before
    }
}

thread_local! {
    static READS: RefCell<Vec<Read>> = const { RefCell::new(Vec::new()) };
}

pub(super) fn note(space: Space, start: &[u8], end: Option<&[u8]>) {
    let (start, end) = (start.to_vec(), end.map(<[u8]>::to_vec));
    READS.with_borrow_mut(|reads| reads.push(Read { space, start, end }));
}

/// The reads since the last call.
pub(crate) fn take() -> Vec<Read> {
    READS.take()
}
