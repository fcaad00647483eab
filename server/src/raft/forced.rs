//! A log that goes on as that of a cluster of one: for a survivor whose cluster has lost its quorum for good.
//!
//! Everything that the log holds stays, what was not known to be committed too: the others may have acknowledged it. After it
//! comes a membership of this member alone, in a term of its own. That entry is the moment it counts: openraft goes by the
//! newest membership that stands in the log, so a crash before leaves the old cluster, and one after it the new one.
//! Source: etcd `server/etcdserver/bootstrap.go`, `createConfChangeEnts`; etcd drops what it does not know to be committed.

use std::collections::{BTreeMap, BTreeSet};

use super::storage;
use super::types::{self, Members, Place};
use crate::command::{Fault, LogPosition, MemberId};
use crate::offload::Offload;
use crate::wal::{Entry, Payload, Vote, Wal};

/// The cluster that was left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forced {
    /// The members that are none any more.
    pub dropped: Vec<MemberId>,
    /// Whether this member had no vote: then it may lack what the others acknowledged without it.
    pub was_learner: bool,
    /// The membership's place in the log.
    pub at: LogPosition,
}

/// Makes `own` the only member, a voter; `None` if it is that already. `applied`, `membership` and `level` are the state's, `peer_urls` where
/// it is reached if the membership does not say. Before [`Raft::start`](super::Raft::start) and nothing else that uses the log.
///
/// Errors: `Io`; `Corrupt`.
pub async fn force_new_cluster(
    wal: &Wal,
    (applied, membership, level): (Option<LogPosition>, Option<bytes::Bytes>, u32),
    (own, peer_urls): (MemberId, Vec<String>),
    offload: Offload,
) -> Result<Option<Forced>, Fault> {
    let log = wal.clone();
    let in_log = offload.run(move || storage::newest_membership(&log)).await;
    let in_log = in_log.map_err(|error| Fault::Store(error.to_string()))??;
    let members = match in_log.or(membership) {
        Some(bytes) => types::decode_members(&bytes)
            .map_err(|why| Fault::irreparable("the membership in the log", why))?,
        None => Members::default(),
    };
    let dropped: Vec<MemberId> = members
        .nodes()
        .map(|(id, _)| MemberId(*id))
        .filter(|id| *id != own)
        .collect();
    let voters: BTreeSet<u64> = members.voter_ids().collect();
    let was_learner = !voters.contains(&own.0);
    if dropped.is_empty() && !was_learner && members.get_joint_config().len() == 1 {
        return Ok(None);
    }
    let failed = |source| Fault::Io {
        path: wal.place(),
        source,
    };
    let mut last = wal.ends().last;
    if let Some(applied) = applied
        && last.is_none_or(|last| last.index < applied.index)
    {
        // A state was received, and the log had not followed it yet.
        wal.truncate(wal.ends().purged).map_err(failed)?;
        wal.purge_durably(applied).await.map_err(failed)?;
        last = Some(applied);
    }
    let vote = wal.vote().map_or(0, |vote| vote.term);
    let term = vote.max(last.map_or(0, |last| last.term)) + 1;
    // Not as if it had been elected: a crash before the entry is there leaves a candidate of the old cluster.
    let vote = Vote {
        term,
        leader: own,
        committed: false,
    };
    wal.save_vote(vote).await.map_err(failed)?;
    let place = members.get_node(&own.0).cloned();
    let place = Place {
        awaits_vote: false,
        ..place.unwrap_or_else(|| Place::at(peer_urls))
    };
    let alone = Members::new(
        vec![BTreeSet::from([own.0])],
        BTreeMap::from([(own.0, place)]),
    )
    .expect("its one voter is its one member");
    let at = LogPosition {
        term,
        leader: own,
        index: last.map_or(0, |last| last.index + 1),
    };
    let entry = Entry {
        position: at,
        payload: Payload::Membership(types::encode_members(&alone, level)),
    };
    let (written, durable) = tokio::sync::oneshot::channel();
    let told = move |result| {
        // Only gone if this start was given up.
        let _ = written.send(result);
    };
    wal.append_each([entry], told).map_err(failed)?;
    let closed = |_| std::io::Error::other("the log was closed");
    durable
        .await
        .map_err(closed)
        .and_then(|written| written)
        .map_err(failed)?;
    Ok(Some(Forced {
        dropped,
        was_learner,
        at,
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::command::level::FIRST_LEVEL;
    use crate::wal::{Identity, MemoryDisk, Options};

    const OPTIONS: Options = Options {
        segment_bytes: 1 << 16,
        entry_bytes_max: 1 << 15,
        recent_bytes_max: 1 << 20,
        threaded: false,
    };

    fn at(index: u64) -> LogPosition {
        LogPosition {
            term: 2,
            leader: MemberId(2),
            index,
        }
    }

    /// A log of member 1: voters 1 and 2, learner 3, then entries up to the fifth, of which the fourth is the last known to be
    /// committed.
    fn log(disk: &MemoryDisk) -> Wal {
        let identity = Identity::of_test(1, 1);
        let place = |id: u64| (id, Place::at(vec![format!("http://m{id}:1")]));
        let nodes = BTreeMap::from([place(1), place(2), place(3)]);
        let members = Members::new(vec![BTreeSet::from([1, 2])], nodes).unwrap();
        let wal = Wal::create_on(Arc::new(disk.clone()), &identity, OPTIONS).unwrap();
        let entries = (0..6).map(|index| Entry {
            position: at(index),
            payload: match index {
                0 => Payload::Membership(types::encode_members(&members, FIRST_LEVEL)),
                _ => Payload::Blank,
            },
        });
        wal.append(entries, |written| written.unwrap()).unwrap();
        wal.save_committed(at(4)).unwrap();
        wal
    }

    async fn forced(wal: &Wal, own: u64, applied: Option<LogPosition>) -> Option<Forced> {
        let own = (MemberId(own), vec!["http://elsewhere:1".to_owned()]);
        let forced =
            force_new_cluster(wal, (applied, None, FIRST_LEVEL), own, Offload::Inline).await;
        forced.unwrap()
    }

    #[tokio::test]
    async fn a_log_keeps_all_it_holds_and_goes_on_as_that_of_one() {
        let disk = MemoryDisk::default();
        let wal = log(&disk);
        let done = forced(&wal, 1, Some(at(3))).await.unwrap();
        let position = LogPosition {
            term: 3,
            leader: MemberId(1),
            index: 6,
        };
        assert_eq!((done.at, done.was_learner), (position, false));
        assert_eq!(done.dropped, [MemberId(2), MemberId(3)]);
        // As a power cut would leave it.
        let wal = Wal::open_on(Arc::new(MemoryDisk::with(disk.files())), OPTIONS).unwrap();
        assert_eq!(wal.ends().last, Some(position));
        assert_eq!(
            wal.read(1, 6, usize::MAX).unwrap().len(),
            5,
            "with the last one"
        );
        let newest = storage::newest_membership(&wal).unwrap().unwrap();
        let members = types::decode_members(&newest).unwrap();
        assert_eq!(members.voter_ids().collect::<Vec<_>>(), [1]);
        let place = members.get_node(&1).unwrap();
        assert_eq!(place.peer_urls, ["http://m1:1"]);
        assert_eq!(forced(&wal, 1, None).await, None, "it is alone already");
    }

    #[tokio::test]
    async fn a_learner_becomes_the_voter() {
        let wal = log(&MemoryDisk::default());
        let done = forced(&wal, 3, None).await.unwrap();
        assert!(done.was_learner);
        assert_eq!(done.dropped, [MemberId(1), MemberId(2)]);
    }

    #[tokio::test]
    async fn a_log_that_a_received_state_has_left_behind_goes_on_after_it() {
        let wal = log(&MemoryDisk::default());
        let done = forced(&wal, 1, Some(at(20))).await.unwrap();
        assert_eq!(done.at.index, 21);
        assert_eq!(wal.ends().purged, Some(at(20)));
    }
}
