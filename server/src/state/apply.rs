//! One log entry, applied: the envelope's proposals in order, each with its own outcome.
//!
//! An entry is applied in turns of bounded work ([`State::apply_some`]): between two of them readers, heartbeats and the disk
//! have theirs. A command that changes many keys may take many turns for its one revision; until it ends nobody is shown
//! any of it, and a crash undoes it (`unfinished.rs`).
//!
//! Invariants. The result of applying never depends on who waits, on how turns fall, or on what is in memory. The
//! memory that an entry takes is bounded by its turn, whatever it changes: rows wait for the disk between turns, events
//! of a large revision are left to history, and what is read for an answer is read afterwards (`reading.rs`).

use bytes::Bytes;

use super::law::{Law, Verdict};
use super::ledger;
use super::reading::Answer;
use super::running_hash::RunningHash;
use super::{State, level};
use crate::command::{
    Envelope, Event, Fault, Keys, LeaseChange, LogPosition, Outcome, ProposalId, Revision,
    TokenChange, codec,
};
use crate::failpoints::{self, Bug};

/// Changes in one turn of the runtime: about a millisecond. Tests must come to the end of one.
const TURN_CHANGES: usize = if cfg!(test) { 3 } else { 256 };
/// And bytes that they read and write.
const TURN_BYTES: usize = 512 << 10;
/// The work that one turn may still do, and the member for which outcomes are made.
pub struct Turn<'a> {
    changes: usize,
    bytes: usize,
    is_wanted: &'a dyn Fn(&ProposalId) -> bool,
}

impl<'a> Turn<'a> {
    /// A turn like any other. Outcomes are made of those proposals that `is_wanted` says somebody waits for here; it makes
    /// no difference to what is applied.
    pub fn new(is_wanted: &'a dyn Fn(&ProposalId) -> bool) -> Self {
        Self {
            changes: TURN_CHANGES,
            bytes: TURN_BYTES,
            is_wanted,
        }
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.changes == 0 || self.bytes == 0
    }
}

/// The part of an entry that one turn has applied.
#[derive(Debug, Default)]
pub struct Applied {
    /// Store revision now.
    pub revision: Revision,
    /// Of proposals that are through and that somebody waits for, in order.
    pub outcomes: Vec<(ProposalId, Answer)>,
    /// Changes in `(mod_revision, sub)` order; all changes of one revision are together.
    pub events: Vec<Event>,
    /// A revision after those of `events` that is too large for its events to be kept: they are read from history.
    pub large: Option<Large>,
    /// Changes to leases, for the countdown.
    pub leases: Vec<LeaseChange>,
    /// Changes to the tokens that members hold in memory.
    pub tokens: Vec<TokenChange>,
    /// The new compaction floor, if it rose.
    pub compacted: Option<Revision>,
    /// Whether the entry is through. If not, apply it again to go on.
    pub is_whole: bool,
}

/// A revision whose events nobody holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Large {
    /// The revision.
    pub revision: Revision,
    /// All its changes are of keys in here.
    pub keys: Keys,
}

impl State {
    /// Applies the whole entry at `at`, which must be the next one, as if somebody waited here for every outcome.
    ///
    /// Faults: as [`apply_some`](Self::apply_some).
    pub fn apply(&mut self, at: LogPosition, envelope: &Envelope) -> Result<Applied, Fault> {
        let mut all = Applied::default();
        loop {
            let mut turn = Turn::new(&|_| true);
            let some = self.apply_some(at, envelope, &mut turn)?;
            all.revision = some.revision;
            all.outcomes.extend(some.outcomes);
            all.events.extend(some.events);
            all.large = some.large.or(all.large);
            all.leases.extend(some.leases);
            all.tokens.extend(some.tokens);
            all.compacted = some.compacted.or(all.compacted);
            if some.is_whole {
                all.is_whole = true;
                return Ok(all);
            }
        }
    }

    /// Applies the entry at `at`, which must be the next one, or goes on with it, until the turn is over.
    ///
    /// Between two turns readers see what has ended, and nothing of a revision in the making. The same entry must be
    /// given again until it is whole. After a fault the state must not be used: nothing more of it reaches the disk.
    /// Faults: [`Fault::UnknownEntry`] if it was written for a newer law; others if the store is broken.
    pub fn apply_some(
        &mut self,
        at: LogPosition,
        envelope: &Envelope,
        turn: &mut Turn<'_>,
    ) -> Result<Applied, Fault> {
        self.apply_encoded(at, &codec::encode_envelope(envelope), envelope, turn)
    }

    /// As [`apply_some`](Self::apply_some), for those who have the envelope's bytes at hand.
    pub fn apply_encoded(
        &mut self,
        at: LogPosition,
        bytes: &[u8],
        envelope: &Envelope,
        turn: &mut Turn<'_>,
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
        let mut outcomes = Vec::new();
        let is_wanted = turn.is_wanted;
        let mut applied = self.entry(at, bytes, turn, |law| {
            law.ledger.leader_time = law.ledger.leader_time.max(*leader_time);
            loop {
                let done = usize::try_from(law.ledger.ahead - 1).unwrap_or(usize::MAX);
                let Some(proposal) = proposals.get(done) else {
                    return Ok(true);
                };
                if law.is_spent() {
                    return Ok(false);
                }
                let id = proposal.id();
                law.is_wanted = is_wanted(&id);
                let answer = match law.decide(proposal)? {
                    Verdict::NotYet(running) => {
                        law.making.running = Some(running);
                        return Ok(false);
                    }
                    Verdict::Answer(result) => Answer::Done(Outcome {
                        revision: law.ledger.revision,
                        result,
                    }),
                    Verdict::Read(reading) => Answer::More(Box::new(reading)),
                };
                law.ledger.ahead += 1;
                if law.is_wanted {
                    outcomes.push((id, answer));
                }
            }
        })?;
        applied.outcomes = outcomes;
        Ok(applied)
    }

    /// Applies an entry that changes who the members are; the bytes are the Raft room's own.
    pub fn apply_membership(&mut self, at: LogPosition, membership: Bytes) -> Result<(), Fault> {
        self.entry(at, &membership, &mut Turn::new(&|_| false), |law| {
            ledger::store_membership(&mut law.rows, Some(at), &membership);
            Ok(true)
        })?;
        self.membership = Some((Some(at), membership));
        Ok(())
    }

    /// Applies an entry without content.
    pub fn apply_blank(&mut self, at: LogPosition) -> Result<(), Fault> {
        let mut turn = Turn::new(&|_| false);
        self.entry(at, &[], &mut turn, |_| Ok(true)).map(|_| ())
    }

    fn entry(
        &mut self,
        at: LogPosition,
        content: &[u8],
        turn: &mut Turn<'_>,
        apply: impl FnOnce(&mut Law<'_>) -> Result<bool, Fault>,
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
        if self.ledger.ahead == 0 {
            self.ledger.ahead = 1;
            self.ledger.hash_ahead = self.ledger.hash;
            self.ledger.hash_ahead.begin(at, content);
        }
        let mut law = Law {
            at,
            rows: self.disk.rows(),
            mvcc: &self.mvcc,
            ledger: &mut self.ledger,
            superseded: &mut self.superseded,
            leases: &mut self.leases,
            members: &mut self.members,
            alarms: &mut self.alarms,
            pins: &self.pins,
            events: Vec::new(),
            auth: &mut self.auth,
            lease_changes: Vec::new(),
            token_changes: Vec::new(),
            compacted: None,
            level: &mut self.level,
            level_max: self.level_max,
            is_wanted: false,
            answer_bytes: 0,
            making: &mut self.making,
            large: None,
            changes_left: turn.changes,
            bytes_left: turn.bytes,
        };
        law.rows.check()?;
        let is_whole = match apply(&mut law) {
            Ok(is_whole) => is_whole,
            Err(fault) => {
                // Half a change is in the rows. It must never be on disk, least of all without its position.
                law.rows.give_up(&fault);
                return Err(fault);
            }
        };
        turn.changes = law.changes_left;
        turn.bytes = law.bytes_left;
        if law.pins.take_released()
            && let Some(floor) = law.ledger.floor
        {
            law.rows.sweep_below(law.pins.floor(floor).0)?;
        }
        if is_whole {
            let mut hash = law.ledger.hash_ahead;
            hash.end(law.ledger.hashed(), *law.level);
            law.ledger.hash = hash;
            law.ledger.hash_ahead = RunningHash::default();
            law.ledger.ahead = 0;
            if failpoints::has(Bug::DuplicateApply) {
                law.ledger.store(&mut law.rows);
                law.ledger.applied = Some(at);
            } else {
                law.ledger.applied = Some(at);
                law.ledger.store(&mut law.rows);
            }
        } else {
            // The rows written until here may reach the disk before the rest. At the next open the revision in the
            // making is undone, and the entry goes on after the proposals that were through.
            let stored = match law.making.sub {
                0 => Some(*law.ledger),
                _ => law.making.before,
            };
            if let Some(stored) = stored {
                stored.store(&mut law.rows);
            }
        }
        Ok(Applied {
            revision: law.ledger.revision,
            outcomes: Vec::new(),
            events: law.events,
            large: law.large,
            leases: law.lease_changes,
            tokens: law.token_changes,
            compacted: law.compacted,
            is_whole,
        })
    }
}
