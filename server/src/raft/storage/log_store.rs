//! openraft's log storage over the WAL.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use bytes::Bytes;
use futures::Stream;
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};

use super::durable::DurableMark;
use crate::command::Fault;
use crate::failpoints::{self, Bug};
use crate::offload::Offload;
use crate::raft::remembered::Promised;
use crate::raft::types::{self, Entry, Log, TypeConfig, Vote};
use crate::state;
use crate::wal::{self, Wal};

/// Bytes of entries in one message to a peer: large enough to fill a fast link, small enough not to hold up the runtime.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Bytes of entries that wait in memory to be applied.
const APPLY_BYTES_MAX: usize = 4 << 20;

/// The log as openraft sees it. Clones share it.
#[derive(Clone)]
pub(in crate::raft) struct LogStore {
    wal: Wal,
    durable: DurableMark,
    /// Told of votes before they are replaced.
    promised: Promised,
    offload: Offload,
    /// Asked only for the level that entries are written for.
    state: state::Handle,
}

/// The membership of the newest entry that changes it, whether committed or not.
///
/// Errors: `Io`; `Corrupt`.
pub(in crate::raft) fn newest_membership(wal: &Wal) -> Result<Option<Bytes>, Fault> {
    let mut newest = None;
    let mut next = 0;
    loop {
        let entries = wal.read(next, u64::MAX, APPLY_BYTES_MAX)?;
        let Some(last) = entries.last() else {
            return Ok(newest);
        };
        next = last.position.index + 1;
        for entry in entries {
            if let wal::Payload::Membership(bytes) = entry.payload {
                newest = Some(bytes);
            }
        }
    }
}

impl LogStore {
    pub(in crate::raft) fn new(
        wal: Wal,
        durable: DurableMark,
        promised: Promised,
        offload: Offload,
        state: state::Handle,
    ) -> Self {
        Self {
            wal,
            durable,
            promised,
            offload,
            state,
        }
    }

    /// Entries from memory if they are there, else from disk on a thread that may block.
    async fn read(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        if start >= end {
            return Ok(Vec::new());
        }
        let entries = match self.wal.recent(start, end, bytes_max) {
            Some(entries) => entries,
            None => {
                let wal = self.wal.clone();
                let read = move || wal.read(start, end, bytes_max);
                self.offload.run(read).await?.map_err(io::Error::other)?
            }
        };
        entries
            .into_iter()
            .map(|entry| types::entry(entry).map_err(io::Error::other))
            .collect()
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end + 1,
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let (start, end) = bounds(&range);
        let mut next = start;
        let mut all = Vec::new();
        loop {
            let more = self.read(next, end, usize::MAX).await?;
            let Some(last) = more.last() else {
                return Ok(all);
            };
            next = last.log_id.index + 1;
            all.extend(more);
        }
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, MESSAGE_BYTES_MAX).await
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = bounds(&range);
        let store = self.clone();
        let read = Vec::new().into_iter();
        futures::stream::try_unfold(
            (store, start, read),
            move |(store, next, mut read)| async move {
                if let Some(entry) = read.next() {
                    return Ok(Some((entry, (store, next + 1, read))));
                }
                let mut read = store.read(next, end, APPLY_BYTES_MAX).await?.into_iter();
                Ok(read.next().map(|entry| (entry, (store, next + 1, read))))
            },
        )
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.wal.vote().map(types::vote))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let wal::Ends { purged, last } = self.wal.ends();
        Ok(LogState {
            last_purged_log_id: purged.map(types::log_id),
            last_log_id: last.map(types::log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        if failpoints::has(Bug::VoteNotPersisted) {
            return Ok(());
        }
        self.promised.replaces_vote(&self.wal);
        self.wal.save_vote(types::wal_vote(vote)).await
    }

    async fn save_committed(&mut self, committed: Option<Log>) -> io::Result<()> {
        match committed {
            Some(committed) => self.wal.save_committed(types::position(&committed)),
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> io::Result<Option<Log>> {
        Ok(self.wal.committed().map(types::log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let level = self.state.feature_level();
        let entries = entries
            .into_iter()
            .map(|entry| types::wal_entry(entry, level));
        match callback {
            // Each of these is waited for by itself; the others are watermarks.
            callback @ IOFlushed::Signal(_) => self
                .wal
                .append_each(entries, move |result| callback.io_completed(result)),
            callback => self
                .wal
                .append(entries, move |result| callback.io_completed(result)),
        }
    }

    /// Errors: the leader wants entries taken back that are committed here: one of the two has forgotten something.
    async fn truncate_after(&mut self, last: Option<Log>) -> io::Result<()> {
        if let Some(committed) = self.wal.committed()
            && last
                .as_ref()
                .is_none_or(|last| last.index < committed.index)
        {
            return Err(io::Error::other(format!(
                "the leader's log is not this member's: entries after {} are to be taken back, and entry {} is committed here",
                last.map_or(0, |last| last.index),
                committed.index
            )));
        }
        self.wal.truncate(last.as_ref().map(types::position))
    }

    async fn purge(&mut self, to: Log) -> io::Result<()> {
        let to = types::position(&to);
        // Beyond the last entry nothing is lost: a snapshot was installed there, durably. The leader is told so next, and
        // from then on the log must say where it goes on, whatever becomes of the state.
        if self
            .wal
            .ends()
            .last
            .is_none_or(|last| last.index < to.index)
        {
            return self.wal.purge_durably(to).await;
        }
        // openraft may believe more is gone than is: it asks for less then, never for what is missing.
        match self.durable.get() {
            _ if failpoints::has(Bug::PurgeBelowUnsynced) => self.wal.purge(to),
            Some(durable) if durable.index < to.index => self.wal.purge(durable),
            Some(_) => self.wal.purge(to),
            None => Ok(()),
        }
    }
}
