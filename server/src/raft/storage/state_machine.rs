//! openraft's state machine over the law: committed entries in, visible changes and answers out.
//!
//! The order for each turn is what clients rely on: the state first, then watchers, then the applied mark, then whoever
//! proposed. So a client that got its answer sees its write in the next read, and a watcher is never behind a reader.
//! A large entry takes many turns; its finished part is shown after each, and the applied mark rises with the last.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use tokio::sync::mpsc;

use super::durable::DurableMark;
use super::snapshot::{self, Builder, Snapshot, SnapshotData};
use crate::clock::Moment;
use crate::command::{
    Envelope, Event, Fault, LeaseChange, LogPosition, ProposalId, Revision, TokenChange, codec,
};
use crate::metrics::metrics;
use crate::offload::Offload;
use crate::raft::agreement::Agreement;
use crate::raft::applied::AppliedMark;
use crate::raft::propose::pending::Pending;
use crate::raft::types::{self, Log, SnapshotMeta, Stored, TypeConfig};
use crate::state::{self, Answer, Large, State, Turn};
use crate::watch::Hub;

/// Bytes of entries that are taken to be applied together: several turns at most.
const TAKEN_BYTES: usize = 1 << 20;
/// Entries of which it is looked at what they read, before a turn that applies them.
const AHEAD_ENTRIES: usize = 64;

pub(in crate::raft) struct StateMachine {
    pub(in crate::raft) offload: Offload,
    pub(in crate::raft) state: state::Handle,
    pub(in crate::raft) hub: Arc<Hub>,
    pub(in crate::raft) leases: mpsc::UnboundedSender<Vec<LeaseChange>>,
    pub(in crate::raft) tokens: mpsc::UnboundedSender<Vec<TokenChange>>,
    pub(in crate::raft) pending: Pending,
    pub(in crate::raft) applied: AppliedMark,
    pub(in crate::raft) durable: DurableMark,
    pub(in crate::raft) agreement: Agreement,
}

type Item = EntryResponder<TypeConfig>;
type Responder = openraft::storage::ApplyResponder<TypeConfig>;

fn size(item: &Item) -> usize {
    const OVERHEAD: usize = 64;
    match &item.0.payload {
        EntryPayload::Normal(proposals) => OVERHEAD + proposals.bytes().len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => OVERHEAD,
    }
}

/// The work of one turn.
#[derive(Default)]
struct Done {
    revision: Option<Revision>,
    outcomes: Vec<(ProposalId, Answer)>,
    events: Vec<Event>,
    large: Option<Large>,
    leases: Vec<LeaseChange>,
    tokens: Vec<TokenChange>,
    /// The last entry that is through.
    last: Option<LogPosition>,
    responders: Vec<Responder>,
}

/// Entries that are being applied; the first of them may have begun.
#[derive(Default)]
struct Taken {
    items: VecDeque<Item>,
    /// The envelopes of the first of `items`, as far as they were asked for; `None` of those that propose nothing.
    decoded: VecDeque<Option<Envelope>>,
}

impl Taken {
    /// Decodes what the first `entries` say, if it is not known yet.
    fn decode(&mut self, entries: usize) -> Result<(), Fault> {
        let decoded = self.decoded.len();
        for (entry, _) in self.items.iter().take(entries).skip(decoded) {
            self.decoded.push_back(match &entry.payload {
                EntryPayload::Normal(proposals) => {
                    let envelope = proposals.take_envelope(codec::decode_envelope);
                    Some(envelope.map_err(|why| Fault::UnknownEntry {
                        index: entry.log_id.index,
                        why: why.to_string(),
                    })?)
                }
                EntryPayload::Blank | EntryPayload::Membership(_) => None,
            });
        }
        Ok(())
    }

    /// Lets the first of them go; it is through.
    fn pop(&mut self) -> Option<Item> {
        self.decoded.pop_front();
        self.items.pop_front()
    }
}

impl StateMachine {
    /// Applies entries for one turn, and makes visible what is through.
    fn apply_turn(&self, taken: &mut Taken, committed: Moment) -> Result<(), Fault> {
        let is_wanted = |id: &ProposalId| self.pending.waits_for(id);
        let mut turn = Turn::new(&is_wanted);
        let mut done = Done::default();
        self.state.with(|state| {
            let _turn = metrics().state_turns.apply.start_timer();
            self.apply_some(state, taken, &mut turn, &mut done)
        })?;
        self.show(done, committed);
        Ok(())
    }

    fn apply_some(
        &self,
        state: &mut State,
        taken: &mut Taken,
        turn: &mut Turn<'_>,
        done: &mut Done,
    ) -> Result<(), Fault> {
        while !taken.items.is_empty() {
            taken.decode(1)?;
            let Some((entry, _)) = taken.items.front() else {
                break;
            };
            let at = types::position(&entry.log_id);
            match &entry.payload {
                EntryPayload::Blank => state.apply_blank(at)?,
                EntryPayload::Membership(members) => {
                    let level = state.feature_level();
                    state.apply_membership(at, types::encode_members(members, level))?;
                }
                EntryPayload::Normal(proposals) => {
                    let envelope = taken.decoded.front().and_then(Option::as_ref);
                    let envelope = envelope.expect("it was just decoded");
                    let applied = state.apply_encoded(at, proposals.bytes(), envelope, turn)?;
                    done.revision = Some(applied.revision);
                    done.outcomes.extend(applied.outcomes);
                    done.events.extend(applied.events);
                    done.large = applied.large;
                    done.leases.extend(applied.leases);
                    done.tokens.extend(applied.tokens);
                    if !applied.is_whole {
                        return Ok(());
                    }
                }
            }
            self.agreement.applied(at, state.running_hash());
            let (_, responder) = taken.pop().expect("it is at the front");
            done.responders.extend(responder);
            done.last = Some(at);
            if turn.is_over() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads what the next turn needs and memory lacks, where waiting for a disk is allowed.
    async fn read_ahead(&self, taken: &mut Taken) -> io::Result<()> {
        if !self.state.with(|state| state.reads_ahead()) {
            return Ok(());
        }
        taken.decode(AHEAD_ENTRIES).map_err(io::Error::other)?;
        let entries = taken.decoded.iter().flatten();
        match self.state.with(|state| state.ahead_of_entries(entries)) {
            Some(ahead) => self.offload.run(move || ahead.read()).await,
            None => Ok(()),
        }
    }

    fn show(&self, done: Done, committed: Moment) {
        let Done {
            revision,
            outcomes,
            events,
            large,
            leases,
            tokens,
            last,
            responders,
        } = done;
        if let Some(revision) = revision {
            match large {
                None => self.hub.publish(revision, events),
                Some(large) => {
                    let before = Revision(large.revision.0 - 1);
                    self.hub.publish(before, events);
                    self.hub.publish_large(large.revision, &large.keys);
                }
            }
        }
        if !leases.is_empty() {
            // The countdown ends before Raft does only when the process stops.
            let _ = self.leases.send(leases);
        }
        if !tokens.is_empty() {
            // Before anybody is answered: a client may show its token in the same moment.
            let _ = self.tokens.send(tokens);
        }
        if let Some(last) = last {
            self.applied.raise(last.index);
        }
        self.pending.resolve(outcomes, committed);
        if let Some(last) = last {
            self.pending.leader_seen((last.term, last.leader));
        }
        for responder in responders {
            responder.send(());
        }
    }

    /// Waits while the state store is far behind.
    async fn wait_for_store(&self) {
        loop {
            let flushed = self.state.with(|state| {
                let is_behind = state.pending_bytes() > state.pending_bytes_max();
                is_behind.then(|| state.flushed())
            });
            match flushed {
                Some(flushed) => flushed.await,
                None => return,
            }
        }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<Log>, Stored)> {
        let meta = self.state.with(|state| snapshot::meta(state));
        let SnapshotMeta {
            last_log_id,
            last_membership,
        } = meta.map_err(io::Error::other)?;
        Ok((last_log_id, last_membership))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<Item>> + Unpin + OptionalSend,
    {
        loop {
            let mut taken = Taken::default();
            let mut bytes = 0;
            let mut ended = false;
            while bytes < TAKEN_BYTES {
                let Some(item) = entries.next().await else {
                    ended = true;
                    break;
                };
                let item = item?;
                bytes += size(&item);
                taken.items.push_back(item);
            }
            let committed = Moment::now();
            while !taken.items.is_empty() {
                self.read_ahead(&mut taken).await?;
                self.apply_turn(&mut taken, committed)
                    .map_err(io::Error::other)?;
                if !taken.items.is_empty() || !ended {
                    self.wait_for_store().await;
                    tokio::task::yield_now().await;
                }
            }
            if ended {
                return Ok(());
            }
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            state: self.state.clone(),
            durable: self.durable.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        data: SnapshotData,
    ) -> io::Result<()> {
        let SnapshotData::Received(ready) = data else {
            // openraft installs its own snapshot at start if it is ahead of the state, which ours never is.
            return Err(io::Error::other(
                "a snapshot that was not received cannot be installed",
            ));
        };
        let state = self.state.clone();
        let install = move || ready.install(&state);
        let installed = self.offload.run(install).await?;
        let revision = installed.map_err(io::Error::other)?;
        self.durable
            .raise(meta.last_log_id.as_ref().map(types::position));
        self.state
            .with(|state| self.agreement.begins(state.applied(), state.running_hash()));
        self.hub.reset(revision);
        if let Some(last) = &meta.last_log_id {
            let replaced = LeaseChange::Replaced { upto: last.index };
            // The countdown ends before Raft does only when the process stops.
            let _ = self.leases.send(vec![replaced]);
            // Users may have gone in what was jumped over; those that remain log in again.
            let _ = self.tokens.send(vec![TokenChange::AllEnded]);
            self.applied.raise(last.index);
            // Outcomes that the snapshot jumped over are nobody's to tell any more.
            self.pending.jumped();
        }
        tracing::info!(position = ?meta.last_log_id, %revision, "installed a snapshot");
        Ok(())
    }

    /// A moment of the state is at hand whenever there is a state.
    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        self.state.with(|state| {
            let meta = snapshot::meta(state).map_err(io::Error::other)?;
            if meta.last_log_id.is_none() {
                return Ok(None);
            }
            let reader = state.begin_snapshot();
            Ok(Some(Snapshot {
                meta,
                snapshot: SnapshotData::Reading(Box::new(reader)),
            }))
        })
    }
}
