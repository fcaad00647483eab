//! Commands whose bytes are where nobody looks: whatever is large in them counts, and none ends a member.

use bytes::Bytes;
use futures::future::join_all;

use super::cluster::{Cluster, put};
use crate::command::{
    Command, Compare, CompareOperand, CompareResult, DeleteRange, Keys, KvCommand, Op, Order,
    Range, RangeFilter, SortTarget, Txn, Unavailable,
};

fn large(bytes: usize) -> Bytes {
    Bytes::from(vec![7; bytes])
}

fn range(key: Bytes) -> Range {
    Range {
        keys: Keys::One(key),
        revision: None,
        limit: None,
        sort: (SortTarget::Key, Order::Ascending),
        keys_only: false,
        count_only: false,
        filter: RangeFilter::default(),
    }
}

/// One command of each kind that can be long, each of about `bytes`.
fn commands(bytes: usize) -> Vec<Command> {
    let txn = |compares, success| {
        Command::Kv(KvCommand::Txn(Txn {
            compares,
            success,
            failure: Vec::new(),
        }))
    };
    let compare = |key, operand| Compare {
        keys: Keys::One(key),
        result: CompareResult::Equal,
        operand,
    };
    let key = Bytes::from_static(b"k");
    let delete = |keys| DeleteRange {
        keys,
        prev_kv: false,
    };
    let to = Keys::Range {
        start: key.clone(),
        end: Some(large(bytes)),
    };
    vec![
        put("k", &"v".repeat(bytes)),
        txn(
            vec![compare(key, CompareOperand::Value(large(bytes)))],
            Vec::new(),
        ),
        txn(
            vec![compare(large(bytes), CompareOperand::Version(1))],
            Vec::new(),
        ),
        txn(Vec::new(), vec![Op::Range(range(large(bytes)))]),
        txn(Vec::new(), vec![Op::DeleteRange(delete(to.clone()))]),
        Command::Kv(KvCommand::DeleteRange(delete(Keys::One(large(bytes))))),
        Command::Kv(KvCommand::DeleteRange(delete(to))),
    ]
}

#[tokio::test]
async fn large_operands_of_any_kind_are_proposed_together_and_no_member_ends() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let term = leader.raft.status().term;
    let follower = &cluster.members[cluster.follower()];
    // Together many times what one record of the log takes, which here is a megabyte.
    for member in [leader, follower] {
        let many = (0..4).flat_map(|_| commands(400 << 10));
        let proposed = many.map(|command| member.raft.propose(command));
        for outcome in join_all(proposed).await {
            // Keys that law finds too long are refused in apply, which is as good.
            outcome.unwrap();
        }
    }
    cluster.assert_identical().await;
    assert_eq!(leader.raft.status().term, term, "nobody else was elected");
}

#[tokio::test]
async fn a_command_that_no_entry_has_room_for_is_refused_before_it_is_proposed() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let term = leader.raft.status().term;
    let follower = &cluster.members[cluster.follower()];
    for member in [leader, follower] {
        for command in commands(2 << 20) {
            let refused = member.raft.propose(command).await;
            assert_eq!(refused.unwrap_err(), Unavailable::TooManyRequests);
        }
        member.put("k", "v").await;
    }
    assert_eq!(leader.raft.status().term, term, "nobody else was elected");
}
