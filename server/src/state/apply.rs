//! One log entry, applied: the envelope's proposals in order, each with its own outcome.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::ledger::{self, Ledger, Trash};
use super::running_hash::RunningHash;
use super::view::View;
use super::{State, level, snapshot};
use crate::command::{
    Applied, Command, Envelope, Event, Fault, Lease, LeaseChange, LeaseId, LogPosition, MemberId,
    MemberRecord, Outcome, Proposal, Proposer, Refusal, Response, Revision, Stamp, codec,
};
use crate::disk::Rows;
use crate::mvcc::Mvcc;
use crate::planted::{self, Bug};

/// What a command came to, or that the state is broken.
pub(super) type Ruling = Result<Result<Response, Refusal>, Fault>;

/// The state in the hands of one entry.
pub(super) struct Law<'a> {
    pub(super) at: LogPosition,
    pub(super) rows: Rows<'a>,
    pub(super) mvcc: &'a Mvcc,
    pub(super) ledger: &'a mut Ledger,
    pub(super) trash: &'a mut Trash,
    pub(super) leases: &'a mut BTreeMap<LeaseId, Lease>,
    pub(super) members: &'a mut BTreeMap<MemberId, MemberRecord>,
    pub(super) pins: &'a snapshot::Pins,
    pub(super) events: Vec<Event>,
    pub(super) lease_changes: Vec<LeaseChange>,
    pub(super) compacted: Option<Revision>,
    pub(super) level: &'a mut u32,
    pub(super) level_max: u32,
    /// Changes made in the revision in the making.
    pub(super) sub: u32,
    /// Over all that was applied, with what of this entry is done.
    pub(super) hash: RunningHash,
}

impl State {
    /// Applies the entry at `at`, which must be the next one.
    ///
    /// After a fault the state must not be used: nothing more of it reaches the disk.
    /// Faults: [`Fault::UnknownEntry`] if it was written for a newer law; others if the store is broken.
    pub fn apply(&mut self, at: LogPosition, envelope: &Envelope) -> Result<Applied, Fault> {
        self.apply_encoded(at, &codec::encode_envelope(envelope), envelope)
    }

    /// As [`apply`](Self::apply), for those who have the envelope's bytes at hand.
    pub fn apply_encoded(
        &mut self,
        at: LogPosition,
        bytes: &[u8],
        envelope: &Envelope,
    ) -> Result<Applied, Fault> {
        let Envelope {
            feature_level,
            leader_time,
            proposals,
        } = envelope;
        if *feature_level > self.level_max {
            return Err(Fault::UnknownEntry {
                index: at.index,
                why: level::beyond(*feature_level, self.level_max),
            });
        }
        let mut outcomes = Vec::with_capacity(proposals.len());
        let mut applied = self.entry(at, bytes, |law| {
            law.ledger.leader_time = law.ledger.leader_time.max(*leader_time);
            for proposal in proposals {
                let Proposal {
                    origin,
                    run,
                    sequence,
                    command,
                } = proposal;
                let result = law.decide(*origin, command)?;
                let revision = law.ledger.revision;
                let proposer = Proposer {
                    origin: *origin,
                    run: *run,
                    sequence: *sequence,
                };
                outcomes.push((proposer, Outcome { revision, result }));
            }
            Ok(())
        })?;
        applied.outcomes = outcomes;
        Ok(applied)
    }

    /// Applies an entry that changes who the members are; the bytes are the Raft room's own.
    pub fn apply_membership(&mut self, at: LogPosition, membership: Bytes) -> Result<(), Fault> {
        self.entry(at, &membership, |law| {
            ledger::store_membership(&mut law.rows, Some(at), &membership);
            Ok(())
        })?;
        self.membership = Some((Some(at), membership));
        Ok(())
    }

    /// Applies an entry without content.
    pub fn apply_blank(&mut self, at: LogPosition) -> Result<(), Fault> {
        self.entry(at, &[], |_| Ok(())).map(|_| ())
    }

    fn entry(
        &mut self,
        at: LogPosition,
        content: &[u8],
        apply: impl FnOnce(&mut Law<'_>) -> Result<(), Fault>,
    ) -> Result<Applied, Fault> {
        let expected = self.ledger.applied.map(|applied| applied.index + 1);
        if expected.is_some_and(|expected| at.index != expected) {
            return Err(Fault::Store(format!(
                "entry {} to apply after entry {:?}",
                at.index, self.ledger.applied
            )));
        }
        let mut hash = self.ledger.hash;
        hash.begin(at, content);
        let mut law = Law {
            at,
            rows: self.disk.rows(),
            mvcc: &self.mvcc,
            ledger: &mut self.ledger,
            trash: &mut self.trash,
            leases: &mut self.leases,
            members: &mut self.members,
            pins: &self.pins,
            events: Vec::new(),
            lease_changes: Vec::new(),
            compacted: None,
            level: &mut self.level,
            level_max: self.level_max,
            sub: 0,
            hash,
        };
        law.rows.check()?;
        if let Err(fault) = apply(&mut law) {
            // Half an entry is in the rows. It must never be on disk, least of all without its position.
            law.rows.give_up(&fault);
            return Err(fault);
        }
        if law.pins.take_released()
            && let Some(floor) = law.ledger.floor
        {
            law.rows.sweep_below(law.pins.floor(floor).0)?;
        }
        law.hash.end(law.ledger, *law.level);
        law.ledger.hash = law.hash;
        if planted::has(Bug::DuplicateApply) {
            law.ledger.store(&mut law.rows);
            law.ledger.applied = Some(at);
        } else {
            law.ledger.applied = Some(at);
            law.ledger.store(&mut law.rows);
        }
        Ok(Applied {
            revision: law.ledger.revision,
            outcomes: Vec::new(),
            events: law.events,
            leases: law.lease_changes,
            compacted: law.compacted,
        })
    }
}

impl Law<'_> {
    fn decide(&mut self, origin: MemberId, command: &Command) -> Ruling {
        let ruling = match command {
            Command::Put(put) => self.put_alone(put),
            Command::DeleteRange(delete) => self.delete_alone(delete),
            Command::Txn(txn) => self.txn(txn),
            Command::Compact { revision } => self.compact(*revision),
            Command::LeaseGrant { id, ttl_seconds } => Ok(self.grant(*id, *ttl_seconds)),
            Command::LeaseRevoke { id } => self.revoke(*id),
            // What a leader found out while it counted down is void once another one counts.
            Command::LeaseExpire { .. } | Command::LeaseCheckpoint { .. }
                if origin != self.at.leader =>
            {
                Ok(Ok(Response::Done))
            }
            Command::LeaseExpire { term, ids } => self.expire(*term, ids),
            Command::LeaseCheckpoint { remaining_seconds } => {
                Ok(self.checkpoint(remaining_seconds))
            }
            Command::MemberPublish(record) => Ok(self.publish(record)),
            Command::RaiseLevel { level } => self.raise(*level),
        };
        self.seal();
        ruling
    }

    /// Notes a change that was made.
    pub(super) fn changed(&mut self, event: Event) {
        self.hash.change(&event);
        self.events.push(event);
    }

    /// Ends the revision in the making, if anything changed in it.
    pub(super) fn seal(&mut self) {
        if self.sub > 0 {
            self.ledger.revision = self.ledger.revision.next();
            self.sub = 0;
            self.trash.store(&mut self.rows);
        }
    }

    /// Where the next change stands.
    pub(super) fn stamp(&mut self) -> Stamp {
        let stamp = Stamp {
            main: self.ledger.revision.next(),
            sub: self.sub,
        };
        self.sub += 1;
        stamp
    }

    pub(super) fn view(&self) -> View<'_> {
        let newest = self.ledger.revision;
        View {
            rows: &self.rows,
            mvcc: self.mvcc,
            newest: if self.sub > 0 { newest.next() } else { newest },
            floor: self.ledger.floor,
            is_settled: false,
        }
    }

    fn compact(&mut self, revision: Revision) -> Ruling {
        if let Some(oldest) = self.ledger.floor
            && revision <= oldest
        {
            return Ok(Err(Refusal::Compacted { oldest }));
        }
        if revision > self.ledger.revision {
            return Ok(Err(Refusal::FutureRevision {
                current: self.ledger.revision,
            }));
        }
        self.ledger.floor = Some(revision);
        self.compacted = Some(revision);
        let freed = self.trash.empty(revision, &mut self.rows);
        self.ledger.logical_bytes = self.ledger.logical_bytes.saturating_sub(freed);
        self.rows.sweep_below(self.pins.floor(revision).0)?;
        Ok(Ok(Response::Done))
    }
}
