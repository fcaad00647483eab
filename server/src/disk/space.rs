//! The spaces of a store: declared by the room above, which knows what their rows mean.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use crate::command::Fault;

/// One ordered space of rows: its place in the [`Layout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Space(u8);

impl Space {
    /// The space at a place of the layout, from 0.
    pub const fn new(place: u8) -> Self {
        Self(place)
    }

    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where rows begin and end, as an ordered map wants it.
pub(super) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The rows of `[start, end)`, as bounds; `None` if there can be none.
pub(super) fn bounds<'a>(start: &'a [u8], end: Option<&'a [u8]>) -> Option<Bounds<'a>> {
    let is_empty = end.is_some_and(|end| end <= start);
    let end = end.map_or(Bound::Unbounded, Bound::Excluded);
    (!is_empty).then_some((Bound::Included(start), end))
}

/// Rows that can be read in order.
pub trait Scan {
    /// Shows the rows of `[start, end)` in key order, until `visit` breaks.
    fn scan(
        &self,
        space: Space,
        start: &[u8],
        end: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), Fault>;
}

/// Is shown key and value of one row after another, and says when to stop.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// Says which rows one row of [`Layout::swept`] makes garbage once `floor` is the oldest revision anybody may read; `None`
/// if that row and all after it are needed.
pub type Sweep = fn(key: &[u8], value: &[u8], floor: u64) -> Option<Garbage>;

/// Rows that may go.
#[derive(Default)]
pub struct Garbage {
    /// The rows, each in its space.
    pub rows: Vec<(Space, Bytes)>,
}

/// The spaces of a store.
///
/// A name is a keyspace of fjall's. A later version may append names, never change or move one: a store that lacks a
/// space gets it, empty, at its next open.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Their names, in the order of their places; the first is for small rows, which a filling writes in any order.
    pub names: &'static [&'static str],
    /// The space whose rows say what became garbage.
    pub swept: Space,
    /// The rule that says which rows one of its rows makes garbage.
    pub sweep: Sweep,
}

impl Layout {
    /// The space of small rows.
    pub(super) const SMALL: Space = Space(0);

    /// All spaces, in order.
    pub fn spaces(&self) -> impl Iterator<Item = Space> + use<> {
        (0..self.names.len()).map(|place| Space(u8::try_from(place).expect("a handful of spaces")))
    }
}
