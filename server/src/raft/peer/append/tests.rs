//! Streams of appends, and the call that carries heartbeats.

use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::command::{ClusterId, Incarnation, LogPosition, MemberId};
use crate::network::Network;
use crate::raft::peer::CallStamp;
use crate::raft::peer::line::{Peers, Purpose};
use crate::raft::types::{self, Entry, Log};
use crate::state::{Handle, State};
use crate::wal::{self, MemoryDisk};

fn id(index: u64) -> Log {
    types::log_id(LogPosition {
        term: 1,
        leader: MemberId(1),
        index,
    })
}

fn request(previous: Option<u64>, entries: &[u64]) -> Append {
    let vote = wal::Vote {
        term: 1,
        leader: MemberId(1),
        committed: true,
    };
    let entries = entries
        .iter()
        .map(|index| Entry::new(id(*index), EntryPayload::Blank));
    Append {
        vote: types::vote(vote),
        prev_log_id: previous.map(id),
        entries: entries.collect(),
        leader_commit: None,
    }
}

#[test]
fn a_request_is_whole_if_its_entries_follow_what_is_before_them() {
    assert!(is_whole(&request(None, &[0, 1])));
    assert!(is_whole(&request(Some(6), &[7, 8])));
    assert!(is_whole(&request(Some(6), &[])));
    assert!(!is_whole(&request(Some(6), &[9])));
    assert!(!is_whole(&request(Some(6), &[7, 9])));
    assert!(!is_whole(&request(None, &[1])));
}

#[tokio::test(start_paused = true)]
async fn a_large_entry_has_the_time_that_it_takes() {
    const PATIENCE: Duration = Duration::from_secs(1);
    let mut window = Window::new();
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(window.left_of(PATIENCE), PATIENCE, "nothing is unanswered");
    window.push(BYTES_MAX);
    assert_eq!(window.left_of(PATIENCE), PATIENCE);
    window.push(100 << 20);
    assert_eq!(window.left_of(PATIENCE), Duration::from_secs(26));
    tokio::time::advance(Duration::from_secs(26)).await;
    assert_eq!(window.left_of(PATIENCE), Duration::ZERO);
}

#[tokio::test]
async fn nothing_is_sent_from_a_request_with_a_gap_on() {
    let window = Arc::new(Mutex::new(Window::new()));
    let requests = [
        request(Some(6), &[7]),
        request(Some(7), &[9]),
        request(Some(9), &[10]),
    ];
    let sending = Sending {
        input: futures::stream::iter(requests),
        window: window.clone(),
        number: 0,
        state: Handle::new(State::in_memory()),
        counted: crate::metrics::metrics().peers.with("0"),
    };
    let sent: Vec<_> = sending.collect().await;
    assert_eq!(sent.len(), 1);
    let window = window.lock().unwrap();
    assert!(window.has_gap);
    assert_eq!(window.sent.len(), 1);
}

/// A peer that takes the call and the first heartbeat, and is never heard again.
async fn take_the_call(mut stream: TcpStream) {
    // SETTINGS, then HEADERS of stream 1: `:status: 200` of HPACK's static table.
    let taken = b"\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x04\0\0\0\x01\x88";
    stream.write_all(taken).await.unwrap();
    let mut part = [0; 4096];
    while stream.read(&mut part).await.is_ok_and(|length| length > 0) {}
}

/// Whether heartbeats with this patience open a second connection within `limit`, while the first is silent.
async fn leaves_within(patience: Duration, limit: Duration) -> bool {
    let peer = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", peer.local_addr().unwrap());
    let stamp = CallStamp {
        cluster: ClusterId(7),
        member: MemberId(1),
        incarnation: Incarnation(1),
        level_max: 1,
    };
    let peers = Peers::new(stamp, Network::Sockets, Handle::new(State::in_memory()));
    let line = peers.line(MemberId(2), &[url], Purpose::Control);
    let identity = wal::Identity::of_test(7, 1);
    let options = wal::Options {
        threaded: false,
        ..wal::Options::default()
    };
    let wal = Wal::create_on(Arc::new(MemoryDisk::default()), &identity, options).unwrap();
    let (outbox, agreement, remembered) = Default::default();
    let beside = Beside {
        outbox: &outbox,
        agreement: &agreement,
        remembered: &remembered,
        wal: &wal,
    };
    let mut heartbeats = Heartbeats::default();
    let beats = async {
        loop {
            // As openraft does: one after the other, each dropped when its time is over.
            let asked = heartbeats.ask(&line, request(Some(6), &[]), beside, true, patience);
            let _ = tokio::time::timeout(Duration::from_millis(50), asked).await;
        }
    };
    let seen = async {
        let (first, _) = peer.accept().await.unwrap();
        tokio::spawn(take_the_call(first));
        tokio::time::timeout(limit, peer.accept()).await.is_ok()
    };
    tokio::select! {
        () = beats => unreachable!("they go on"),
        seen = seen => seen,
    }
}

/// Long before the connection itself finds out, which takes four seconds.
#[tokio::test]
async fn a_heartbeat_leaves_a_call_that_died_without_a_word() {
    assert!(leaves_within(Duration::from_millis(200), Duration::from_secs(3)).await);
    // It is the patience that does it.
    assert!(!leaves_within(Duration::from_secs(60), Duration::from_secs(1)).await);
}
