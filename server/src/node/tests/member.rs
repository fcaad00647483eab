//! A member without Raft: its log and its state in one directory, written as the engine writes them and opened as a
//! start opens them. An opened member applies the entries that Raft would commit.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::command::{
    ClusterId, Command, DeleteRange, Envelope, Fault, Incarnation, Keys, KvCommand, LeaseId,
    LogPosition, MemberId, Principal, Proposal, Put, PutLease, PutValue, Query, Response,
    UnixMillis, codec,
};
use crate::node::{LogPlace, directory, stored};
use crate::state::{FEATURE_LEVEL, Handle, SnapshotWriter, State, StatePlace, resident_bytes_max};
use crate::wal::{self, Entry, Identity, Payload, Proposals, Vote, Wal};

/// Segments of four blocks, so that a small history fills several.
const OPTIONS: wal::Options = wal::Options {
    segment_bytes: 4 * 4096,
    entry_bytes_max: 2 * 4096,
    recent_bytes_max: 1 << 20,
    threaded: false,
};

/// The Raft room's bytes of a membership: member 1, a voter, at `http://a:1`.
const ONE_MEMBER: &[u8] = b"\x02\x01\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0\
                            \x01\0\0\0\x01\0\0\0\0\0\0\0\0\x01\0\0\0\x0a\0\0\0http://a:1";

pub(super) struct Member {
    wal: Wal,
    state: State,
    next: u64,
}

fn at(index: u64) -> LogPosition {
    LogPosition {
        term: 1,
        leader: MemberId(1),
        index,
    }
}

impl Member {
    /// A new member below `dir`.
    pub(super) fn create(dir: &Path) -> Self {
        let identity = Identity {
            cluster: ClusterId(0xc1),
            member: MemberId(1),
            incarnation: Incarnation(0x11),
            token: "token".to_owned(),
            owner: String::new(),
        };
        fs::create_dir_all(dir).unwrap();
        let wal = Wal::create(&directory::wal(dir), &identity, OPTIONS).unwrap();
        let state = stored::state(&state_place(dir)).unwrap();
        let mut member = Self {
            wal,
            state,
            next: 0,
        };
        member.vote(Vote {
            term: 1,
            leader: MemberId(1),
            committed: true,
        });
        member.log(Payload::Membership(Bytes::from_static(ONE_MEMBER)));
        member.log(Payload::Blank);
        member
    }

    fn vote(&self, vote: Vote) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(self.wal.save_vote(vote)).unwrap();
    }

    /// Appends an entry, durably, and applies it.
    fn log(&mut self, payload: Payload) {
        let entry = Entry {
            position: at(self.next),
            payload,
        };
        self.wal
            .append([entry.clone()], |written| written.unwrap())
            .unwrap();
        self.wal.save_committed(entry.position).unwrap();
        apply(&mut self.state, &entry).unwrap();
        self.next += 1;
    }

    pub(super) fn run(&mut self, command: Command) {
        let envelope = Envelope {
            feature_level: FEATURE_LEVEL,
            leader_time: UnixMillis(1_700_000_000_000 + self.next),
            proposals: vec![Proposal {
                origin: MemberId(1),
                run: 1,
                sequence: self.next,
                principal: Principal::System,
                command,
            }],
        };
        let bytes = codec::encode_envelope(&envelope);
        self.log(Payload::Proposals(Proposals::new(bytes, envelope)));
    }

    /// The index of the last entry.
    pub(super) fn last(&self) -> u64 {
        self.next - 1
    }

    /// Replaces the state by a snapshot of itself, as one from a leader is installed.
    pub(super) fn install_own_snapshot(&mut self, dir: &Path) {
        let mut writer = SnapshotWriter::create(&directory::state(dir)).unwrap();
        let mut reader = self.state.begin_snapshot();
        while let Some(chunk) = reader.next_chunk(&mut self.state).unwrap() {
            writer.write_chunk(chunk).unwrap();
        }
        let placeholder = std::mem::replace(&mut self.state, State::in_memory());
        let state = Handle::new(placeholder);
        writer.finish().unwrap().install(&state).unwrap();
        self.state = state.into_state().unwrap();
    }

    /// Everything it holds.
    pub(super) fn contents(&mut self) -> Contents {
        read(&self.wal, &mut self.state).unwrap()
    }

    /// Makes the state durable, as before the log is cut; answers up to where.
    pub(super) fn persist(&self) -> LogPosition {
        self.state
            .persist()
            .blocking_recv()
            .unwrap()
            .unwrap()
            .unwrap()
    }

    /// Cuts the log up to `to`, which must be durable in the state.
    pub(super) fn purge(&self, to: LogPosition) {
        self.wal.purge(to).unwrap();
        self.wal.step();
    }
}

/// A put.
pub(super) fn put(key: &str, value: &[u8], lease: Option<LeaseId>) -> Command {
    Command::Kv(KvCommand::Put(Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: PutValue::Set(Bytes::copy_from_slice(value)),
        lease: PutLease::Set(lease),
        prev_kv: false,
    }))
}

/// A delete.
pub(super) fn delete(key: &str) -> Command {
    Command::Kv(KvCommand::DeleteRange(DeleteRange {
        keys: Keys::One(Bytes::copy_from_slice(key.as_bytes())),
        prev_kv: false,
    }))
}

fn apply(state: &mut State, entry: &Entry) -> Result<(), Fault> {
    match &entry.payload {
        Payload::Blank => state.apply_blank(entry.position),
        Payload::Membership(members) => state.apply_membership(entry.position, members.clone()),
        Payload::Proposals(proposals) => {
            let envelope = proposals
                .take_envelope(codec::decode_envelope)
                .map_err(|why| Fault::UnknownEntry {
                    index: entry.position.index,
                    why: why.to_string(),
                })?;
            state.apply(entry.position, &envelope).map(|_| ())
        }
    }
}

/// Everything a member holds.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Contents {
    identity: Identity,
    ends: wal::Ends,
    vote: Option<Vote>,
    entries: Vec<(LogPosition, Option<Bytes>)>,
    /// The whole state with its history, as a snapshot.
    state: Vec<Bytes>,
    /// Each lease and the keys that are attached to it.
    leases: Vec<(LeaseId, Vec<Bytes>)>,
}

impl Contents {
    /// Whether the state says the same; the log may have been cut elsewhere.
    pub(super) fn is_same_state(&self, other: &Self) -> bool {
        (&self.state, &self.leases) == (&other.state, &other.leases)
    }

    /// The index of the last entry.
    pub(super) fn last(&self) -> Option<u64> {
        self.ends.last.map(|last| last.index)
    }
}

/// Opens what is below `dir` as a start does, applies what is logged, and reads everything.
pub(super) fn contents(dir: &Path) -> Result<Contents, Fault> {
    let no_member = || Fault::Store("no member has lived here".to_owned());
    let wal = stored::log(&LogPlace::Directory(dir.to_owned()))?.ok_or_else(no_member)?;
    let mut state = stored::state(&state_place(dir))?;
    if let Some((fault, _)) = stored::gap(&wal, &state) {
        return Err(fault);
    }
    let applied = state.applied().map_or(0, |applied| applied.index + 1);
    for entry in wal.read(applied, u64::MAX, usize::MAX)? {
        apply(&mut state, &entry)?;
    }
    read(&wal, &mut state)
}

fn read(wal: &Wal, state: &mut State) -> Result<Contents, Fault> {
    let entries = wal.read(0, u64::MAX, usize::MAX)?;
    let mut reader = state.begin_snapshot();
    let mut chunks = Vec::new();
    while let Some(chunk) = reader.next_chunk(state)? {
        chunks.push(chunk);
    }
    let mut leases = Vec::new();
    for lease in state.leases() {
        let query = Query::Lease {
            id: lease.id,
            keys: true,
        };
        match state.answer(&query)?.result {
            Ok(Response::Lease(Some(found))) => leases.push((lease.id, found.keys)),
            other => panic!("{other:?}"),
        }
    }
    Ok(Contents {
        identity: wal.identity().clone(),
        ends: wal.ends(),
        vote: wal.vote(),
        entries: entries
            .into_iter()
            .map(|entry| (entry.position, entry.payload.bytes().cloned()))
            .collect(),
        state: chunks,
        leases,
    })
}

/// All files below `dir`, by their path from there, in order.
pub(super) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(dir).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn state_place(dir: &Path) -> StatePlace {
    StatePlace::Directory {
        path: directory::state(dir),
        resident_bytes_max: resident_bytes_max(u64::MAX),
    }
}
