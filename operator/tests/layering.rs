//! Holds the operator to its plan: which room may name which (docs/architecture.md), read from the `crate::` paths in the
//! code. No arrow points up, and none is allowed that nobody uses.

#![expect(
    clippy::unwrap_used,
    reason = "clippy lets only the test functions themselves unwrap, not what they call"
)]

#[path = "../../server/tests/layering/circles.rs"]
mod circles;
#[path = "../../server/tests/layering/source.rs"]
mod source;

use std::path::{Path, PathBuf};

/// A room, and the rooms it may name, all of which stand further down.
const ROOMS: &[(&str, &[&str])] = &[
    ("main", &["*"]),
    // The program that a person or a Deployment starts.
    ("run", &["*"]),
    (
        "explain",
        &["cli", "member_client", "plan", "validate", "observe", "crd"],
    ),
    ("cli", &["validate", "telemetry"]),
    // One turn: observe, validate, plan, write, report, execute.
    (
        "controllers",
        &[
            "context", "http", "execute", "writes", "report", "plan", "validate", "observe",
            "model", "crd",
        ],
    ),
    (
        "context",
        &[
            "execute",
            "validate",
            "observe",
            "member_client",
            "leader",
            "metrics",
        ],
    ),
    ("http", &["metrics"]),
    (
        "execute",
        &[
            "writes",
            "plan",
            "validate",
            "observe",
            "model",
            "member_client",
            "leader",
        ],
    ),
    (
        "writes",
        &["resources", "plan", "validate", "observe", "model"],
    ),
    ("resources", &["validate", "model", "crd"]),
    ("report", &["plan", "validate", "observe", "model", "crd"]),
    ("plan", &["validate", "observe", "model", "crd"]),
    ("validate", &["observe", "model", "crd"]),
    ("observe", &["model", "crd", "member_client"]),
    ("model", &["crd"]),
    ("crd", &[]),
    ("member_client", &[]),
    ("leader", &[]),
    ("metrics", &[]),
    ("telemetry", &[]),
];

/// Names that the deciding rooms may not use: they are functions of the observation, and of a time that is an
/// argument.
const PURE: &[&str] = &["model", "validate", "plan", "resources", "writes", "report"];
const PURE_NEVER: &[&str] = &[
    "tokio::",
    "tonic::",
    "rand::",
    "Timestamp::now",
    "SystemTime",
    "Instant",
    "std::env",
    "kube::Client",
    "kube::Api",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<(String, PathBuf, String)> {
    source::of(&root())
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let circles = circles::of(&root());
    assert!(circles.is_empty(), "{circles:?}");
}

#[test]
fn rooms_name_only_the_rooms_they_may() {
    let wrong = source::wrong_arrows(ROOMS, sources());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn arrows_point_down() {
    let at = |room: &str| ROOMS.iter().position(|(name, _)| *name == room);
    for (room, may) in ROOMS {
        for named in may.iter().filter(|named| **named != "*") {
            assert!(at(named) > at(room), "'{room}' stands below '{named}'");
        }
    }
}

#[test]
fn the_rooms_that_decide_ask_nobody() {
    let mut wrong = Vec::new();
    let pure = sources().into_iter();
    for (_, path, code) in pure.filter(|(room, ..)| PURE.contains(&room.as_str())) {
        let named = PURE_NEVER.iter().filter(|never| code.contains(**never));
        wrong.extend(named.map(|never| format!("{}: names {never}", path.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_at_its_head_what_it_owns() {
    for (_, path, _) in sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//!"), "{}: no header", path.display());
    }
}
