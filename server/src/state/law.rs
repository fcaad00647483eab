//! The law of one command, in the hands of one turn: the permission, then the noun's work, for as long as the turn
//! lasts.
//!
//! [`Law`] is what the nouns' files write through: rows, revision, events, and what the turn has left. It does not know
//! entries or when a turn begins and ends: `apply.rs` does. A revision that takes many turns is remembered in [`Making`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::apply::Large;
use super::auth::{Auth, Permit};
use super::kv::Deleting;
use super::ledger::{Ledger, Superseded};
use super::reading::{Moment, Part, Piece, RangeReading, Reading};
use super::txn::{self, Branch};
use super::{No, snapshot};
use crate::command::{
    Alarm, Command, Event, Fault, Keys, KvCommand, KvRefusal, Lease, LeaseChange, LeaseCommand,
    LeaseId, LevelCommand, LogPosition, MemberCommand, MemberId, MemberRecord, Proposal, Refusal,
    Response, Revision, Stamp, TokenChange,
};
use crate::disk::Rows;
use crate::mvcc::Mvcc;

/// Bytes of answers that a turn makes while it applies; the rest is read afterwards.
const ANSWERS_BYTES: usize = 256 << 10;
/// Bytes of events of one revision that are kept to be published; watchers read a larger revision from history.
const EVENTS_BYTES_MAX: usize = if cfg!(test) { 4 << 10 } else { 8 << 20 };
/// Memory of an event beyond its bytes.
const EVENT_BYTES: usize = 256;

/// A revision in the making, over as many turns as it takes.
#[derive(Default)]
pub(super) struct Making {
    /// Changes made in it.
    pub(super) sub: u32,
    /// The command that makes it, if its turn was over before it was through.
    pub(super) running: Option<Running>,
    /// Its events, while they are not too large.
    events: Vec<Event>,
    events_bytes: usize,
    /// Its first and last key, once its events are too large.
    touched: Option<(Bytes, Bytes)>,
    /// The ledger before its first change: the one that may stand on disk beside a part of it.
    pub(super) before: Option<Ledger>,
}

impl Making {
    pub(super) fn sub(&self) -> u32 {
        self.sub
    }
}

/// A command that may take several turns.
pub(super) enum Running {
    Delete(Deleting),
    Txn(Branch),
    Revoke {
        from: Bytes,
    },
    Expire {
        /// The place of the lease in hand.
        place: usize,
        from: Bytes,
    },
}

/// A command after its first turn: answered, or checked and running.
enum Begun {
    /// It is applied.
    Ended(Response),
    /// It is checked, and is to be run.
    Running(Running),
}

/// A command at the end of a turn: answered, to be read, or not through yet.
pub(super) enum Verdict {
    Answer(Result<Response, Refusal>),
    /// It is applied, and is answered by reading.
    Read(Reading),
    /// The turn is over before it was through.
    NotYet(Running),
}

/// The state in the hands of one turn.
pub(super) struct Law<'a> {
    pub(super) at: LogPosition,
    pub(super) rows: Rows<'a>,
    pub(super) mvcc: &'a Mvcc,
    pub(super) ledger: &'a mut Ledger,
    pub(super) superseded: &'a mut Superseded,
    pub(super) leases: &'a mut BTreeMap<LeaseId, Lease>,
    pub(super) members: &'a mut BTreeMap<MemberId, MemberRecord>,
    pub(super) alarms: &'a mut BTreeSet<Alarm>,
    pub(super) pins: &'a snapshot::Pins,
    pub(super) events: Vec<Event>,
    pub(super) auth: &'a mut Auth,
    pub(super) lease_changes: Vec<LeaseChange>,
    pub(super) token_changes: Vec<TokenChange>,
    pub(super) compacted: Option<Revision>,
    pub(super) level: &'a mut u32,
    pub(super) level_max: u32,
    /// Whether somebody waits here for what the command in hand answers.
    pub(super) is_wanted: bool,
    /// Bytes of answers that were made in this turn.
    pub(super) answer_bytes: usize,
    pub(super) making: &'a mut Making,
    pub(super) large: Option<Large>,
    pub(super) changes_left: usize,
    pub(super) bytes_left: usize,
}

impl Law<'_> {
    /// Does what a proposal says, or goes on with it. A proposal that is refused has changed nothing.
    pub(super) fn decide(&mut self, proposal: &Proposal) -> Result<Verdict, Fault> {
        match No::apart(self.go_on(proposal))? {
            Ok(verdict) => Ok(verdict),
            Err(refusal) => {
                self.spend(1, 0);
                self.seal();
                Ok(Verdict::Answer(Err(refusal)))
            }
        }
    }

    fn go_on(&mut self, proposal: &Proposal) -> Result<Verdict, No> {
        let Proposal {
            origin,
            run: _,
            sequence: _,
            principal,
            command,
        } = proposal;
        if let Some(running) = self.making.running.take() {
            return self.run(command, running);
        }
        self.check_alarms(command)?;
        Permit::new(&*self.auth, &self.rows, principal).command(command)?;
        let begun = match command {
            Command::Kv(command) => self.begin_kv(command)?,
            Command::Lease(command) => self.begin_lease(*origin, command)?,
            Command::Member(MemberCommand::Publish(record)) => Begun::Ended(self.publish(record)?),
            Command::Level(LevelCommand::Raise { level }) => Begun::Ended(self.raise(*level)?),
            Command::Alarm(command) => Begun::Ended(self.alarm(command)),
            Command::Auth(command) => Begun::Ended(self.change_auth(command)?),
        };
        match begun {
            Begun::Running(running) => self.run(command, running),
            Begun::Ended(response) => {
                self.spend(1, 0);
                self.seal();
                Ok(Verdict::Answer(Ok(response)))
            }
        }
    }

    fn begin_kv(&mut self, command: &KvCommand) -> Result<Begun, No> {
        Ok(match command {
            KvCommand::Put(put) => Begun::Ended(self.put_alone(put)?),
            KvCommand::DeleteRange(_) => Begun::Running(Running::Delete(Deleting::default())),
            KvCommand::Txn(txn) => Begun::Running(Running::Txn(Branch::begin(txn)?)),
            KvCommand::Compact { revision } => Begun::Ended(self.compact(*revision)?),
        })
    }

    fn begin_lease(&mut self, origin: MemberId, command: &LeaseCommand) -> Result<Begun, No> {
        // A leader's finding from its countdown is void once another leader counts.
        let is_of_leader = origin == self.at.leader;
        Ok(match command {
            LeaseCommand::Grant { id, ttl_seconds } => Begun::Ended(self.grant(*id, *ttl_seconds)?),
            LeaseCommand::Revoke { id } => {
                self.check_lease(*id)?;
                Begun::Running(Running::Revoke { from: Bytes::new() })
            }
            // Likewise in another term: a newer leader may have renewed them.
            LeaseCommand::Expire { term, .. } if is_of_leader && *term == self.at.term => {
                Begun::Running(Running::Expire {
                    place: 0,
                    from: Bytes::new(),
                })
            }
            LeaseCommand::Checkpoint { remaining_seconds } if is_of_leader => {
                Begun::Ended(self.checkpoint(remaining_seconds))
            }
            LeaseCommand::Expire { .. } | LeaseCommand::Checkpoint { .. } => {
                Begun::Ended(Response::Done)
            }
        })
    }

    fn run(&mut self, command: &Command, mut running: Running) -> Result<Verdict, No> {
        let is_through = match (&mut running, command) {
            (Running::Delete(deleting), Command::Kv(KvCommand::DeleteRange(delete))) => {
                self.delete_some(&delete.keys, deleting)?
            }
            (Running::Txn(branch), Command::Kv(KvCommand::Txn(txn))) => {
                self.go_on_txn(txn, branch)?
            }
            (Running::Revoke { from }, Command::Lease(LeaseCommand::Revoke { id })) => {
                self.end_some(*id, from)?
            }
            (Running::Expire { place, from }, Command::Lease(LeaseCommand::Expire { ids, .. })) => {
                self.expire_some(ids, place, from)?
            }
            _ => {
                let why = "an entry was given up before it was applied";
                return Err(Fault::Store(why.to_owned()).into());
            }
        };
        if !is_through {
            return Ok(Verdict::NotYet(running));
        }
        let changed = self.making.sub > 0;
        self.seal();
        let newest = self.ledger.revision;
        let (shape, pieces, oldest) = match (running, command) {
            (Running::Txn(branch), Command::Kv(KvCommand::Txn(txn))) if self.is_wanted => {
                let shape = branch.shape(txn);
                let (pieces, oldest) = txn::pieces(txn, branch, newest, changed);
                (Some(shape), pieces, oldest)
            }
            (
                Running::Delete(Deleting { deleted, .. }),
                Command::Kv(KvCommand::DeleteRange(delete)),
            ) => {
                if deleted == 0 || !delete.prev_kv || !self.is_wanted {
                    let prevs = Vec::new();
                    return Ok(Verdict::Answer(Ok(Response::DeleteRange {
                        deleted,
                        prevs,
                    })));
                }
                let at = Revision(newest.0 - 1);
                let keys = delete.keys.clone();
                let prevs = RangeReading::all(VecDeque::from([Part { keys, at }]));
                (
                    None,
                    VecDeque::from([Piece::Removed { deleted, prevs }]),
                    at,
                )
            }
            (
                Running::Txn(_)
                | Running::Delete(_)
                | Running::Revoke { .. }
                | Running::Expire { .. },
                _,
            ) => return Ok(Verdict::Answer(Ok(Response::Done))),
        };
        if pieces.iter().all(|piece| matches!(piece, Piece::Ready(_))) {
            return Ok(Verdict::Answer(Ok(Piece::answer(shape, pieces))));
        }
        let pin = self.pins.hold(oldest);
        let reading = Reading::of_ops(newest, shape, pieces, pin);
        Ok(Verdict::Read(reading))
    }

    /// Ends leases whose time is over, each in a revision of its own, until the turn is over; whether all have ended.
    fn expire_some(
        &mut self,
        ids: &[LeaseId],
        place: &mut usize,
        from: &mut Bytes,
    ) -> Result<bool, Fault> {
        while let Some(id) = ids.get(*place) {
            if self.is_spent() {
                return Ok(false);
            }
            self.spend(1, 0);
            if self.leases.contains_key(id) {
                if !self.end_some(*id, from)? {
                    return Ok(false);
                }
                self.seal();
            }
            *place += 1;
            *from = Bytes::new();
        }
        Ok(true)
    }

    /// Ends the revision in the making, if anything changed in it.
    pub(super) fn seal(&mut self) {
        if self.making.sub > 0 {
            self.ledger.revision = self.ledger.revision.next();
            self.making.sub = 0;
            self.making.events_bytes = 0;
            self.making.before = None;
            self.superseded.store(&mut self.rows);
            match self.making.touched.take() {
                None => self.events.append(&mut self.making.events),
                Some((first, last)) => {
                    self.large = Some(Large {
                        revision: self.ledger.revision,
                        keys: Keys::Range {
                            start: first,
                            end: Some(Bytes::from([last.as_ref(), &[0]].concat())),
                        },
                    });
                    // The following changes are told after it.
                    self.changes_left = 0;
                }
            }
        }
    }

    /// Notes a change that was made.
    pub(super) fn changed(&mut self, event: Event) {
        self.ledger.hash_ahead.change(&event);
        let making = &mut *self.making;
        if let Some((first, last)) = &mut making.touched {
            let key = event.kv.key;
            if key < *first {
                *first = key;
            } else if key > *last {
                *last = key;
            }
            return;
        }
        let prev_bytes = event.prev.as_ref().map_or(0, |prev| prev.value.len());
        making.events_bytes += EVENT_BYTES + event.kv.key.len() + event.kv.value.len() + prev_bytes;
        making.events.push(event);
        if making.events_bytes > EVENTS_BYTES_MAX {
            let events = std::mem::take(&mut making.events);
            let keys = events.iter().map(|event| &event.kv.key);
            making.touched = keys.clone().min().cloned().zip(keys.max().cloned());
        }
    }

    /// Where the next change stands.
    pub(super) fn stamp(&mut self) -> Stamp {
        if self.making.sub == 0 {
            self.making.before = Some(*self.ledger);
        }
        let stamp = Stamp {
            main: self.ledger.revision.next(),
            sub: self.making.sub,
        };
        self.making.sub += 1;
        stamp
    }

    /// The newest revision, the one in the making included.
    pub(super) fn newest(&self) -> Revision {
        match self.making.sub {
            0 => self.ledger.revision,
            _ => self.ledger.revision.next(),
        }
    }

    pub(super) fn moment(&self) -> Moment<'_> {
        Moment {
            rows: &self.rows,
            mvcc: self.mvcc,
            top: Stamp {
                main: self.ledger.revision.next(),
                sub: self.making.sub,
            },
        }
    }

    /// Notes what was done of the turn.
    pub(super) fn spend(&mut self, changes: usize, bytes: usize) {
        self.changes_left = self.changes_left.saturating_sub(changes);
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
    }

    /// Whether the turn is over.
    pub(super) fn is_spent(&self) -> bool {
        self.changes_left == 0 || self.bytes_left == 0
    }

    /// Whether a small answer may be made at once.
    pub(super) fn may_answer_now(&self) -> bool {
        self.is_wanted && self.answer_bytes < ANSWERS_BYTES
    }

    fn compact(&mut self, revision: Revision) -> Result<Response, No> {
        if let Some(oldest) = self.ledger.floor
            && revision <= oldest
        {
            return Err(KvRefusal::Compacted { oldest }.into());
        }
        if revision > self.ledger.revision {
            let current = self.ledger.revision;
            return Err(KvRefusal::FutureRevision { current }.into());
        }
        self.ledger.floor = Some(revision);
        self.compacted = Some(revision);
        let freed = self.superseded.empty(revision, &mut self.rows);
        self.ledger.logical_bytes = self.ledger.logical_bytes.saturating_sub(freed);
        self.rows.sweep_below(self.pins.floor(revision).0)?;
        Ok(Response::Done)
    }
}
