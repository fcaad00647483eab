//! The calls of a pass, in order: `writes(&Plan, &Observed, &Desired, now) -> Outgoing`, pure.
//!
//! In: the plan and the observation. Out: single calls, each with the UID or resource version that it was decided on.
//! `controllers/pass` sends exactly these and the model in `tests/world` lands exactly these. Three rules:
//! nothing is sent that would change nothing; a refused write waits its turn and stops only those that need it
//! ([`Write::stops`]); and the step comes last, after the objects that protect it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;

use crate::model::{Ordinal, hash::wanted_hash, labels, names};
use crate::observe::{ChildSeen, Observed, child_key};
use crate::plan::{Children, Plan, Step};
use crate::resources;
use crate::validate::Desired;

/// The calls of one pass.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    /// In the order in which they are sent.
    pub writes: Vec<Write>,
    /// Keys of writes that are due but wait: they were refused a moment ago, or the name is somebody else's.
    pub held: BTreeSet<String>,
    /// Names that are somebody else's, in sentences.
    pub taken: Vec<String>,
}

/// One call.
#[derive(Clone, Debug)]
pub enum Write {
    /// The status, which says what will be done, under the resource version that was read before all else.
    Intent,
    /// Server-side apply.
    Apply(Box<Child>),
    /// Lets a StatefulSet run its pod that somebody scaled, and leaves its template as it is: its turn has not come.
    RunSet {
        /// The member's number.
        ordinal: Ordinal,
        /// The StatefulSet's UID.
        uid: String,
    },
    /// Asks for a larger disk. Beside the step: it needs nothing and stops nothing.
    Grow {
        /// The member's number.
        ordinal: Ordinal,
        /// The claim's UID.
        uid: String,
    },
    /// Creates a disk; never applied, because a claim that was not seen is not ours to change.
    CreateVolume {
        /// The member's number.
        ordinal: Ordinal,
        /// The claim.
        volume: Box<PersistentVolumeClaim>,
    },
    /// Deletes the disruption budget.
    DeleteBudget {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
    /// Puts labels on a running pod: whether it votes, and what somebody took off.
    LabelPod {
        /// The member's number.
        ordinal: Ordinal,
        /// The pod's UID.
        uid: String,
        /// The labels.
        labels: BTreeMap<String, String>,
    },
    /// Puts labels on a disk, and ties it to the CoordCluster or unties it.
    TieVolume {
        /// The member's number.
        ordinal: Ordinal,
        /// The claim's UID.
        uid: String,
        /// Its resource version.
        version: String,
        /// The labels.
        labels: BTreeMap<String, String>,
        /// The owners.
        owners: Vec<OwnerReference>,
    },
    /// The step of the plan.
    Step {
        /// The step that it does.
        step: Step,
        /// The resource version of the object that it deletes.
        version: Option<String>,
        /// True if the pod that it restarts is evicted, because it serves: between our look and our call somebody may
        /// have drained a node, and the API server counts both against one budget.
        evicts: bool,
    },
}

/// An object that is applied as a whole.
#[derive(Clone, Debug)]
pub struct Child {
    /// See [`child_key`].
    pub key: String,
    /// A hash of the object, without what it was decided on.
    pub wanted: String,
    /// The object that was seen under its name.
    pub seen: Option<ChildSeen>,
    /// The object.
    pub object: Object,
}

/// The kinds that are applied.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "Kubernetes' own words")]
#[expect(
    clippy::large_enum_variant,
    reason = "it only lives behind the box in Write::Apply"
)]
pub enum Object {
    ServiceAccount(ServiceAccount),
    Service(Service),
    StatefulSet(StatefulSet),
    Budget(PodDisruptionBudget),
}

impl Write {
    /// Tells writes apart over passes: by what they are about, not by how often it was tried.
    pub fn key(&self) -> String {
        match self {
            Self::Intent => "Status".to_owned(),
            Self::Apply(child) => child.key.clone(),
            Self::RunSet { ordinal, .. } => format!("Replicas of {ordinal}"),
            Self::Grow { ordinal, .. } => format!("Size of disk {ordinal}"),
            Self::CreateVolume { ordinal, .. } => format!("Disk {ordinal}"),
            Self::DeleteBudget { name, .. } => child_key(BUDGET, name),
            Self::LabelPod { ordinal, .. } => format!("Labels of pod {ordinal}"),
            Self::TieVolume { ordinal, .. } => format!("Owners of disk {ordinal}"),
            Self::Step { step, .. } => step_key(step),
        }
    }

    /// True if `step` must not be taken while this write is due and not done.
    pub fn stops(&self, step: &Step) -> bool {
        match self {
            Self::Intent => true,
            Self::Apply(child) => is_budget(&child.key) && step_needs_budget(step),
            Self::DeleteBudget { .. }
            | Self::RunSet { .. }
            | Self::Grow { .. }
            | Self::CreateVolume { .. }
            | Self::LabelPod { .. }
            | Self::TieVolume { .. }
            | Self::Step { .. } => false,
        }
    }
}

/// The key of a step, see [`Write::key`].
pub fn step_key(step: &Step) -> String {
    match step {
        Step::Done | Step::Wait | Step::Stall => String::new(),
        Step::RecordBootstrap { .. } | Step::RecordCluster { .. } => step.name().to_owned(),
        Step::MarkVolume { ordinal, .. }
        | Step::AddLearner { ordinal }
        | Step::Promote { ordinal, .. }
        | Step::DeleteSet { ordinal, .. }
        | Step::DeleteVolume { ordinal, .. }
        | Step::RestartPod { ordinal, .. }
        | Step::Bootstrap { ordinal, .. }
        | Step::MarkRemoved { ordinal, .. } => format!("{} {ordinal}", step.name()),
        Step::MoveLeader { to, .. } => format!("{} {to:x}", step.name()),
        Step::RemoveMember { id, .. } => format!("{} {id:x}", step.name()),
    }
}

const BUDGET: &str = "PodDisruptionBudget";

fn is_budget(key: &str) -> bool {
    key.starts_with(BUDGET)
}

/// A step that changes how many voters there are or serve needs a budget that counts them: else a drain at the same
/// time could take one too many.
fn step_needs_budget(step: &Step) -> bool {
    match step {
        Step::Promote { .. } | Step::RemoveMember { .. } | Step::RestartPod { .. } => true,
        Step::Done
        | Step::Wait
        | Step::Stall
        | Step::RecordBootstrap { .. }
        | Step::RecordCluster { .. }
        | Step::MarkVolume { .. }
        | Step::AddLearner { .. }
        | Step::MoveLeader { .. }
        | Step::DeleteSet { .. }
        | Step::DeleteVolume { .. }
        | Step::Bootstrap { .. }
        | Step::MarkRemoved { .. } => false,
    }
}

/// The calls of the pass that planned `plan`. `now` is in Unix seconds.
pub fn writes(plan: &Plan, observed: &Observed, desired: &Desired, now: i64) -> Outgoing {
    let due = plan
        .children
        .iter()
        .flat_map(|children| of_children(children, observed, desired))
        .chain(plan.grow.iter().map(|(ordinal, uid)| Write::Grow {
            ordinal: *ordinal,
            uid: uid.clone(),
        }))
        .chain(of_step(&plan.step, observed));
    let mut outgoing = Outgoing::default();
    let mut is_stopped = false;
    for write in due {
        let key = write.key();
        let taken = match &write {
            Write::Apply(child) => child.seen.as_ref().is_some_and(|seen| !seen.is_ours),
            Write::Intent
            | Write::RunSet { .. }
            | Write::Grow { .. }
            | Write::CreateVolume { .. }
            | Write::DeleteBudget { .. }
            | Write::LabelPod { .. }
            | Write::TieVolume { .. }
            | Write::Step { .. } => false,
        };
        let waits = observed.refusals.get(&key).is_some_and(|r| now < r.until);
        if matches!(write, Write::Step { .. }) {
            if is_stopped || waits {
                outgoing.held.insert(key);
                continue;
            }
            // First of all, so that of two operators that decided alike one goes no further.
            if plan.step.needs_intent() {
                outgoing.writes.insert(0, Write::Intent);
            }
        } else if taken || waits {
            is_stopped |= write.stops(&plan.step);
            if taken {
                outgoing.taken.push(format!(
                    "{key} exists and is not part of this cluster; rename the CoordCluster or delete that object"
                ));
            }
            outgoing.held.insert(key);
            continue;
        }
        outgoing.writes.push(write);
    }
    outgoing
}

fn of_step(step: &Step, observed: &Observed) -> Option<Write> {
    let (version, evicts) = match step {
        Step::DeleteSet { ordinal, .. } => {
            let set = observed.sets.get(ordinal);
            (set.map(|set| set.resource_version.clone()), false)
        }
        Step::DeleteVolume { ordinal, .. } => {
            let volume = observed.volumes.get(ordinal);
            (volume.map(|volume| volume.resource_version.clone()), false)
        }
        Step::RestartPod { ordinal, .. } => {
            let pod = observed.pods.get(ordinal);
            let version = pod.map(|pod| pod.resource_version.clone());
            (version, pod.is_some_and(|pod| pod.ready))
        }
        Step::Done
        | Step::Wait
        | Step::Stall
        | Step::RecordBootstrap { .. }
        | Step::RecordCluster { .. }
        | Step::MarkVolume { .. }
        | Step::Bootstrap { .. }
        | Step::MarkRemoved { .. }
        | Step::AddLearner { .. }
        | Step::Promote { .. }
        | Step::MoveLeader { .. }
        | Step::RemoveMember { .. } => (None, false),
    };
    step.acts().then(|| Write::Step {
        step: step.clone(),
        version,
        evicts,
    })
}

/// Accounts, Services and disks come before the pods, so that none waits for its name or its disk.
fn of_children(children: &Children, observed: &Observed, desired: &Desired) -> Vec<Write> {
    let bootstrap = observed.record.bootstrap.as_ref();
    let mut writes = Vec::new();
    let apply = |object: Object, name: String, wanted: String| {
        let key = child_key(object.kind(), &name);
        let seen = observed.children.get(&key).cloned();
        let as_wanted = observed.applied.get(&key).is_some_and(|applied| {
            applied.wanted == wanted
                && seen
                    .as_ref()
                    .is_some_and(|seen| seen.content == applied.content)
        });
        if as_wanted {
            return None;
        }
        let object = match (object, &seen) {
            (Object::StatefulSet(mut set), Some(seen)) => {
                set.metadata.uid = Some(seen.uid.clone());
                Object::StatefulSet(set)
            }
            (object, _) => object,
        };
        Some(Write::Apply(Box::new(Child {
            key,
            wanted,
            seen,
            object,
        })))
    };
    let child = |object: Object| {
        let (name, wanted) = match &object {
            Object::ServiceAccount(object) => (object.name_any(), wanted_hash(object)),
            Object::Service(object) => (object.name_any(), wanted_hash(object)),
            Object::StatefulSet(object) => (object.name_any(), wanted_hash(object)),
            Object::Budget(object) => (object.name_any(), wanted_hash(object)),
        };
        apply(object, name, wanted)
    };
    writes.extend(child(Object::ServiceAccount(resources::service_account(
        desired,
    ))));
    writes.extend(child(Object::Service(resources::peer_service(desired))));
    writes.extend(child(Object::Service(resources::client_service(desired))));
    let missing = children
        .members
        .iter()
        .filter(|(n, child)| child.may_create_volume && !observed.volumes.contains_key(n));
    writes.extend(missing.map(|(n, _)| Write::CreateVolume {
        ordinal: *n,
        volume: Box::new(resources::volume(desired, *n, bootstrap)),
    }));
    for (n, member) in &children.members {
        if member.takes_template {
            let set = resources::stateful_set(desired, *n, member.is_placed, bootstrap);
            writes.extend(child(Object::StatefulSet(set)));
            continue;
        }
        let scaled = observed.sets.get(n);
        let scaled = scaled.filter(|set| set.replicas != 1 && !set.deleting);
        writes.extend(scaled.map(|set| Write::RunSet {
            ordinal: *n,
            uid: set.uid.clone(),
        }));
    }
    let budget = observed
        .children
        .get(&child_key(BUDGET, &desired.name))
        .filter(|seen| seen.is_ours);
    match children.min_available {
        Some(min_available) => {
            let budget = resources::disruption_budget(desired, min_available);
            writes.extend(child(Object::Budget(budget)));
        }
        None => writes.extend(budget.map(|seen| Write::DeleteBudget {
            name: desired.name.clone(),
            uid: seen.uid.clone(),
        })),
    }
    for (n, member) in &children.members {
        let Some(pod) = observed.pods.get(n) else {
            continue;
        };
        if (pod.labelled_voter == member.is_voter && !pod.stripped) || pod.deleting_since.is_some()
        {
            continue;
        }
        let mut labels = labels::of_member(&desired.name, *n);
        labels.insert(
            labels::ROLE.to_owned(),
            labels::role(member.is_voter).to_owned(),
        );
        writes.push(Write::LabelPod {
            ordinal: *n,
            uid: pod.uid.clone(),
            labels,
        });
    }
    writes.extend(of_volumes(observed, desired));
    writes
}

/// Ties disks to the CoordCluster, or unties them, as the reclaim policy says.
fn of_volumes<'a>(
    observed: &'a Observed,
    desired: &'a Desired,
) -> impl Iterator<Item = Write> + 'a {
    let changed = observed.volumes.iter().filter(|(_, volume)| {
        (volume.owned != desired.volumes_owned || volume.stripped) && !volume.deleting
    });
    changed.map(|(n, volume)| Write::TieVolume {
        ordinal: *n,
        uid: volume.uid.clone(),
        version: volume.resource_version.clone(),
        labels: labels::of_member(&desired.name, *n),
        owners: desired
            .volumes_owned
            .then(|| resources::owner(desired))
            .into_iter()
            .collect(),
    })
}

impl Object {
    /// Its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ServiceAccount(_) => "ServiceAccount",
            Self::Service(_) => "Service",
            Self::StatefulSet(_) => "StatefulSet",
            Self::Budget(_) => BUDGET,
        }
    }
}

/// The member's number in the name of a StatefulSet that is applied.
pub fn ordinal_of(child: &Child, cluster: &str) -> Option<Ordinal> {
    match &child.object {
        Object::StatefulSet(set) => names::ordinal_of_member(cluster, &set.name_any()),
        Object::ServiceAccount(_) | Object::Service(_) | Object::Budget(_) => None,
    }
}
