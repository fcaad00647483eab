//! Messages of every version: each that a test pins is kept in `tests/formats/VERSION/peer.txt`, by its name and in
//! hexadecimal, and every later build must read it. `UPDATE=1` adds those of a new version.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use coord_proto::peer as wire;
use prost::Message;

use crate::raft::peer::convert;

/// The version whose messages this build sends, as in `tests/formats.rs`.
const VERSION: &str = "1";

fn kept(version: &Path) -> PathBuf {
    version.join("peer.txt")
}

fn versions() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats")
}

/// Finds a line among the messages of this version; `UPDATE=1` adds it.
#[track_caller]
pub(super) fn keep(line: &str) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let path = kept(&versions().join(VERSION));
    let found = fs::read_to_string(&path).unwrap_or_default();
    let mut lines: BTreeSet<&str> = found.lines().collect();
    if lines.insert(line) {
        assert!(std::env::var_os("UPDATE").is_some(), "not kept: {line}");
        let lines: Vec<&str> = lines.into_iter().collect();
        fs::write(&path, lines.join("\n") + "\n").unwrap();
    }
}

/// Whether this build reads a message, by its name, and reads something in it.
fn reads(name: &str, bytes: &[u8]) -> bool {
    fn read<M: Message + Default, T, E>(
        bytes: &[u8],
        convert: impl FnOnce(M) -> Result<T, E>,
    ) -> bool {
        M::decode(bytes).is_ok_and(|message| convert(message).is_ok())
    }
    fn taken<M>(message: M) -> Result<M, ()> {
        Ok(message)
    }
    match name {
        "AppendRequest" => read(bytes, convert::read_append),
        "AppendResponse" => read(bytes, convert::read_appended),
        "VoteRequest" => read(bytes, convert::read_vote_request),
        "VoteResponse" => read(bytes, convert::read_vote_response),
        "TransferRequest" => read(bytes, convert::read_transfer),
        "ChangeRequest" => read(bytes, convert::read_change),
        "ForwardRequest" => read(bytes, |message: wire::ForwardRequest| {
            message.ask.ok_or("it asks for nothing known")
        }),
        "ForwardResponse" => read(bytes, |message: wire::ForwardResponse| {
            message.answer.ok_or("it answers nothing known")
        }),
        "SnapshotRequest" => read(bytes, |message: wire::SnapshotRequest| {
            message.part.ok_or("it has no known part")
        }),
        "CollectRequest" => read(bytes, |message: wire::CollectRequest| {
            message.ask.ok_or("it asks nothing")
        }),
        "Sideband" => read(bytes, taken::<wire::Sideband>),
        "TransferResponse" => read(bytes, taken::<wire::TransferResponse>),
        "SnapshotResponse" => read(bytes, taken::<wire::SnapshotResponse>),
        "ChangeResponse" => read(bytes, taken::<wire::ChangeResponse>),
        "FetchRequest" => read(bytes, taken::<wire::FetchRequest>),
        "FetchResponse" => read(bytes, taken::<wire::FetchResponse>),
        "ConfirmRequest" => read(bytes, taken::<wire::ConfirmRequest>),
        "ConfirmResponse" => read(bytes, taken::<wire::ConfirmResponse>),
        "RememberResponse" => read(bytes, taken::<wire::RememberResponse>),
        "JoinRequest" => read(bytes, taken::<wire::JoinRequest>),
        "JoinResponse" => read(bytes, taken::<wire::JoinResponse>),
        _ => false,
    }
}

#[test]
fn messages_of_every_version_are_read() {
    let mut seen = 0;
    for version in fs::read_dir(versions()).unwrap() {
        let path = kept(&version.unwrap().path());
        for line in fs::read_to_string(&path).unwrap_or_default().lines() {
            let (name, hex) = line.split_once(' ').unwrap_or((line, ""));
            let bytes: Vec<u8> = (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                .collect();
            assert!(reads(name, &bytes), "{}: {line}", path.display());
            seen += 1;
        }
    }
    let is_made = seen > 40 || std::env::var_os("UPDATE").is_some();
    assert!(
        is_made,
        "only {seen} messages are kept: UPDATE=1 adds those that are pinned"
    );
}
