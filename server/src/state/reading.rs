//! A question on its way: answered slice by slice, at one revision, so that no turn of the runtime is long.
//!
//! A [`Reading`] begins at a revision and stays there, whatever is written between two slices; while it lives, nothing that
//! it needs is swept, so compaction cannot overtake it. The reads of a writing transaction, and the pairs that deletes
//! answer, are readings as well: made when the command is applied, on the member that answers, and read afterwards.
//!
//! Invariants: a slice looks at about [`SLICE`] rows and bytes; a reading never shows half of a revision; what it holds
//! in memory is what it has found, which [`Reading::bytes`] tells.

mod range;

use std::collections::VecDeque;
use std::ops::Bound;

use bytes::Bytes;

use super::ahead::Naming;
use super::auth::Permit;
use super::snapshot::Pin;
use super::txn::{Along, Shape};
use super::{No, State, lease, view};
use crate::command::{
    Access, Fault, KeyValue, Keys, KvRefusal, Lease, LeaseId, LeaseTimeToLive, Op, OpResponse,
    Outcome, Principal, Query, Range, RangeResponse, Refusal, Response, Revision, Stamp, Txn,
};
use crate::disk::Rows;
use crate::mvcc::{Budget, Mvcc};
pub(super) use range::{Part, RangeReading};

/// The budget of one slice: about a millisecond. Tests must come to the end of one.
const SLICE: Budget = Budget {
    rows: if cfg!(test) { 3 } else { 512 },
    bytes: 512 << 10,
};

/// Slices of a reading that is not a long one yet: about ten milliseconds.
const LONG: u32 = 16;

/// An answer, or what is still to be done for it.
#[derive(Debug)]
pub enum Answer {
    /// It is known.
    Done(Outcome),
    /// Give others a turn, then go on with [`State::go_on`].
    More(Box<Reading>),
}

/// A question that is being answered.
#[derive(Debug)]
pub struct Reading {
    /// The revision that the answer's header says.
    revision: Revision,
    task: Task,
    /// Found in pieces that are answered.
    bytes: usize,
    /// Slices that were read.
    slices: u32,
    pin: Pin,
}

#[derive(Debug)]
enum Task {
    /// Operations, one after the other.
    Ops {
        /// How the answers of a transaction stand in each other; `None` if the operation stands for itself.
        shape: Option<Shape>,
        left: VecDeque<Piece>,
        answered: Vec<OpResponse>,
    },
    /// The keys of a lease. They have no history: one that is attached or removed meanwhile may be listed or not.
    LeaseKeys {
        lease: Lease,
        from: Bytes,
        keys: Vec<Bytes>,
    },
    Leases {
        after: Option<LeaseId>,
        ids: Vec<LeaseId>,
        /// The principal that must be permitted to read the keys of each.
        principal: Principal,
    },
}

/// One operation.
#[derive(Debug)]
pub(super) enum Piece {
    /// Answered when it was applied.
    Ready(OpResponse),
    /// A range.
    Range(RangeReading),
    /// The pair that a put replaced.
    Replaced(RangeReading),
    /// The pairs that a delete removed.
    Removed { deleted: u64, prevs: RangeReading },
}

/// The key space in the hands of one slice.
pub(super) struct Moment<'a> {
    pub(super) rows: &'a Rows<'a>,
    pub(super) mvcc: &'a Mvcc,
    /// Where the next change will stand. A revision below has ended.
    pub(super) top: Stamp,
}

impl Moment<'_> {
    /// Whether nothing changed after `revision`.
    pub(super) fn is_newest(&self, revision: Revision) -> bool {
        self.top.main <= revision || (self.top.main == revision.next() && self.top.sub == 0)
    }
}

impl Reading {
    /// The revision that the answer's header says.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Of operations that were applied or asked for, at their revisions; the answer's header says `revision`.
    pub(super) fn of_ops(
        revision: Revision,
        shape: Option<Shape>,
        pieces: VecDeque<Piece>,
        pin: Pin,
    ) -> Self {
        Self {
            revision,
            task: Task::Ops {
                shape,
                answered: Vec::with_capacity(pieces.len()),
                left: pieces,
            },
            bytes: 0,
            slices: 0,
            pin,
        }
    }

    /// Whether it has taken more turns than a list of some thousand keys does.
    pub fn is_long(&self) -> bool {
        self.slices >= LONG
    }

    /// Names what its next slice reads.
    pub(super) fn names(&self, naming: &mut Naming<'_>) {
        match &self.task {
            Task::Ops { left, .. } => match left.front() {
                Some(
                    Piece::Range(reading)
                    | Piece::Replaced(reading)
                    | Piece::Removed { prevs: reading, .. },
                ) => reading.names(naming),
                Some(Piece::Ready(_)) | None => {}
            },
            Task::LeaseKeys { lease, from, .. } => naming.attached(lease.id, from),
            Task::Leases { .. } => {}
        }
    }

    /// About what it holds in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
            + match &self.task {
                Task::Ops { left, .. } => left.front().map_or(0, Piece::bytes),
                Task::LeaseKeys { keys, .. } => keys.len() * size_of::<Bytes>(),
                Task::Leases { ids, .. } => ids.len() * size_of::<LeaseId>(),
            }
    }
}

impl State {
    /// Answers `query` from what is applied, or begins to. Reads disk when the rows are not in memory.
    ///
    /// `principal` is who asks; that it may is decided here, on the state that answers.
    pub fn ask(&self, principal: &Principal, query: &Query) -> Result<Answer, Fault> {
        Ok(match No::apart(self.begin(principal, query))? {
            Ok(answer) => answer,
            Err(refusal) => Answer::Done(Outcome {
                revision: self.ledger.revision,
                result: Err(refusal),
            }),
        })
    }

    fn begin(&self, principal: &Principal, query: &Query) -> Result<Answer, No> {
        let revision = self.ledger.revision;
        let rows = self.disk.rows();
        let moment = self.moment(&rows);
        Permit::new(&self.auth, &rows, principal).query(query)?;
        let check =
            |range: &Range| view::check_revision(range.revision, revision, self.ledger.floor);
        let task = match query {
            Query::Range(range) => {
                check(range)?;
                let mut reading = RangeReading::at(range, revision);
                // Most questions: one key, or a few.
                if reading.step(&moment, &mut SLICE.clone())? {
                    let result = Ok(Response::Range(reading.finish(self.mvcc())));
                    return Ok(Answer::Done(Outcome { revision, result }));
                }
                Task::Ops {
                    shape: None,
                    left: VecDeque::from([Piece::Range(reading)]),
                    answered: Vec::new(),
                }
            }
            Query::Txn(txn) => {
                let path = self.path(&moment, txn)?;
                let ops = Along::of(txn, &path);
                let mut left = VecDeque::with_capacity(ops.len());
                for op in ops.iter() {
                    let Op::Range(range) = op else {
                        let why = "a transaction that writes was asked as a question";
                        return Err(Fault::Store(why.to_owned()).into());
                    };
                    check(range)?;
                    left.push_back(Piece::Range(RangeReading::at(range, revision)));
                }
                Task::Ops {
                    shape: Some(Shape::of(txn, &path)),
                    answered: Vec::with_capacity(left.len()),
                    left,
                }
            }
            Query::Lease { id, keys } => match self.leases.get(id) {
                Some(lease) if *keys => Task::LeaseKeys {
                    lease: *lease,
                    from: Bytes::new(),
                    keys: Vec::new(),
                },
                lease => {
                    let known = lease.map(|lease| LeaseTimeToLive {
                        lease: *lease,
                        keys: Vec::new(),
                    });
                    let result = Ok(Response::Lease(known));
                    return Ok(Answer::Done(Outcome { revision, result }));
                }
            },
            Query::Leases => Task::Leases {
                after: None,
                ids: Vec::new(),
                principal: principal.clone(),
            },
            Query::Auth(query) => {
                let result = self.auth.answer(query);
                let result = result.map(Response::Auth).map_err(Refusal::from);
                return Ok(Answer::Done(Outcome { revision, result }));
            }
            Query::Alarms => {
                let result = Ok(Response::Alarms(self.alarms()));
                return Ok(Answer::Done(Outcome { revision, result }));
            }
        };
        let reading = Box::new(Reading {
            revision,
            task,
            bytes: 0,
            slices: 0,
            pin: self.pins.hold(query_floor(query, revision)),
        });
        Ok(self.slice(&rows, reading)?)
    }

    /// Goes on with a reading.
    pub fn go_on(&self, mut reading: Box<Reading>) -> Result<Answer, Fault> {
        if !reading.pin.is_of(&self.pins) {
            // Another state took this one's place: a snapshot was installed.
            let revision = reading.revision;
            let oldest = self.ledger.floor.unwrap_or_default();
            if reading.pin.floor() < oldest || self.ledger.revision < revision {
                let result = Err(Refusal::Kv(KvRefusal::Compacted { oldest }));
                return Ok(Answer::Done(Outcome { revision, result }));
            }
            reading.pin = self.pins.hold(reading.pin.floor());
        }
        self.slice(&self.disk.rows(), reading)
    }

    /// Answers at once, whatever it takes: for tests, and for answers that are known to be small.
    ///
    /// Faults: as [`ask`](Self::ask).
    pub fn finish(&self, mut answer: Answer) -> Result<Outcome, Fault> {
        loop {
            match answer {
                Answer::Done(outcome) => return Ok(outcome),
                Answer::More(reading) => answer = self.go_on(reading)?,
            }
        }
    }

    /// As [`ask`](Self::ask) and [`finish`](Self::finish), for the cluster itself.
    pub fn answer(&self, query: &Query) -> Result<Outcome, Fault> {
        self.finish(self.ask(&Principal::System, query)?)
    }

    pub(super) fn moment<'a>(&'a self, rows: &'a Rows<'a>) -> Moment<'a> {
        Moment {
            rows,
            mvcc: &self.mvcc,
            top: self.top(),
        }
    }

    /// Where the next change will stand.
    pub(super) fn top(&self) -> Stamp {
        Stamp {
            main: self.ledger.revision.next(),
            sub: self.making.sub(),
        }
    }

    fn mvcc(&self) -> &Mvcc {
        &self.mvcc
    }

    /// How a transaction that only reads goes. One that compares ranges is never asked.
    fn path(&self, moment: &Moment<'_>, txn: &Txn) -> Result<Vec<bool>, Fault> {
        let now = self.ledger.revision;
        let mut path = Vec::new();
        super::txn::find_path(txn, &mut path, &mut |compare| {
            let Keys::One(key) = &compare.keys else {
                return Err(Fault::Store(
                    "a transaction that compares ranges was asked as a question".to_owned(),
                ));
            };
            let found = match moment.is_newest(now) {
                true => self.mvcc.get(moment.rows, key),
                false => self.mvcc.get_at(moment.rows, key, now),
            };
            Ok(Some(super::txn::holds(compare, found?.as_ref())))
        })?;
        Ok(path)
    }

    fn slice(&self, rows: &Rows<'_>, mut reading: Box<Reading>) -> Result<Answer, Fault> {
        let moment = self.moment(rows);
        let mut budget = SLICE;
        let Reading {
            revision,
            task,
            bytes,
            slices,
            pin: _,
        } = &mut *reading;
        *slices = slices.saturating_add(1);
        let response = match task {
            Task::Ops {
                shape,
                left,
                answered,
            } => loop {
                if budget.is_spent() && !left.is_empty() {
                    break None;
                }
                let Some(piece) = left.front_mut() else {
                    break Some(whole(shape.take(), std::mem::take(answered)));
                };
                if !piece.step(&moment, &mut budget)? {
                    break None;
                }
                let piece = left.pop_front().expect("it is at the front");
                *bytes += piece.bytes();
                answered.push(piece.finish(&self.mvcc));
            },
            Task::LeaseKeys { lease, from, keys } => {
                let next = lease::attached_keys(rows, lease.id, from, SLICE.rows, keys)?;
                match next {
                    Some(next) => {
                        *from = next;
                        None
                    }
                    None => Some(Response::Lease(Some(LeaseTimeToLive {
                        lease: *lease,
                        keys: std::mem::take(keys),
                    }))),
                }
            }
            Task::Leases {
                after,
                ids,
                principal,
            } => {
                let permit = Permit::new(&self.auth, rows, principal);
                let from = after.map_or(Bound::Unbounded, Bound::Excluded);
                let next = self.leases.range((from, Bound::Unbounded));
                let before = ids.len();
                // An id costs less than a row, unless its keys are looked for.
                let count = match permit.admin() {
                    Ok(()) => 8 * SLICE.rows,
                    Err(_) => SLICE.rows,
                };
                ids.extend(next.map(|(id, _)| *id).take(count));
                for id in &ids[before..] {
                    let may = No::apart(permit.attached(Access::Read, *id))?;
                    if let Err(refusal) = may {
                        let (revision, result) = (*revision, Err(refusal));
                        return Ok(Answer::Done(Outcome { revision, result }));
                    }
                }
                *after = ids.last().copied();
                let is_last = ids.len() - before < count;
                is_last.then(|| Response::Leases(std::mem::take(ids)))
            }
        };
        Ok(match response {
            Some(response) => Answer::Done(Outcome {
                revision: *revision,
                result: Ok(response),
            }),
            None => Answer::More(reading),
        })
    }
}

impl Piece {
    fn step(&mut self, moment: &Moment<'_>, budget: &mut Budget) -> Result<bool, Fault> {
        match self {
            Self::Ready(_) => Ok(true),
            Self::Range(reading)
            | Self::Replaced(reading)
            | Self::Removed { prevs: reading, .. } => reading.step(moment, budget),
        }
    }

    /// The answer to operations that have answered all.
    pub(super) fn answer(shape: Option<Shape>, pieces: VecDeque<Self>) -> Response {
        let ready = pieces.into_iter().filter_map(|piece| match piece {
            Self::Ready(response) => Some(response),
            Self::Range(_) | Self::Replaced(_) | Self::Removed { .. } => None,
        });
        whole(shape, ready.collect())
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Ready(response) => response_bytes(response),
            Self::Range(reading)
            | Self::Replaced(reading)
            | Self::Removed { prevs: reading, .. } => reading.bytes(),
        }
    }

    fn finish(self, mvcc: &Mvcc) -> OpResponse {
        match self {
            Self::Ready(response) => response,
            Self::Range(reading) => OpResponse::Range(reading.finish(mvcc)),
            Self::Replaced(reading) => OpResponse::Put {
                prev: reading.finish(mvcc).kvs.pop(),
            },
            Self::Removed { deleted, prevs } => OpResponse::DeleteRange {
                deleted,
                prevs: prevs.finish(mvcc).kvs,
            },
        }
    }
}

/// About what an operation's answer takes in memory.
fn response_bytes(response: &OpResponse) -> usize {
    match response {
        OpResponse::Range(RangeResponse { kvs, .. })
        | OpResponse::DeleteRange { prevs: kvs, .. } => kvs.iter().map(pair_bytes).sum(),
        OpResponse::Put { prev } => prev.as_ref().map_or(0, pair_bytes),
        OpResponse::Txn { responses, .. } => responses.iter().map(response_bytes).sum(),
    }
}

/// About what a pair takes in memory.
pub(super) fn pair_bytes(kv: &KeyValue) -> usize {
    size_of::<KeyValue>() + kv.key.len() + kv.value.len()
}

/// The oldest revision that a question needs.
fn query_floor(query: &Query, newest: Revision) -> Revision {
    match query {
        Query::Range(range) => range.revision.unwrap_or(newest),
        Query::Txn(txn) => txn_floor(txn, newest),
        Query::Lease { .. } | Query::Leases | Query::Alarms | Query::Auth(_) => newest,
    }
}

fn txn_floor(txn: &Txn, newest: Revision) -> Revision {
    let ops = txn.success.iter().chain(&txn.failure);
    let floors = ops.map(|op| match op {
        Op::Range(range) => range.revision.unwrap_or(newest),
        Op::Txn(inner) => txn_floor(inner, newest),
        Op::Put(_) | Op::DeleteRange(_) => newest,
    });
    floors.fold(newest, Revision::min)
}

fn whole(shape: Option<Shape>, answered: Vec<OpResponse>) -> Response {
    let mut answered = answered.into_iter();
    if let Some(shape) = shape {
        let (succeeded, responses) = shape.answer(&mut answered);
        return Response::Txn {
            succeeded,
            responses,
        };
    }
    match answered.next() {
        Some(OpResponse::Range(found)) => Response::Range(found),
        Some(OpResponse::Put { prev }) => Response::Put { prev },
        Some(OpResponse::DeleteRange { deleted, prevs }) => {
            Response::DeleteRange { deleted, prevs }
        }
        Some(OpResponse::Txn {
            succeeded,
            responses,
        }) => Response::Txn {
            succeeded,
            responses,
        },
        None => Response::Done,
    }
}
