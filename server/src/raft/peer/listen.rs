//! Accepts peers.
//!
//! An accept loop of our own, because tonic's leaves connections running when it is dropped: a member that ended inside
//! a longer-lived process would go on answering.

use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::task::JoinSet;

use super::service::Service;
use crate::network::{Listener, Stream};

/// Connections at one time: three for each of at most a dozen members, and whoever asks to join.
const CONNECTIONS_MAX: usize = 256;
/// Streams one peer may have open; it needs a handful.
const STREAMS_MAX: u32 = 256;
/// Pause after a failed accept, or it would be tried again at once for as long as files are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
const PROBE: Duration = Duration::from_secs(2);

pub(in crate::raft) async fn serve(listener: Listener, service: Service) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                let service = service.clone();
                connections.spawn(async move {
                    if let Err(error) = connection(stream, service).await {
                        tracing::debug!(%peer, %error, "a peer's connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a peer");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: Stream, service: Service) -> Result<(), hyper::Error> {
    if let Err(error) = stream.set_nodelay() {
        tracing::debug!(%error, "a peer's connection stays slow");
    }
    http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PROBE)
        .keep_alive_timeout(PROBE * 2)
        .serve_connection(
            TokioIo::new(stream),
            TowerToHyperService::new(service.server()),
        )
        .await
}
