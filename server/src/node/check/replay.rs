//! The log, applied to an empty state from its first entry on, or to what the state holds from there on.

use std::time::Duration;

use super::findings::Findings;
use super::log::Log;
use super::scratch::Scratch;
use super::state::remedy;
use crate::command::{Envelope, Fault, LogPosition, ProposalId, Refusal, Revision, codec};
use crate::node::stored;
use crate::raft;
use crate::state::{Answer, RunningHash, State};
use crate::wal::{Entry, Payload};

/// Entries read at once.
const READ_BYTES: usize = 4 << 20;
/// Rows that wait for the disk; with more the replay rests.
const PENDING_BYTES: usize = 64 << 20;
const REST: Duration = Duration::from_millis(2);

/// A committed entry, and what it came to where that is known.
pub(super) struct Committed<'a> {
    pub(super) entry: &'a Entry,
    /// Its proposals, if it has some.
    pub(super) envelope: Option<&'a Envelope>,
    /// The revision after each proposal, whether that one made it, and why it was refused if it was.
    pub(super) came_to: Option<&'a [CameTo]>,
}

/// The outcome of a proposal.
pub(super) struct CameTo {
    /// The revision it made, if it made one.
    pub(super) revision: Option<Revision>,
    pub(super) refused: Option<Refusal>,
}

/// Decodes every entry, applies the committed ones, compares with the state where they meet, and shows each.
///
/// Errors: why it cannot be done.
pub(super) fn replay(
    log: &Log,
    stored: Option<State>,
    scratch: &Scratch,
    findings: &mut Findings,
    mut show: impl FnMut(Committed<'_>) -> std::io::Result<()>,
) -> Result<(), String> {
    let wal = &log.wal;
    let reached = stored
        .as_ref()
        .map(|state| (state.applied(), state.running_hash()));
    let held = reached
        .and_then(|(at, _)| at)
        .filter(|at| fits(log, *at, findings));
    let committed = wal.committed().map(|committed| committed.index);
    let committed = committed.max(held.map(|at| at.index));
    let mut state = match log.is_complete {
        true => {
            let fresh = State::open(&scratch.path().join("replayed"));
            Some(fresh.map_err(|fault| fault.to_string())?)
        }
        false => stored.filter(|state| raft::check_reach(wal, state.applied()).is_ok()),
    };
    let mut next = wal.ends().purged.map_or(0, |purged| purged.index + 1);
    loop {
        let entries = match wal.read(next, u64::MAX, READ_BYTES) {
            Ok(entries) => entries,
            Err(fault) => {
                findings.fault("log", fault);
                return Ok(());
            }
        };
        let Some(last) = entries.last() else {
            return Ok(());
        };
        next = last.position.index + 1;
        for entry in &entries {
            let is_committed = Some(entry.position.index) <= committed;
            let done = one(entry, is_committed, &mut state, &mut show);
            match done {
                Ok(()) => {}
                Err(Failed::Entry(fault)) => {
                    findings.fault_with(
                        "log",
                        fault,
                        "this is no damage of the disk's: keep the directory, and report it"
                            .to_owned(),
                    );
                    return Ok(());
                }
                Err(Failed::Output(error)) => {
                    return Err(format!("the output cannot be written: {error}"));
                }
            }
            if log.is_complete
                && let (Some((Some(at), hash)), Some(state)) = (reached, &state)
                && at == entry.position
            {
                compare(hash, state.running_hash(), at, log, findings);
            }
        }
        while state
            .as_ref()
            .is_some_and(|state| state.pending_bytes() > PENDING_BYTES)
        {
            std::thread::sleep(REST);
        }
    }
}

enum Failed {
    Entry(Fault),
    Output(std::io::Error),
}

fn one(
    entry: &Entry,
    is_committed: bool,
    state: &mut Option<State>,
    show: &mut impl FnMut(Committed<'_>) -> std::io::Result<()>,
) -> Result<(), Failed> {
    let position = entry.position;
    let unknown = |why: String| {
        Failed::Entry(Fault::UnknownEntry {
            index: position.index,
            why,
        })
    };
    let envelope = match &entry.payload {
        Payload::Blank => None,
        Payload::Membership(bytes) => {
            raft::members_of(bytes).map_err(unknown)?;
            None
        }
        Payload::Proposals(proposals) => {
            let envelope = codec::decode_envelope(proposals.bytes());
            Some(envelope.map_err(|error| unknown(error.to_string()))?)
        }
    };
    if !is_committed {
        return Ok(());
    }
    let is_next = |state: &&mut State| {
        state
            .applied()
            .is_none_or(|applied| applied.index < position.index)
    };
    let came_to = match state.as_mut().filter(is_next) {
        Some(state) => Some(apply(state, entry, envelope.as_ref()).map_err(Failed::Entry)?),
        None => None,
    };
    let committed = Committed {
        entry,
        envelope: envelope.as_ref(),
        came_to: came_to.as_deref(),
    };
    show(committed).map_err(Failed::Output)
}

fn apply(
    state: &mut State,
    entry: &Entry,
    envelope: Option<&Envelope>,
) -> Result<Vec<CameTo>, Fault> {
    match (&entry.payload, envelope) {
        (Payload::Membership(bytes), _) => state.apply_membership(entry.position, bytes.clone())?,
        (_, None) => state.apply_blank(entry.position)?,
        (_, Some(envelope)) => {
            let mut before = state.revision();
            let outcomes = state.apply(entry.position, envelope)?.outcomes;
            let came_to = |(_, answer): (ProposalId, Answer)| {
                let (revision, refused) = match answer {
                    Answer::Done(outcome) => (outcome.revision, outcome.result.err()),
                    Answer::More(reading) => (reading.revision(), None),
                };
                let is_new = revision > before;
                before = revision;
                CameTo {
                    revision: is_new.then_some(revision),
                    refused,
                }
            };
            return Ok(outcomes.into_iter().map(came_to).collect());
        }
    }
    Ok(Vec::new())
}

/// Whether the log has the entry that the state ends with.
fn fits(log: &Log, at: LogPosition, findings: &mut Findings) -> bool {
    let wal = &log.wal;
    if let Err(fault) = raft::check_reach(wal, Some(at)) {
        findings.fault_with("state", fault, remedy(Some(log)));
        return false;
    }
    match stored::agrees(wal, at) {
        Ok(true) => return true,
        Ok(false) => {
            let path = wal.place();
            let what = "the state holds more than the log: another member's state was received last, and a start lets the log go on after it";
            findings.note("log", &path, None, what);
        }
        Err(fault) => findings.fault("log", fault),
    }
    false
}

fn compare(
    stored: RunningHash,
    replayed: RunningHash,
    at: LogPosition,
    log: &Log,
    findings: &mut Findings,
) {
    if stored != replayed {
        let why = format!(
            "the state is not what its own log comes to: after entry {} its running hash is {stored}, that of the log {replayed}",
            at.index
        );
        let aside = "remove the folder \"state\" (keep a copy), then ";
        findings.damage(
            "state",
            "the state store",
            why,
            format!("{aside}{}", remedy(Some(log))),
        );
    }
}
