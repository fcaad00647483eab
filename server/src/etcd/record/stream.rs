//! An answer that is a stream, and how it ends.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::Stream;
use tonic::Status;

use super::{Asks, FINE, Outcome, Recording, refused};

/// A recording whose request no longer matters.
trait Ends: Send {
    fn how(&mut self, outcome: Outcome<'_>);
}

impl<M: Asks> Ends for Recording<M> {
    fn how(&mut self, outcome: Outcome<'_>) {
        self.ended(outcome, &[]);
    }
}

/// A stream that is recorded when it ends, if it is recorded at all.
pub(in crate::etcd) struct Followed<S> {
    stream: S,
    recording: Option<Box<dyn Ends>>,
}

impl<S> Followed<S> {
    /// One that nobody follows.
    pub(in crate::etcd) fn unrecorded(stream: S) -> Self {
        let recording = None;
        Self { stream, recording }
    }

    pub(super) fn new<M: Asks>(stream: S, recording: Recording<M>) -> Self {
        let recording: Option<Box<dyn Ends>> = Some(Box::new(recording));
        Self { stream, recording }
    }
}

impl<S, T> Stream for Followed<S>
where
    S: Stream<Item = Result<T, Status>> + Unpin,
{
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(Pin::new(&mut self.stream).poll_next(cx));
        if let Some(recording) = &mut self.recording {
            match &next {
                Some(Ok(_)) => {}
                Some(Err(status)) => recording.how(refused(status)),
                None => recording.how(FINE),
            }
        }
        Poll::Ready(next)
    }
}
