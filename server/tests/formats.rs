//! The files of earlier versions can be read: `tests/formats/VERSION` keeps a data directory and a snapshot of each.
//!
//! `data.tar.gz` is what a member's program left behind, `snapshot.gz` its state as it goes between members, `says.txt`
//! what both of them and the log alone must say. `UPDATE=1` makes those of a new version; those that exist never change.

#![expect(
    clippy::unwrap_used,
    reason = "a fixture that is missing ends the test"
)]

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use coord_proto::etcd::etcdserverpb as pb;
use coord_proto::etcd::etcdserverpb::kv_client::KvClient;
use coord_proto::etcd::etcdserverpb::lease_client::LeaseClient;
use coord_server::command::{
    Keys, Order, Query, Range, RangeFilter, Response, Revision, SortTarget, codec,
};
use coord_server::state::{FEATURE_LEVEL, Handle, SnapshotWriter, State};
use coord_server::wal::{Options, Payload, Wal};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

/// The version whose bytes this build writes. A new one is for a change of formats.
const VERSION: &str = "1";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats")
}

/// Every version that left something.
fn versions() -> Vec<PathBuf> {
    let mut versions: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    versions.sort();
    assert!(
        versions.contains(&folder().join(VERSION)),
        "UPDATE=1 makes it"
    );
    versions
}

/// The data directory of a version, unpacked.
fn unpacked(version: &Path) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new("tar")
        .args(["-xzf"])
        .arg(version.join("data.tar.gz"))
        .arg("-C")
        .arg(dir.path())
        .status()
        .unwrap();
    assert!(status.success());
    let data = dir.path().join("data");
    (dir, data)
}

fn says(version: &Path) -> String {
    fs::read_to_string(version.join("says.txt")).unwrap()
}

/// All that a state says, at every revision that can be asked for.
fn dump(state: &State) -> String {
    let mut said = String::new();
    let floor = state.compacted().map_or(1, |floor| floor.0);
    writeln!(
        said,
        "revision {} compacted {floor} level {}",
        state.revision(),
        state.feature_level()
    )
    .unwrap();
    for revision in floor..=state.revision().0 {
        let query = Query::Range(Range {
            keys: Keys::Range {
                start: Bytes::from_static(b"\0"),
                end: None,
            },
            revision: Some(Revision(revision)),
            limit: None,
            sort: (SortTarget::Key, Order::Ascending),
            keys_only: false,
            count_only: false,
            filter: RangeFilter::default(),
        });
        let Ok(Response::Range(found)) = state.answer(&query).unwrap().result else {
            panic!("revision {revision} cannot be read");
        };
        writeln!(said, "at {revision}: {} keys", found.count).unwrap();
        for pair in found.kvs {
            writeln!(
                said,
                "  {:?} = {:?} created {} modified {} version {} lease {:?}",
                pair.key,
                pair.value,
                pair.create_revision,
                pair.mod_revision,
                pair.version,
                pair.lease.map(|lease| lease.0)
            )
            .unwrap();
        }
    }
    for lease in state.leases() {
        writeln!(
            said,
            "lease {} granted {} s, {} s left on record",
            lease.id.0, lease.ttl_seconds, lease.remaining_seconds
        )
        .unwrap();
    }
    for member in state.members() {
        writeln!(
            said,
            "member {:x} incarnation {:x} {:?} {:?} level {}",
            member.id.0,
            member.incarnation.0,
            member.name,
            member.client_urls,
            member.feature_level
        )
        .unwrap();
    }
    said
}

#[test]
fn the_state_of_every_version_can_be_read() {
    for version in versions() {
        let (_dir, data) = unpacked(&version);
        let state = State::open(&data.join("state")).unwrap();
        assert_eq!(dump(&state), says(&version), "{}", version.display());
    }
}

#[test]
fn the_log_of_every_version_makes_the_same_state() {
    for version in versions() {
        let (_dir, data) = unpacked(&version);
        let log = Wal::open(&data.join("wal"), Options::default()).unwrap();
        let mut state = State::in_memory();
        let ends = log.ends();
        assert_eq!(ends.purged, None, "a short log holds everything");
        let end = ends.last.unwrap().index + 1;
        let entries = log.read(0, end, usize::MAX).unwrap();
        for entry in entries {
            match entry.payload {
                Payload::Blank => state.apply_blank(entry.position).unwrap(),
                Payload::Membership(bytes) => {
                    state.apply_membership(entry.position, bytes).unwrap();
                }
                Payload::Proposals(proposals) => {
                    let envelope = codec::decode_envelope(proposals.bytes()).unwrap();
                    state.apply(entry.position, &envelope).unwrap();
                }
            }
        }
        assert_eq!(dump(&state), says(&version), "{}", version.display());
    }
}

#[test]
fn the_snapshot_of_every_version_can_be_received() {
    for version in versions() {
        let mut chunks = Vec::new();
        let file = fs::File::open(version.join("snapshot.gz")).unwrap();
        GzDecoder::new(file).read_to_end(&mut chunks).unwrap();
        let mut chunks = Bytes::from(chunks);
        let mut writer = SnapshotWriter::in_memory();
        while !chunks.is_empty() {
            let length = chunks.split_to(4);
            let length = u32::from_be_bytes(length.as_ref().try_into().unwrap());
            writer
                .write_chunk(chunks.split_to(length as usize))
                .unwrap();
        }
        let state = Handle::new(State::in_memory());
        writer.finish().unwrap().install(&state).unwrap();
        let state = state.into_state().unwrap();
        assert_eq!(dump(&state), says(&version), "{}", version.display());
    }
}

#[tokio::test]
async fn the_program_starts_on_the_data_of_every_version() {
    for version in versions() {
        let (_dir, data) = unpacked(&version);
        let member = Member::start(&data);
        let answer = member.kv().await.range(everything()).await.unwrap();
        let first = says(&version);
        let revision = first.split(' ').nth(1).unwrap().parse::<i64>().unwrap();
        let answer = answer.into_inner();
        assert_eq!(answer.header.unwrap().revision, revision);
        let last = first.rsplit("at ").next().unwrap();
        assert!(last.starts_with(&format!("{revision}: {} keys", answer.kvs.len())));
        let put = pb::PutRequest {
            key: "next".into(),
            ..pb::PutRequest::default()
        };
        let answer = member.kv().await.put(put).await.unwrap().into_inner();
        assert_eq!(answer.header.unwrap().revision, revision + 1);
    }
}

/// Makes the fixtures of [`VERSION`] if they are not there and `UPDATE` asks for them.
#[tokio::test]
async fn a_version_is_kept_once() {
    let version = folder().join(VERSION);
    if version.exists() || std::env::var_os("UPDATE").is_none() {
        assert!(says(&version).lines().count() > 20, "it says too little");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let member = Member::start(&data);
    fill(&member).await;
    member.stop();
    let made = tempfile::tempdir().unwrap();
    let status = Command::new("tar")
        .args(["-czSf"])
        .arg(made.path().join("data.tar.gz"))
        .arg("-C")
        .arg(dir.path())
        .arg("data")
        .status()
        .unwrap();
    assert!(status.success());
    let mut state = State::open(&data.join("state")).unwrap();
    let file = fs::File::create(made.path().join("snapshot.gz")).unwrap();
    let mut file = GzEncoder::new(file, Compression::best());
    let mut reader = state.begin_snapshot();
    while let Some(chunk) = reader.next_chunk(&mut state).unwrap() {
        let length = u32::try_from(chunk.len()).unwrap();
        file.write_all(&length.to_be_bytes()).unwrap();
        file.write_all(&chunk).unwrap();
    }
    file.finish().unwrap();
    fs::write(made.path().join("says.txt"), dump(&state)).unwrap();
    fs::create_dir_all(&version).unwrap();
    for file in ["data.tar.gz", "snapshot.gz", "says.txt"] {
        fs::copy(made.path().join(file), version.join(file)).unwrap();
    }
}

/// A member of its own, ended when this is dropped.
struct Member {
    child: Child,
    client: String,
}

impl Member {
    /// Starts the program on a data directory and waits until it serves.
    fn start(data: &Path) -> Self {
        let [client, peer] = [(); 2].map(|()| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            format!("http://{}", listener.local_addr().unwrap())
        });
        let mut child = Command::new(env!("CARGO_BIN_EXE_coord-server"))
            .arg(format!("--data-dir={}", data.display()))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--initial-cluster=default={peer}"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut lines = log.lines().map(Result::unwrap);
        let ready = lines.find(|line| line.contains("ready to serve client requests"));
        assert!(ready.is_some(), "the member ended before it served");
        // Goes on reading, so that the member never waits for somebody to.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, client }
    }

    /// Ends it in order: the state on the disk is then what the log makes.
    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    fn metrics(&self) -> String {
        let mut connection = TcpStream::connect(&self.client["http://".len()..]).unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nhost: member\r\nconnection: close\r\n\r\n";
        connection.write_all(request).unwrap();
        let mut page = String::new();
        connection.read_to_string(&mut page).unwrap();
        page
    }

    async fn kv(&self) -> KvClient<tonic::transport::Channel> {
        KvClient::connect(self.client.clone()).await.unwrap()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn everything() -> pb::RangeRequest {
    pb::RangeRequest {
        key: b"\0".as_ref().into(),
        range_end: b"\0".as_ref().into(),
        ..pb::RangeRequest::default()
    }
}

/// Something of everything that is stored.
async fn fill(member: &Member) {
    let mut kv = member.kv().await;
    let put = |key: &str, value: &str, lease| pb::PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        lease,
        ..pb::PutRequest::default()
    };
    let mut leases = LeaseClient::connect(member.client.clone()).await.unwrap();
    for (id, ttl) in [(7, 600), (8, 6_000_000)] {
        let grant = pb::LeaseGrantRequest { id, ttl };
        leases.lease_grant(grant).await.unwrap();
    }
    for number in 0..40 {
        let lease = [0, 7, 8][number % 3];
        let key = format!("key/{:02}", number % 12);
        kv.put(put(&key, &format!("value {number}"), lease))
            .await
            .unwrap();
    }
    kv.put(put("\u{0}\u{ff}odd", "", 0)).await.unwrap();
    let delete = pb::DeleteRangeRequest {
        key: "key/03".into(),
        range_end: "key/06".into(),
        ..pb::DeleteRangeRequest::default()
    };
    kv.delete_range(delete).await.unwrap();
    let compact = pb::CompactionRequest {
        revision: 30,
        physical: true,
    };
    kv.compact(compact).await.unwrap();
    leases
        .lease_revoke(pb::LeaseRevokeRequest { id: 7 })
        .await
        .unwrap();
    kv.put(put("key/04", "again", 8)).await.unwrap();
    let level = format!("coord_feature_level {FEATURE_LEVEL}\n");
    while !member.metrics().contains(&level) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
