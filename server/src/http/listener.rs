//! The accept loop of every door: accepts connections, bounds what each may take, and ends them in order.
//!
//! HTTP/1.1 and HTTP/2 on one port, told apart by the first bytes. The loop is our own, because tonic's leaves
//! connections running when it is dropped: a member that ended inside a longer-lived process would go on answering.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::access::IsSecure;
use super::endpoint::{Endpoint, Security};
use super::guard::{Guarded, HEAD_MAX};
use super::limits::Limits;
use super::remote::Remote;
use crate::budget::{Budget, Share};
use crate::clock::Moment;
use crate::metrics::metrics;
use crate::network::Stream;
use crate::tls::ClientCertificate;

/// How often a connection is looked at beside its calls.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Looks in a row without a call, after which a connection is evicted while there are nearly too many: its client, if
/// it is one, connects again when it has something to ask.
const IDLE_LOOKS_MAX: u32 = 2;
/// Looks in a row during which its client took nothing of its answers, after which a connection is evicted while
/// memory is short.
const STALLED_LOOKS_MAX: u32 = 2;
/// Pause after `accept` failed for want of descriptors or memory: trying again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The time between two log lines about rejected connections; all are counted.
const SAY_INTERVAL: Duration = Duration::from_secs(1);
/// How long calls under way may take when the door closes.
const CLOSE_MAX: Duration = Duration::from_millis(500);

/// Serves `listener` until `closing` turns true, then waits a moment for calls under way. `service` makes what answers
/// one connection, from the part of `budget` that the connection has.
///
/// Dropping the future closes every connection.
pub async fn serve<S, B>(
    endpoint: impl Into<Endpoint>,
    limits: Limits,
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
    let endpoint = endpoint.into();
    let crowded = Arc::new(AtomicBool::new(false));
    let mut connections = JoinSet::new();
    let mut addresses = Addresses::new(limits.address_connections_max);
    loop {
        crowded.store(
            connections.len() >= limits.connections_max / 4 * 3,
            Ordering::Relaxed,
        );
        tokio::select! {
            () = closed(&mut closing) => break,
            // A connection whose task failed stays counted; panics end the process.
            Some(ended) = connections.join_next() => if let Ok(address) = ended {
                addresses.leave(address);
            },
            accepted = endpoint.accept(), if connections.len() < limits.connections_max => match accepted {
                Ok((stream, from)) => {
                    let address = from.map(|from| from.ip().to_canonical());
                    if !addresses.enter(address) {
                        tracing::debug!(?from, "too many connections from one address");
                        continue;
                    }
                    let share = budget.share();
                    let evicted = evicted(limits.evicts, share.clone(), crowded.clone());
                    let service = service(share);
                    let security = endpoint.security();
                    let closing = closing.clone();
                    let serving = async move {
                        let securing = secured(security, stream, from, limits.side, closing.clone());
                        if let Some((stream, certificate)) = securing.await {
                            let service = Identified {
                                service,
                                is_secure: matches!(stream, Stream::Secure(_)),
                                remote: Remote {
                                    address: from,
                                    certificate,
                                },
                            };
                            connection(stream, limits, service, evicted, closing).await;
                        }
                    };
                    connections.spawn(async move {
                        serving.await;
                        address
                    });
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(endpoint);
    let all_closed = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(CLOSE_MAX, all_closed).await.is_err() {
        tracing::debug!(connections = connections.len(), "connections were cut");
    }
}

/// Serves `listener` until it is dropped, without counting what calls hold.
pub async fn serve_until_dropped<S, B>(endpoint: impl Into<Endpoint>, limits: Limits, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (_open, closing) = watch::channel(false);
    let service = move |_| service.clone();
    serve(endpoint, limits, Budget::default(), service, closing).await;
}

/// Open connections by where they come from, if that is bounded.
struct Addresses {
    max: Option<usize>,
    open: HashMap<IpAddr, usize>,
}

impl Addresses {
    fn new(max: Option<usize>) -> Self {
        Self {
            max,
            open: HashMap::new(),
        }
    }

    /// Counts one more, unless there are too many.
    fn enter(&mut self, address: Option<IpAddr>) -> bool {
        let (Some(max), Some(address)) = (self.max, address) else {
            return true;
        };
        let open = self.open.entry(address).or_default();
        if *open >= max {
            return false;
        }
        *open += 1;
        true
    }

    fn leave(&mut self, address: Option<IpAddr>) {
        let Some(address) = address else { return };
        if let Some(open) = self.open.get_mut(&address) {
            *open -= 1;
            if *open == 0 {
                self.open.remove(&address);
            }
        }
    }
}

/// Resolves when a connection must make room for others, with the reason.
async fn evicted(may_be: bool, share: Arc<Share>, crowded: Arc<AtomicBool>) -> &'static str {
    if !may_be {
        return std::future::pending().await;
    }
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

/// The connection once both sides have shaken hands, if they do in time.
async fn secured(
    security: Security,
    stream: Stream,
    from: Option<SocketAddr>,
    side: &'static str,
    mut closing: watch::Receiver<bool>,
) -> Option<(Stream, Option<Arc<ClientCertificate>>)> {
    let address = from.map(|from| from.ip().to_canonical());
    let shaking = tokio::time::timeout(HEAD_MAX, security.secure(stream, address));
    let shaken = tokio::select! {
        shaken = shaking => shaken,
        () = closed(&mut closing) => return None,
    };
    let error = match shaken {
        Ok(Ok(secured)) => return Some(secured),
        Ok(Err(error)) => {
            metrics()
                .connections_cut
                .with_label_values(&["handshake"])
                .inc();
            error
        }
        Err(_) => {
            metrics().connections_cut.with_label_values(&["slow"]).inc();
            std::io::Error::new(ErrorKind::TimedOut, "the TLS handshake has no end")
        }
    };
    rejected(side, from, &error);
    None
}

/// Says once for many that a connection was rejected: a client that connects wrongly must not fill the disk with our
/// lines. etcd's words, which tools look for.
fn rejected(side: &'static str, from: Option<SocketAddr>, error: &std::io::Error) {
    static SAID: Mutex<Option<Moment>> = Mutex::new(None);
    let now = Moment::now();
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.is_none_or(|said| now.since(said) >= SAY_INTERVAL) {
        *said = Some(now);
        let remote_addr = from.map(|from| from.to_string()).unwrap_or_default();
        tracing::warn!(%remote_addr, %error, "rejected connection on {side} endpoint");
    }
}

/// A connection's service, told whether it is secure, where it comes from and whose certificate the other side has.
struct Identified<S> {
    service: S,
    is_secure: bool,
    remote: Remote,
}

impl<S: Service<Request<Incoming>>> Service<Request<Incoming>> for Identified<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, mut request: Request<Incoming>) -> S::Future {
        if self.is_secure {
            request.extensions_mut().insert(IsSecure);
        }
        if let Some(certificate) = &self.remote.certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        request.extensions_mut().insert(self.remote.clone());
        self.service.call(request)
    }
}

async fn connection<S, B>(
    stream: Stream,
    limits: Limits,
    service: S,
    evicted: impl Future<Output = &'static str>,
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
    let builder = limits.builder();
    let stream = TokioIo::new(Guarded::new(stream));
    let mut connection = pin!(builder.serve_connection(stream, service));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = closed(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        why = evicted => {
            metrics().connections_cut.with_label_values(&[why]).inc();
            tracing::debug!(why, "a connection is evicted");
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

    /// The first bytes of an HTTP/2 client, and an empty SETTINGS frame.
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
        let served = tokio::spawn(serve(
            listener,
            Limits::clients(),
            Budget::default(),
            service,
            closed,
        ));
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

    #[test]
    fn one_address_cannot_take_all_connections_where_addresses_are_counted() {
        let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|text| Some(text.parse().unwrap()));
        let mut addresses = Addresses::new(Some(2));
        assert!(addresses.enter(one) && addresses.enter(one) && !addresses.enter(one));
        assert!(addresses.enter(other));
        addresses.leave(one);
        assert!(addresses.enter(one));
        let mut uncounted = Addresses::new(None);
        assert!((0..100).all(|_| uncounted.enter(one)));
    }
}
