//! The narrow waist that every door holds: propose, read, watch, leases, members, status.
//!
//! Owns what is the same whichever protocol asks: the time limit of a request, the quota, what a learner may serve, and
//! the wait that makes a read linearizable. It hands commands to `raft`, questions to `state`, and knows no wire.

mod auth;
mod leases;
mod members;
mod quota;
mod stored;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::auth::{Passwords, Tokens};
use crate::command::{
    Alarm, ClusterId, Command, Incarnation, LimitRefusal, MemberId, Outcome, Principal, Query,
    Refusal, Revision, Unavailable, codec,
};
use crate::countdown::Questions;
use crate::metrics::metrics;
use crate::offload::Offload;
use crate::raft::{ChangeError, Raft};
use crate::scratch;
use crate::state::{self, Ahead, No, State};
pub use crate::state::{Answer, History, LargeRevision, Part, Reading};
use crate::steps;
use crate::watch::{Hub, Needs};

pub use leases::Renewals;
use quota::Quota;
pub use stored::{Moment, Stored, StoredReading};

/// The step in which rows are read.
const READ: &str = "read";
/// The time that etcd waits for a request beyond two election timeouts.
const REQUEST_TIMEOUT_BASE: Duration = Duration::from_secs(5);

/// The time that a request may take, with etcd's election timeout.
pub fn request_limit(election: Duration) -> Duration {
    REQUEST_TIMEOUT_BASE + election * 2
}

/// The cluster and member whose data this member serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// This member.
    pub member: MemberId,
    /// This data directory.
    pub incarnation: Incarnation,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// Sees every write that was acknowledged before the read began.
    Linearizable,
    /// This member's own rows; needs no other member.
    Serializable,
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Decided: no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Not now; a write may still happen.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<ChangeError> for Error {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Refused(refusal) => Self::Refused(refusal.into()),
            ChangeError::Unavailable(unavailable) => Self::Unavailable(unavailable),
        }
    }
}

/// This member's view of itself, without asking anyone.
#[derive(Clone, Debug)]
pub struct Status {
    /// Raft's view.
    pub raft: crate::raft::Status,
    /// Bytes on disk; tables are compressed, so at least what counts against the quota: a caller that shows how much
    /// of it is in use relies on that.
    pub disk_bytes: u64,
    /// Bytes that count against the quota.
    pub logical_bytes: u64,
    /// The quota; `None` is no limit.
    pub quota_bytes: Option<u64>,
    /// Whether it refused a write for want of room, and there is no more room yet.
    pub is_full: bool,
    /// The alarms that are raised, of any member.
    pub alarms: Vec<Alarm>,
    /// The cluster's feature level.
    pub feature_level: u32,
    /// The highest that this member can apply.
    pub feature_level_max: u32,
}

/// One member's engine, as the doors see it.
pub struct Coordinator {
    identity: Identity,
    raft: Raft,
    state: state::Handle,
    hub: Arc<Hub>,
    countdown: Questions,
    renewals: Renewals,
    quota: Quota,
    election: Duration,
    scratch: Option<scratch::Room>,
    tokens: Arc<Tokens>,
    passwords: Passwords,
    offload: Offload,
}

/// The parts that [`Coordinator::new`] is made of.
pub struct Parts {
    /// The cluster and member served.
    pub identity: Identity,
    /// Ordering.
    pub raft: Raft,
    /// Law and memory.
    pub state: state::Handle,
    /// Delivery of events.
    pub hub: Arc<Hub>,
    /// Stored bytes above which writes are refused.
    pub quota_bytes: Option<u64>,
    /// etcd's election timeout.
    pub election: Duration,
    /// Where files may be put that nobody needs after a restart.
    pub scratch: Option<scratch::Room>,
    /// The tokens that are good.
    pub tokens: Arc<Tokens>,
    /// Hashes and checks passwords.
    pub passwords: Passwords,
    /// Where work that waits for a disk is done.
    pub offload: Offload,
}

impl Coordinator {
    /// Puts the engine behind one handle. Starts the task that gathers lease renewals; it ends with the last handle.
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts {
            identity,
            raft,
            state,
            hub,
            quota_bytes,
            election,
            scratch,
            tokens,
            passwords,
            offload,
        } = parts;
        let countdown = Questions::new(raft.clone());
        let renewals = Renewals::start(countdown.clone());
        Arc::new(Self {
            identity,
            raft,
            state,
            hub,
            countdown,
            renewals,
            quota: Quota::new(quota_bytes),
            election,
            scratch,
            tokens,
            passwords,
            offload,
        })
    }

    /// This member's identity.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// etcd's election timeout, from which its minimum lease time derives.
    pub fn election_timeout(&self) -> Duration {
        self.election
    }

    /// Where watchers register.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// The changes from revision `from` to before `upto`, about `bytes_max` of them, for watchers that are behind.
    ///
    /// Errors: `Refused` if `from` is compacted; `Unavailable` if the state cannot be read, which stops this member.
    pub fn history(
        &self,
        from: Revision,
        upto: Revision,
        bytes_max: usize,
    ) -> Result<History, Error> {
        let read = self.state.with(|state| {
            let _turn = metrics().state_turns.history.start_timer();
            state.history(from, upto, bytes_max)
        });
        read.map_err(|no| self.refused_or_stopped(no))
    }

    /// Reads what [`history`](Self::history) and [`part`](Self::part) read of these pieces where waiting for a disk is
    /// allowed; nothing that is in memory anyway.
    ///
    /// Errors: `Unavailable` if this member stops.
    pub fn history_ahead(
        &self,
        needs: Vec<Needs<'_, LargeRevision>>,
        bytes_max: usize,
    ) -> impl Future<Output = Result<(), Error>> + use<'_> {
        let ahead = match needs.is_empty() {
            true => None,
            false => {
                let pieces = needs.into_iter().map(piece);
                self.state
                    .with(|state| state.ahead_of_history(pieces, bytes_max))
            }
        };
        self.read_ahead(ahead)
    }

    /// Changes of a large revision at `places`, about `bytes_max` of them; `prevs` says whether with what was there before.
    ///
    /// Errors: `Unavailable` if the state was replaced since by a leader's, or cannot be read, which stops this member.
    pub fn part(
        &self,
        large: &LargeRevision,
        places: std::ops::Range<u32>,
        prevs: bool,
        bytes_max: usize,
    ) -> Result<Part, Error> {
        let read = self.state.with(|state| {
            let _turn = metrics().state_turns.history.start_timer();
            state.part(large, places, prevs, bytes_max)
        });
        let part = read.map_err(|fault| self.stop_on(&fault))?;
        Ok(part.ok_or(Unavailable::LeaderChanged)?)
    }

    /// Changes the state. Returns once this member's own state shows the change.
    ///
    /// Errors: `Refused` changed nothing. `Unavailable` other than `TooManyRequests` and `Learner`: the change may
    /// still happen, and must not be proposed again on the client's behalf.
    pub async fn propose(&self, principal: Principal, command: Command) -> Result<Outcome, Error> {
        let answer = self.submit(principal, command).await?;
        self.finish(answer).await
    }

    /// As [`propose`](Self::propose), for callers that keep account of a long answer: it is for the caller to
    /// [`go_on`](Self::go_on) reading it.
    pub async fn submit(&self, principal: Principal, command: Command) -> Result<Answer, Error> {
        if self.raft.is_learner() {
            return Err(Unavailable::Learner.into());
        }
        let bytes = codec::proposal_bytes(&principal, &command);
        if bytes > self.raft.proposal_bytes_max() {
            return Err(Refusal::Limit(LimitRefusal::RequestTooLarge).into());
        }
        self.permit(&principal, &command).await?;
        self.state
            .with(|state| self.quota.check(&command, bytes as u64, state))
            .map_err(|no| self.refused_or_stopped(no))?;
        Ok(self.in_time(self.raft.submit(principal, command)).await?)
    }

    /// Answers a question from this member's state.
    ///
    /// Errors: `Unavailable` if a linearizable read finds no leader in time.
    pub async fn read(
        &self,
        principal: &Principal,
        query: &Query,
        consistency: Consistency,
    ) -> Result<Outcome, Error> {
        let answer = self.ask(principal, query, consistency).await?;
        self.finish(answer).await
    }

    /// As [`read`](Self::read), for callers that keep account of a long answer: it is for the caller to
    /// [`go_on`](Self::go_on) reading it.
    pub async fn ask(
        &self,
        principal: &Principal,
        query: &Query,
        consistency: Consistency,
    ) -> Result<Answer, Error> {
        match consistency {
            Consistency::Serializable => {}
            Consistency::Linearizable if self.raft.is_learner() => {
                return Err(Unavailable::Learner.into());
            }
            Consistency::Linearizable => {
                self.in_time(self.raft.read_barrier()).await?;
                steps::mark("agreed on how new to read");
            }
        }
        let ask = |state: &mut State| {
            let _turn = metrics().state_turns.read.start_timer();
            state.ask(principal, query)
        };
        // Rows in memory, as nearly all are, cost one look at the state.
        let near = self.state.with(|state| match state.ahead_of_query(query) {
            None => Ok(ask(state)),
            Some(ahead) => Err(ahead),
        });
        let answer = match near {
            Ok(answer) => answer,
            Err(ahead) => {
                self.read_ahead(Some(ahead)).await?;
                self.state.with(ask)
            }
        };
        steps::mark(READ);
        answer.map_err(|fault| self.stop_on(&fault))
    }

    /// The next slice of an answer, once others have had a turn of the runtime and what is not in memory was read.
    pub async fn go_on(&self, reading: Box<Reading>) -> Result<Answer, Error> {
        make_way(reading.is_long()).await;
        let ahead = self.state.with(|state| state.ahead_of_reading(&reading));
        self.read_ahead(ahead).await?;
        let answer = self.state.with(|state| {
            let _turn = metrics().state_turns.read.start_timer();
            state.go_on(reading)
        });
        steps::mark(READ);
        answer.map_err(|fault| self.stop_on(&fault))
    }

    /// Reads rows where waiting for a disk is allowed.
    async fn read_ahead(&self, ahead: Option<Ahead>) -> Result<(), Error> {
        let Some(ahead) = ahead else { return Ok(()) };
        let read = self.offload.run(move || ahead.read()).await;
        steps::mark("rows came from disk");
        read.map_err(|_| Unavailable::Stopped.into())
    }

    async fn finish(&self, mut answer: Answer) -> Result<Outcome, Error> {
        loop {
            match answer {
                Answer::Done(outcome) => return Ok(outcome),
                Answer::More(reading) => answer = self.go_on(reading).await?,
            }
        }
    }

    /// Returns once this member has applied everything that was acknowledged before the call.
    pub async fn read_barrier(&self) -> Result<(), Error> {
        Ok(self.in_time(self.raft.read_barrier()).await?)
    }

    /// Whether the store is full, as far as this member has noticed.
    pub fn is_full(&self) -> bool {
        self.quota
            .is_full(self.state.with(|state| state.logical_bytes()))
    }

    /// Forgets that a write was refused for want of room; the next one will be noticed.
    pub fn forget_full(&self) {
        self.quota.forget();
    }

    /// The newest revision this member has applied.
    pub fn revision(&self) -> Revision {
        self.state.with(|state| state.revision())
    }

    /// Whether this member has no vote; such a one serves little.
    pub fn is_learner(&self) -> bool {
        self.raft.is_learner()
    }

    /// Raft's current term.
    pub fn term(&self) -> u64 {
        self.raft.term()
    }

    /// Changes of leadership, for rooms that must tell clients that there is no leader in contact.
    pub fn leadership(&self) -> tokio::sync::watch::Receiver<crate::raft::Leadership> {
        self.raft.contact()
    }

    /// This member's view of itself.
    pub fn status(&self) -> Status {
        let raft = self.raft.status();
        self.state.with(|state| Status {
            raft,
            disk_bytes: state.disk_bytes(),
            logical_bytes: state.logical_bytes(),
            quota_bytes: self.quota.bytes(),
            is_full: self.quota.is_full(state.logical_bytes()),
            alarms: state.alarms(),
            feature_level: state.feature_level(),
            feature_level_max: state.feature_level_max(),
        })
    }

    fn refused_or_stopped(&self, no: No) -> Error {
        match no {
            No::Refused(refusal) => refusal.into(),
            No::Fault(fault) => self.stop_on(&fault),
        }
    }

    fn stop_on(&self, fault: &crate::command::Fault) -> Error {
        tracing::error!(%fault, "the state cannot be read; this member stops");
        self.raft.stop_on_fault(fault.to_string());
        Unavailable::Stopped.into()
    }

    /// Does it within [`request_limit`].
    async fn in_time<T, E: From<Unavailable>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        tokio::time::timeout(request_limit(self.election), work)
            .await
            .unwrap_or_else(|_| Err(Unavailable::Timeout.into()))
    }
}

/// Lets others have the runtime between two slices.
///
/// A write takes some ten short steps, each of which would wait for a slice: where somebody has taken the turn, a long
/// reading waits for as long as a slice takes. A member that has nothing else to do reads on at once.
async fn make_way(is_long: bool) {
    const TAKEN: Duration = Duration::from_micros(50);
    const SLICE: Duration = Duration::from_millis(1);
    let offered = Instant::now();
    tokio::task::yield_now().await;
    if is_long && offered.elapsed() >= TAKEN {
        tokio::time::sleep(SLICE).await;
    }
}

fn piece(needs: Needs<'_, LargeRevision>) -> state::Piece<'_> {
    match needs {
        Needs::Changes { from, upto } => state::Piece::Changes { from, upto },
        Needs::Part {
            large,
            places,
            prevs,
        } => state::Piece::Part {
            large,
            places,
            prevs,
        },
    }
}
