//! Members that have not applied the same, and disks that go back in time.

use std::sync::Arc;
use std::time::Duration;

use super::cluster::{Cluster, OPTIONS, put};
use crate::command::{Alarm, AlarmKind, MemberId};
use crate::state::FEATURE_LEVEL;
use crate::wal::{MemoryDisk, Wal};

const LIMIT: Duration = Duration::from_secs(20);

impl Cluster {
    /// Why the member at this place ended.
    async fn end_of(&self, place: usize) -> String {
        let stopped = self.members[place].raft.stopped();
        let why = tokio::time::timeout(LIMIT, stopped).await;
        why.expect("it goes on")
    }

    async fn place_of_leader(&self) -> usize {
        let id = self.leader().await.id;
        let is_leader = |member: &super::Member| member.id == id;
        self.members.iter().position(is_leader).unwrap()
    }

    /// Why the member at this place, which has ended, does not start.
    async fn refused(&mut self, place: usize) -> String {
        let member = self.members.remove(place);
        match member.try_restart_with(FEATURE_LEVEL).await {
            Ok(_) => panic!("it starts"),
            Err(fault) => fault.to_string(),
        }
    }

    /// The contents of a member's disk.
    fn copy(&self, place: usize) -> MemoryDisk {
        MemoryDisk::with(self.members[place].disk.files())
    }
}

#[tokio::test]
async fn a_follower_that_has_applied_otherwise_stops() {
    let cluster = Cluster::start(3).await;
    let place = cluster.follower();
    cluster.members[place].state.with(|state| state.disturb());
    cluster.leader().await.put("k", "v").await;
    let why = cluster.end_of(place).await;
    assert!(
        why.starts_with("this member's applied log is not its leader's: after entry "),
        "{why}"
    );
}

#[tokio::test]
async fn a_leader_that_has_applied_otherwise_than_the_others_stops_and_they_do_not() {
    let mut cluster = Cluster::start(3).await;
    let place = cluster.place_of_leader().await;
    cluster.members[place].state.with(|state| state.disturb());
    cluster.members[place].put("k", "v").await;
    let why = cluster.end_of(place).await;
    assert!(
        why.starts_with("this member's applied log is not that of the others: after entry "),
        "{why}"
    );
    cluster.stop(place).await;
    for other in (0..3).filter(|other| *other != place) {
        cluster.members[other].raft.read_barrier().await.unwrap();
        let ended = tokio::time::timeout(
            Duration::from_millis(1500),
            cluster.members[other].raft.stopped(),
        );
        assert!(ended.await.is_err(), "it is one of the majority");
    }
}

/// Whether the alarm CORRUPT of `of` stands on a member, soon.
async fn alarm_stands(member: &super::Member, of: MemberId) {
    let alarm = Alarm {
        kind: AlarmKind::Corrupt,
        member: of,
    };
    let stands = async {
        while !member.state.with(|state| state.alarms()).contains(&alarm) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let stands = tokio::time::timeout(LIMIT, stands).await;
    stands.expect("nobody raises the alarm");
}

#[tokio::test]
async fn the_leader_raises_the_alarm_of_a_follower_that_differs() {
    let cluster = Cluster::start(3).await;
    let place = cluster.follower();
    cluster.members[place].state.with(|state| state.disturb());
    let leader = cluster.leader().await;
    leader.put("k", "v").await;
    alarm_stands(leader, cluster.members[place].id).await;
    cluster.end_of(place).await;
    assert_eq!(leader.state.with(|state| state.alarms()).len(), 1);
}

#[tokio::test]
async fn a_leader_that_differs_raises_its_own_alarm_and_no_other() {
    let cluster = Cluster::start(3).await;
    let place = cluster.place_of_leader().await;
    cluster.members[place].state.with(|state| state.disturb());
    cluster.members[place].put("k", "v").await;
    cluster.end_of(place).await;
    let id = cluster.members[place].id;
    for other in (0..3).filter(|other| *other != place) {
        alarm_stands(&cluster.members[other], id).await;
        let alarms = cluster.members[other].state.with(|state| state.alarms());
        assert_eq!(alarms.len(), 1, "{alarms:?}");
    }
}

/// Scenario S4 of the findings: the copy of C is from before what A and C acknowledged, and only A remembers.
#[tokio::test]
async fn a_member_with_acknowledged_entries_that_the_others_lost_stops() {
    let mut cluster = Cluster::start(3).await;
    let a = cluster.place_of_leader().await;
    let (b, c) = ((a + 1) % 3, (a + 2) % 3);
    let older = cluster.copy(c);
    cluster.stop(b).await;
    for number in 0..20 {
        cluster.members[a].put(&format!("k{number}"), "v").await;
    }
    cluster.stop(a).await;
    cluster.stop(c).await;
    cluster.members[c].disk = older;
    cluster.restart(b).await;
    cluster.restart(c).await;
    // Whether the first one reached a leader is not known.
    while cluster.members[b]
        .raft
        .propose(put("another history", "v"))
        .await
        .is_err()
    {}
    cluster.restart(a).await;
    let why = cluster.end_of(a).await;
    assert!(
        why.starts_with("this member's applied log is not the cluster's: it has applied entry "),
        "{why}"
    );
}

#[tokio::test]
async fn a_disk_from_an_older_copy_is_refused_as_soon_as_a_peer_that_knows_is_asked() {
    let mut cluster = Cluster::start(3).await;
    let place = cluster.follower();
    let older = cluster.copy(place);
    let leader = cluster.leader().await;
    for number in 0..20 {
        leader.put(&format!("k{number}"), "v").await;
    }
    cluster.stop(place).await;
    cluster.members[place].disk = older;
    let why = cluster.refused(place).await;
    assert!(
        why.contains("this data directory is an older copy: member "),
        "{why}"
    );
    cluster.leader().await.put("goes on", "v").await;
}

#[tokio::test]
async fn what_was_acknowledged_is_remembered_over_a_restart() {
    let mut cluster = Cluster::start(3).await;
    let place = cluster.follower();
    let leader = cluster.place_of_leader().await;
    let older = cluster.copy(place);
    for number in 0..20 {
        cluster.members[leader]
            .put(&format!("k{number}"), "v")
            .await;
    }
    let id = cluster.members[place].id;
    let end = cluster.members[leader].raft.status().last_index + 1;
    let log = &cluster.members[leader].disk.clone();
    let is_written = || {
        let copy = Arc::new(MemoryDisk::with(log.files()));
        let peers = Wal::open_on(copy, OPTIONS).unwrap().peers();
        peers
            .iter()
            .any(|peer| peer.member == id && peer.acknowledged >= end)
    };
    let written = async {
        while !is_written() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let written = tokio::time::timeout(LIMIT, written).await;
    written.expect("it is written down");
    // All restart; the one with the older copy last.
    for member in 0..3 {
        cluster.stop(member).await;
    }
    cluster.members[place].disk = older;
    for member in (0..3).filter(|member| *member != place) {
        cluster.restart(member).await;
    }
    let why = cluster.refused(place).await;
    assert!(why.contains("is an older copy"), "{why}");
}

/// The peer that knows could not be asked when the member started.
#[tokio::test]
async fn a_disk_from_an_older_copy_is_found_out_while_it_runs() {
    let mut cluster = Cluster::start(3).await;
    let place = cluster.follower();
    let older = cluster.copy(place);
    let leader = cluster.leader().await;
    for number in 0..20 {
        leader.put(&format!("k{number}"), "v").await;
    }
    cluster.stop(place).await;
    cluster.members[place].disk = older;
    let member = cluster.members.remove(place);
    let member = member.restart_unasked().await;
    cluster.members.insert(place, member);
    let why = cluster.end_of(place).await;
    assert!(why.contains("is an older copy"), "{why}");
}
