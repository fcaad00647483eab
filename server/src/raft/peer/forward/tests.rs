//! A leader that hears everything and is never heard again.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::command::{ClusterId, Incarnation};
use crate::network::Network;
use crate::raft::peer::CallStamp;
use crate::state::{self, State};

const MARK: &[u8] = b"a batch that must not be in two places";
/// Long enough for a batch to leave that is not held back.
const WHILE: Duration = Duration::from_millis(500);

fn link(leader: &TcpListener) -> LeaderLink {
    let stamp = CallStamp {
        cluster: ClusterId(7),
        member: MemberId(2),
        incarnation: Incarnation(2),
        level_max: 1,
    };
    let state = state::Handle::new(State::in_memory());
    let url = format!("http://{}", leader.local_addr().unwrap());
    LeaderLink::new(
        Peers::new(stamp, Network::Sockets, state),
        Arc::new(move |_| vec![url.clone()]),
    )
}

fn has_left(heard: &[u8]) -> bool {
    heard.windows(MARK.len()).any(|part| part == MARK)
}

/// All that a connection brings for a while.
async fn hear(stream: &mut TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    let end = tokio::time::Instant::now() + WHILE;
    let mut part = [0; 4096];
    while let Ok(Ok(length)) = tokio::time::timeout_at(end, stream.read(&mut part)).await
        && length > 0
    {
        heard.extend_from_slice(&part[..length]);
    }
    heard
}

/// The way back breaks before the first byte of an answer.
#[tokio::test]
async fn a_batch_that_counts_as_undone_never_left() {
    let leader = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let link = link(&leader);
    let lost = tokio::spawn(link.propose((1, MemberId(1)), Bytes::from_static(MARK)));
    let (mut stream, _) = leader.accept().await.unwrap();
    let heard = hear(&mut stream).await;
    assert!(!heard.is_empty(), "the call itself arrives");
    drop(stream);
    let lost = lost.await.unwrap();
    assert_eq!(lost, Lost::Undone(Unavailable::NoLeader));
    assert!(!has_left(&heard), "it may be in the leader's log");
}

/// The way back breaks in the middle of the first answer.
#[tokio::test]
async fn a_batch_that_left_is_unknown() {
    let leader = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let link = link(&leader);
    let lost = tokio::spawn(link.propose((1, MemberId(1)), Bytes::from_static(MARK)));
    let (mut stream, _) = leader.accept().await.unwrap();
    let mut heard = hear(&mut stream).await;
    // SETTINGS, then HEADERS of stream 1: `:status: 200` of HPACK's static table; the call is taken.
    stream
        .write_all(b"\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x04\0\0\0\x01\x88")
        .await
        .unwrap();
    while !has_left(&heard) {
        let more = hear(&mut stream).await;
        assert!(!more.is_empty(), "it is held back for ever");
        heard.extend(more);
    }
    drop(stream);
    assert_eq!(lost.await.unwrap(), Lost::Unknown);
}
