//! Members to test with.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::command::{
    ClusterId, Command, Fault, Incarnation, KeyValue, Keys, KvCommand, MemberCommand, MemberId,
    MemberRecord, Order, Put, PutLease, PutValue, Query, Range, RangeFilter, Response, Revision,
    SortTarget,
};
use crate::http;
use crate::network::Network;
use crate::offload::Offload;
use crate::raft::sideband::{Inbox, Kind};
use crate::raft::{Config, Limits, Raft, refuse_older_copy};
use crate::state::{self, FEATURE_LEVEL, State, StatePlace};
use crate::wal::{Identity, MemoryDisk, Options, Wal};
use crate::watch::Hub;

pub(super) const CLUSTER: ClusterId = ClusterId(0xc0de);
pub(super) const TOKEN: &str = "test-token";

pub(super) const OPTIONS: Options = Options {
    segment_bytes: 1 << 20,
    entry_bytes_max: 1_000_000,
    recent_bytes_max: 1 << 16,
    threaded: true,
};

/// Limits that are never reached.
pub(super) const KEEP_ALL: Limits = Limits {
    entries: 1 << 40,
    bytes: 1 << 40,
    every: Duration::from_secs(3600),
};

pub(super) struct Member {
    pub(super) id: MemberId,
    pub(super) incarnation: Incarnation,
    pub(super) url: String,
    pub(super) raft: Raft,
    pub(super) state: state::Handle,
    pub(super) disk: MemoryDisk,
    serving: JoinHandle<()>,
    limits: Limits,
    level_max: u32,
}

fn identity(id: MemberId, incarnation: Incarnation) -> Identity {
    Identity {
        cluster: CLUSTER,
        member: id,
        incarnation,
        token: TOKEN.to_owned(),
        owner: String::new(),
    }
}

impl Member {
    /// A member with an empty log, that listens.
    pub(super) async fn new(id: u64, limits: Limits) -> Self {
        Self::new_with(id, limits, FEATURE_LEVEL).await
    }

    /// One of a version that knows the law up to `level_max`.
    pub(super) async fn new_with(id: u64, limits: Limits, level_max: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::new_on(id, listener, limits, level_max).await
    }

    /// A member with an empty log, where somebody was told that it would be.
    pub(super) async fn new_at(id: u64, url: &str) -> Self {
        let address = url.strip_prefix("http://").unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        Self::new_on(id, listener, KEEP_ALL, FEATURE_LEVEL).await
    }

    async fn new_on(id: u64, listener: TcpListener, limits: Limits, level_max: u32) -> Self {
        let disk = MemoryDisk::default();
        let id = MemberId(id);
        let incarnation = Incarnation(id.0 + 1000);
        let wal =
            Wal::create_on(Arc::new(disk.clone()), &identity(id, incarnation), OPTIONS).unwrap();
        let state = State::in_memory_with(level_max);
        let member = Self::run(id, incarnation, listener, disk, wal, state, limits);
        member.await.unwrap()
    }

    async fn run(
        id: MemberId,
        incarnation: Incarnation,
        listener: TcpListener,
        disk: MemoryDisk,
        wal: Wal,
        state: State,
        limits: Limits,
    ) -> Result<Self, Fault> {
        let level_max = state.feature_level_max();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let config = Config {
            id,
            cluster: CLUSTER,
            incarnation,
            token: TOKEN.to_owned(),
            peer_urls: vec![url.clone()],
            heartbeat: Duration::from_millis(50),
            election: Duration::from_millis(1000),
            state: StatePlace::Memory(None),
            raises_corrupt: true,
            limits,
            network: Network::Sockets,
            offload: Offload::Threads,
        };
        let state = state::Handle::new(state);
        let (changes, _) = mpsc::unbounded_channel();
        let (tokens, _) = mpsc::unbounded_channel();
        let (room, _) = mpsc::channel(8);
        let raft = Raft::start(
            config,
            wal,
            state.clone(),
            Hub::new(Revision(1)),
            changes,
            tokens,
            Inbox::new(Kind(1), room),
        );
        let raft = raft.await?;
        let serving = tokio::spawn(http::serve_until_dropped(
            listener,
            http::Limits::peers(),
            raft.peer_calls(),
        ));
        Ok(Self {
            id,
            incarnation,
            url,
            raft,
            state,
            disk,
            serving,
            limits,
            level_max,
        })
    }

    /// Stops it at once, as a crash of the process would; its log stays.
    pub(super) async fn stop(&self) {
        self.serving.abort();
        self.raft.core.shutdown().await.unwrap();
    }

    /// The identity in its log.
    pub(super) fn log_identity(&self) -> Identity {
        identity(self.id, self.incarnation)
    }

    /// Opens the log that it left.
    pub(super) fn log(&self) -> Wal {
        Wal::open_on(Arc::new(self.disk.clone()), OPTIONS).unwrap()
    }

    pub(super) async fn restart(self) -> Self {
        let level_max = self.level_max;
        self.restart_with(level_max).await
    }

    /// Starts it again somewhere else.
    pub(super) async fn restart_at(self, url: &str) -> Self {
        let url = url.to_owned();
        Self { url, ..self }.restart().await
    }

    /// Starts it again with another version of the program.
    pub(super) async fn restart_with(self, level_max: u32) -> Self {
        let wal = self.log();
        self.restart_on(wal, State::in_memory_with(level_max)).await
    }

    /// As [`Self::restart_with`]; an error is why it does not start.
    pub(super) async fn try_restart_with(self, level_max: u32) -> Result<Self, Fault> {
        let wal = self.log();
        self.try_restart_on(wal, State::in_memory_with(level_max))
            .await
    }

    /// As [`Self::restart`], with what was opened or received.
    pub(super) async fn restart_on(self, wal: Wal, state: State) -> Self {
        self.try_restart_on(wal, state).await.unwrap()
    }

    /// As [`Self::restart`], of a member that can ask nobody before it runs.
    pub(super) async fn restart_unasked(self) -> Self {
        let (wal, state) = (self.log(), State::in_memory_with(self.level_max));
        let listener = self.listen_again().await;
        let (id, incarnation, limits) = (self.id, self.incarnation, self.limits);
        let disk = self.disk.clone();
        drop(self);
        let member = Self::run(id, incarnation, listener, disk, wal, state, limits);
        member.await.unwrap()
    }

    async fn listen_again(&self) -> TcpListener {
        let address = self.url.strip_prefix("http://").unwrap();
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    async fn try_restart_on(self, wal: Wal, state: State) -> Result<Self, Fault> {
        let listener = self.listen_again().await;
        let (id, incarnation, limits) = (self.id, self.incarnation, self.limits);
        let disk = self.disk.clone();
        drop(self);
        // In the order of `node::start`.
        let state = state::Handle::new(state);
        let ids = (CLUSTER, id, incarnation);
        let asked = refuse_older_copy(ids, &Network::Sockets, Offload::Threads, &wal, &state);
        asked.await.map_err(Fault::Store)?;
        let state = state.into_state().expect("nobody else has it");
        Self::run(id, incarnation, listener, disk, wal, state, limits).await
    }

    /// Stores a key; the revision it took.
    pub(super) async fn put(&self, key: &str, value: &str) -> u64 {
        let outcome = self.raft.propose(put(key, value)).await.unwrap();
        outcome.result.unwrap();
        outcome.revision.0
    }

    /// This member's own value, without asking the others.
    pub(super) fn get(&self, key: &str) -> Option<String> {
        let keys = Keys::One(Bytes::copy_from_slice(key.as_bytes()));
        self.range(keys)
            .pop()
            .map(|kv| String::from_utf8(kv.value.to_vec()).unwrap())
    }

    pub(super) fn all(&self) -> Vec<KeyValue> {
        self.range(Keys::Range {
            start: Bytes::from_static(b"\0"),
            end: None,
        })
    }

    fn range(&self, keys: Keys) -> Vec<KeyValue> {
        let query = Query::Range(Range {
            keys,
            revision: None,
            limit: None,
            sort: (SortTarget::Key, Order::Ascending),
            keys_only: false,
            count_only: false,
            filter: RangeFilter::default(),
        });
        let outcome = self.state.with(|state| state.answer(&query));
        match outcome.unwrap().result.unwrap() {
            Response::Range(range) => range.kvs,
            other => panic!("{other:?}"),
        }
    }

    /// Tells the cluster that it runs.
    pub(super) async fn publish(&self) {
        self.publish_at(self.level_max).await;
    }

    /// As a version that knows this level would.
    pub(super) async fn publish_at(&self, feature_level: u32) {
        let record = MemberRecord {
            id: self.id,
            incarnation: self.incarnation,
            name: self.id.to_string(),
            client_urls: Vec::new(),
            feature_level,
        };
        self.raft
            .propose(Command::Member(MemberCommand::Publish(record)))
            .await
            .unwrap()
            .result
            .unwrap();
    }
}

/// A peer URL where nobody listens yet.
pub(super) async fn free_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

pub(super) fn put(key: &str, value: &str) -> Command {
    Command::Kv(KvCommand::Put(Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: PutValue::Set(Bytes::copy_from_slice(value.as_bytes())),
        lease: PutLease::Set(None),
        prev_kv: false,
    }))
}

pub(super) struct Cluster {
    pub(super) members: Vec<Member>,
}

impl Cluster {
    /// Starts `count` voters that have a leader and have published themselves.
    pub(super) async fn start(count: u64) -> Self {
        Self::start_with(count, KEEP_ALL).await
    }

    pub(super) async fn start_with(count: u64, limits: Limits) -> Self {
        let mut members = Vec::new();
        for id in 1..=count {
            members.push(Member::new(id, limits).await);
        }
        Self::form(members).await
    }

    /// As [`Cluster::start`], of members that know the law up to these levels.
    pub(super) async fn start_at(levels: &[u32]) -> Self {
        let mut members = Vec::new();
        for (id, level) in (1..).zip(levels) {
            members.push(Member::new_with(id, KEEP_ALL, *level).await);
        }
        Self::form(members).await
    }

    async fn form(members: Vec<Member>) -> Self {
        let all: Vec<_> = members
            .iter()
            .map(|member| (member.id, vec![member.url.clone()]))
            .collect();
        for member in &members {
            member.raft.initialize(all.clone()).await.unwrap();
        }
        let cluster = Self { members };
        cluster.leader().await;
        for member in &cluster.members {
            member.publish().await;
        }
        cluster
    }

    /// The member that leads, once there is one that runs.
    pub(super) async fn leader(&self) -> &Member {
        loop {
            let leads =
                |member: &&Member| !member.serving.is_finished() && member.raft.status().is_leader;
            if let Some(leader) = self.members.iter().find(leads) {
                return leader;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The place of a member that does not lead.
    pub(super) fn follower(&self) -> usize {
        self.members
            .iter()
            .position(|member| !member.raft.status().is_leader)
            .unwrap()
    }

    pub(super) async fn stop(&mut self, place: usize) {
        self.members[place].stop().await;
    }

    pub(super) async fn restart(&mut self, place: usize) {
        let member = self.members.remove(place).restart().await;
        self.members.insert(place, member);
    }

    /// Every member has applied the same.
    pub(super) async fn assert_identical(&self) {
        let mut seen = None;
        for member in &self.members {
            member.raft.read_barrier().await.unwrap();
            let now = (member.all(), member.state.with(|state| state.revision()));
            assert_eq!(
                seen.get_or_insert_with(|| now.clone()),
                &now,
                "member {}",
                member.id
            );
        }
    }
}
