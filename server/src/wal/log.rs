//! The log as it is now, in memory: its ends, the vote, recent entries, and where on disk the others are.
//!
//! Two clocks meet here. The caller's changes show at once (`append`, `truncate`, `purge`); the writer's show when they
//! are durable (`frame_written`). An entry leaves the cache only when it can be read from disk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::disk::SegmentFile;
use super::entry::{Entry, Vote};
use super::record::Peers;
use super::sector::BLOCK;
use crate::command::LogPosition;
use crate::command::level::FIRST_LEVEL;

/// A durable frame that holds entries.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameAt {
    /// Index of its first entry. The frame is the place of all entries from here to the next frame's first.
    pub(super) first: u64,
    pub(super) generation: u64,
    pub(super) frame: u32,
    pub(super) block: u32,
    pub(super) blocks: u32,
}

pub(super) struct Log {
    pub(super) purged: Option<LogPosition>,
    pub(super) last: Option<LogPosition>,
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogPosition>,
    /// The memory of other members.
    pub(super) peers: Peers,
    /// The cluster's feature level, as far as the log was told: what segments are written for.
    pub(super) level: u32,
    /// The newest entries without a gap; the last one is `last`.
    recent: VecDeque<Entry>,
    recent_bytes: usize,
    recent_bytes_max: usize,
    /// Entries below this index can be read from disk.
    on_disk_until: u64,
    /// Counts how often entries were taken back, so that a write of the earlier ones does not count as one of theirs.
    pub(super) rewrites: u64,
    /// Ascending by `first`.
    frames: VecDeque<FrameAt>,
    /// Every segment that holds something, by generation.
    pub(super) segments: BTreeMap<u64, Arc<dyn SegmentFile>>,
}

/// Frames that count as the newest of the log whatever they take. A few of the largest are more than may be kept, and a
/// member that is one of them behind must not need the whole state.
const FRAMES_KEPT: usize = 4;

fn next_index(position: Option<LogPosition>) -> u64 {
    position.map_or(0, |position| position.index + 1)
}

impl Log {
    pub(super) fn new(recent_bytes_max: usize) -> Self {
        Self {
            purged: None,
            last: None,
            vote: None,
            committed: None,
            peers: Peers::default(),
            level: FIRST_LEVEL,
            recent: VecDeque::new(),
            recent_bytes: 0,
            recent_bytes_max,
            on_disk_until: 0,
            rewrites: 0,
            frames: VecDeque::new(),
            segments: BTreeMap::new(),
        }
    }

    /// Index of the first entry that can be read.
    pub(super) fn first_index(&self) -> u64 {
        let on_disk = self.frames.front().map(|frame| frame.first);
        let in_memory = self.recent.front().map(|entry| entry.position.index);
        let first = on_disk.into_iter().chain(in_memory).min();
        next_index(self.purged).max(first.unwrap_or(0))
    }

    /// Whether `entry` may come next. An empty log takes any index.
    pub(super) fn accepts(&self, entry: &Entry) -> bool {
        self.last.is_none() || entry.position.index == next_index(self.last)
    }

    /// The index after the last entry that can be read from disk.
    pub(super) fn durable_end(&self) -> u64 {
        self.on_disk_until
    }

    pub(super) fn append(&mut self, entry: Entry) {
        if self.last.is_none() {
            self.on_disk_until = entry.position.index;
        }
        self.last = Some(entry.position);
        self.recent_bytes += entry.size();
        self.recent.push_back(entry);
    }

    /// Takes back all entries after `to`.
    pub(super) fn truncate(&mut self, to: Option<LogPosition>) {
        let end = next_index(to);
        while self
            .recent
            .back()
            .is_some_and(|entry| entry.position.index >= end)
        {
            let entry = self.recent.pop_back().expect("checked");
            self.recent_bytes -= entry.size();
        }
        if next_index(self.last) > end {
            self.last = to;
        }
        self.on_disk_until = self.on_disk_until.min(end);
        self.rewrites += 1;
    }

    /// Forgets entries up to `to`, which may lie beyond the last.
    pub(super) fn purge(&mut self, to: LogPosition) {
        if self.purged.is_some_and(|purged| purged.index >= to.index) {
            return;
        }
        self.purged = Some(to);
        while self
            .recent
            .front()
            .is_some_and(|entry| entry.position.index <= to.index)
        {
            let entry = self.recent.pop_front().expect("checked");
            self.recent_bytes -= entry.size();
        }
        if next_index(self.last) <= to.index + 1 {
            self.last = Some(to);
            self.on_disk_until = to.index + 1;
            self.rewrites += 1;
        }
    }

    /// Notes that a frame is durable. `end` is the index after its last entry, if those entries still stand.
    pub(super) fn frame_written(&mut self, frame: Option<FrameAt>, end: Option<u64>) {
        self.frames.extend(frame);
        if let Some(end) = end {
            self.on_disk_until = self.on_disk_until.max(end);
        }
        while self.recent_bytes > self.recent_bytes_max {
            match self.recent.front() {
                Some(entry) if entry.position.index < self.on_disk_until => {
                    self.recent_bytes -= entry.size();
                    self.recent.pop_front();
                }
                _ => break,
            }
        }
    }

    /// A durable truncation: frames of entries that were taken back are no place to read from.
    pub(super) fn frames_truncated(&mut self, to: Option<LogPosition>) {
        let end = next_index(to);
        while self.frames.back().is_some_and(|frame| frame.first >= end) {
            self.frames.pop_back();
        }
    }

    /// A durable purge: frames without a needed entry go. `stream_last` is the last entry at that point of the stream.
    pub(super) fn frames_purged(&mut self, to: LogPosition, stream_last: Option<LogPosition>) {
        if stream_last.is_none_or(|last| last.index <= to.index) {
            self.frames.clear();
            return;
        }
        while self
            .frames
            .get(1)
            .is_some_and(|next| next.first <= to.index + 1)
        {
            self.frames.pop_front();
        }
    }

    /// The oldest generation that still holds a needed entry.
    pub(super) fn oldest_needed(&self) -> Option<u64> {
        self.frames.front().map(|frame| frame.generation)
    }

    /// The first entry in the newest `bytes` of frames, and in the newest [`FRAMES_KEPT`] of them however long they are;
    /// `None` if there are no others.
    pub(super) fn first_index_within(&self, bytes: u64) -> Option<u64> {
        let mut left = bytes / BLOCK as u64;
        let mut first = None;
        for (place, frame) in self.frames.iter().rev().enumerate() {
            match left.checked_sub(u64::from(frame.blocks)) {
                Some(rest) => left = rest,
                None if place < FRAMES_KEPT => left = 0,
                None => return first,
            }
            first = Some(frame.first);
        }
        None
    }

    /// Entries `[start, end)` from memory, at least one and not many more than `bytes_max`; `None` if `start` is not
    /// there.
    pub(super) fn recent(&self, start: u64, end: u64, bytes_max: usize) -> Option<Vec<Entry>> {
        let first = self.recent.front()?.position.index;
        let from = usize::try_from(start.checked_sub(first)?).ok()?;
        if from >= self.recent.len() {
            return None;
        }
        let mut entries = Vec::new();
        let mut bytes = 0;
        let wanted = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
        for entry in self.recent.range(from..).take(wanted) {
            bytes += entry.size();
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        Some(entries)
    }

    /// The frame that holds entry `index`, its file, and the first index that must not be read from it: the next frame's,
    /// or one that was taken back in memory but not on disk yet.
    pub(super) fn find(&self, index: u64) -> Option<(FrameAt, Arc<dyn SegmentFile>, u64)> {
        if index >= self.on_disk_until {
            return None;
        }
        let after = self.frames.partition_point(|frame| frame.first <= index);
        let frame = *self.frames.get(after.checked_sub(1)?)?;
        let file = self.segments.get(&frame.generation)?.clone();
        let end = self.frames.get(after).map_or(u64::MAX, |next| next.first);
        Some((frame, file, end.min(self.on_disk_until)))
    }
}
