//! Finding current keys: a sorted sequence of *leaves*, each the keys of one span, all with their exact counts.
//!
//! A leaf's rows are in memory (*resident*) or not; a resident leaf is complete for its span, so it answers "not there"
//! as well. Ranges load leaves, and points do once a leaf is asked often; a clock hand evicts unused ones, so
//! memory stays bounded: about 100 bytes for each 64 keys, and at most [`RESIDENT_BYTES_MAX`]. Counting a range adds up the counts
//! of whole leaves and looks into the two at its edges.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::CURRENT;
use crate::command::Fault;
use crate::disk::{Rows, Scan};

/// Keys a leaf begins with; it is split at twice as many.
const LEAF_KEYS: usize = 64;
/// A leaf of large values is split earlier: loading one must not cost megabytes.
const LEAF_BYTES: usize = 256 << 10;
/// Leaves in a block; it is split at twice as many.
const BLOCK_LEAVES: usize = 256;
/// Bound on rows kept in memory: some hundred thousand keys of a few hundred bytes. Tests must not fit.
pub(crate) const RESIDENT_BYTES_MAX: usize = if cfg!(test) { 64 << 10 } else { 64 << 20 };
/// Memory of a row beyond its bytes: two handles and two allocations, and two more once a reader has shared them.
const ROW_OVERHEAD_BYTES: usize = 160;
/// Misses by points after which a leaf is loaded, while there is room ..
const MISSES_WITH_ROOM: u8 = 4;
/// .. and while there is none: loading costs as much as some twenty points.
const MISSES_WITHOUT_ROOM: u8 = 128;
/// Leaves that a range may keep of those it loads: a longer range would evict everything else.
pub(super) const LOADS_KEPT: usize = 64;

type Row = (Bytes, Bytes);
/// The answer to a visit: go on or stop, or that a row is damaged.
pub(super) type Visited = Result<ControlFlow<()>, Fault>;

struct Leaf {
    /// Lower bound of its keys; the upper one is the next leaf's. The very first leaf's is empty.
    first: Bytes,
    count: usize,
    rows: Option<Vec<Row>>,
    bytes: usize,
    is_used: bool,
    misses: u8,
}

impl Leaf {
    fn resident(first: Bytes, rows: Vec<Row>) -> Self {
        Self {
            first,
            count: rows.len(),
            bytes: rows.iter().map(row_bytes).sum(),
            rows: Some(rows),
            is_used: true,
            misses: 0,
        }
    }
}

struct Block {
    leaves: Vec<Leaf>,
    count: usize,
}

/// The part of a key that is not in memory.
pub(super) enum Absent {
    /// Its row.
    Row,
    /// Its leaf: where that begins and ends.
    Leaf(Bytes, Option<Bytes>),
}

/// Where a leaf is: block and place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place(usize, usize);

pub(super) struct Leaves {
    /// Invariant: never empty, and no block is.
    blocks: Vec<Block>,
    resident_bytes: usize,
    /// Leaves that are not resident.
    absent: usize,
    resident_bytes_max: usize,
    hand: Place,
}

impl Leaves {
    /// Counts the current keys, keeping the first of them resident.
    pub(super) fn open(rows: &Rows<'_>, resident_bytes_max: usize) -> Result<Self, Fault> {
        let mut leaves = Vec::new();
        let mut resident_bytes = 0;
        let mut first = Bytes::new();
        let mut filling: Vec<Row> = Vec::with_capacity(LEAF_KEYS);
        let mut count = 0;
        let mut bytes = 0;
        rows.scan(CURRENT, &[], None, &mut |key, row| {
            if count == LEAF_KEYS || bytes >= LEAF_BYTES {
                let next = Bytes::copy_from_slice(key);
                leaves.push(finish(
                    std::mem::replace(&mut first, next),
                    count,
                    &mut filling,
                ));
                (count, bytes) = (0, 0);
            }
            count += 1;
            bytes += key.len() + row.len();
            if resident_bytes < resident_bytes_max {
                let row = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(row));
                resident_bytes += row_bytes(&row);
                filling.push(row);
            }
            ControlFlow::Continue(())
        })?;
        leaves.push(finish(first, count, &mut filling));
        let mut blocks = Vec::new();
        let mut rest = leaves.into_iter().peekable();
        while rest.peek().is_some() {
            let leaves: Vec<_> = rest.by_ref().take(BLOCK_LEAVES).collect();
            let count = leaves.iter().map(|leaf| leaf.count).sum();
            blocks.push(Block { leaves, count });
        }
        let resident_bytes = blocks
            .iter()
            .flat_map(|block| &block.leaves)
            .map(|leaf| leaf.bytes)
            .sum();
        let leaves = blocks.iter().flat_map(|block| &block.leaves);
        let absent = leaves.filter(|leaf| leaf.rows.is_none()).count();
        Ok(Self {
            blocks,
            resident_bytes,
            absent,
            resident_bytes_max,
            hand: Place(0, 0),
        })
    }

    pub(super) fn get(&mut self, rows: &Rows<'_>, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        let place = self.find(key);
        let has_room = self.resident_bytes < self.resident_bytes_max;
        let leaf = self.leaf_mut(place);
        if leaf.rows.is_none() {
            leaf.misses = leaf.misses.saturating_add(1);
            let enough = if has_room {
                MISSES_WITH_ROOM
            } else {
                MISSES_WITHOUT_ROOM
            };
            if leaf.misses < enough {
                return rows.get(CURRENT, key);
            }
            self.load(rows, place)?;
        }
        let leaf = self.leaf_mut(place);
        leaf.is_used = true;
        let found = leaf.rows.as_ref().and_then(|rows| {
            let at = search(rows, key).ok()?;
            Some(rows[at].1.clone())
        });
        self.turn_out();
        Ok(found)
    }

    /// As [`get`](Self::get), but it loads no leaf and keeps none.
    pub(super) fn glimpse(&self, rows: &Rows<'_>, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        match &self.leaf(self.find(key)).rows {
            Some(resident) => Ok(search(resident, key).ok().map(|at| resident[at].1.clone())),
            None => rows.get(CURRENT, key),
        }
    }

    /// Notes that `key` holds `row` now; `existed` is whether it was there before. `rows` has it already.
    pub(super) fn set(
        &mut self,
        rows: &Rows<'_>,
        key: Bytes,
        row: Bytes,
        existed: bool,
    ) -> Result<(), Fault> {
        let place = self.find(&key);
        let leaf = self.leaf_mut(place);
        let mut grown = 0;
        let mut shrunk = 0;
        if let Some(resident) = &mut leaf.rows {
            let entry = (key, row);
            grown = row_bytes(&entry);
            match search(resident, &entry.0) {
                Ok(at) => {
                    shrunk = row_bytes(&resident[at]);
                    resident[at].1 = entry.1;
                }
                Err(at) => resident.insert(at, entry),
            }
            leaf.bytes = leaf.bytes + grown - shrunk;
            leaf.is_used = true;
        }
        if !existed {
            leaf.count += 1;
            self.blocks[place.0].count += 1;
        }
        self.resident_bytes = self.resident_bytes + grown - shrunk;
        self.split_if_full(rows, place)?;
        self.turn_out();
        Ok(())
    }

    /// Notes that `key`, which was there, is not any more. `rows` knows it already.
    pub(super) fn remove(&mut self, key: &[u8]) {
        let place = self.find(key);
        let leaf = self.leaf_mut(place);
        let mut shrunk = 0;
        if let Some(resident) = &mut leaf.rows
            && let Ok(at) = search(resident, key)
        {
            shrunk = row_bytes(&resident.remove(at));
            leaf.bytes -= shrunk;
        }
        leaf.count -= 1;
        let is_empty = leaf.count == 0;
        self.blocks[place.0].count -= 1;
        self.resident_bytes -= shrunk;
        if is_empty {
            self.drop_empty(place);
        }
    }

    /// Shows the rows of `[start, end)` in key order until told to stop. Of the leaves that it loads, `loads_kept`
    /// stay.
    pub(super) fn visit(
        &mut self,
        rows: &Rows<'_>,
        start: &[u8],
        end: Option<&[u8]>,
        loads_kept: usize,
        visit: &mut dyn FnMut(&Bytes, &Bytes) -> Visited,
    ) -> Result<(), Fault> {
        if end.is_some_and(|end| end <= start) {
            return Ok(());
        }
        let mut place = self.find(start);
        let mut loads = 0;
        loop {
            let read;
            if self.leaf_mut(place).rows.is_none() && loads < loads_kept {
                loads += 1;
                self.load(rows, place)?;
            }
            let leaf = self.leaf_mut(place);
            leaf.is_used = true;
            let resident = match &leaf.rows {
                Some(resident) => resident,
                None => {
                    read = self.read(rows, place)?;
                    &read
                }
            };
            let from = resident.partition_point(|(key, _)| key.as_ref() < start);
            for (key, row) in &resident[from..] {
                if end.is_some_and(|end| key.as_ref() >= end) || visit(key, row)?.is_break() {
                    self.turn_out();
                    return Ok(());
                }
            }
            self.turn_out();
            match self.after(place) {
                Some(next) if end.is_none_or(|end| self.leaf(next).first.as_ref() < end) => {
                    place = next;
                }
                Some(_) | None => return Ok(()),
            }
        }
    }

    /// Whether all rows are in memory.
    pub(super) fn are_resident(&self) -> bool {
        self.absent == 0
    }

    #[cfg(test)]
    pub(super) fn knows_absent(&self) -> bool {
        let leaves = self.blocks.iter().flat_map(|block| &block.leaves);
        leaves.filter(|leaf| leaf.rows.is_none()).count() == self.absent
    }

    /// The part of the disk that a look at `key`, or a put of it, must read: its row, or all of its leaf; `None` if
    /// that is in memory.
    pub(super) fn absent_key(&self, key: &[u8]) -> Option<Absent> {
        let place = self.find(key);
        let leaf = self.leaf(place);
        if leaf.rows.is_some() {
            return None;
        }
        let has_room = self.resident_bytes < self.resident_bytes_max;
        let is_loaded_soon = has_room || leaf.misses >= MISSES_WITHOUT_ROOM / 2;
        let is_split_soon = leaf.count >= LEAF_KEYS + LEAF_KEYS / 2;
        if !is_loaded_soon && !is_split_soon {
            return Some(Absent::Row);
        }
        let next = self.after(place).map(|next| self.leaf(next).first.clone());
        Some(Absent::Leaf(leaf.first.clone(), next))
    }

    /// Where the leaves begin and end that a visit of the first `rows` keys of `[start, end)` must read.
    pub(super) fn absent(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        rows: usize,
    ) -> Option<(Bytes, Option<Bytes>)> {
        let mut place = self.find(start);
        let mut left = rows;
        let mut absent: Option<(Bytes, Option<Bytes>)> = None;
        loop {
            let leaf = self.leaf(place);
            let next = self.after(place);
            if leaf.rows.is_none() && leaf.count > 0 {
                let upto = next.map(|next| self.leaf(next).first.clone());
                let (_, known) = absent.get_or_insert_with(|| (leaf.first.clone(), None));
                *known = upto;
            }
            left = left.saturating_sub(leaf.count);
            match next {
                Some(next) if left > 0 && end.is_none_or(|end| *self.leaf(next).first < *end) => {
                    place = next;
                }
                Some(_) | None => return absent,
            }
        }
    }

    /// How many keys are in `[start, end)`.
    pub(super) fn count(
        &mut self,
        rows: &Rows<'_>,
        start: &[u8],
        end: Option<&[u8]>,
    ) -> Result<u64, Fault> {
        if end.is_some_and(|end| end <= start) {
            return Ok(0);
        }
        let before_start = self.rank(rows, start)?;
        let before_end = match end {
            Some(end) => self.rank(rows, end)?,
            None => self.blocks.iter().map(|block| block.count).sum(),
        };
        Ok((before_end - before_start) as u64)
    }

    /// How many keys are below `key`.
    fn rank(&mut self, rows: &Rows<'_>, key: &[u8]) -> Result<usize, Fault> {
        let place = self.find(key);
        if self.leaf(place).rows.is_none() && self.leaf(place).first != key {
            self.load(rows, place)?;
        }
        let leaf = self.leaf(place);
        let inside = leaf.rows.as_ref().map_or(0, |resident| {
            resident.partition_point(|(resident, _)| resident.as_ref() < key)
        });
        self.turn_out();
        let blocks: usize = self.blocks[..place.0].iter().map(|block| block.count).sum();
        let leaves: usize = self.blocks[place.0].leaves[..place.1]
            .iter()
            .map(|leaf| leaf.count)
            .sum();
        Ok(blocks + leaves + inside)
    }

    fn find(&self, key: &[u8]) -> Place {
        // The very first leaf begins below every key, so both searches find at least one.
        let block = self
            .blocks
            .partition_point(|block| block.leaves[0].first.as_ref() <= key)
            - 1;
        let leaf = self.blocks[block]
            .leaves
            .partition_point(|leaf| leaf.first.as_ref() <= key)
            - 1;
        Place(block, leaf)
    }

    fn leaf(&self, place: Place) -> &Leaf {
        &self.blocks[place.0].leaves[place.1]
    }

    fn leaf_mut(&mut self, place: Place) -> &mut Leaf {
        &mut self.blocks[place.0].leaves[place.1]
    }

    fn after(&self, Place(block, leaf): Place) -> Option<Place> {
        if leaf + 1 < self.blocks[block].leaves.len() {
            Some(Place(block, leaf + 1))
        } else {
            (block + 1 < self.blocks.len()).then_some(Place(block + 1, 0))
        }
    }

    fn read(&self, rows: &Rows<'_>, place: Place) -> Result<Vec<Row>, Fault> {
        let leaf = self.leaf(place);
        let end = self.after(place).map(|next| self.leaf(next).first.clone());
        let mut read = Vec::with_capacity(leaf.count);
        if leaf.count == 0 {
            return Ok(read);
        }
        // Behind its last key there may be a million that were removed, and that are stepped over one by one.
        rows.scan(CURRENT, &leaf.first, end.as_deref(), &mut |key, row| {
            read.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(row)));
            match read.len() < leaf.count {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        if read.len() != leaf.count {
            return Err(Fault::Corrupt {
                what: "the current keys in the state store".to_owned(),
                why: format!("{} where {} are known to be", read.len(), leaf.count),
            });
        }
        Ok(read)
    }

    /// Makes a leaf resident. Turning others out for it is for the caller, once it has used this one.
    fn load(&mut self, rows: &Rows<'_>, place: Place) -> Result<(), Fault> {
        let read = self.read(rows, place)?;
        let leaf = self.leaf_mut(place);
        let first = std::mem::take(&mut leaf.first);
        *leaf = Leaf::resident(first, read);
        self.absent -= 1;
        self.resident_bytes += self.leaf(place).bytes;
        Ok(())
    }

    fn split_if_full(&mut self, rows: &Rows<'_>, place: Place) -> Result<(), Fault> {
        let leaf = self.leaf(place);
        if leaf.count < 2 * LEAF_KEYS && (leaf.bytes < LEAF_BYTES || leaf.count < 2) {
            return Ok(());
        }
        if leaf.rows.is_none() {
            self.load(rows, place)?;
        }
        let leaf = self.leaf_mut(place);
        let resident = leaf.rows.as_mut().expect("it was or was made resident");
        let upper = resident.split_off(resident.len() / 2);
        let first = upper[0].0.clone();
        let upper = Leaf::resident(first, upper);
        leaf.bytes -= upper.bytes;
        leaf.count -= upper.count;
        let leaves = &mut self.blocks[place.0].leaves;
        leaves.insert(place.1 + 1, upper);
        if leaves.len() >= 2 * BLOCK_LEAVES {
            let leaves = leaves.split_off(BLOCK_LEAVES);
            let count = leaves.iter().map(|leaf| leaf.count).sum();
            self.blocks[place.0].count -= count;
            self.blocks.insert(place.0 + 1, Block { leaves, count });
        }
        Ok(())
    }

    /// Gives an empty leaf's span to the one before it. The very first one stays, empty: were its span given to the next,
    /// that would begin with all that was removed, and each look at it would step over that.
    fn drop_empty(&mut self, place: Place) {
        if place == Place(0, 0) {
            return;
        }
        let block = &mut self.blocks[place.0];
        let empty = block.leaves.remove(place.1);
        self.absent -= usize::from(empty.rows.is_none());
        self.resident_bytes -= empty.bytes;
        if block.leaves.is_empty() {
            self.blocks.remove(place.0);
        }
    }

    /// Bytes of the rows in memory.
    #[cfg(test)]
    pub(super) fn resident_bytes(&self) -> usize {
        self.resident_bytes
    }

    /// Turns out all rows; the counts stay.
    pub(super) fn forget(&mut self) {
        for leaf in self.blocks.iter_mut().flat_map(|block| &mut block.leaves) {
            self.absent += usize::from(leaf.rows.take().is_some());
            self.resident_bytes -= std::mem::take(&mut leaf.bytes);
        }
    }

    fn turn_out(&mut self) {
        while self.resident_bytes > self.resident_bytes_max {
            let Place(block, leaf) = self.hand;
            let Some(Some(leaf)) = self.blocks.get_mut(block).map(|b| b.leaves.get_mut(leaf))
            else {
                self.hand = if block + 1 < self.blocks.len() {
                    Place(block + 1, 0)
                } else {
                    Place(0, 0)
                };
                continue;
            };
            leaf.misses /= 2;
            if !std::mem::take(&mut leaf.is_used) && leaf.rows.take().is_some() {
                self.resident_bytes -= std::mem::take(&mut leaf.bytes);
                self.absent += 1;
            }
            self.hand.1 += 1;
        }
    }
}

fn finish(first: Bytes, count: usize, filling: &mut Vec<Row>) -> Leaf {
    let rows = std::mem::replace(filling, Vec::with_capacity(LEAF_KEYS));
    if rows.len() == count {
        return Leaf::resident(first, rows);
    }
    Leaf {
        first,
        count,
        rows: None,
        bytes: 0,
        is_used: false,
        misses: 0,
    }
}

fn search(rows: &[Row], key: &[u8]) -> Result<usize, usize> {
    rows.binary_search_by(|(resident, _)| resident.as_ref().cmp(key))
}

fn row_bytes((key, row): &Row) -> usize {
    key.len() + row.len() + ROW_OVERHEAD_BYTES
}
