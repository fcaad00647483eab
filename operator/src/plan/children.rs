//! Which objects should exist. They are all applied at once; only membership goes one by one.

use super::{Case, Children, MemberChild, leftover};
use crate::observe::Ordinal;
use std::collections::{BTreeMap, BTreeSet};

/// The objects of the cluster as it stands.
pub(super) fn children(case: &Case) -> Children {
    let observed = case.observed;
    let mut members = BTreeMap::new();
    let mut add = |n: Ordinal, is_seed: bool, may_create_volume: bool| {
        let is_voter = match case.membership() {
            Some(membership) => membership.at(n).is_some_and(|m| !m.is_learner),
            // Without a list the label stays as it is, so that a budget never counts less than it did.
            None => observed.pods.get(&n).is_some_and(|pod| pod.labelled_voter),
        };
        members.insert(
            n,
            MemberChild {
                is_seed,
                is_voter,
                may_create_volume,
            },
        );
    };
    match (observed.record.cluster_id, case.membership()) {
        (None, _) => {
            let seed = observed
                .record
                .bootstrap
                .as_ref()
                .and_then(|b| Ordinal::try_from(b.seed).ok())
                .unwrap_or(0);
            let wanted: BTreeSet<Ordinal> = (0..case.desired.replicas).chain([seed]).collect();
            wanted.into_iter().for_each(|n| add(n, n == seed, true));
        }
        (Some(recorded), None) => {
            // A member that cannot be asked is kept as it is; who has a disk of this cluster is started.
            let with_disk = observed
                .volumes
                .iter()
                .filter(|(_, v)| v.cluster_id == Some(recorded) && !v.deleting);
            let with_set = observed.sets.iter().filter(|(_, set)| !set.deleting);
            let kept: BTreeSet<Ordinal> = with_disk
                .map(|(n, _)| *n)
                .chain(with_set.map(|(n, _)| *n))
                .collect();
            kept.into_iter().for_each(|n| add(n, false, false));
        }
        (Some(_), Some(membership)) => {
            membership
                .members
                .iter()
                .filter_map(|m| m.ordinal)
                .for_each(|n| add(n, false, false));
            leftover::joiners(case, membership)
                .into_iter()
                .for_each(|n| add(n, false, true));
        }
    }
    let min_available = case
        .min_available(members.values().filter(|m| m.is_voter).count())
        .map(|min| u32::try_from(min).expect("a handful of voters"));
    Children {
        members,
        min_available,
    }
}
