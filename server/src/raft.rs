//! Consensus: a command proposed on any member is applied on every member, in one order.
//!
//! Owns the replicated log's meaning: proposals, reads that are current, membership, snapshots, and the wire between
//! members (`peer`). In go commands, out come outcomes after this member has applied them. openraft decides who leads and
//! what is committed, and is named nowhere else; the law decides what a command does, and this room never looks inside
//! one. It knows no client protocol. `docs/decisions/0003-openraft.md` lists openraft's traps and where each is answered.
//!
//! Read `propose` for the way in, `storage/state_machine` for the way out.
//!
//! Inside of it arrows point one way: `start` wires everything into `handle`; below are what a leader and its followers do
//! (`propose`, `read_index`, `membership`, `leadership`, `removal`, `level`), the wire (`peer`), then `storage`, and at the
//! base `types` and the books that several keep (`agreement`, `applied`, `propose/pending`, `remembered`).

mod agreement;
mod applied;
mod clock;
mod config;
mod core;
mod forced;
mod handle;
mod leadership;
mod level;
mod membership;
pub mod peer;
mod propose;
mod read_index;
mod remembered;
mod removal;
pub mod sideband;
mod start;
mod storage;
#[cfg(test)]
mod tests;
mod types;

pub use config::Config;
pub use forced::{Forced, force_new_cluster};
pub use handle::{Raft, Status};
pub use leadership::Leadership;
pub use membership::{ChangeError, Listed, MemberChange, members_of};
pub use start::{check_reach, refuse_older_copy};
pub use storage::Limits;
