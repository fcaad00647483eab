//! The messages of members' countdowns to each other, and their bytes at both ends.
//!
//! Raft carries them beside its own messages (`raft::sideband`) and does not look inside. Each begins with the format of
//! the cluster's level ([`Format::Countdown`]) and a tag, and is canonical: bytes that are not known exactly are refused.
//! Times are milliseconds, on the leader's clock where it is a moment. The golden tests pin every message;
//! `docs/formats.md` describes them.

use std::time::Duration;

use bytes::Bytes;

use super::counted::Counted;
use crate::command::codec::wire::{Reader, Writer};
use crate::command::codec::{CodecError, read_list, unknown, write_list};
use crate::command::format::Format;
use crate::command::{LeaderKey, LeaseId, MemberId};
use crate::raft::sideband::Kind;

/// This room's bytes among those that Raft carries.
pub(super) const KIND: Kind = Kind(1);

/// Entries in one page of a copy: a quarter of a megabyte.
const PAGE: usize = 16 * 1024;

mod tag {
    pub(super) const DELTA: u8 = 1;
    pub(super) const ACK: u8 = 2;
    pub(super) const RENEW: u8 = 3;
    pub(super) const REMAINING: u8 = 4;
    pub(super) const TIMES: u8 = 5;
    pub(super) const COLLECT: u8 = 6;
    pub(super) const COPY: u8 = 7;
}

/// A reading of a leader's clock, in milliseconds since it began to lead. Means nothing without that leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LeaderMillis(pub(super) i64);

impl LeaderMillis {
    /// This much later.
    pub(super) fn after(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(millis))
    }
}

/// A member's question to the leader. Answered with one time for each, in their order: `None` for what is unknown or
/// over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Renew them. Answers the granted times.
    Renew(Vec<Counted>),
    /// Answers the times left.
    Remaining(Vec<Counted>),
}

/// The leader's word about its countdown on a heartbeat, so that the next leader goes on where it stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Delta {
    /// The leader's clock when it said this.
    pub(super) now: LeaderMillis,
    /// The log index up to which the countdown knows grants and ends.
    pub(super) through: u64,
    /// The number of the copy that this belongs to: a member that lost its place gets everything anew, under the next
    /// number.
    pub(super) copy: u64,
    /// The copy's first `whole` changes are the countdown as it stood then; with them it is complete.
    pub(super) whole: u64,
    /// Place of the first change in the copy.
    pub(super) from: u64,
    /// Changes in order: no later than when it ends, or `None` if it is gone.
    pub(super) changes: Vec<(Counted, Option<LeaderMillis>)>,
}

/// A member's answer to [`Delta`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ack {
    /// It holds the changes of this copy before `upto`.
    Taken {
        /// The number of the copy.
        copy: u64,
        /// Place after the last change it holds.
        upto: u64,
    },
    /// It lacks what came before: everything anew.
    Again,
    /// It does not follow this leader, or not yet.
    NotFollowing,
}

/// One complete copy of a leader's countdown, as a member holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// The leadership whose countdown it is.
    pub(super) leadership: LeaderKey,
    /// The reading of that leader's clock now, or a little less.
    pub(super) now: LeaderMillis,
    /// The log index up to which it knows grants and ends.
    pub(super) through: u64,
    /// When each ends, by that clock.
    pub(super) ends: Vec<(Counted, LeaderMillis)>,
}

/// A member's answer to a new leader that asks for its copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// It does not follow the asking leader, or not yet.
    NotFollowing,
    /// It has no complete copy: it has restarted, or is new.
    Nothing,
    /// Its copy.
    Table(Table),
}

/// Begins a message between members of a cluster at this level.
fn begin(level: u32, tag: u8, bytes: usize) -> Writer {
    let mut out = Writer::with_capacity(2 + bytes);
    out.u8(Format::Countdown.at(level));
    out.u8(tag);
    out
}

/// Reads the head of a message that must have one of these tags.
fn open(body: Bytes, tags: &[u8]) -> Result<(u8, Reader), CodecError> {
    let mut input = Reader::new(body);
    Format::Countdown.check(input.u8()?)?;
    let at = input.at();
    let tag = input.u8()?;
    match tags.contains(&tag) {
        true => Ok((tag, input)),
        false => Err(unknown("message", tag, at)),
    }
}

fn write_counted(out: &mut Writer, counted: Counted) {
    match counted {
        Counted::Lease(id) => {
            out.u8(1);
            out.i64(id.0);
        }
    }
}

fn read_counted(input: &mut Reader) -> Result<Counted, CodecError> {
    let at = input.at();
    match input.u8()? {
        1 => Ok(Counted::Lease(LeaseId(input.i64()?))),
        kind => Err(unknown("kind", kind, at)),
    }
}

pub(super) fn question(level: u32, question: &Question) -> Bytes {
    let (tag, of) = match question {
        Question::Renew(of) => (tag::RENEW, of),
        Question::Remaining(of) => (tag::REMAINING, of),
    };
    let mut out = begin(level, tag, 12 * of.len());
    write_list(&mut out, of, |counted, out| write_counted(out, *counted));
    out.finish()
}

pub(super) fn read_question(body: Bytes) -> Result<Question, CodecError> {
    let (tag, mut input) = open(body, &[tag::RENEW, tag::REMAINING])?;
    let of = read_list(&mut input, 2, read_counted)?;
    input.end()?;
    Ok(match tag {
        tag::RENEW => Question::Renew(of),
        _ => Question::Remaining(of),
    })
}

/// The answer to a question.
pub(super) fn times(level: u32, times: &[Option<Duration>]) -> Bytes {
    let mut out = begin(level, tag::TIMES, 6 * times.len());
    write_list(&mut out, times, |time, out| {
        out.bool(time.is_some());
        if let Some(time) = time {
            out.u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        }
    });
    out.finish()
}

pub(super) fn read_times(body: Bytes) -> Result<Vec<Option<Duration>>, CodecError> {
    let (_, mut input) = open(body, &[tag::TIMES])?;
    let times = read_list(&mut input, 1, |input| {
        Ok(match input.bool()? {
            false => None,
            true => Some(Duration::from_millis(input.u64()?)),
        })
    })?;
    input.end()?;
    Ok(times)
}

pub(super) fn delta(level: u32, delta: &Delta) -> Bytes {
    let Delta {
        now,
        through,
        copy,
        whole,
        from,
        changes,
    } = delta;
    let mut out = begin(level, tag::DELTA, 50 + 18 * changes.len());
    out.i64(now.0);
    for number in [through, copy, whole, from] {
        out.u64(*number);
    }
    write_list(&mut out, changes, |(counted, ends), out| {
        write_counted(out, *counted);
        out.bool(ends.is_some());
        if let Some(ends) = ends {
            out.i64(ends.0);
        }
    });
    out.finish()
}

pub(super) fn read_delta(body: Bytes) -> Result<Delta, CodecError> {
    let (_, mut input) = open(body, &[tag::DELTA])?;
    let delta = Delta {
        now: LeaderMillis(input.i64()?),
        through: input.u64()?,
        copy: input.u64()?,
        whole: input.u64()?,
        from: input.u64()?,
        changes: read_list(&mut input, 3, |input| {
            let counted = read_counted(input)?;
            let ends = match input.bool()? {
                false => None,
                true => Some(LeaderMillis(input.i64()?)),
            };
            Ok((counted, ends))
        })?,
    };
    input.end()?;
    Ok(delta)
}

pub(super) fn ack(level: u32, ack: Ack) -> Bytes {
    let mut out = begin(level, tag::ACK, 21);
    match ack {
        Ack::NotFollowing => out.u8(0),
        Ack::Taken { copy, upto } => {
            out.u8(1);
            out.u64(copy);
            out.u64(upto);
        }
        Ack::Again => out.u8(2),
    }
    out.finish()
}

pub(super) fn read_ack(body: Bytes) -> Result<Ack, CodecError> {
    let (_, mut input) = open(body, &[tag::ACK])?;
    let at = input.at();
    let ack = match input.u8()? {
        0 => Ack::NotFollowing,
        1 => Ack::Taken {
            copy: input.u64()?,
            upto: input.u64()?,
        },
        2 => Ack::Again,
        word => return Err(unknown("acknowledgement", word, at)),
    };
    input.end()?;
    Ok(ack)
}

/// A new leader's question to every voter.
pub(super) fn collect(level: u32) -> Bytes {
    begin(level, tag::COLLECT, 0).finish()
}

pub(super) fn read_collect(body: Bytes) -> Result<(), CodecError> {
    open(body, &[tag::COLLECT])?.1.end()
}

/// The pages of the answer to a new leader; at least one. All but the entries is alike on each.
pub(super) fn pages(level: u32, held: Held) -> impl Iterator<Item = Bytes> + Send + 'static {
    let (word, table) = match held {
        Held::NotFollowing => (0, None),
        Held::Nothing => (1, None),
        Held::Table(table) => (2, Some(table)),
    };
    let entries = table.as_ref().map_or(0, |table| table.ends.len());
    let count = entries.div_ceil(PAGE).max(1);
    (0..count).map(move |number| {
        let mut out = begin(level, tag::COPY, 64 + 16 * PAGE.min(entries));
        out.u8(word);
        if let Some(Table {
            leadership: (term, leader),
            now,
            through,
            ends,
        }) = &table
        {
            out.u64(*term);
            out.u64(leader.0);
            out.i64(now.0);
            out.u64(*through);
            let rows = &ends[number * PAGE..ends.len().min((number + 1) * PAGE)];
            write_list(&mut out, rows, |(counted, ends), out| {
                write_counted(out, *counted);
                out.i64(ends.0);
            });
        }
        out.finish()
    })
}

/// One page.
pub(super) fn read_page(body: Bytes) -> Result<Held, CodecError> {
    let (_, mut input) = open(body, &[tag::COPY])?;
    let at = input.at();
    let held = match input.u8()? {
        0 => Held::NotFollowing,
        1 => Held::Nothing,
        2 => Held::Table(Table {
            leadership: (input.u64()?, MemberId(input.u64()?)),
            now: LeaderMillis(input.i64()?),
            through: input.u64()?,
            ends: read_list(&mut input, 3, |input| {
                Ok((read_counted(input)?, LeaderMillis(input.i64()?)))
            })?,
        }),
        word => return Err(unknown("answer", word, at)),
    };
    input.end()?;
    Ok(held)
}

#[cfg(test)]
mod tests;
