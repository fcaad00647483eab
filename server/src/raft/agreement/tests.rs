//! Members whose running hash differs from the leader's, and the one of them that ends.

use super::*;

const LEADER: LeaderKey = (3, MemberId(2));

fn at(term: u64, index: u64) -> LogPosition {
    LogPosition {
        term,
        leader: MemberId(2),
        index,
    }
}

fn hash(index: u64, hash: u64) -> AppliedHash {
    AppliedHash {
        index,
        hash: RunningHash(hash),
    }
}

/// Has applied `1..=upto`, each with a hash of its own.
fn applied(upto: u64) -> Agreement {
    let agreement = Agreement::default();
    agreement.begins(None, RunningHash::default());
    for index in 1..=upto {
        agreement.applied(at(1, index), RunningHash(index));
    }
    agreement
}

fn is_found(agreement: &Agreement) -> bool {
    agreement.lock().found.is_some()
}

#[test]
fn the_same_at_the_same_entry_is_agreement() {
    let agreement = applied(9);
    assert_eq!(agreement.newest(), Some(hash(9, 9)));
    for index in 1..=9 {
        assert_eq!(agreement.told(LEADER, hash(index, index)), None);
    }
    assert!(!is_found(&agreement));
}

#[test]
fn another_hash_at_an_entry_that_was_applied_is_found() {
    let agreement = applied(9);
    assert_eq!(agreement.told(LEADER, hash(4, 77)), Some(hash(4, 4)));
    // And told at each heartbeat, or the leader might miss it.
    assert_eq!(agreement.told(LEADER, hash(9, 77)), Some(hash(4, 4)));
}

#[test]
fn another_hash_at_an_entry_to_come_is_found_when_it_is_applied() {
    let agreement = applied(3);
    assert_eq!(agreement.told(LEADER, hash(5, 77)), None);
    // Later ones wait for the first, or a member that is always a little behind would never compare.
    assert_eq!(agreement.told(LEADER, hash(6, 6)), None);
    agreement.applied(at(1, 4), RunningHash(4));
    assert!(!is_found(&agreement));
    agreement.applied(at(1, 5), RunningHash(5));
    assert_eq!(agreement.told(LEADER, hash(7, 7)), Some(hash(5, 5)));
}

#[test]
fn a_new_leader_is_believed_instead_of_an_old_one() {
    let agreement = applied(3);
    assert_eq!(agreement.told(LEADER, hash(5, 77)), None);
    assert_eq!(agreement.told((4, MemberId(1)), hash(4, 4)), None);
    agreement.applied(at(1, 4), RunningHash(4));
    agreement.applied(at(1, 5), RunningHash(5));
    assert!(!is_found(&agreement));
}

#[test]
fn a_member_ends_only_if_its_leader_goes_on() {
    let agreement = Agreement::new(Duration::from_secs(3600));
    agreement.begins(Some(at(1, 3)), RunningHash(3));
    assert_eq!(agreement.told(LEADER, hash(3, 77)), Some(hash(3, 3)));
    assert_eq!(agreement.told(LEADER, hash(3, 77)), Some(hash(3, 3)));
    assert_eq!(agreement.verdict(&[]), None, "it may be the leader");
    assert_eq!(agreement.told((4, MemberId(1)), hash(3, 3)), None);
    assert!(!is_found(&agreement), "it was the leader");

    let agreement = Agreement::default();
    agreement.begins(Some(at(1, 3)), RunningHash(3));
    assert_eq!(agreement.told(LEADER, hash(3, 77)), Some(hash(3, 3)));
    let why = agreement.verdict(&[]).unwrap();
    assert!(
        why.starts_with(
            "this member's applied log is not its leader's: after entry 3 its running hash is 0000000000000003, that of \
             leader 2 is 000000000000004d: remove this member"
        ),
        "{why}"
    );
}

#[test]
fn what_is_no_longer_known_is_not_compared() {
    let agreement = applied(KEPT_MAX as u64 + 10);
    assert_eq!(agreement.told(LEADER, hash(10, 77)), None);
    agreement.begins(Some(at(1, 9000)), RunningHash(5));
    assert_eq!(agreement.told(LEADER, hash(8999, 77)), None);
    assert!(!is_found(&agreement));
    assert_eq!(agreement.told(LEADER, hash(9000, 77)), Some(hash(9000, 5)));
}

#[test]
fn a_leader_is_wrong_only_against_a_majority() {
    let agreement = applied(9);
    let voters = [BTreeSet::from([1, 2, 3, 4, 5].map(MemberId))];
    let says = |member, theirs| {
        agreement.differs(LEADER, MemberId(member), theirs);
        agreement.is_outvoted(&voters)
    };
    assert_eq!(says(1, hash(7, 70)), None);
    assert_eq!(says(3, hash(7, 71)), None);
    assert_eq!(says(4, hash(7, 70)), None);
    // A learner has no say.
    assert_eq!(says(9, hash(7, 70)), None);
    let why = says(5, hash(7, 70)).unwrap();
    assert!(
        why.contains("not that of the others: after entry 7"),
        "{why}"
    );
}

#[test]
fn committed_positions_of_one_log_do_not_contradict() {
    for (ours, theirs) in [
        (at(2, 9), at(2, 9)),
        (at(2, 9), at(2, 3)),
        (at(2, 9), at(1, 3)),
        (at(2, 9), at(2, 30)),
        (at(2, 9), at(5, 10)),
    ] {
        assert_eq!(contradiction(ours, theirs), None, "{ours:?} {theirs:?}");
        assert_eq!(contradiction(theirs, ours), None, "{theirs:?} {ours:?}");
    }
}

#[test]
fn a_commit_of_a_later_leader_below_what_was_applied_is_found() {
    // The third member of a cluster whose other two were put back.
    let why = contradiction(at(2, 1045), at(3, 72)).unwrap();
    assert!(
        why.starts_with(
            "this member's applied log is not the cluster's: it has applied entry 1045 of term 2, leader 2, where entry 72 of \
             term 3, leader 2 is the cluster's"
        ),
        "{why}"
    );
    assert!(contradiction(at(2, 9), at(1, 9)).is_some());
    assert!(contradiction(at(2, 9), at(3, 9)).is_some());
    assert!(contradiction(at(2, 9), at(1, 10)).is_some());
}
