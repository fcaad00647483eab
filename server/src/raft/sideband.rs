//! The side-band: bytes of another room that travel between members beside Raft's own messages, and outside of the log.
//!
//! They go three ways: on the leader's heartbeats to each member, with an answer ([`Outbox`]); as a question from any member
//! to the leader; as a question from a new leader to one member, answered in pages. This room says whose leadership they
//! belong to and how long they waited, and never looks inside: the room that owns the [`Kind`] encodes and decodes them at
//! both ends. It hands over values and is called back by nobody.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use super::leadership::Leadership;
use super::peer::LeaderLink;
use crate::clock::Moment;
use crate::command::{LeaderKey, MemberId, Unavailable};

/// The room that bytes belong to. The number is what members say: it is never used for another room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(pub u32);

/// An answer in pages, each made when the one before has left.
pub type Pages = Box<dyn Iterator<Item = Bytes> + Send>;

/// A message of the same room of another member to this one's, and the place where the answer goes.
pub enum Received {
    /// A member asks; only the leader knows.
    Question {
        /// The question.
        body: Bytes,
        /// For the answer.
        reply: oneshot::Sender<Result<Bytes, Unavailable>>,
    },
    /// The leader says something on a heartbeat.
    Heartbeat {
        /// The leadership whose heartbeat it is.
        leadership: LeaderKey,
        /// Its bytes.
        body: Bytes,
        /// How long that waited on the leader until it left.
        waited: Duration,
        /// For the answer. Dropped without one, the leader says it again.
        reply: oneshot::Sender<Bytes>,
    },
    /// A new leader asks this member.
    Collect {
        /// The leadership that asks.
        leadership: LeaderKey,
        /// The question.
        body: Bytes,
        /// For the answer.
        reply: oneshot::Sender<Pages>,
    },
}

/// Where what is said to this member goes: to the room that owns the kind.
#[derive(Clone)]
pub struct Inbox {
    kind: Kind,
    room: mpsc::Sender<Received>,
}

impl Inbox {
    /// Of the room that receives at the other end of `room`.
    pub fn new(kind: Kind, room: mpsc::Sender<Received>) -> Self {
        Self { kind, room }
    }

    fn of(&self, kind: Kind) -> Result<&mpsc::Sender<Received>, Unavailable> {
        // Of a kind that a later version may have.
        let known = (self.kind == kind).then_some(&self.room);
        known.ok_or(Unavailable::Timeout)
    }
}

/// A member's answer to what a new leader asked it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected {
    /// When the first page was here.
    pub received: Moment,
    /// All pages, in order.
    pub pages: Vec<Bytes>,
}

/// The bytes that a leader's heartbeats carry to each member, and the newest answer of each. Clones share it.
///
/// A letter is carried by every heartbeat until one of them is answered, or another letter takes its place. So what is said
/// must be safe to hear twice, and to miss.
#[derive(Clone, Default)]
pub struct Outbox(Arc<Mutex<Letters>>);

#[derive(Default)]
struct Letters {
    /// The leadership that they are of; nothing is carried while there is none.
    leadership: Option<(LeaderKey, Kind)>,
    number: u64,
    to: BTreeMap<MemberId, Letter>,
    answers: BTreeMap<MemberId, Bytes>,
}

struct Letter {
    number: u64,
    body: Bytes,
    since: Moment,
}

/// A letter as a heartbeat takes it along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    number: u64,
    /// The room that the bytes are of.
    pub kind: Kind,
    /// Its bytes.
    pub body: Bytes,
    /// How long it has waited.
    pub waited: Duration,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.0
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    /// From now on the heartbeats of this leadership carry letters of this kind. There are none yet.
    pub fn open(&self, leadership: LeaderKey, kind: Kind) {
        *self.lock() = Letters {
            leadership: Some((leadership, kind)),
            ..Letters::default()
        };
    }

    /// Nothing is carried any more.
    pub fn close(&self) {
        *self.lock() = Letters::default();
    }

    /// Says something to a member, instead of what it was not told yet.
    pub fn put(&self, member: MemberId, body: Bytes) {
        let mut letters = self.lock();
        letters.number += 1;
        let letter = Letter {
            number: letters.number,
            body,
            since: Moment::now(),
        };
        letters.to.insert(member, letter);
    }

    /// The newest answer of each member that has answered since the last call.
    pub fn answers(&self) -> BTreeMap<MemberId, Bytes> {
        std::mem::take(&mut self.lock().answers)
    }

    /// The bytes that a heartbeat of this leadership carries to a member.
    pub fn carried(&self, leadership: LeaderKey, member: MemberId) -> Option<Carried> {
        let letters = self.lock();
        let (of, kind) = letters.leadership?;
        let letter = letters.to.get(&member).filter(|_| of == leadership)?;
        Some(Carried {
            number: letter.number,
            kind,
            body: letter.body.clone(),
            waited: Moment::now().since(letter.since),
        })
    }

    /// The member has answered what such a heartbeat carried.
    pub fn answered(
        &self,
        leadership: LeaderKey,
        member: MemberId,
        carried: &Carried,
        answer: Bytes,
    ) {
        let mut letters = self.lock();
        if letters.leadership.is_none_or(|(of, _)| of != leadership) {
            return;
        }
        let newest = letters.to.get(&member).map(|letter| letter.number);
        if newest == Some(carried.number) {
            letters.to.remove(&member);
        }
        letters.answers.insert(member, answer);
    }
}

/// Brings questions to the members they are for. Clones share all.
#[derive(Clone)]
pub(super) struct Sideband {
    pub(super) inbox: Inbox,
    pub(super) link: LeaderLink,
    pub(super) leadership: watch::Receiver<Leadership>,
}

impl Sideband {
    /// Asks the leader, which may be this member.
    pub(super) async fn ask(&self, kind: Kind, body: Bytes) -> Result<Bytes, Unavailable> {
        let mut leadership = self.leadership.clone();
        let now = *leadership
            .wait_for(|now| now.leader.is_some())
            .await
            .map_err(|_| Unavailable::Stopped)?;
        match now.key() {
            Some(key) if !now.is_self => tokio::select! {
                answer = self.link.sideband(key, kind, body) => answer,
                // A leader that hangs must not hold up the question once there is another.
                _ = leadership.changed() => Err(Unavailable::LeaderChanged),
            },
            _ => self.ask_here(kind, body).await,
        }
    }

    /// Asks this member, which must be the leader.
    pub(super) async fn ask_here(&self, kind: Kind, body: Bytes) -> Result<Bytes, Unavailable> {
        if !self.leadership.borrow().is_self {
            return Err(Unavailable::LeaderChanged);
        }
        let (reply, answer) = oneshot::channel();
        let question = Received::Question { body, reply };
        let sent = self.inbox.of(kind)?.send(question).await;
        sent.map_err(|_| Unavailable::Stopped)?;
        answer.await.map_err(|_| Unavailable::Stopped)?
    }

    /// Hands over what a heartbeat carried. `None` if it cannot be taken now: a heartbeat must not wait, the next one
    /// carries it again.
    pub(super) async fn take(&self, leadership: LeaderKey, carried: Carried) -> Option<Bytes> {
        let Carried {
            number: _,
            kind,
            body,
            waited,
        } = carried;
        let (reply, answer) = oneshot::channel();
        let said = Received::Heartbeat {
            leadership,
            body,
            waited,
            reply,
        };
        self.inbox.of(kind).ok()?.try_send(said).ok()?;
        answer.await.ok()
    }

    /// This member's answer to a new leader.
    pub(super) async fn collect_here(
        &self,
        leadership: LeaderKey,
        kind: Kind,
        body: Bytes,
    ) -> Result<Pages, Unavailable> {
        let (reply, pages) = oneshot::channel();
        let asked = Received::Collect {
            leadership,
            body,
            reply,
        };
        let sent = self.inbox.of(kind)?.send(asked).await;
        sent.map_err(|_| Unavailable::Stopped)?;
        pages.await.map_err(|_| Unavailable::Stopped)
    }
}

impl Carried {
    /// A body that arrived on a heartbeat.
    pub(super) fn received(kind: Kind, body: Bytes, waited: Duration) -> Self {
        Self {
            number: 0,
            kind,
            body,
            waited,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind(1);
    const LEADERSHIP: LeaderKey = (3, MemberId(1));
    const MEMBER: MemberId = MemberId(2);

    fn outbox() -> Outbox {
        let outbox = Outbox::default();
        outbox.open(LEADERSHIP, KIND);
        outbox
    }

    #[tokio::test(start_paused = true)]
    async fn a_letter_is_carried_until_it_is_answered() {
        let outbox = outbox();
        assert_eq!(outbox.carried(LEADERSHIP, MEMBER), None);
        outbox.put(MEMBER, Bytes::from_static(b"a"));
        let lost = outbox.carried(LEADERSHIP, MEMBER).unwrap();
        tokio::time::sleep(Duration::from_millis(70)).await;
        let carried = outbox.carried(LEADERSHIP, MEMBER).unwrap();
        assert_eq!((&lost.body, lost.waited), (&carried.body, Duration::ZERO));
        assert_eq!(carried.waited, Duration::from_millis(70));
        outbox.answered(LEADERSHIP, MEMBER, &carried, Bytes::from_static(b"yes"));
        assert_eq!(outbox.carried(LEADERSHIP, MEMBER), None);
        let answers = outbox.answers();
        assert_eq!(
            answers,
            BTreeMap::from([(MEMBER, Bytes::from_static(b"yes"))])
        );
        assert!(outbox.answers().is_empty());
    }

    #[test]
    fn an_answer_to_an_earlier_letter_leaves_the_newer_one() {
        let outbox = outbox();
        outbox.put(MEMBER, Bytes::from_static(b"a"));
        let carried = outbox.carried(LEADERSHIP, MEMBER).unwrap();
        outbox.put(MEMBER, Bytes::from_static(b"b"));
        outbox.answered(LEADERSHIP, MEMBER, &carried, Bytes::new());
        let newer = outbox.carried(LEADERSHIP, MEMBER).unwrap();
        assert_eq!(newer.body, Bytes::from_static(b"b"));
    }

    #[test]
    fn a_letter_is_of_one_leadership() {
        let outbox = outbox();
        outbox.put(MEMBER, Bytes::from_static(b"a"));
        let other = (4, MemberId(1));
        assert_eq!(outbox.carried(other, MEMBER), None);
        let carried = outbox.carried(LEADERSHIP, MEMBER).unwrap();
        outbox.open(other, KIND);
        assert_eq!(outbox.carried(other, MEMBER), None);
        outbox.answered(LEADERSHIP, MEMBER, &carried, Bytes::new());
        assert!(outbox.answers().is_empty());
    }
}
