//! Spread: whether one node that is lost takes one member only.

use std::collections::{BTreeMap, BTreeSet};

use super::StatusInput;
use crate::model::{Ordinal, names};

/// The node that two members have in common, and the way out; `None` if each has a node of its own.
pub(super) fn trouble(input: &StatusInput) -> Option<String> {
    let observed = input.observed;
    let voters: BTreeSet<Ordinal> = match &observed.membership {
        Some(membership) => membership.voters().filter_map(|m| m.ordinal).collect(),
        // Without a list the marks on the disks are the best word.
        None => {
            let marked = observed
                .volumes
                .iter()
                .filter(|(_, v)| v.member_id.is_some());
            marked.map(|(n, _)| *n).collect()
        }
    };
    let name = |n: &Ordinal| names::member(input.name, *n);
    let all = |numbers: &[Ordinal]| {
        let names: Vec<String> = numbers.iter().map(name).collect();
        names.join(" and ")
    };
    let disks = observed.shared_nodes(voters.iter().copied());
    if let Some((node, numbers)) = disks.iter().next() {
        let what = match observed.free_nodes.first() {
            Some(free) => format!("node {free} is free, so that one of them can be replaced there"),
            None => "no other node is known to be free for one of them".to_owned(),
        };
        return Some(format!(
            "the disks of {} are all on node {node} and would be lost with it; {what}",
            all(numbers)
        ));
    }
    let mut pods: BTreeMap<&str, Vec<Ordinal>> = BTreeMap::new();
    for n in voters {
        let pod = observed
            .pods
            .get(&n)
            .filter(|pod| pod.deleting_since.is_none());
        if let Some(node) = pod.and_then(|pod| pod.node.as_deref()) {
            pods.entry(node).or_default().push(n);
        }
    }
    let (node, numbers) = pods.into_iter().find(|(_, numbers)| numbers.len() > 1)?;
    let last = numbers
        .last()
        .map(|n| names::pod(input.name, *n))
        .unwrap_or_default();
    Some(format!(
        "{} all run on node {node} and would be down with it; once another node has room: kubectl delete pod {last}",
        all(&numbers)
    ))
}
