//! Bytes that calls hold in memory: their requests on the way in, their answers on the way out, and what stands as long as
//! a stream does.
//!
//! Every connection may always hold a little, so that one client's excess is not another's wait. Bytes beyond that
//! come out of a pool, one for each of the three: readers that stall keep nobody from writing, watchers nobody from
//! either. A request that finds its pool empty is refused. An answer waits for its turn to overdraw, one at a time: a
//! single one may be larger than the whole pool, two may not, and none may be larger than the machine can bear. Counts
//! only; knows no call and no wire.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that all requests, and that all answers may hold: some hundred lists as kube-apiserver pages them, on a
/// machine that has a few gigabytes.
const BYTES_MAX: usize = 256 << 20;
/// On a smaller machine, this part of its memory.
const PART_OF_MEMORY: u64 = 32;
/// One thing alone, in its turn, may take this part: while it is encoded it is there twice.
const ONE_PART_OF_MEMORY: u64 = 16;
/// And on no machine more than this, which is what gRPC's clients can take.
const ONE_BYTES_MAX: usize = i32::MAX as usize;
/// Bytes that the requests, and that the answers of a connection may always hold: a few of usual size. At most two
/// gigabytes over as many connections as the door lets in, each of them hostile.
const ALWAYS_BYTES: usize = 64 * 1024;
/// Calls open at once, over all connections: each costs about 16 KiB before it holds anything.
const CALLS_MAX: usize = 32 * 1024;

/// The kind of a holder of bytes. Each side of a connection has its own little, so that a client that waits for a long answer can
/// go on writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Requests,
    Answers,
    /// Watchers, and changes that are being told to them.
    Standing,
}

/// No room is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The pools. Clones share it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Total>);

#[derive(Debug)]
struct Total {
    /// Of each of the three.
    bytes_max: usize,
    /// Of one alone.
    one_bytes_max: usize,
    requests: AtomicUsize,
    answers: AtomicUsize,
    standing: AtomicUsize,
    calls: AtomicUsize,
    /// Of answers, and of what stands: each of a stream's may need the other one's turn to come to its end.
    overdrafts: [Arc<Semaphore>; 2],
    /// Holds that wait for it.
    waiting: AtomicUsize,
}

/// One connection's part.
#[derive(Debug)]
pub struct Share {
    total: Arc<Total>,
    requests: AtomicUsize,
    answers: AtomicUsize,
    standing: AtomicUsize,
    calls: AtomicUsize,
    /// How much of it overdraws.
    overdraws: AtomicUsize,
    /// Counts up whenever the client took something.
    taken: AtomicU64,
}

/// An open call, and what its request holds. Dropping it ends it.
#[derive(Debug)]
pub struct OpenCall(Held);

/// Bytes that something holds. Dropping it gives them back.
#[derive(Debug)]
pub struct Held {
    share: Arc<Share>,
    side: Side,
    bytes: AtomicUsize,
    turn: OnceLock<OwnedSemaphorePermit>,
}

impl Default for Budget {
    /// Where memory is not short.
    fn default() -> Self {
        Self::of(u64::MAX)
    }
}

impl Budget {
    /// The budget of a process that may take `memory_bytes`.
    pub fn of(memory_bytes: u64) -> Self {
        let part = |of: u64, most: usize| {
            let part = memory_bytes / of;
            usize::try_from(part).map_or(most, |part| part.min(most))
        };
        Self(Arc::new(Total {
            bytes_max: part(PART_OF_MEMORY, BYTES_MAX),
            one_bytes_max: part(ONE_PART_OF_MEMORY, ONE_BYTES_MAX),
            requests: AtomicUsize::new(0),
            answers: AtomicUsize::new(0),
            standing: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            overdrafts: [(); 2].map(|()| Arc::new(Semaphore::new(1))),
            waiting: AtomicUsize::new(0),
        }))
    }

    /// The part of a new connection.
    pub fn share(&self) -> Arc<Share> {
        Arc::new(Share {
            total: self.0.clone(),
            requests: AtomicUsize::new(0),
            answers: AtomicUsize::new(0),
            standing: AtomicUsize::new(0),
            calls: AtomicUsize::new(0),
            overdraws: AtomicUsize::new(0),
            taken: AtomicU64::new(0),
        })
    }

    /// The largest request that a connection can make.
    pub fn request_bytes_max(&self) -> usize {
        self.0.connection_bytes_max()
    }

    /// Bytes held over all connections.
    pub fn held_bytes(&self) -> usize {
        let Total {
            requests,
            answers,
            standing,
            ..
        } = &*self.0;
        [requests, answers, standing]
            .map(|side| side.load(Relaxed))
            .iter()
            .sum()
    }
}

impl Total {
    /// Bytes that one connection may take of each: one alone cannot use up the pool.
    fn connection_bytes_max(&self) -> usize {
        self.bytes_max / 2
    }

    fn overdraft(&self, side: Side) -> &Arc<Semaphore> {
        match side {
            Side::Requests | Side::Answers => &self.overdrafts[0],
            Side::Standing => &self.overdrafts[1],
        }
    }

    fn side(&self, side: Side) -> &AtomicUsize {
        match side {
            Side::Requests => &self.requests,
            Side::Answers => &self.answers,
            Side::Standing => &self.standing,
        }
    }
}

impl Share {
    /// Opens a call.
    pub fn call(self: &Arc<Self>) -> Result<OpenCall, Full> {
        if self.total.calls.fetch_add(1, Relaxed) >= CALLS_MAX {
            self.total.calls.fetch_sub(1, Relaxed);
            return Err(Full);
        }
        self.calls.fetch_add(1, Relaxed);
        Ok(OpenCall(self.held(Side::Requests)))
    }

    /// The hold of requests beside their call's: nothing yet, to be grown.
    pub fn hold_request(self: &Arc<Self>) -> Held {
        self.held(Side::Requests)
    }

    /// The hold of a stream, for as long as it stands: nothing yet, to be grown.
    pub fn hold_standing(self: &Arc<Self>) -> Held {
        self.held(Side::Standing)
    }

    /// The hold of an answer: nothing yet, to be grown.
    pub fn hold(self: &Arc<Self>) -> Held {
        self.held(Side::Answers)
    }

    fn held(self: &Arc<Self>, side: Side) -> Held {
        Held {
            share: self.clone(),
            side,
            bytes: AtomicUsize::new(0),
            turn: OnceLock::new(),
        }
    }

    /// Whether another answer may be made while earlier ones wait for the client.
    pub fn has_room(&self) -> bool {
        self.fits(Side::Answers, 0)
    }

    /// The client took something.
    pub fn took(&self) {
        self.taken.fetch_add(1, Relaxed);
    }

    /// How often the client took something so far.
    pub fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// Whether it has open calls.
    pub fn is_busy(&self) -> bool {
        self.calls.load(Relaxed) > 0
    }

    /// Whether it holds what others could use now: more than its own while the pool is nearly empty, or the turn that
    /// somebody waits for.
    pub fn is_in_the_way(&self) -> bool {
        let is_nearly_empty = self.total.answers.load(Relaxed) >= self.total.bytes_max / 4 * 3;
        let is_waited_for =
            self.overdraws.load(Relaxed) > 0 && self.total.waiting.load(Relaxed) > 0;
        (is_nearly_empty && self.answers.load(Relaxed) > ALWAYS_BYTES) || is_waited_for
    }

    fn side(&self, side: Side) -> &AtomicUsize {
        match side {
            Side::Requests => &self.requests,
            Side::Answers => &self.answers,
            Side::Standing => &self.standing,
        }
    }

    fn fits(&self, side: Side, more: usize) -> bool {
        let own = self.side(side).load(Relaxed) + more;
        let all = self.total.side(side).load(Relaxed) + more;
        own <= ALWAYS_BYTES
            || (own <= self.total.connection_bytes_max() && all <= self.total.bytes_max)
    }
}

impl OpenCall {
    /// The hold of its request.
    pub fn request(&self) -> &Held {
        &self.0
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        let share = &self.0.share;
        share.calls.fetch_sub(1, Relaxed);
        share.total.calls.fetch_sub(1, Relaxed);
    }
}

impl Held {
    /// Takes more, if there is room.
    pub fn grow(&self, more: usize) -> Result<(), Full> {
        if self.turn.get().is_none() && !self.share.fits(self.side, more) {
            return Err(Full);
        }
        self.set(self.bytes() + more);
        Ok(())
    }

    /// Takes more: at once if there is room, else when it is this one's turn to overdraw, which it then keeps until it is
    /// dropped.
    ///
    /// Errors: it alone would be more than the machine can bear.
    pub async fn grow_in_turn(&self, more: usize) -> Result<(), Full> {
        if self.bytes() + more > self.share.total.one_bytes_max.max(ALWAYS_BYTES) {
            return Err(Full);
        }
        if self.grow(more).is_ok() {
            return Ok(());
        }
        let total = &self.share.total;
        let waits = Waits::begin(total);
        let turn = total.overdraft(self.side).clone().acquire_owned().await;
        drop(waits);
        // Nobody closes it, and only its owner grows it, one step after the other.
        let _ = turn.map(|turn| self.turn.set(turn));
        self.share.overdraws.fetch_add(1, Relaxed);
        self.set(self.bytes() + more);
        Ok(())
    }

    /// Holds exactly `bytes`: those in memory already are counted, room or not.
    pub fn set(&self, bytes: usize) {
        let before = self.bytes.swap(bytes, Relaxed);
        for count in [self.share.side(self.side), self.share.total.side(self.side)] {
            if bytes > before {
                count.fetch_add(bytes - before, Relaxed);
            } else if bytes < before {
                count.fetch_sub(before - bytes, Relaxed);
            }
        }
    }

    /// Whether its side of the connection has room for more.
    pub fn has_room(&self) -> bool {
        self.share.fits(self.side, 0)
    }

    /// How much it holds.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// The connection's share that it comes out of.
    pub fn share(&self) -> &Arc<Share> {
        &self.share
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
        if self.turn.get().is_some() {
            self.share.overdraws.fetch_sub(1, Relaxed);
        }
    }
}

/// A hold that waits for its turn, until it gives up.
struct Waits<'a>(&'a Total);

impl<'a> Waits<'a> {
    fn begin(total: &'a Total) -> Self {
        total.waiting.fetch_add(1, Relaxed);
        Self(total)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connection_cannot_empty_the_pool_and_two_leave_others_their_own() {
        let budget = Budget::default();
        let mut greedy = Vec::new();
        for _ in 0..2 {
            let held = budget.share().hold();
            held.grow(BYTES_MAX / 2).unwrap();
            assert_eq!(held.grow(1), Err(Full));
            greedy.push(held);
        }
        assert_eq!(budget.held_bytes(), BYTES_MAX);
        let modest = budget.share();
        let held = modest.hold();
        held.grow(ALWAYS_BYTES).unwrap();
        assert_eq!(held.grow(1), Err(Full));
        assert!(greedy[0].share.is_in_the_way() && !modest.is_in_the_way());
        let call = modest.call().unwrap();
        let request = call.request();
        request.grow(ALWAYS_BYTES * 2).unwrap();
        greedy.clear();
        held.grow(1).unwrap();
        drop(call);
        drop(held);
        assert_eq!(budget.held_bytes(), 0);
    }

    #[tokio::test]
    async fn only_one_at_a_time_overdraws() {
        let budget = Budget::default();
        let first = budget.share().hold();
        first.grow_in_turn(BYTES_MAX + 1).await.unwrap();
        first.grow_in_turn(1).await.unwrap();
        let second = budget.share().hold();
        let waits = second.grow_in_turn(BYTES_MAX);
        let mut waits = Box::pin(waits);
        assert!(futures::poll!(&mut waits).is_pending());
        first.set(1);
        assert!(first.share.is_in_the_way(), "somebody waits for its turn");
        drop(first);
        waits.await.unwrap();
        drop(second);
        assert_eq!(budget.held_bytes(), 0);
    }

    #[tokio::test]
    async fn a_small_machine_has_a_small_pool_and_bears_no_answer_larger_than_itself() {
        let budget = Budget::of(256 << 20);
        let (one, other) = (budget.share().hold(), budget.share().hold());
        one.grow(4 << 20).unwrap();
        assert_eq!(one.grow(1), Err(Full));
        other.grow_in_turn(16 << 20).await.unwrap();
        assert_eq!(other.grow_in_turn(1).await, Err(Full));
        let budget = Budget::of(u64::MAX);
        assert_eq!(budget.share().hold().grow_in_turn(1 << 31).await, Err(Full));
    }

    #[test]
    fn calls_are_counted_over_all_connections() {
        let budget = Budget::default();
        let (one, other) = (budget.share(), budget.share());
        let calls: Vec<_> = (0..CALLS_MAX).map(|_| one.call().unwrap()).collect();
        assert_eq!(other.call().err(), Some(Full));
        assert!(one.is_busy() && !other.is_busy());
        drop(calls);
        assert!(other.call().is_ok() && !one.is_busy());
    }
}
