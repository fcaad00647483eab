//! The first member, and the way back to a cluster that exists already.
//!
//! Invariant: at most one bootstrap per cluster. The seed and its token are recorded before any pod exists; the
//! cluster id goes on the seed's disk and into the status before anybody else is added; and once a cluster id is
//! found anywhere, no pod is told to bootstrap. So a disk without a cluster id holds at most a seed that never had
//! company, and a disk with one is adopted.

use super::{Case, Step, Verdict};
use crate::observe::Ordinal;
use std::collections::BTreeSet;

/// Is it written down who bootstraps, or which cluster this is?
pub(super) fn is_recorded(case: &Case) -> Verdict {
    let record = &case.observed.record;
    if record.cluster_id.is_some() {
        return Verdict::Pass;
    }
    let known: BTreeSet<u64> = case
        .observed
        .volumes
        .values()
        .filter_map(|v| v.cluster_id)
        .collect();
    let fading = case.observed.volumes.iter().find(|(_, v)| v.deleting);
    if let (None, Some((n, _))) = (&record.bootstrap, fading) {
        return Verdict::Hold(format!(
            "waiting for the old disk of {} to be deleted",
            case.name(*n)
        ));
    }
    match (known.len(), known.first()) {
        (0, _) | (_, None) => {}
        (1, Some(&cluster_id)) => {
            let because = if record.bootstrap.is_some() {
                format!("cluster {cluster_id:x} exists; from now on members join it")
            } else {
                format!(
                    "the disks hold cluster {cluster_id:x}: it is taken over, nobody bootstraps"
                )
            };
            return Verdict::Act(Step::RecordCluster { cluster_id }, because);
        }
        _ => {
            let ids = known
                .iter()
                .map(|id| format!("{id:x}"))
                .collect::<Vec<_>>()
                .join(", ");
            return Verdict::Stall(format!(
                "the disks of this name belong to different clusters ({ids}); delete the claims of the wrong one"
            ));
        }
    }
    if record.bootstrap.is_some() {
        return Verdict::Pass;
    }
    // An earlier CoordCluster of this name may have come as far as its seed; the same seed and token go on with it.
    let earlier = case.observed.volumes.iter().find_map(|(n, volume)| {
        let bootstrap = volume.bootstrap.as_ref()?;
        (Ordinal::try_from(bootstrap.seed) == Ok(*n)).then(|| bootstrap.clone())
    });
    let (seed, token) = match earlier {
        Some(bootstrap) => (
            Ordinal::try_from(bootstrap.seed).unwrap_or(0),
            Some(bootstrap.token),
        ),
        None => (0, None),
    };
    Verdict::Act(
        Step::RecordBootstrap { seed, token },
        format!("{} starts the cluster", case.name(seed)),
    )
}

/// Has the seed made a cluster?
pub(super) fn is_started(case: &Case) -> Verdict {
    let record = &case.observed.record;
    let (None, Some(bootstrap)) = (record.cluster_id, &record.bootstrap) else {
        return Verdict::Pass;
    };
    let seed = Ordinal::try_from(bootstrap.seed).unwrap_or(0);
    let (Some(answer), Some(volume)) = (
        case.observed.answers.get(&seed),
        case.observed.volumes.get(&seed),
    ) else {
        let trouble = case.observed.trouble(seed);
        let trouble = trouble.map(|t| format!(" ({t})")).unwrap_or_default();
        return Verdict::Hold(format!(
            "waiting for {} to start the cluster{trouble}",
            case.name(seed)
        ));
    };
    let step = Step::MarkVolume {
        ordinal: seed,
        uid: volume.uid.clone(),
        cluster_id: answer.cluster_id,
        member_id: Some(answer.member_id),
    };
    Verdict::Act(
        step,
        format!(
            "{} started cluster {:x}",
            case.name(seed),
            answer.cluster_id
        ),
    )
}

/// Does a leader answer, confirmed by a quorum?
pub(super) fn is_quorate(case: &Case) -> Verdict {
    if case.membership().is_some() {
        return Verdict::Pass;
    }
    let observed = case.observed;
    if !observed
        .volumes
        .values()
        .any(|v| v.cluster_id == observed.record.cluster_id && !v.lost)
    {
        return Verdict::Stall(
            "every disk of this cluster is gone, and with them its data. To begin with an empty cluster, delete this \
             CoordCluster and create it again"
                .to_owned(),
        );
    }
    let rows: Vec<String> = observed
        .volumes
        .keys()
        .map(|n| match (observed.answers.get(n), observed.trouble(*n)) {
            (Some(answer), _) if answer.leader == 0 => {
                format!("{} sees no leader", case.name(*n))
            }
            (Some(_), _) => format!("{} answers", case.name(*n)),
            (None, Some(trouble)) => format!("{} is down ({trouble})", case.name(*n)),
            (None, None) => format!("{} does not answer", case.name(*n)),
        })
        .collect();
    Verdict::Hold(format!(
        "no leader is confirmed by a quorum: {}",
        rows.join(", ")
    ))
}
