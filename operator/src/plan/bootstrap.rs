//! The first member, and the way back to a cluster that exists already.
//!
//! Invariant: at most one bootstrap per cluster. The seed and its token are recorded before any pod exists; every pod
//! waits on an empty disk, and the seed is told over the wire to form the cluster, by an operator that has just seen it
//! wait. The cluster id goes on the seed's disk and into the status before anybody else is added; and once a cluster id
//! is found anywhere, nobody is told any more. So a disk without a cluster id holds at most a seed that never had
//! company, and a disk with one is adopted.

use std::collections::BTreeSet;

use super::{Case, Step, Verdict, aside, hopeless, identity};
use crate::model::{Ordinal, names};
use crate::observe::{Answer, VolumeSeen, WaitReason};

/// Is it written down who bootstraps, or which cluster this is?
pub(super) fn is_recorded(case: &Case) -> Verdict {
    let record = &case.observed.record;
    if record.cluster_id.is_some() {
        return Verdict::Pass;
    }
    if let Some(why) = identity::is_copied(case) {
        return Verdict::Stall(why);
    }
    let known: BTreeSet<u64> = case
        .observed
        .volumes
        .values()
        .filter_map(|v| v.cluster_id)
        .collect();
    // One that is marked and whose pod serves stays for as long as that pod: it is no old disk, but this cluster's.
    let is_alive = |n: &Ordinal| {
        let pod = case.observed.pods.get(n);
        let stays = pod.is_some_and(|pod| pod.deleting_since.is_none());
        stays && case.observed.answers.contains_key(n)
    };
    let mut volumes = case.observed.volumes.iter();
    let fading = volumes.find(|(n, v)| v.deleting && !(v.cluster_id.is_some() && is_alive(n)));
    if let (None, Some((n, _))) = (&record.bootstrap, fading) {
        if let Some(freed) = free_claim(case, *n) {
            return freed;
        }
        if let (Some(answer), Some(volume)) =
            (case.observed.answers.get(n), case.observed.volumes.get(n))
            && volume.cluster_id.is_none()
        {
            // The status is lost, and a seed that never had company serves on a claim that somebody deleted.
            return Verdict::Act(
                mark_seed(*n, volume, answer),
                format!("{} serves cluster {:x}", case.name(*n), answer.cluster_id),
            );
        }
        let pod = case.observed.pods.contains_key(n).then(|| {
            let pod = names::pod(&case.desired.name, *n);
            format!("; its pod still uses it: kubectl delete pod {pod}")
        });
        return Verdict::Hold(format!(
            "waiting for the old disk of {} to be deleted{}",
            case.name(*n),
            pod.unwrap_or_default()
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
    let volume = case.observed.volumes.get(&seed);
    let waiting = case.observed.waiting.get(&seed);
    if let (Some(volume), Some(start)) = (volume, waiting.and_then(|w| w.start.as_ref()))
        && volume.member_id.is_none()
    {
        if let Some(freed) = free_claim(case, seed) {
            return freed;
        }
        let step = Step::Bootstrap {
            ordinal: seed,
            start: start.clone(),
        };
        return Verdict::Act(step, format!("{} forms the cluster", case.name(seed)));
    }
    let (Some(answer), Some(volume)) = (case.observed.answers.get(&seed), volume) else {
        let no_disk = case.desired.no_new_disks.as_ref();
        let trouble = case
            .observed
            .trouble(seed)
            .or_else(|| waiting.map(|w| w.why.as_str()))
            .or_else(|| no_disk.filter(|_| volume.is_none()).map(String::as_str));
        return Verdict::Hold(format!(
            "waiting for {} to start the cluster{}",
            case.name(seed),
            aside(trouble)
        ));
    };
    let step = mark_seed(seed, volume, answer);
    Verdict::Act(
        step,
        format!(
            "{} started cluster {:x}",
            case.name(seed),
            answer.cluster_id
        ),
    )
}

fn mark_seed(n: Ordinal, volume: &VolumeSeen, answer: &Answer) -> Step {
    Step::MarkVolume {
        ordinal: n,
        uid: volume.uid.clone(),
        cluster_id: answer.cluster_id,
        member_id: Some(answer.member_id),
    }
}

/// Ends a pod that waits on an empty disk whose claim is being deleted: Kubernetes keeps the claim for as long as the pod
/// is there, and nothing is on it.
fn free_claim(case: &Case, n: Ordinal) -> Option<Verdict> {
    let observed = case.observed;
    let reason = observed.waiting.get(&n)?.reason;
    let is_empty = matches!(reason, WaitReason::NotAdded | WaitReason::Wiped);
    let volume = observed.volumes.get(&n)?;
    let pod = observed.pods.get(&n)?;
    if !volume.deleting || volume.member_id.is_some() || !is_empty {
        return None;
    }
    let because = format!(
        "the claim of {} is being deleted, it gets a new one",
        case.name(n)
    );
    let step = Step::RestartPod {
        ordinal: n,
        uid: pod.uid.clone(),
    };
    Some(match pod.deleting_since {
        None => Verdict::Act(step, because),
        Some(_) => Verdict::Hold(because),
    })
}

/// Does a leader answer, confirmed by a quorum?
pub(super) fn is_quorate(case: &Case) -> Verdict {
    if case.membership().is_some() {
        return Verdict::Pass;
    }
    let observed = case.observed;
    // One without a mark may be one of them, of which somebody took it off.
    let may_be_ours =
        |v: &VolumeSeen| v.cluster_id.is_none() || v.cluster_id == observed.record.cluster_id;
    if !observed.volumes.values().any(|v| may_be_ours(v) && !v.lost) {
        return Verdict::Stall(
            "every disk of this cluster is gone, and with them its data. To begin with an empty cluster, delete this \
             CoordCluster and create it again"
                .to_owned(),
        );
    }
    if let Some(why) = hopeless::why(case) {
        return Verdict::Stall(why);
    }
    let rows: Vec<String> = observed
        .volumes
        .keys()
        .map(|n| {
            if let Some(waiting) = observed.waiting.get(n) {
                let name = case.name(*n);
                return match observed.is_emptied(*n) {
                    true => format!("the disk of {name} is empty where a member lived"),
                    false => format!("{name} waits ({})", waiting.why),
                };
            }
            match (observed.answers.get(n), observed.trouble(*n)) {
                (Some(answer), _) if answer.leader == 0 => {
                    format!("{} sees no leader", case.name(*n))
                }
                (Some(_), _) => format!("{} answers", case.name(*n)),
                (None, Some(trouble)) => format!("{} is down ({trouble})", case.name(*n)),
                (None, None) => format!("{} does not answer", case.name(*n)),
            }
        })
        .collect();
    Verdict::Hold(format!(
        "no leader is confirmed by a quorum: {}",
        rows.join(", ")
    ))
}
