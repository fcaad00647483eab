//! One accepted connection, as its door reads and writes it, and the bounds on its bytes before and beside its calls.
//!
//! Owns the time that the other side has for what it began to say, and how many frames it may send that bring nothing.
//! hyper and h2 bound the memory of a connection; nothing in them bounds these two. Knows no call and no service.

mod allowance;
mod frames;
mod sent;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use self::frames::Frames;
use self::sent::Sent;
use crate::metrics::metrics;

/// Time to say which protocol is spoken, and for each head of a call: clients send either in one packet.
pub(super) const HEAD_MAX: Duration = Duration::from_secs(10);
/// Time without a byte taken, while some wait to be written. Pings find a dead client sooner; this finds one that only
/// stopped reading.
const STUCK_MAX: Duration = Duration::from_secs(60);
/// Frames read before others have a turn: some thirty calls, less than a millisecond. It also bounds what h2 keeps of
/// calls that nobody has taken up yet, and lets streams take what came before the next is read.
const TURN_FRAMES: u32 = 64;

/// A stream that fails when its other side dawdles or floods.
///
/// Errors beyond the stream's own: `TimedOut`, `InvalidData`; both end the connection.
#[derive(Debug)]
pub(super) struct Guarded<T> {
    stream: T,
    frames: Frames,
    sent: Sent,
    /// The number of the thing that the other side must end, and the time for it.
    owed: Option<(u64, Pin<Box<Sleep>>)>,
    /// When it is late to take what is written.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl<T> Guarded<T> {
    /// Guards a connection that was just accepted.
    pub(super) fn new(stream: T) -> Self {
        let frames = Frames::default();
        let owed = frames.owed().map(|what| (what, timer(HEAD_MAX)));
        Self {
            stream,
            frames,
            sent: Sent::default(),
            owed,
            stuck: None,
        }
    }

    fn heard(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.frames.read(bytes).is_err() {
            cut("flood");
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "more frames than its calls need",
            ));
        }
        // Timed from its first byte: a byte now and then gains no time.
        match (self.frames.owed(), &self.owed) {
            (None, _) => self.owed = None,
            (Some(what), Some((known, _))) if what == *known => {}
            (Some(what), _) => self.owed = Some((what, timer(HEAD_MAX))),
        }
        Ok(())
    }

    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let Some((_, sleep)) = &mut self.owed else {
            return false;
        };
        sleep.as_mut().poll(cx).is_ready()
    }

    /// Counts what was written of `bufs`, or how long nothing could be.
    fn wrote(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(result) => {
                self.stuck = None;
                if let Ok(bytes) = result {
                    self.said(bufs, bytes);
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                let sleep = self.stuck.get_or_insert_with(|| timer(STUCK_MAX));
                ready!(sleep.as_mut().poll(cx));
                cut("stuck");
                Poll::Ready(Err(late("it takes nothing")))
            }
        }
    }

    fn said(&mut self, bufs: &[IoSlice<'_>], bytes: usize) {
        if !self.frames.is_http2() {
            return;
        }
        let mut left = bytes;
        for buf in bufs {
            let part = &buf[..left.min(buf.len())];
            self.sent.wrote(part);
            left -= part.len();
        }
        let answers = self.sent.answers();
        self.frames.allowance.sent(bytes, answers);
        if let Some(why) = self.sent.cut() {
            cut(why);
        }
    }
}

fn cut(why: &str) {
    metrics().connections_cut.with_label_values(&[why]).inc();
}

fn timer(after: Duration) -> Pin<Box<Sleep>> {
    Box::pin(tokio::time::sleep(after))
}

fn late(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, why)
}

impl<T: AsyncRead + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.frames.in_turn() >= TURN_FRAMES {
            self.frames.next_turn();
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => Poll::Ready(self.heard(&buf.filled()[before..])),
            Poll::Pending if self.is_late(cx) => {
                cut("slow");
                Poll::Ready(Err(late("what it began to say has no end")))
            }
            Poll::Pending => {
                self.frames.next_turn();
                Poll::Pending
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(cx, &[IoSlice::new(buf)], written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(cx, bufs, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::frames::PREFACE;
    use super::*;

    fn connected() -> (Guarded<DuplexStream>, DuplexStream) {
        let (ours, theirs) = duplex(1 << 20);
        (Guarded::new(ours), theirs)
    }

    /// Reads until the guard gives up, while the other side goes on as `says` does.
    async fn fails_with(
        mut guarded: Guarded<DuplexStream>,
        says: impl Future<Output = ()>,
    ) -> io::ErrorKind {
        // Ends with the guard's connection, as a door's does.
        let reads = async move {
            let mut buffer = [0; 4096];
            loop {
                match guarded.read(&mut buffer).await {
                    Ok(0) => return io::ErrorKind::UnexpectedEof,
                    Ok(_) => {}
                    Err(error) => return error.kind(),
                }
            }
        };
        let (kind, ()) = tokio::join!(reads, says);
        kind
    }

    /// Says what every client says first, with settings that are empty.
    async fn open(theirs: &mut DuplexStream) {
        theirs.write_all(PREFACE).await.unwrap();
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        theirs.write_all(&settings).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_preface_in_drops_is_late() {
        let (guarded, mut theirs) = connected();
        let says = async {
            for byte in PREFACE {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if theirs.write_all(&[*byte]).await.is_err() {
                    return;
                }
            }
            panic!("it was given time for all of it");
        };
        assert_eq!(fails_with(guarded, says).await, io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_in_drops_is_late_and_an_idle_connection_is_not() {
        let (guarded, mut theirs) = connected();
        let says = async {
            open(&mut theirs).await;
            tokio::time::sleep(Duration::from_secs(3600)).await;
            // A HEADERS frame of 100 bytes that never comes.
            theirs
                .write_all(&[0, 0, 100, 1, 4, 0, 0, 0, 1])
                .await
                .unwrap();
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if theirs.write_all(b"x").await.is_err() {
                    return;
                }
            }
            panic!("it was given time for all of it");
        };
        assert_eq!(fails_with(guarded, says).await, io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_ends_the_connection() {
        let (guarded, mut theirs) = connected();
        let says = async {
            open(&mut theirs).await;
            let pings = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8].repeat(1000);
            while theirs.write_all(&pings).await.is_ok() {}
        };
        assert_eq!(fails_with(guarded, says).await, io::ErrorKind::InvalidData);
    }

    #[tokio::test]
    async fn others_have_a_turn_between_the_frames_of_a_burst() {
        let (mut guarded, mut theirs) = connected();
        open(&mut theirs).await;
        let resets = [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8].repeat(1000);
        theirs.write_all(&resets).await.unwrap();
        let (mut buffer, mut turns, mut frames) = ([0; 130], 0, 0);
        let mut reads = pin!(async {
            while frames < 1000 {
                frames += guarded.read(&mut buffer).await.unwrap() / 13;
            }
        });
        while futures::poll!(&mut reads).is_pending() {
            turns += 1;
        }
        assert_eq!(turns, 14, "of 64 frames each, and what was read with them");
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_that_nobody_takes_end_the_connection() {
        let (ours, _theirs) = duplex(16);
        let mut guarded = Guarded::new(ours);
        let error = guarded.write_all(&[0; 100]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
