//! Raises the cluster's feature level once every member can apply a higher one.

use std::time::Duration;

use super::membership::Membership;
use super::propose::Proposer;
use crate::command::{Command, LevelCommand, MemberId, MemberRecord, Principal};
use crate::wal::Wal;

/// The level to raise a cluster to: the lowest that its members, voters and learners, report. `None` if that is no more
/// than it has, or one of them has not reported yet: it may turn out to know less.
fn next(now: u32, members: &[MemberId], records: &[MemberRecord]) -> Option<u32> {
    let reported = |member: &MemberId| {
        let record = records.iter().find(|record| record.id == *member);
        record.map(|record| record.feature_level)
    };
    let levels: Option<Vec<u32>> = members.iter().map(reported).collect();
    levels?.into_iter().min().filter(|lowest| *lowest > now)
}

/// Tells this member's log the level, and while this member leads looks at the members' reports and proposes what follows.
pub(super) async fn raise(membership: Membership, proposer: Proposer, wal: Wal, pause: Duration) {
    loop {
        wal.written_for(membership.state.feature_level());
        tokio::time::sleep(pause).await;
        if !membership.leadership.borrow().is_self {
            continue;
        }
        let members = membership.effective();
        let members: Vec<MemberId> = members.into_iter().map(|(id, ..)| id).collect();
        let level = membership
            .state
            .with(|state| next(state.feature_level(), &members, &state.members()));
        let Some(level) = level else { continue };
        // A member that comes between the look and the entry and knows less is refused by its peers.
        match proposer
            .propose(
                Principal::System,
                Command::Level(LevelCommand::Raise { level }),
            )
            .await
        {
            Ok(_) => tracing::info!(level, "the feature level of the cluster is raised"),
            Err(unavailable) => {
                tracing::debug!(%unavailable, "the feature level is not raised yet")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Incarnation;

    fn record(id: u64, feature_level: u32) -> MemberRecord {
        MemberRecord {
            id: MemberId(id),
            incarnation: Incarnation(id),
            name: String::new(),
            client_urls: Vec::new(),
            feature_level,
        }
    }

    #[test]
    fn the_level_is_the_lowest_that_a_member_reports() {
        let members = [1, 2, 3].map(MemberId);
        let records = [record(1, 4), record(2, 3), record(3, 5)];
        assert_eq!(next(1, &members, &records), Some(3));
        assert_eq!(next(3, &members, &records), None);
        assert_eq!(next(4, &members, &records), None, "it never falls");
    }

    #[test]
    fn a_member_that_has_not_reported_holds_the_level() {
        let members = [1, 2, 3].map(MemberId);
        assert_eq!(next(1, &members, &[record(1, 4), record(2, 4)]), None);
        assert_eq!(next(1, &[], &[]), None);
    }

    #[test]
    fn a_member_that_left_holds_nothing() {
        let members = [1, 2].map(MemberId);
        let records = [record(1, 4), record(2, 4), record(3, 1)];
        assert_eq!(next(1, &members, &records), Some(4));
    }
}
