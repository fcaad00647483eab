//! The two ends of a connection, and the pipes between them.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use coord_server::network::Duplex;
use rand::RngExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Event, HostId, Inner, Network, Packet, PipeId};
use crate::{interpose, trace};

/// Bytes on their way, unacknowledged, until a writer must wait: a socket's buffers.
const WINDOW: usize = 256 << 10;

/// Bytes that a connection which is about to break may still pass.
const PASSES_MAX: usize = 2048;
/// And for how long it seems to be there.
const BREAK_MAX: u64 = 3_000_000_000;

/// One direction of a connection.
pub(super) struct Pipe {
    pub(super) from: HostId,
    pub(super) to: HostId,
    /// The other direction.
    pub(super) back: PipeId,
    /// Arrived, unread.
    arrived: VecDeque<Bytes>,
    /// Sent while the link was cut, or its host without power.
    pub(super) held: VecDeque<Packet>,
    /// When the last packet that is on its way arrives: none overtakes another.
    pub(super) last_at: u64,
    pub(super) in_flight: usize,
    /// Arrived, but the sender cannot be told.
    pub(super) unacknowledged: usize,
    pub(super) writer: Option<Waker>,
    reader: Option<Waker>,
    is_ended: bool,
    is_reset: bool,
    /// The sender has said that it is the end.
    has_sent_end: bool,
    is_writer_gone: bool,
    is_reader_gone: bool,
    /// Bytes that still come through; then none, until the connection breaks.
    passes: Option<usize>,
}

impl Pipe {
    pub(super) fn new(from: HostId, to: HostId, back: PipeId) -> Self {
        Self {
            from,
            to,
            back,
            arrived: VecDeque::new(),
            held: VecDeque::new(),
            last_at: 0,
            in_flight: 0,
            unacknowledged: 0,
            writer: None,
            reader: None,
            is_ended: false,
            is_reset: false,
            has_sent_end: false,
            is_writer_gone: false,
            is_reader_gone: false,
            passes: None,
        }
    }
}

impl Inner {
    /// Sends a packet, unless its sender has no power.
    pub(super) fn send(&mut self, id: PipeId, packet: Packet) {
        let Some(pipe) = self.pipes.get(&id) else {
            return;
        };
        let (from, to, is_held) = (pipe.from, pipe.to, !pipe.held.is_empty());
        if self.is_down(from) {
            return;
        }
        if is_held || self.is_cut(from, to) || self.is_down(to) {
            if let Some(pipe) = self.pipes.get_mut(&id) {
                pipe.held.push_back(packet);
            }
            return;
        }
        self.send_now(id, packet);
    }

    pub(super) fn send_now(&mut self, id: PipeId, packet: Packet) {
        let travel = self.travel();
        let Some(pipe) = self.pipes.get_mut(&id) else {
            return;
        };
        let at = (interpose::now() + travel).max(pipe.last_at);
        pipe.last_at = at;
        self.schedule(at, Event::Arrive(id, packet));
    }

    pub(super) fn arrive(&mut self, id: PipeId, packet: Packet) {
        let Some(pipe) = self.pipes.get(&id) else {
            return;
        };
        let (from, to, back) = (pipe.from, pipe.to, pipe.back);
        // Cut while it was on its way: lost, and sent again later, behind what was lost before it.
        if self.is_cut(from, to) || self.is_down(to) || !pipe.held.is_empty() {
            if let Some(pipe) = self.pipes.get_mut(&id) {
                pipe.held.push_back(packet);
            }
            return;
        }
        let is_answered = !self.is_cut(to, from);
        if self.swallows(from, to) && matches!(packet, Packet::Data(_)) {
            self.doom(id);
        }
        let Some(pipe) = self.pipes.get_mut(&id) else {
            return;
        };
        match packet {
            Packet::Data(mut bytes) => {
                trace::bytes(&bytes);
                if let Some(passes) = &mut pipe.passes {
                    // The proxy that swallows the rest has acknowledged it.
                    let lost = bytes.len().saturating_sub(*passes);
                    bytes.truncate(*passes);
                    *passes -= bytes.len();
                    pipe.in_flight -= lost;
                    if bytes.is_empty() {
                        let writer = pipe.writer.take();
                        self.wake(from, writer);
                        return;
                    }
                }
                if pipe.is_reader_gone {
                    self.send(back, Packet::Reset);
                    return;
                }
                if is_answered {
                    pipe.in_flight -= bytes.len();
                } else {
                    pipe.unacknowledged += bytes.len();
                }
                pipe.arrived.push_back(bytes);
            }
            Packet::Fin if pipe.passes.is_some() => return,
            Packet::Fin => pipe.is_ended = true,
            Packet::Reset => {
                pipe.is_reset = true;
                pipe.arrived.clear();
            }
        }
        let reader = pipe.reader.take();
        let writer = if is_answered {
            pipe.writer.take()
        } else {
            None
        };
        let is_reset = pipe.is_reset;
        self.wake(to, reader);
        self.wake(from, writer);
        if is_reset && let Some(pipe) = self.pipes.get_mut(&back) {
            pipe.is_reset = true;
            let writer = pipe.writer.take();
            self.wake(to, writer);
        }
        self.tidy(id, back);
    }

    /// From a byte of the next packets on nothing more comes through, and some time later both ends are told that the
    /// connection is gone: a proxy that ends, an address translation that is forgotten.
    pub(super) fn doom(&mut self, id: PipeId) {
        let passes = self.random.random_range(0..PASSES_MAX);
        let after = self.random.random_range(0..BREAK_MAX);
        if let Some(pipe) = self.pipes.get_mut(&id)
            && pipe.passes.is_none()
        {
            // As often as not nothing at all: most messages are short.
            pipe.passes = Some(passes.saturating_sub(PASSES_MAX / 2));
            self.schedule(interpose::now() + after, Event::Arrive(id, Packet::Reset));
        }
    }

    /// An end is gone: the other is told, with a reset if something was left unread.
    pub(super) fn close(&mut self, sends: PipeId, receives: PipeId) {
        let mut unread = false;
        if let Some(pipe) = self.pipes.get_mut(&receives) {
            pipe.is_reader_gone = true;
            unread = !pipe.arrived.is_empty();
            pipe.arrived.clear();
        }
        let mut is_said = true;
        if let Some(pipe) = self.pipes.get_mut(&sends) {
            pipe.is_writer_gone = true;
            is_said = pipe.has_sent_end || pipe.is_reset;
            pipe.has_sent_end = true;
        }
        if unread {
            self.send(sends, Packet::Reset);
        } else if !is_said {
            self.send(sends, Packet::Fin);
        }
        self.tidy(sends, receives);
    }

    /// Forgets a connection both of whose ends are gone. Packets that are still on their way meet nobody.
    fn tidy(&mut self, one: PipeId, other: PipeId) {
        let is_gone = |pipe: Option<&Pipe>| {
            pipe.is_none_or(|pipe| pipe.is_reader_gone && pipe.is_writer_gone)
        };
        if is_gone(self.pipes.get(&one)) && is_gone(self.pipes.get(&other)) {
            self.forget(one, other);
        }
    }

    pub(super) fn forget(&mut self, one: PipeId, other: PipeId) {
        self.pipes.remove(&one);
        self.pipes.remove(&other);
    }
}

/// One end of a connection.
pub(super) struct End {
    pub(super) network: Network,
    pub(super) sends: PipeId,
    pub(super) receives: PipeId,
}

impl Drop for End {
    fn drop(&mut self) {
        self.network.lock().close(self.sends, self.receives);
    }
}

fn reset<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
}

impl Duplex for End {}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.network.lock();
        let Some(pipe) = inner.pipes.get_mut(&self.receives) else {
            return reset();
        };
        if pipe.is_reset {
            return reset();
        }
        if pipe.arrived.is_empty() {
            if pipe.is_ended {
                return Poll::Ready(Ok(()));
            }
            pipe.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        while buffer.remaining() > 0
            && let Some(bytes) = pipe.arrived.front_mut()
        {
            let part = bytes.split_to(bytes.remaining().min(buffer.remaining()));
            buffer.put_slice(&part);
            if bytes.is_empty() {
                pipe.arrived.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.network.lock();
        let Some(pipe) = inner.pipes.get_mut(&self.sends) else {
            return reset();
        };
        if pipe.is_reset || pipe.has_sent_end {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if pipe.in_flight >= WINDOW {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        pipe.in_flight += bytes.len();
        inner.send(self.sends, Packet::Data(Bytes::copy_from_slice(bytes)));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.network.lock();
        if let Some(pipe) = inner.pipes.get_mut(&self.sends)
            && !pipe.has_sent_end
        {
            pipe.has_sent_end = true;
            inner.send(self.sends, Packet::Fin);
        }
        Poll::Ready(Ok(()))
    }
}
