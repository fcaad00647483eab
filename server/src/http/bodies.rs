//! The bytes of a call, in and out, as far as they cost memory: counted in the connection's share, refused when there
//! is no room, given up when they do not come.
//!
//! tonic reads a message as a whole and writes an answer as a whole, and hyper takes what tonic wrote: nothing further
//! down bounds either over several calls.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Sleep;
use tonic::Status;

use super::gunzip::Gunzip;
use super::prefix::PREFIX_BYTES;
use super::words::Words;
use crate::budget::{Held, OpenCall, Share};

/// Time for a request to come whole, from when it is first waited for. Two megabytes are enough for a slow link.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// Answers below are not counted: with as many streams as a connection may have they come to four megabytes.
const COUNTED_BYTES_MIN: usize = 1024;
/// Bytes handed to h2 at a time: it takes what it is given, whatever its own limit.
const SLICE_BYTES: usize = 256 * 1024;
/// How often a stream looks whether there is room again for its next answer.
const ROOM_PAUSE: Duration = Duration::from_millis(50);

/// Whether a call has one request, or many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Requests {
    /// One, which is in memory until the call ends.
    One,
    /// Many, each gone when the next one comes.
    Stream,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request body.
pub struct Received<B> {
    body: B,
    call: Arc<OpenCall>,
    requests: Requests,
    messages: Messages,
    /// Where the client compresses what it sends.
    gunzip: Option<Gunzip>,
    words: &'static Words,
    begun: Begun,
}

/// The time for what a client began to send: runs from its first byte, and a byte now and then gains none.
#[derive(Debug, Default)]
pub(super) struct Begun(Option<Pin<Box<Sleep>>>);

impl Begun {
    /// Nothing is under way.
    pub(super) fn clear(&mut self) {
        self.0 = None;
    }

    /// Ready once what began is late.
    pub(super) fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = || Box::pin(tokio::time::sleep(REQUEST_MAX));
        self.0.get_or_insert_with(timer).as_mut().poll(cx)
    }
}

impl<B> Received<B> {
    pub(super) fn new(
        body: B,
        call: Arc<OpenCall>,
        requests: Requests,
        gunzip: Option<Gunzip>,
        words: &'static Words,
    ) -> Self {
        Self {
            body,
            call,
            requests,
            messages: Messages::default(),
            gunzip,
            words,
            begun: Begun::default(),
        }
    }

    /// The bytes that came, unpacked, and counted as unpacked: perhaps nothing yet.
    fn unpack(&mut self, data: Bytes) -> Result<Bytes, Status> {
        let Some(gunzip) = &mut self.gunzip else {
            self.count(&data)?;
            return Ok(data);
        };
        let before = gunzip.held_bytes();
        let plain = gunzip.feed(&data)?;
        let held = self.call.request();
        let full = |_| (self.words.too_many)();
        match self.requests {
            Requests::One => {
                let after = gunzip.held_bytes() + plain.len();
                held.grow(after.saturating_sub(before)).map_err(full)?;
            }
            Requests::Stream => {
                held.set(0);
                held.grow(gunzip.held_bytes()).map_err(full)?;
            }
        }
        Ok(plain)
    }

    fn count(&mut self, data: &[u8]) -> Result<(), Status> {
        let held = self.call.request();
        let more = match self.requests {
            Requests::One => data.len(),
            Requests::Stream => {
                self.messages.read(data);
                held.set(held.bytes().min(self.messages.incomplete));
                self.messages.incomplete - held.bytes()
            }
        };
        if more == 0 {
            return Ok(());
        }
        held.grow(more).map_err(|_| (self.words.too_many)())
    }

    /// Whether something has begun and not ended.
    fn is_owed(&self) -> bool {
        match self.requests {
            Requests::One => true,
            Requests::Stream => {
                let is_unpacked = self.gunzip.as_ref().is_some_and(Gunzip::has_begun);
                self.messages.incomplete > 0 || is_unpacked
            }
        }
    }
}

impl<B> Body for Received<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            let Poll::Ready(polled) = Pin::new(&mut self.body).poll_frame(cx) else {
                if !self.is_owed() {
                    self.begun.clear();
                    return Poll::Pending;
                }
                ready!(self.begun.poll_late(cx));
                return Poll::Ready(Some(Err((self.words.late)().into())));
            };
            let Some(frame) = polled.transpose().map_err(Into::<BoxError>::into)? else {
                return Poll::Ready(None);
            };
            let frame = match frame.into_data() {
                Ok(data) => Frame::data(self.unpack(data)?),
                Err(frame) => frame,
            };
            let is_nothing = frame.data_ref().is_some_and(Bytes::is_empty);
            if !is_nothing || self.body.is_end_stream() {
                return Poll::Ready(Some(Ok(frame)));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Where messages begin and end.
#[derive(Debug, Default)]
struct Messages {
    prefix: [u8; PREFIX_BYTES],
    /// Bytes of the message that has begun and not ended.
    incomplete: usize,
    /// Bytes it still lacks, once its prefix is there.
    left: usize,
}

impl Messages {
    fn read(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let in_prefix = self.incomplete < PREFIX_BYTES;
            let wanted = if in_prefix {
                PREFIX_BYTES - self.incomplete
            } else {
                self.left
            };
            let (piece, rest) = data.split_at(wanted.min(data.len()));
            data = rest;
            if in_prefix {
                self.prefix[self.incomplete..self.incomplete + piece.len()].copy_from_slice(piece);
            } else {
                self.left -= piece.len();
            }
            self.incomplete += piece.len();
            if in_prefix && self.incomplete == PREFIX_BYTES {
                let [_, length @ ..] = self.prefix;
                self.left = u32::from_be_bytes(length) as usize;
            }
            if self.incomplete >= PREFIX_BYTES && self.left == 0 {
                self.incomplete = 0;
            }
        }
    }
}

/// A response body. Its call is open for as long as it is there.
pub struct Sending<B> {
    body: B,
    call: Arc<OpenCall>,
    requests: Requests,
    /// The hold on rows that the engine has read for the answer, until it is encoded.
    read: Option<Arc<Held>>,
    /// The part of an answer that was not handed down yet, and what the whole holds.
    rest: Bytes,
    held: Option<Arc<Held>>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<B> Sending<B> {
    pub(super) fn new(
        body: B,
        call: Arc<OpenCall>,
        requests: Requests,
        read: Option<Arc<Held>>,
    ) -> Self {
        Self {
            body,
            call,
            requests,
            read,
            rest: Bytes::new(),
            held: None,
            pause: None,
        }
    }

    fn share(&self) -> &Arc<Share> {
        self.call.request().share()
    }

    /// Streams make no more while what they made is not taken. A single answer is made already.
    fn waits_for_room(&mut self, cx: &mut Context<'_>) -> bool {
        while self.requests == Requests::Stream && !self.share().has_room() {
            let pause = self
                .pause
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(ROOM_PAUSE)));
            if pause.as_mut().poll(cx).is_pending() {
                return true;
            }
            self.pause = None;
        }
        false
    }

    /// Counts an answer, and hands down its first part.
    fn count(&mut self, answer: Bytes) -> Bytes {
        let read = self.read.take();
        if answer.len() < COUNTED_BYTES_MIN {
            return answer;
        }
        // The rows that were read are gone when it is encoded; a turn to overdraw goes on.
        let held = read.unwrap_or_else(|| Arc::new(self.share().hold()));
        held.set(answer.len());
        self.held = Some(held);
        self.rest = answer;
        self.slice()
    }

    fn slice(&mut self) -> Bytes {
        let bytes = self.rest.split_to(self.rest.len().min(SLICE_BYTES));
        let held = match self.rest.is_empty() {
            true => self.held.take(),
            false => self.held.clone(),
        };
        match held {
            Some(held) => Bytes::from_owner(Slice { bytes, held }),
            None => bytes,
        }
    }
}

impl<B> Body for Sending<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if !self.rest.is_empty() {
            let slice = self.slice();
            return Poll::Ready(Some(Ok(Frame::data(slice))));
        }
        if self.waits_for_room(cx) {
            return Poll::Pending;
        }
        let polled = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(polled.map(|frame| frame.map(|frame| frame.map_data(|data| self.count(data)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.rest.is_empty() {
            self.body.size_hint()
        } else {
            SizeHint::default()
        }
    }
}

/// A part of an answer on its way: dropped when the socket has taken it, or nobody will.
struct Slice {
    bytes: Bytes,
    held: Arc<Held>,
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Slice {
    fn drop(&mut self) {
        self.held.share().took();
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::stream;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;
    use crate::budget::Budget;

    const WORDS: &Words = &Words {
        too_many: || Status::resource_exhausted("too many"),
        late: || Status::unavailable("late"),
    };

    fn body(parts: Vec<Bytes>) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let frames = parts.into_iter().map(|part| Ok(Frame::data(part)));
        StreamBody::new(stream::iter(frames.collect::<Vec<_>>()))
    }

    fn message(bytes: usize) -> Vec<u8> {
        let length = u32::try_from(bytes).unwrap().to_be_bytes();
        [&[0], length.as_slice(), &vec![7; bytes]].concat()
    }

    #[test]
    fn messages_are_told_apart_however_they_are_cut() {
        let all = [message(0), message(3), message(300)].concat();
        for size in [1, 2, 4, 5, 7, 100, all.len()] {
            let mut messages = Messages::default();
            for piece in all.chunks(size) {
                messages.read(piece);
            }
            assert_eq!(messages.incomplete, 0, "in pieces of {size}");
            messages.read(&all[..all.len() - 1]);
            assert_eq!(messages.incomplete, 304);
        }
    }

    #[tokio::test]
    async fn one_request_holds_its_bytes_until_the_call_ends_and_a_stream_only_what_is_incomplete()
    {
        let budget = Budget::default();
        let call = Arc::new(budget.share().call().unwrap());
        let parts = || vec![Bytes::from(message(1000)), Bytes::from(vec![0, 0, 0])];
        let received = Received::new(body(parts()), call.clone(), Requests::One, None, WORDS);
        received.collect().await.unwrap();
        assert_eq!(budget.held_bytes(), 1008);
        drop(call);
        assert_eq!(budget.held_bytes(), 0);

        let call = Arc::new(budget.share().call().unwrap());
        let received = Received::new(body(parts()), call.clone(), Requests::Stream, None, WORDS);
        received.collect().await.unwrap();
        assert_eq!(budget.held_bytes(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_come_is_given_up() {
        let budget = Budget::default();
        let call = Arc::new(budget.share().call().unwrap());
        let silent = || StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let received = Received::new(silent(), call.clone(), Requests::One, None, WORDS);
        let error = received.collect().await.unwrap_err();
        let status = error.downcast::<Status>().unwrap();
        assert_eq!(status.message(), "late");

        // Nothing is owed between two messages of a stream.
        let mut received = Received::new(silent(), call, Requests::Stream, None, WORDS);
        let hour = tokio::time::timeout(Duration::from_secs(3600), received.frame());
        assert!(hour.await.is_err());
    }

    #[tokio::test]
    async fn an_answer_holds_its_bytes_until_its_last_part_is_sent() {
        let budget = Budget::default();
        let share = budget.share();
        let call = Arc::new(share.call().unwrap());
        let answer = Bytes::from(vec![7; SLICE_BYTES * 2 + 1]);
        let read = Arc::new(share.hold());
        read.set(99);
        let mut sending = Sending::new(body(vec![answer]), call, Requests::One, Some(read));
        let mut parts = Vec::new();
        while let Some(frame) = sending.frame().await {
            parts.push(frame.unwrap().into_data().unwrap());
        }
        drop(sending);
        assert_eq!(
            parts.iter().map(Bytes::len).sum::<usize>(),
            SLICE_BYTES * 2 + 1
        );
        assert_eq!(budget.held_bytes(), SLICE_BYTES * 2 + 1);
        parts.pop();
        assert_eq!(share.taken(), 1);
        assert_eq!(
            budget.held_bytes(),
            SLICE_BYTES * 2 + 1,
            "it is one allocation"
        );
        parts.clear();
        assert_eq!(budget.held_bytes(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_makes_nothing_more_while_there_is_no_room() {
        let budget = Budget::default();
        let share = budget.share();
        let call = Arc::new(share.call().unwrap());
        let full = share.hold();
        full.set(1 << 30);
        let answers = body(vec![Bytes::from_static(b"answer")]);
        let mut sending = Sending::new(answers, call, Requests::Stream, None);
        let minute = tokio::time::timeout(Duration::from_secs(60), sending.frame());
        assert!(minute.await.is_err());
        drop(full);
        assert!(sending.frame().await.is_some());
    }
}
