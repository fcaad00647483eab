//! The HTTP listener: accepts connections, bounds what each may take, and ends them in order.
//!
//! HTTP/1.1 and HTTP/2 without TLS on one port, told apart by the first bytes. The limits replace hyper's and h2's where
//! those are unlimited, or where one client could hold more than its share. There is no limit per address: behind a
//! proxy or a node's address translation many clients have one.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::process;
use crate::budget::{Budget, Share};
use crate::connection::Guarded;
use crate::metrics::metrics;
use crate::network::{Listener, Stream};

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 16_384;
/// Descriptors left to the store, the log and the peers; of fewer than twice as many, half.
const DESCRIPTORS_RESERVED: usize = 1024;
/// How often a connection is looked at beside its calls.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// So many looks without a call, and a connection gives way while there are nearly too many: its client, if it is one,
/// connects again when it has something to ask.
const IDLE_LOOKS_MAX: u32 = 2;
/// So many looks during which its client took nothing of its answers, and a connection gives way while memory is short.
const STALLED_LOOKS_MAX: u32 = 2;
/// Time for the head of an HTTP/1.1 request, and between two.
const HEAD_MAX: Duration = Duration::from_secs(10);
/// Bytes buffered for the head of an HTTP/1.1 request.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Calls and streams at once on one connection: one client with a thousand concurrent calls is usual.
const STREAMS_MAX: u32 = 4096;
/// Bytes of all headers of a call.
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;
/// Streams that a client has reset before they were taken up. Never reached: `Guarded` reads a few hundred frames at a
/// time, and what they opened is taken up before it reads more. h2's own bound of 20 would end the connection of a client
/// whose deadlines passed while this member stood still, with its watches and all its writes under way.
const PENDING_RESETS_MAX: usize = 16_384;
/// Streams that were reset for a client's mistakes, over the life of its connection. Data on its way to a call that ended
/// early is one. About 10 MB, if it takes nothing of what it is told.
const ERROR_RESETS_MAX: usize = 16_384;
/// Received bytes that one stream, and one connection, may have outstanding: a request of the largest size in one go.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Written bytes held per stream while the client does not read.
const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// How often a silent client is asked for a sign of life, and how long it may take: a client that is gone holds its
/// watchers no longer than 40 s. The answer may wait behind a full socket's bytes, so not much less.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_MAX: Duration = Duration::from_secs(20);
/// Pause after `accept` failed for want of descriptors or memory: trying again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long calls under way may take when the door closes.
const CLOSE_MAX: Duration = Duration::from_millis(500);

/// Serves `listener` until `closing` turns true, then waits a moment for calls under way. `service` makes what answers
/// one connection, from the part of `budget` that the connection has.
///
/// Dropping the future closes every connection.
pub async fn serve<S, B>(
    listener: impl Into<Listener>,
    budget: Budget,
    service: impl Fn(Arc<Share>) -> S,
    mut closing: watch::Receiver<bool>,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let listener = listener.into();
    let connections_max = connections_max();
    let crowded = Arc::new(AtomicBool::new(false));
    let mut connections = JoinSet::new();
    loop {
        crowded.store(
            connections.len() >= connections_max / 4 * 3,
            Ordering::Relaxed,
        );
        tokio::select! {
            () = closed(&mut closing) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < connections_max => match accepted {
                Ok((stream, _)) => {
                    let share = budget.share();
                    let watched = watched(share.clone(), crowded.clone());
                    let service = service(share);
                    connections.spawn(connection(stream, service, watched, closing.clone()));
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    let all_closed = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(CLOSE_MAX, all_closed).await.is_err() {
        tracing::debug!(connections = connections.len(), "connections were cut");
    }
}

/// As many as there are descriptors for, or accepting one more would keep the store from opening a file.
fn connections_max() -> usize {
    let descriptors = process::descriptors_max();
    let left = descriptors - DESCRIPTORS_RESERVED.min(descriptors / 2);
    left.clamp(1, CONNECTIONS_MAX)
}

/// Resolves when a connection must give way to others, with the reason.
async fn watched(share: Arc<Share>, crowded: Arc<AtomicBool>) -> &'static str {
    let (mut idle, mut stalled) = (0, 0);
    let mut taken = share.taken();
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        idle = if share.is_busy() { 0 } else { idle + 1 };
        if idle >= IDLE_LOOKS_MAX && crowded.load(Ordering::Relaxed) {
            return "idle";
        }
        let took = share.taken() != taken;
        taken = share.taken();
        stalled = if took || !share.is_in_the_way() {
            0
        } else {
            stalled + 1
        };
        if stalled >= STALLED_LOOKS_MAX {
            return "stalled";
        }
    }
}

async fn closed(closing: &mut watch::Receiver<bool>) {
    // An error means that the node is gone, which closes the door as well.
    let _ = closing.wait_for(|closing| *closing).await;
}

fn is_of_one_connection(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
    )
}

async fn connection<S, B>(
    stream: Stream,
    service: S,
    gives_way: impl Future<Output = &'static str>,
    mut closing: watch::Receiver<bool>,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if let Err(error) = stream.set_nodelay() {
        tracing::debug!(%error, "the connection ended before it began");
        return;
    }
    let builder = builder();
    let stream = TokioIo::new(Guarded::new(stream));
    let mut connection = pin!(builder.serve_connection(stream, service));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = closed(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        why = gives_way => {
            metrics().connections_cut.with_label_values(&[why]).inc();
            tracing::debug!(why, "a connection gives way");
            connection.as_mut().graceful_shutdown();
            // One that stalls cannot be told.
            tokio::time::timeout(CLOSE_MAX, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        if let Some(why) = error.downcast_ref().and_then(cut_by_hyper) {
            metrics().connections_cut.with_label_values(&[why]).inc();
        }
        tracing::debug!(error, "connection");
    }
}

/// Why hyper itself ended a connection, beside what [`Guarded`] sees of it.
fn cut_by_hyper(error: &hyper::Error) -> Option<&'static str> {
    if error.is_parse() {
        return Some("protocol");
    }
    // A ping that stays unanswered has a source. One that HTTP/1.1 waited for in vain between two requests has none: an
    // idle client of that kind is closed, not cut.
    (error.is_timeout() && std::error::Error::source(error).is_some()).then_some("silent")
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        // Nobody caches the answers of gRPC; a date in each costs its look-up and its bytes.
        .auto_date_header(false)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(ERROR_RESETS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_MAX);
    builder
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::service::service_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinHandle;

    use super::*;

    /// What a client sends first over HTTP/2, and an empty SETTINGS frame.
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

    async fn listening() -> (SocketAddr, watch::Sender<bool>, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (closing, closed) = watch::channel(false);
        let service = |_| {
            service_fn(|_| async {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"fine"))))
            })
        };
        let served = tokio::spawn(serve(listener, Budget::default(), service, closed));
        (address, closing, served)
    }

    async fn all_of(mut stream: TcpStream) -> String {
        let mut text = Vec::new();
        // A reset after the answer ends it as well as a close does.
        let _ = stream.read_to_end(&mut text).await;
        String::from_utf8_lossy(&text).into_owned()
    }

    #[tokio::test]
    async fn both_versions_of_http_are_spoken_on_one_port() {
        let (address, _closing, _served) = listening().await;
        let mut old = TcpStream::connect(address).await.unwrap();
        old.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        assert!(all_of(old).await.ends_with("\r\n\r\nfine"));
        let mut new = TcpStream::connect(address).await.unwrap();
        new.write_all(PREFACE).await.unwrap();
        let mut frame = [0; 9];
        new.read_exact(&mut frame).await.unwrap();
        assert_eq!(frame[3], 4, "a SETTINGS frame comes first");
    }

    #[tokio::test]
    async fn a_head_without_end_is_refused() {
        let (address, _closing, _served) = listening().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        let line = [b"x: ".as_slice(), &[b'y'; 1000], b"\r\n"].concat();
        for _ in 0..100 {
            if stream.write_all(&line).await.is_err() {
                break;
            }
        }
        let answer = all_of(stream).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
            "{answer}"
        );
    }

    #[tokio::test]
    async fn closing_ends_connections_that_wait_for_a_call() {
        let (address, closing, served) = listening().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(PREFACE).await.unwrap();
        let mut frame = [0; 9];
        stream.read_exact(&mut frame).await.unwrap();
        closing.send(true).unwrap();
        served.await.unwrap();
        all_of(stream).await;
        assert!(
            TcpStream::connect(address).await.is_err(),
            "nobody listens any more"
        );
    }
}
