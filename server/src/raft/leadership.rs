//! The leader, as this member knows: Raft's word, and the part of it that clients may rely on.
//!
//! Raft's word stays until there is another one: with pre-vote a member that is cut off names its last leader for ever, and
//! a leader that is cut off itself. So the second one, the *contact*, ends with the last sign of life.

use std::time::Duration;

use openraft::ServerState;
use openraft::alias::{SerdeInstantOf, WatchReceiverOf};
use openraft::async_runtime::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use tokio::sync::watch;

use super::core::Core;
use super::peer::Heard;
use super::types::TypeConfig;
use crate::clock::Moment;
use crate::command::{LeaderKey, MemberId};
use crate::metrics::metrics as counters;

/// Pause before something that needs a leader, and changes nothing, is tried again.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// Looks for a sign of life within an election timeout. After this number of looks without one there is no leader;
/// looks are counted and not time, so that a member that was stopped itself hears its leader before it judges.
const LOOKS: u32 = 4;

/// The leader, as this member knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// Raft term.
    pub term: u64,
    /// The leader, if one is known.
    pub leader: Option<MemberId>,
    /// Whether it is this member.
    pub is_self: bool,
}

impl Leadership {
    /// Names one leadership: the term alone does not, with openraft's leader ids a term may see several leaders.
    pub fn key(&self) -> Option<LeaderKey> {
        self.leader.map(|leader| (self.term, leader))
    }

    fn without_leader(self) -> Self {
        Self {
            leader: None,
            is_self: false,
            ..self
        }
    }
}

/// Follows openraft's word about it until the core ends.
pub(super) async fn follow(
    mut metrics: WatchReceiverOf<TypeConfig, RaftServerMetrics<TypeConfig>>,
    leadership: watch::Sender<Leadership>,
) {
    loop {
        let now = {
            let metrics = metrics.borrow_and_update();
            Leadership {
                term: metrics.vote.leader_id.term,
                leader: metrics.current_leader.map(MemberId),
                is_self: metrics.state == ServerState::Leader,
            }
        };
        leadership.send_if_modified(|before| {
            let modified = *before != now;
            *before = now;
            modified
        });
        if metrics.changed().await.is_err() {
            leadership.send_replace(now.without_leader());
            return;
        }
    }
}

/// Tells `contact` who leads for as long as there are signs of it: a leader is acknowledged by a quorum, a follower hears
/// its leader. Ends with the core.
pub(super) async fn watch_contact(
    core: Core,
    mut leadership: watch::Receiver<Leadership>,
    heard: Heard,
    election: Duration,
    contact: watch::Sender<Leadership>,
) {
    let mut server = core.server_metrics();
    let mut silence = Silence::default();
    let mut looked = false;
    loop {
        let now = *leadership.borrow_and_update();
        let is_alone = now.is_self && is_only_voter(&server.borrow_and_update());
        let sign = match now.is_self {
            true => Sign::Acked(core.metrics().borrow_watched().last_quorum_acked),
            false => Sign::Heard(heard.last()),
        };
        let is_lost = silence.note(now.key(), sign, looked);
        tell(
            &contact,
            if is_lost && !is_alone {
                now.without_leader()
            } else {
                now
            },
        );
        let ended = tokio::select! {
            changed = leadership.changed() => { looked = false; changed.is_err() }
            // Nobody's word is needed until there is another voter, or no leader.
            changed = server.changed(), if is_alone => { looked = false; changed.is_err() }
            () = tokio::time::sleep(election / LOOKS), if !is_alone && now.leader.is_some() => {
                looked = true;
                false
            }
        };
        if ended {
            tell(&contact, now.without_leader());
            return;
        }
    }
}

fn is_only_voter(metrics: &RaftServerMetrics<TypeConfig>) -> bool {
    let members = metrics.membership_config.membership();
    members.voter_ids().all(|id| id == metrics.id)
}

fn tell(contact: &watch::Sender<Leadership>, now: Leadership) {
    contact.send_if_modified(|before| {
        let modified = *before != now;
        if modified {
            let leader = now
                .leader
                .map_or_else(|| "none".to_owned(), |id| id.to_string());
            tracing::info!(term = now.term, leader, is_self = now.is_self, "leadership");
            if now.leader.is_some() && before.key() != now.key() {
                counters().leader_changes.inc();
            }
        }
        *before = now;
        modified
    });
}

/// The newest sign of life of a leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    /// Of this member's own: when what a quorum has acknowledged was sent.
    Acked(Option<SerdeInstantOf<TypeConfig>>),
    /// Of another's: when it was heard.
    Heard(Moment),
}

/// Counts looks without a sign of life of one leadership.
#[derive(Debug, Default)]
struct Silence {
    of: Option<LeaderKey>,
    sign: Option<Sign>,
    looks: u32,
}

impl Silence {
    /// Notes the newest sign of a leadership, and a look if `looked`. Whether there was none for [`LOOKS`] of them.
    fn note(&mut self, of: Option<LeaderKey>, sign: Sign, looked: bool) -> bool {
        if (self.of, self.sign) != (of, Some(sign)) {
            *self = Self {
                of,
                sign: Some(sign),
                looks: 0,
            };
        } else if looked {
            self.looks = (self.looks + 1).min(LOOKS);
        }
        self.looks == LOOKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_is_lost_after_an_election_timeout_without_a_sign_and_back_with_the_next() {
        let of = |term| Some((term, MemberId(1)));
        let sign = |number| Sign::Heard(Moment::now().after(Duration::from_secs(number)));
        let (first, second) = (sign(1), sign(2));
        let mut silence = Silence::default();
        assert!(!silence.note(of(1), first, true), "the first look hears it");
        let looks: Vec<bool> = (0..5).map(|_| silence.note(of(1), first, true)).collect();
        assert_eq!(looks, [false, false, false, true, true]);
        assert!(silence.note(of(1), first, false), "nothing new");
        assert!(!silence.note(of(1), second, true), "it is back");
        let looks: Vec<bool> = (0..3).map(|_| silence.note(of(1), second, true)).collect();
        assert_eq!(looks, [false; 3]);
        assert!(!silence.note(of(2), second, true), "another begins anew");
        assert!(!silence.note(of(2), second, false), "only looks count");
    }
}
