//! The one predicate before any voter is lost: the remaining voters must be able to decide.

use super::{Case, aside};
use crate::model::quorum;
use crate::observe::{MemberSeen, Membership};

/// How a voter is lost.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// Out of the member list: the quorum shrinks with it.
    Removed,
    /// Down for a while: the quorum stays.
    Restarted,
}

/// `Ok` if after losing `member` the healthy, caught-up voters are still a quorum of the resulting configuration.
///
/// A healthy voter is only removed while all others are healthy too: else the dead one should go instead.
pub(super) fn may_lose(
    case: &Case,
    membership: &Membership,
    member: &MemberSeen,
    loss: Loss,
) -> Result<(), String> {
    if member.is_learner {
        return Ok(());
    }
    let others: Vec<&MemberSeen> = membership.voters().filter(|m| m.id != member.id).collect();
    let healthy = others.iter().filter(|m| case.is_healthy(m)).count();
    let voters = match loss {
        Loss::Removed => others.len(),
        Loss::Restarted => others.len() + 1,
    };
    let needed = quorum(voters);
    let stranger = others.iter().filter(|m| !case.is_healthy(m));
    let stranger = stranger.filter_map(|m| case.stranger(m)).next();
    let stranger = aside(stranger.as_deref());
    if healthy < needed {
        return Err(format!(
            "without {} only {healthy} of the {needed} healthy voters it takes would remain{stranger}",
            member.name
        ));
    }
    if loss == Loss::Removed && case.is_healthy(member) && healthy < others.len() {
        return Err(format!(
            "{} stays until all other voters are healthy{stranger}",
            member.name
        ));
    }
    Ok(())
}
