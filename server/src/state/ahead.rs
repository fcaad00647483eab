//! The rows that the next turn or slice will read and that are not in memory, named before they are read under the
//! lock.
//!
//! The holder of the [`Ahead`] reads it on a thread that may wait for the disk; afterwards the rows are near. It is a
//! guess from what stands now: a wrong one costs a turn a look at the disk, never a wrong answer. While all current
//! rows are in memory only old versions and changes are named, so a store that fits pays one comparison. A guess leaves
//! out a leaf that is loaded for a key of a lease, and recent changes, which are in memory nearly always.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::history::Piece;
use super::kv::Deleting;
use super::law::Running;
use super::reading::{RangeReading, Reading};
use super::spaces::SYSTEM;
use super::{SnapshotReader, State, lease};
use crate::command::{
    Command, Envelope, Fault, Keys, KvCommand, LeaseCommand, LeaseId, Op, Query, Revision, Stamp,
    Txn,
};
use crate::disk;
use crate::mvcc::{self, Budget, CURRENT, RowSpan, Span};

/// Keys of one span that a turn comes to, and keys and spans that are named for it.
const TURN_ROWS: usize = 256;
/// Keys of one span that a slice comes to.
const SLICE_ROWS: usize = 512;
/// Rows of one span that are read: what a page or a turn comes to, the leaves at both its ends, and what was removed.
const ROWS_MAX: usize = 2048;
/// Revisions since one that is asked for, up to which what changed is looked up and not what was superseded.
const CHANGES_CHEAP: u64 = 256;

/// Rows that are read before they are needed.
pub struct Ahead {
    rows: disk::Ahead,
    wanted: Vec<Wanted>,
}

#[derive(Debug)]
pub(super) enum Wanted {
    Rows(RowSpan),
    /// The version of a key that ended first after a revision.
    Superseded(Bytes, Revision),
    /// The keys attached to a lease, from this one on.
    Attached(LeaseId, Bytes),
    /// The first changes from one place to before another, with what was there before or without.
    Changes {
        from: Stamp,
        upto: Stamp,
        prevs: bool,
        budget: Budget,
    },
}

impl Ahead {
    /// Reads all of it. Blocks on the disk.
    pub fn read(&self) {
        for wanted in &self.wanted {
            if let Err(fault) = self.read_one(wanted) {
                // The turn that needs the row meets the fault again, and ends this member.
                tracing::debug!(%fault, "a row cannot be read ahead");
                return;
            }
        }
    }

    fn read_one(&self, wanted: &Wanted) -> Result<(), Fault> {
        match wanted {
            Wanted::Rows(RowSpan { space, start, end }) => {
                let pass = &mut |_: &[u8], _: &[u8]| ControlFlow::Continue(());
                self.rows
                    .scan(*space, start, end.as_deref(), ROWS_MAX, pass)
            }
            Wanted::Superseded(key, at) => {
                let RowSpan { space, start, end } = RowSpan::ended_after(key, *at);
                let pass = &mut |_: &[u8], _: &[u8]| ControlFlow::Continue(());
                self.rows.scan(space, &start, end.as_deref(), 1, pass)
            }
            Wanted::Changes {
                from,
                upto,
                prevs,
                budget,
            } => mvcc::read_changes_ahead(&self.rows, *from, *upto, *prevs, &mut budget.clone()),
            Wanted::Attached(id, from) => {
                let (start, end) = lease::attachments(*id, from);
                let mut keys = Vec::new();
                let visit = &mut |row: &[u8], _: &[u8]| {
                    keys.push(Bytes::copy_from_slice(lease::attached_key(row)));
                    ControlFlow::Continue(())
                };
                self.rows
                    .scan(SYSTEM, &start, Some(&end), TURN_ROWS, visit)?;
                self.read_keys(&keys)
            }
        }
    }

    /// Reads the current rows of `keys`, which ascend: all that lie close together at once, as
    /// [`Mvcc::get_each`](mvcc::Mvcc::get_each) does.
    fn read_keys(&self, keys: &[Bytes]) -> Result<(), Fault> {
        let mut reached = 0;
        if let (Some(first), Some(last)) = (keys.first(), keys.last()) {
            let rows = mvcc::CLOSE * keys.len();
            let visit = &mut |row: &[u8], _: &[u8]| {
                reached += keys[reached..].partition_point(|key| key.as_ref() <= row);
                match row < last.as_ref() {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            };
            self.rows.scan(CURRENT, first, None, rows, visit)?;
        }
        keys[reached..]
            .iter()
            .try_for_each(|key| self.rows.get(CURRENT, key).map(|_| ()))
    }
}

/// Names what is wanted, up to a bound.
pub(super) struct Naming<'a> {
    state: &'a State,
    /// Whether all current rows are in memory.
    is_near: bool,
    /// Keys that are come to in one span.
    rows: usize,
    wanted: Vec<Wanted>,
}

impl Naming<'_> {
    fn is_full(&self) -> bool {
        self.wanted.len() >= TURN_ROWS
    }

    fn want(&mut self, wanted: Wanted) {
        if !self.is_full() {
            self.wanted.push(wanted);
        }
    }

    pub(super) fn key(&mut self, key: &Bytes) {
        if !self.is_near
            && let Some(far) = self.state.mvcc.far_key(key)
        {
            self.want(Wanted::Rows(far));
        }
    }

    pub(super) fn span(&mut self, start: &Bytes, end: Option<&Bytes>) {
        let span = Span {
            start: start.clone(),
            end: end.cloned(),
        };
        if !self.is_near
            && !span.is_empty()
            && let Some(far) = self.state.mvcc.far(&span, self.rows)
        {
            self.want(Wanted::Rows(far));
        }
    }

    pub(super) fn keys(&mut self, keys: &Keys) {
        match keys {
            Keys::One(key) => self.key(key),
            Keys::Range { start, end } => self.span(start, end.as_ref()),
        }
    }

    /// The superseded versions of keys, for a question at revision `at`.
    pub(super) fn past(&mut self, keys: &Keys, at: Revision) {
        if self.state.is_recent(at) {
            return;
        }
        match keys {
            Keys::One(key) => self.want(Wanted::Superseded(key.clone(), at)),
            Keys::Range { start, end } => {
                let (start, end) = (start.clone(), end.clone());
                self.rows(RowSpan::past(&Span { start, end }));
            }
        }
    }

    /// The first changes of `[from, upto)`, as many as `budget` has room for.
    pub(super) fn changes(&mut self, from: Stamp, upto: Stamp, prevs: bool, budget: Budget) {
        self.want(Wanted::Changes {
            from,
            upto,
            prevs,
            budget,
        });
    }

    /// Rows that nobody keeps in memory.
    pub(super) fn rows(&mut self, rows: RowSpan) {
        self.want(Wanted::Rows(rows));
    }

    /// The keys attached to a lease, and their rows.
    pub(super) fn attached(&mut self, id: LeaseId, from: &Bytes) {
        self.want(Wanted::Attached(id, from.clone()));
    }

    fn rest_of(&mut self, keys: &Keys, deleting: &Deleting) {
        match (keys, deleting.next()) {
            (Keys::Range { end, .. }, Some(next)) => self.span(next, end.as_ref()),
            (keys, _) => self.keys(keys),
        }
    }

    fn command(&mut self, command: &Command) {
        match command {
            Command::Kv(KvCommand::Put(put)) => self.key(&put.key),
            Command::Kv(KvCommand::DeleteRange(delete)) => self.keys(&delete.keys),
            Command::Kv(KvCommand::Txn(txn)) => self.txn(txn),
            Command::Lease(LeaseCommand::Revoke { id }) => self.attached(*id, &Bytes::new()),
            Command::Lease(LeaseCommand::Expire { ids, .. }) => {
                for id in ids {
                    self.attached(*id, &Bytes::new());
                }
            }
            Command::Kv(KvCommand::Compact { .. })
            | Command::Lease(LeaseCommand::Grant { .. } | LeaseCommand::Checkpoint { .. })
            | Command::Member(_)
            | Command::Level(_)
            | Command::Alarm(_)
            | Command::Auth(_) => {}
        }
    }

    /// Both branches: which is taken is not known yet.
    fn txn(&mut self, txn: &Txn) {
        for compare in &txn.compares {
            self.keys(&compare.keys);
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match op {
                // It is read afterwards.
                Op::Range(range) if matches!(range.keys, Keys::Range { .. }) => {}
                Op::Range(range) => self.keys(&range.keys),
                Op::Put(put) => self.key(&put.key),
                Op::DeleteRange(delete) => self.keys(&delete.keys),
                Op::Txn(inner) => self.txn(inner),
            }
        }
    }

    /// Names the rows that a command which is not through goes on with.
    fn rest(&mut self, command: &Command, running: &Running) {
        match (running, command) {
            (Running::Delete(deleting), Command::Kv(KvCommand::DeleteRange(delete))) => {
                self.rest_of(&delete.keys, deleting);
            }
            (Running::Txn(branch), Command::Kv(KvCommand::Txn(txn))) => {
                if let Some((keys, deleting)) = branch.deleting(txn) {
                    self.rest_of(keys, deleting);
                } else if let Some((start, end)) = branch.comparing(txn) {
                    self.span(start, end);
                } else {
                    self.txn(txn);
                }
            }
            (Running::Revoke { from }, Command::Lease(LeaseCommand::Revoke { id })) => {
                self.attached(*id, from);
            }
            (Running::Expire { place, from }, Command::Lease(LeaseCommand::Expire { ids, .. })) => {
                let mut from = from.clone();
                for id in ids.iter().skip(*place) {
                    self.attached(*id, &std::mem::take(&mut from));
                }
            }
            (
                Running::Delete(_)
                | Running::Txn(_)
                | Running::Revoke { .. }
                | Running::Expire { .. },
                _,
            ) => {}
        }
    }
}

impl State {
    /// Whether anything is worth being read ahead of entries: some current rows are not in memory.
    pub fn reads_ahead(&self) -> bool {
        !self.mvcc.is_near() && self.disk.ahead().is_some()
    }

    /// Whether what changed since is so little that its rows are in memory nearly always.
    pub(super) fn is_recent(&self, at: Revision) -> bool {
        self.ledger.revision.0.saturating_sub(at.0) <= CHANGES_CHEAP
    }

    fn naming(&self, rows: usize) -> Naming<'_> {
        Naming {
            state: self,
            is_near: self.mvcc.is_near(),
            rows,
            wanted: Vec::new(),
        }
    }

    fn named(&self, naming: Naming<'_>) -> Option<Ahead> {
        let wanted = naming.wanted;
        if wanted.is_empty() {
            return None;
        }
        let rows = self.disk.ahead()?;
        Some(Ahead { rows, wanted })
    }

    /// The rows that the next turn reads, of the entries that are to be applied next; the first of them may have
    /// begun.
    pub fn ahead_of_entries<'a>(
        &self,
        entries: impl IntoIterator<Item = &'a Envelope>,
    ) -> Option<Ahead> {
        if !self.reads_ahead() {
            return None;
        }
        let mut naming = self.naming(TURN_ROWS);
        let done = self.ledger.ahead.saturating_sub(1);
        let mut done = usize::try_from(done).unwrap_or(usize::MAX);
        let mut running = self.making.running.as_ref();
        for envelope in entries {
            for proposal in envelope.proposals.iter().skip(std::mem::take(&mut done)) {
                match running.take() {
                    Some(running) => naming.rest(&proposal.command, running),
                    None => naming.command(&proposal.command),
                }
                if naming.is_full() {
                    break;
                }
            }
        }
        self.named(naming)
    }

    /// The rows that [`ask`](Self::ask) reads of a question first.
    pub fn ahead_of_query(&self, query: &Query) -> Option<Ahead> {
        let mut naming = self.naming(SLICE_ROWS);
        match query {
            Query::Range(range) => {
                RangeReading::at(range, self.ledger.revision).names(&mut naming);
            }
            Query::Txn(txn) => naming.txn(txn),
            Query::Lease { id, keys: true } => naming.attached(*id, &Bytes::new()),
            Query::Lease { keys: false, .. } | Query::Leases | Query::Auth(_) | Query::Alarms => {}
        }
        self.named(naming)
    }

    /// The rows that the next chunk of a snapshot reads.
    pub fn ahead_of_chunk(&self, reader: &SnapshotReader) -> Option<Ahead> {
        let mut naming = self.naming(ROWS_MAX);
        reader.names(&mut naming);
        self.named(naming)
    }

    /// The rows that [`go_on`](Self::go_on) reads next.
    pub fn ahead_of_reading(&self, reading: &Reading) -> Option<Ahead> {
        let mut naming = self.naming(SLICE_ROWS);
        reading.names(&mut naming);
        self.named(naming)
    }

    /// The rows that [`history`](Self::history) and [`part`](Self::part) read of these pieces.
    pub fn ahead_of_history<'a>(
        &self,
        pieces: impl IntoIterator<Item = Piece<'a>>,
        bytes_max: usize,
    ) -> Option<Ahead> {
        let mut naming = self.naming(SLICE_ROWS);
        for piece in pieces {
            self.name_history(piece, bytes_max, &mut naming);
        }
        self.named(naming)
    }
}
