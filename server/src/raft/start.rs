//! The start of a member's Raft: its preconditions, and the wiring of its parts.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::agreement::{Agreement, Alarms};
use super::applied::AppliedMark;
use super::config::{Config, core_config};
use super::core::Core;
use super::handle::{Raft, Tasks};
use super::leadership::{self, Leadership};
use super::membership::{self, Membership};
use super::peer::{CallStamp, Heard, LeaderLink, Network, Peers, Receiving, Service};
use super::propose::{self, Proposer};
use super::read_index::ReadRounds;
use super::remembered::{self, Promised, Remembered};
use super::sideband::{Inbox, Outbox, Sideband};
use super::storage::{self, DurableMark, LogStore, Sending, StateMachine};
use super::{clock, level, removal, types};
use crate::command::{
    ClusterId, Fault, Incarnation, LeaseChange, LogPosition, MemberId, TokenChange,
};
use crate::offload::Offload;
use crate::state;
use crate::wal::Wal;
use crate::watch::Hub;

impl Raft {
    /// Starts on what the log and the state hold. Must be called inside the runtime that will carry it.
    ///
    /// Errors: a log and a state that do not fit together, or cannot be read.
    pub async fn start(
        config: Config,
        wal: Wal,
        state: state::Handle,
        hub: Arc<Hub>,
        lease_changes: mpsc::UnboundedSender<Vec<LeaseChange>>,
        token_changes: mpsc::UnboundedSender<Vec<TokenChange>>,
        inbox: Inbox,
    ) -> Result<Self, Fault> {
        let core_config = core_config(&config)?;
        check_reach(&wal, state.with(|state| state.applied()))?;
        let durable = DurableMark::default();
        let applied = AppliedMark::default();
        // Entries read back from the state store may not be on disk for good yet; the log is cut only below those
        // that are.
        let persisted = state.with(|state| {
            if let Some(at) = state.applied() {
                applied.raise(at.index);
            }
            state.persist()
        });
        let closed = |_| Fault::Store("the thread that writes the state ended".to_owned());
        durable.raise(persisted.await.map_err(closed)??);
        let mut writing = state.with(|state| state.writing());
        let state_fault = async move {
            // An error means that the store was closed in good order.
            let writing = writing.wait_for(|writing| writing.fault.is_some()).await;
            writing.ok().and_then(|writing| writing.fault.clone())
        };

        let stamp = CallStamp {
            cluster: config.cluster,
            member: config.id,
            incarnation: config.incarnation,
            level_max: state.with(|state| state.feature_level_max()),
        };
        let peers = Peers::new(stamp, config.network.clone(), state.clone());
        let outbox = Outbox::default();
        let remembered = Remembered::default();
        remembered.restore(&wal.peers());
        let agreement = Agreement::new(config.election);
        state.with(|state| agreement.begins(state.applied(), state.running_hash()));
        let sending = Sending::default();
        let (contact_now, contact) = watch::channel(Leadership::default());
        let network = Network {
            contact: contact.clone(),
            sending: sending.clone(),
            peers: peers.clone(),
            state: state.clone(),
            offload: config.offload,
            patience: config.election,
            outbox: outbox.clone(),
            agreement: agreement.clone(),
            remembered: remembered.clone(),
            wal: wal.clone(),
        };
        let offload = config.offload;
        let (proposer, gather, pending) =
            Proposer::new(config.id, rand::random(), wal.entry_bytes_max());
        let machine = StateMachine {
            offload,
            state: state.clone(),
            hub,
            leases: lease_changes,
            tokens: token_changes,
            pending: pending.clone(),
            applied: applied.clone(),
            durable: durable.clone(),
            agreement: agreement.clone(),
        };
        let promised = Promised::at_start(&wal, state.with(|state| state.applied()));
        let store = LogStore::new(
            wal.clone(),
            durable,
            promised.clone(),
            offload,
            state.clone(),
        );
        let core = Core::new(config.id.0, core_config, network, store, machine).await;
        let core =
            core.map_err(|fatal| Fault::Start(format!("the log cannot be continued: {fatal}")))?;

        let (leadership_now, leadership) = watch::channel(Leadership::default());
        let membership = Membership {
            core: core.clone(),
            state: state.clone(),
            leadership: leadership.clone(),
            election: config.election,
            one: Arc::new(tokio::sync::Semaphore::new(1)),
        };
        let known = membership.clone();
        let link = LeaderLink::new(peers.clone(), Arc::new(move |member| known.urls(member)));
        let sideband = Sideband {
            inbox,
            link: link.clone(),
            leadership: leadership.clone(),
        };
        let rounds = ReadRounds::default();
        let heard = Heard::now();
        let stop = watch::Sender::new(None);
        let service = Service {
            stamp,
            token: config.token.clone(),
            receiving: Receiving::new(config.state, offload, state.clone()),
            core: core.clone(),
            state: state.clone(),
            gather: gather.clone(),
            rounds: rounds.clone(),
            sideband: sideband.clone(),
            membership: membership.clone(),
            heard: heard.clone(),
            contact: contact.clone(),
            agreement: agreement.clone(),
            remembered: remembered.clone(),
            wal: wal.clone(),
        };
        let alarms = config.raises_corrupt.then(|| Alarms {
            own: config.id,
            proposer: proposer.clone(),
        });
        let tasks = vec![
            tokio::spawn(remembered.keep(wal.clone(), membership.clone())),
            tokio::spawn(remembered::watch(
                config.id,
                membership.clone(),
                peers.clone(),
                (promised, wal.clone()),
                config.election,
                stop.clone(),
            )),
            tokio::spawn(agreement.clone().stop_if_it_differs(
                membership.clone(),
                alarms,
                stop.clone(),
            )),
            tokio::spawn(clock::run(core.clone(), config.id.0)),
            tokio::spawn(leadership::follow(core.server_metrics(), leadership_now)),
            tokio::spawn(leadership::watch_contact(
                core.clone(),
                leadership.clone(),
                heard.clone(),
                config.election,
                contact_now,
            )),
            tokio::spawn(propose::run(
                gather,
                pending,
                state.clone(),
                core.clone(),
                link.clone(),
                leadership.clone(),
            )),
            tokio::spawn(rounds.clone().run(
                core.clone(),
                link,
                applied.clone(),
                leadership.clone(),
            )),
            tokio::spawn(removal::watch_core(core.clone(), stop.clone())),
            tokio::spawn(removal::watch_log(wal.fault(), stop.clone())),
            tokio::spawn(removal::watch_state(state_fault, stop.clone())),
            tokio::spawn(removal::watch_removal(
                config.id,
                membership.clone(),
                peers.clone(),
                heard,
                config.election,
                stop.clone(),
            )),
            tokio::spawn(membership.clone().keep_places(peers.clone())),
            tokio::spawn(membership::promotion::run(membership.clone())),
            tokio::spawn(level::raise(
                membership.clone(),
                proposer.clone(),
                wal.clone(),
                config.election,
            )),
            tokio::spawn(storage::trim(
                core.clone(),
                wal,
                state,
                config.limits,
                sending,
            )),
        ];
        Ok(Self {
            metrics: core.metrics(),
            agreement,
            core,
            proposer,
            rounds,
            sideband,
            outbox,
            membership,
            peers,
            service,
            applied,
            leadership,
            contact,
            stop,
            _tasks: Arc::new(Tasks(tasks)),
            election: config.election,
        })
    }
}

/// Whether the other members remember more of this one than its disk holds. To be asked before it votes or serves, and
/// while peers that ask it something are turned away: members that start together do not wait for each other.
///
/// Errors: why it must not run.
pub async fn refuse_older_copy(
    (cluster, member, incarnation): (ClusterId, MemberId, Incarnation),
    network: &crate::network::Network,
    offload: Offload,
    wal: &Wal,
    state: &state::Handle,
) -> Result<(), String> {
    let (applied, membership, level_max) = state.with(|state| {
        (
            state.applied(),
            state.membership(),
            state.feature_level_max(),
        )
    });
    let bytes = match membership {
        Some((_, bytes)) => Some(bytes),
        // A state that was lost is made anew from the log.
        None => {
            let wal = wal.clone();
            let found = offload.run(move || storage::newest_membership(&wal));
            let found = found.await.map_err(|error| error.to_string())?;
            found.map_err(|fault| fault.to_string())?
        }
    };
    let Some(bytes) = bytes else {
        return Ok(());
    };
    let members = types::decode_members(&bytes)?;
    let stamp = CallStamp {
        cluster,
        member,
        incarnation,
        level_max,
    };
    let peers = Peers::new(stamp, network.clone(), state.clone());
    remembered::at_start(member, &peers, wal, applied, &members).await
}

/// Whether the log goes on where the state ends. A state that was set aside as damaged begins empty, and is rebuilt from
/// the log if that still goes back far enough.
///
/// Errors: `Corrupt` if entries between the two are gone.
pub fn check_reach(wal: &Wal, applied: Option<LogPosition>) -> Result<(), Fault> {
    let purged = wal.ends().purged.map(|purged| purged.index);
    if purged <= applied.map(|applied| applied.index) {
        return Ok(());
    }
    Err(Fault::irreparable(
        "the state store",
        format!(
            "it ends at entry {}, but the log begins after entry {}",
            applied.map_or(0, |applied| applied.index),
            purged.unwrap_or(0),
        ),
    ))
}
