//! Accepts peers.
//!
//! An accept loop of our own, because tonic's leaves connections running when it is dropped: a member that ended inside
//! a longer-lived process would go on answering.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::task::JoinSet;

use super::service::Service;
use crate::connection::Guarded;
use crate::network::{Listener, Stream};

/// Connections at one time: three for each of at most a dozen members, and whoever asks to join.
const CONNECTIONS_MAX: usize = 256;
/// Connections from one address: a dozen members may share a machine, and a stranger on another one must not keep them
/// out. Members, unlike clients, reach each other without address translation.
const ADDRESS_CONNECTIONS_MAX: usize = 64;
/// Streams one peer may have open; it needs a handful.
const STREAMS_MAX: u32 = 256;
/// Pause after a failed accept, or it would be tried again at once for as long as files are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
const PROBE: Duration = Duration::from_secs(2);

pub(in crate::raft) async fn serve(listener: Listener, service: Service) {
    let mut connections = JoinSet::new();
    let mut by_address: HashMap<IpAddr, usize> = HashMap::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => accepted,
            Some(ended) = connections.join_next() => {
                // A connection whose task failed stays counted; panics end the process.
                if let Ok(address) = ended {
                    leave(&mut by_address, address);
                }
                continue;
            }
        };
        match accepted {
            Ok((stream, peer)) => {
                let address = peer.ip().to_canonical();
                let open = by_address.entry(address).or_default();
                if *open >= ADDRESS_CONNECTIONS_MAX {
                    tracing::debug!(%peer, "too many connections from one address");
                    continue;
                }
                *open += 1;
                let service = service.clone();
                connections.spawn(async move {
                    if let Err(error) = connection(stream, service).await {
                        tracing::debug!(%peer, %error, "a peer's connection ended");
                    }
                    address
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a peer");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn leave(by_address: &mut HashMap<IpAddr, usize>, address: IpAddr) {
    if let Some(open) = by_address.get_mut(&address) {
        *open -= 1;
        if *open == 0 {
            by_address.remove(&address);
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
            TokioIo::new(Guarded::new(stream)),
            TowerToHyperService::new(service.server()),
        )
        .await
}
