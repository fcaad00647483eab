//! Members whose disks lie on one node are parted: the cluster grows by one on a node that is free, then one of them goes.
//!
//! Never the other way round: with one voter less another failure would cost the quorum. Nothing is done while no other
//! node is known to be free, and nothing with `repair.lostNode: Wait`, which says that nobody is replaced unasked.

use std::collections::BTreeSet;

use super::Case;
use super::leftover::{Leftover, leftover};
use crate::model::Ordinal;
use crate::observe::{MemberSeen, Membership};

/// Voters beyond those that the spec asks for: one while two are parted, else none.
pub(super) fn more(case: &Case, membership: &Membership) -> usize {
    let observed = case.observed;
    let voters: BTreeSet<Ordinal> = membership.voters().filter_map(|m| m.ordinal).collect();
    let may_replace = case.desired.spec.repair.lost_node_patience().is_some();
    if !may_replace || voters.len() != case.replicas() {
        return 0;
    }
    if observed.shared_nodes(voters.iter().copied()).is_empty() {
        return 0;
    }
    let tied_to = |n: &Ordinal| observed.volumes.get(n)?.tied_to.as_deref();
    // A member on its way in: a learner, or a number whose pod waits to be added.
    let is_learner = |n: &Ordinal| membership.at(*n).is_some_and(|m| m.is_learner);
    let is_waiting = |n: &Ordinal| {
        membership.at(*n).is_none() && leftover(case, membership, *n) == Leftover::Usable
    };
    let numbers = observed.volumes.keys();
    let newcomers: Vec<Ordinal> = numbers
        .filter(|n| is_learner(n) || is_waiting(n))
        .copied()
        .collect();
    let placed: Vec<&str> = newcomers.iter().filter_map(tied_to).collect();
    let is_apart = |node: &&str| voters.iter().all(|n| tied_to(n) != Some(node));
    let has_begun = newcomers.iter().any(is_learner);
    let all_healthy = membership.voters().all(|m| case.is_healthy(m));
    let is_worth_it = match placed.is_empty() {
        true => !observed.free_nodes.is_empty() && (has_begun || all_healthy),
        false => placed.iter().any(is_apart),
    };
    usize::from(is_worth_it)
}

/// True if the disk of `member` lies on the node of another voter's.
pub(super) fn shares(case: &Case, membership: &Membership, member: &MemberSeen) -> bool {
    let voters = membership.voters().filter_map(|m| m.ordinal);
    let shared = case.observed.shared_nodes(voters);
    shared
        .values()
        .any(|numbers| member.ordinal.is_some_and(|n| numbers.contains(&n)))
}

/// Why there is one voter more than the spec asks for.
pub(super) fn why(case: &Case, membership: &Membership) -> Option<String> {
    let voters = membership.voters().filter_map(|m| m.ordinal);
    let shared = case.observed.shared_nodes(voters);
    let (node, numbers) = shared.iter().next()?;
    let names: Vec<String> = numbers.iter().map(|n| case.name(*n)).collect();
    Some(format!(
        "the disks of {} are all on node {node}",
        names.join(" and ")
    ))
}
