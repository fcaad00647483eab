//! The requests of a stream, as many as have come.
//!
//! A connection hands over some dozen frames between two turns of its streams, and a turn of a stream is bounded as
//! well. One that took a single request in each step would fall behind: h2 ends a connection of which some thousand
//! frames are waiting.

use futures::FutureExt;
use tonic::{Status, Streaming};

/// Requests taken at once.
const AT_ONCE_MAX: usize = 1024;

/// The messages that came.
pub struct Came<M> {
    /// In order.
    pub requests: Vec<M>,
    /// Whether more may come.
    pub is_open: bool,
    /// Why the stream is broken behind them.
    pub broken: Option<Status>,
}

/// Waits for a request, and takes all that are there. Loses none when it is dropped.
pub async fn come<M>(stream: &mut Streaming<M>) -> Came<M> {
    let mut came = Came {
        requests: Vec::new(),
        is_open: true,
        broken: None,
    };
    let mut next = Some(stream.message().await);
    while let Some(message) = next {
        match message {
            Ok(Some(request)) => came.requests.push(request),
            Ok(None) => came.is_open = false,
            Err(status) => came.broken = Some(super::words::received(status)),
        }
        let goes_on = came.is_open && came.broken.is_none() && came.requests.len() < AT_ONCE_MAX;
        next = match goes_on {
            true => stream.message().now_or_never(),
            false => None,
        };
    }
    came
}
