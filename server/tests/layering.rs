//! Holds the house to its plan: which room may name which (docs/architecture.md), read from the `crate::` paths in
//! the code, and which outside crate only one room may name.

#![expect(
    clippy::unwrap_used,
    reason = "clippy lets only the test functions themselves unwrap, not what they call"
)]

#[path = "layering/circles.rs"]
mod circles;
#[path = "layering/source.rs"]
mod source;

use source::rooms_named;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A room, and the rooms it may name. Rooms stand from door to base; an arrow points down the page but for those
/// that the design lists.
const ROOMS: &[(&str, &[&str])] = &[
    ("main", &["*"]),
    ("node", &["*"]),
    ("cli", &[]),
    ("config", &["cli", "tls", "auth", "audit", "go_duration"]),
    ("telemetry", &[]),
    // Only in tests.
    ("fuzz", &["etcd", "state", "wal", "command"]),
    // doors
    (
        "etcd",
        &[
            "coordinator",
            "watch",
            "command",
            "clock",
            "cli",
            // The form of a peer URL.
            "config",
            "http",
            "budget",
            "audit",
            "metrics",
            "steps",
            "go_duration",
            // A snapshot is a file of etcd's, put in order in files of its own.
            "bbolt",
            "scratch",
        ],
    ),
    (
        "admin",
        &["coordinator", "command", "metrics", "cli", "http"],
    ),
    // front
    ("http", &["budget", "metrics", "network", "tls", "clock"]),
    ("budget", &[]),
    // engine
    (
        "coordinator",
        &[
            "raft",
            "countdown",
            "state",
            "watch",
            "auth",
            "command",
            "metrics",
            "steps",
            // Rows are read ahead where a thread may wait.
            "offload",
            // It hands on where copies are sorted.
            "scratch",
        ],
    ),
    // Users and permissions are law; this room knows passwords and tokens.
    ("auth", &["command", "clock", "offload", "go_duration"]),
    (
        "raft",
        &[
            "state",
            "watch",
            "wal",
            "command",
            "clock",
            "metrics",
            "network",
            "offload",
            "failpoints",
            "steps",
            "tls",
        ],
    ),
    ("watch", &["command"]),
    (
        "countdown",
        &["raft", "state", "command", "clock", "failpoints"],
    ),
    ("auto_compaction", &["coordinator", "command", "config"]),
    // law
    ("state", &["mvcc", "disk", "command", "failpoints"]),
    // memory
    ("mvcc", &["disk", "command"]),
    // base
    ("disk", &["command", "metrics", "failpoints"]),
    ("wal", &["command", "metrics", "failpoints"]),
    ("network", &["tls"]),
    ("tls", &["clock"]),
    ("offload", &[]),
    ("command", &["failpoints"]),
    ("clock", &["command"]),
    ("metrics", &[]),
    ("audit", &["metrics"]),
    // A constant but in builds for fault runs: every room that has a bug planted in it asks whether it is there.
    ("failpoints", &[]),
    ("bbolt", &[]),
    ("scratch", &[]),
    ("go_duration", &[]),
    ("steps", &["clock", "go_duration"]),
];

/// Outside crates that only some rooms may name.
const OUTSIDE: &[(&str, &[&str])] = &[
    ("fjall", &["disk"]),
    ("mimalloc", &["main"]),
    ("rcgen", &["tls"]),
    // `tokio_rustls` ends like it.
    ("rustls", &["tls", "network"]),
    ("tokio_rustls", &["tls", "network"]),
    ("x509_parser", &["tls"]),
    ("openraft", &["raft"]),
    ("tonic", &["raft", "etcd", "admin", "http"]),
    ("prometheus", &["metrics", "admin"]),
    // The table of methods, for the metrics and for the gateway.
    ("coord_proto", &["raft", "etcd", "metrics", "http"]),
    ("prost_reflect", &["http"]),
    ("tonic_reflection", &["etcd"]),
];

/// Names that the law may not use, wherever it stands: it must decide alike on every member.
const LAW_NEVER: &[&str] = &[
    "tokio::",
    "tonic::",
    "rand::",
    "SystemTime",
    "Instant",
    "HashMap",
    "std::env",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Room, path and code of every source file that ships.
fn sources() -> Vec<(String, PathBuf, String)> {
    source::of(&root())
}

/// Files in a circle, each circle defended in docs/decisions/0017-circles-of-files.md.
const CIRCLES: &[&str] = &[
    "state/ahead state/apply state/auth state/history state/kv state/law state/lease state/level state/reading state/txn",
    "watch/hub watch/outlet watch/piece",
    "watch/large watch/pump",
];

#[test]
fn no_files_import_each_other_but_those_that_a_decision_defends() {
    let circles = circles::of(&root());
    let circles: Vec<String> = circles.iter().map(|files| files.join(" ")).collect();
    assert_eq!(circles, CIRCLES);
}

#[test]
fn rooms_name_only_the_rooms_they_may() {
    let wrong = source::wrong_arrows(ROOMS, sources());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn outside_crates_stay_in_their_rooms() {
    let mut wrong = Vec::new();
    for (room, path, code) in sources() {
        for (outside, rooms) in OUTSIDE {
            if code.contains(&format!("{outside}::")) && !rooms.contains(&room.as_str()) {
                wrong.push(format!(
                    "{}: '{room}' may not name {outside}",
                    path.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_law_asks_nobody() {
    let mut wrong = Vec::new();
    for (_, path, code) in sources().into_iter().filter(|(room, ..)| room == "state") {
        for never in LAW_NEVER {
            // As a word of its own: `CompareOperand::` is no `rand::`.
            let names = code.match_indices(never).any(|(at, _)| {
                !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
            });
            if names {
                wrong.push(format!("{}: the law may not name {never}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Kinds of bytes with a format (`command/format.rs`), each with the rooms that write and read it.
const FORMATS: &[(&str, &str)] = &[
    ("Envelope", "command"),
    ("Membership", "raft"),
    ("Segment", "wal"),
    ("Identity", "wal"),
    ("Store", "disk"),
    ("Snapshot", "state"),
    ("Countdown", "countdown"),
];

#[test]
fn every_format_is_written_and_read_by_its_number_at_the_level() {
    use coord_server::command::format::Format;
    let all: Vec<String> = Format::ALL.map(|format| format!("{format:?}")).into();
    assert_eq!(
        all,
        FORMATS.iter().map(|(name, _)| *name).collect::<Vec<_>>()
    );
    let mut wrong = Vec::new();
    let (mut written, mut read) = (BTreeSet::new(), BTreeSet::new());
    for (room, path, code) in sources() {
        if path.ends_with("command/format.rs") {
            continue;
        }
        let code: String = code.split_whitespace().collect();
        for (name, owner) in FORMATS {
            let (writes, reads) = (
                code.contains(&format!("Format::{name}.at(")),
                code.contains(&format!("Format::{name}.check(")),
            );
            if (writes || reads) && room != *owner {
                wrong.push(format!("{}: {name} is of '{owner}'", path.display()));
            }
            written.extend(writes.then_some(*name));
            read.extend(reads.then_some(*name));
        }
        // A number of its own would be written whatever the cluster's level is.
        if code.contains("constFORMAT:") || code.contains("_FORMAT:u") {
            wrong.push(format!("{}: has a format of its own", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let all: BTreeSet<&str> = FORMATS.iter().map(|(name, _)| *name).collect();
    assert_eq!((&written, &read), (&all, &all));
}

#[test]
fn the_reader_of_paths_finds_groups_and_plain_paths() {
    let code = "use crate::{state::State, watch::{Hub, x}, wal};\nlet a = crate::raft::Raft;";
    let named: Vec<String> = rooms_named(code).into_iter().collect();
    assert_eq!(named, ["raft", "state", "wal", "watch"]);
}
