//! Opening ports and connecting to them.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};

use coord_server::network::Duplex;

use super::stream::Pipe;
use super::{AttemptId, Event, HostId, Inner, Network, Packet, PipeId, ends};
use crate::interpose;

/// Pauses before a knock that got no answer is repeated, as Linux does.
const KNOCK_AGAIN: u64 = 1_000_000_000;

/// The answer of the other host.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    /// The connector's two pipes: to send and to receive.
    Accepted(PipeId, PipeId),
    Refused,
}

/// A connection that is being made.
pub(super) struct Attempt {
    from: HostId,
    to: SocketAddr,
    knocks: u32,
    waker: Option<Waker>,
    answer: Option<Answer>,
}

/// An open port.
#[derive(Default)]
pub(super) struct PortState {
    /// Connections that nobody has accepted yet: the acceptor's pipes, and from where.
    backlog: VecDeque<(PipeId, PipeId, SocketAddr)>,
    acceptor: Option<Waker>,
}

/// The handle on an open port; it closes when this goes.
pub(super) struct Port {
    pub(super) network: Network,
    pub(super) address: SocketAddr,
}

impl coord_server::network::Port for Port {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Box<dyn Duplex>, SocketAddr)>> {
        let mut inner = self.network.lock();
        let Some(port) = inner.ports.get_mut(&self.address) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        match port.backlog.pop_front() {
            Some((sends, receives, from)) => {
                let end = ends(&self.network, sends, receives);
                Poll::Ready(Ok((Box::new(end), from)))
            }
            None => {
                port.acceptor = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let mut inner = self.network.lock();
        if let Some(port) = inner.ports.remove(&self.address) {
            for (sends, receives, _) in port.backlog {
                inner.close(sends, receives);
            }
        }
    }
}

/// Connects, as a socket does.
pub(super) async fn connect(
    network: Network,
    from: HostId,
    to: SocketAddr,
) -> io::Result<Box<dyn Duplex>> {
    let attempt = Trying {
        id: network.lock().attempt(from, to),
        network: network.clone(),
    };
    let answer = poll_fn(|cx| attempt.poll(cx)).await;
    match answer {
        Answer::Accepted(sends, receives) => {
            Ok(Box::new(ends(&network, sends, receives)) as Box<dyn Duplex>)
        }
        Answer::Refused => Err(io::ErrorKind::ConnectionRefused.into()),
    }
}

/// Gives the attempt up when it is dropped.
struct Trying {
    network: Network,
    id: AttemptId,
}

impl Trying {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Answer> {
        let mut inner = self.network.lock();
        let attempt = inner
            .attempts
            .get_mut(&self.id)
            .expect("it is not given up");
        match attempt.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                attempt.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Trying {
    fn drop(&mut self) {
        let mut inner = self.network.lock();
        let attempt = inner.attempts.remove(&self.id);
        if let Some(Answer::Accepted(sends, receives)) = attempt.and_then(|left| left.answer) {
            inner.close(sends, receives);
        }
    }
}

impl Inner {
    pub(super) fn open(&mut self, host: HostId, address: SocketAddr) -> io::Result<()> {
        if HostId::of(address) != Some(host) {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        if self.ports.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        self.ports.insert(address, PortState::default());
        Ok(())
    }

    fn attempt(&mut self, from: HostId, to: SocketAddr) -> AttemptId {
        self.number += 1;
        let id = self.number;
        self.attempts.insert(
            id,
            Attempt {
                from,
                to,
                knocks: 0,
                waker: None,
                answer: None,
            },
        );
        let at = interpose::now() + self.travel();
        self.schedule(at, Event::Knock(id));
        id
    }

    pub(super) fn knock(&mut self, id: AttemptId) {
        let Some(attempt) = self.attempts.get_mut(&id) else {
            return;
        };
        let (from, to) = (attempt.from, attempt.to);
        attempt.knocks += 1;
        let again = KNOCK_AGAIN << attempt.knocks.min(6);
        let Some(host) = HostId::of(to) else {
            return;
        };
        if self.is_cut(from, host) || self.is_cut(host, from) || self.is_down(host) {
            let at = interpose::now() + again;
            self.schedule(at, Event::Knock(id));
            return;
        }
        let answer = if self.ports.contains_key(&to) {
            self.number += 2;
            let (there, back) = (self.number - 1, self.number);
            self.pipes.insert(there, Pipe::new(from, host, back));
            self.pipes.insert(back, Pipe::new(host, from, there));
            let port = self.ports.get_mut(&to).expect("checked");
            port.backlog.push_back((back, there, from.address(0)));
            let acceptor = port.acceptor.take();
            self.wake(host, acceptor);
            Answer::Accepted(there, back)
        } else {
            Answer::Refused
        };
        let at = interpose::now() + self.travel();
        if let Answer::Accepted(_, back) = answer
            && let Some(pipe) = self.pipes.get_mut(&back)
        {
            // Nothing the acceptor sends overtakes its answer.
            pipe.last_at = at;
        }
        self.schedule(at, Event::Answer(id, answer));
    }

    pub(super) fn answer(&mut self, id: AttemptId, answer: Answer) {
        let Some(attempt) = self.attempts.get_mut(&id) else {
            // Nobody wants it any more.
            if let Answer::Accepted(sends, receives) = answer {
                self.send(sends, Packet::Reset);
                self.forget(sends, receives);
            }
            return;
        };
        attempt.answer = Some(answer);
        let (host, waker) = (attempt.from, attempt.waker.take());
        self.wake(host, waker);
    }
}
