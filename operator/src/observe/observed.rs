//! Everything that a pass has seen, as one plain value. The planner reads this and nothing else; it names no kube.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::crd::Bootstrap;
use crate::model::Ordinal;

/// Entries a voter may be behind the leader and still count as caught up: the two are read at different moments, and
/// a busy leader moves on in between.
pub const LAG_ENTRIES_MAX: u64 = 1_000;

/// Everything the operator knows about one cluster at one moment: plain data, no handles.
///
/// Printed as JSON it is what a bug report needs; built by hand it is a test case.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Observed {
    /// The record of earlier passes in the status.
    pub record: Record,
    /// Children of an earlier CoordCluster of this name that are still being deleted, or names taken by others.
    pub in_the_way: Vec<String>,
    /// StatefulSets by member.
    pub sets: BTreeMap<Ordinal, SetSeen>,
    /// Pods by member.
    pub pods: BTreeMap<Ordinal, PodSeen>,
    /// PersistentVolumeClaims by member.
    pub volumes: BTreeMap<Ordinal, VolumeSeen>,
    /// Each pod's report of its server.
    pub answers: BTreeMap<Ordinal, Answer>,
    /// Pods whose server runs and does not serve, and why.
    pub waiting: BTreeMap<Ordinal, WaitingSeen>,
    /// The member list, if the leader of the recorded cluster gave one that a quorum confirmed.
    pub membership: Option<Membership>,
    /// Checks in a row in which a learner had everything the leader had.
    pub caught_up: BTreeMap<u64, u32>,
    /// Unix seconds since when a member has not been healthy.
    pub sick_since: BTreeMap<u64, i64>,
    /// Numbers whose servers answer, and tell nothing without a user: authentication is enabled.
    pub locked: BTreeSet<Ordinal>,
    /// Unix seconds since when no leader has given a confirmed list; `None` while one does.
    pub leaderless_since: Option<i64>,
    /// Unix seconds since when a member of the list has not answered at all.
    pub unheard_since: BTreeMap<u64, i64>,
    /// Unix seconds since when a StatefulSet has had no pod.
    pub podless_since: BTreeMap<Ordinal, i64>,
    /// Unix seconds since when a member's pod has been there and not run.
    pub down_since: BTreeMap<Ordinal, i64>,
    /// Unix seconds since when the node of a member's disk has been gone.
    pub home_gone_since: BTreeMap<Ordinal, i64>,
    /// Nodes that would take another member and hold none. Looked up only while disks share a node.
    pub free_nodes: BTreeSet<String>,
    /// The storage class that the spec names, or the default one.
    pub storage_class: StorageClassSeen,
    /// Children by [`child_key`]: accounts, Services, StatefulSets, the disruption budget.
    pub children: BTreeMap<String, ChildSeen>,
    /// The objects that this process applied last, by [`child_key`].
    pub applied: BTreeMap<String, Applied>,
    /// Writes that were refused to this process and have not been done since, by [`crate::writes::Write::key`].
    pub refusals: BTreeMap<String, Refusal>,
}

/// The key of a child: `StatefulSet demo-1`.
pub fn child_key(kind: &str, name: &str) -> String {
    format!("{kind} {name}")
}

/// A child that the operator applies as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChildSeen {
    /// Its UID.
    pub uid: String,
    /// Its resource version.
    pub resource_version: String,
    /// A hash of all but its status and what the API server counts.
    pub content: String,
    /// False if another's object has the name: neither our label nor an owner reference to this CoordCluster.
    pub is_ours: bool,
    /// The number of pods that a disruption budget keeps.
    pub min_available: Option<u32>,
}

/// The outcome of an apply. While both hashes stand, applying again would change nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// A hash of the object that was sent.
    pub wanted: String,
    /// [`ChildSeen::content`] of the object that came of it.
    pub content: String,
}

/// A write that did not succeed, and when it is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The write and the answer, in a sentence.
    pub message: String,
    /// Times in a row.
    pub count: u32,
    /// Unix seconds before which it is not sent again.
    pub until: i64,
    /// True if the answer would be the same for ever: somebody must help.
    pub needs_help: bool,
}

/// The record of earlier passes in the status.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Record {
    /// Set once the first member has bootstrapped; never cleared.
    pub cluster_id: Option<u64>,
    /// Set before the first pod exists.
    pub bootstrap: Option<Bootstrap>,
    /// The server image that members run, or are being changed to.
    pub server_image: Option<String>,
    /// The `spec.version` that it was chosen for.
    pub server_version: Option<String>,
}

/// A StatefulSet of one member.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SetSeen {
    /// Its UID.
    pub uid: String,
    /// Its resource version.
    pub resource_version: String,
    /// Pods it asks for: 1, unless somebody scaled it.
    pub replicas: i32,
    /// The revision of its template, if its controller has looked at the newest.
    pub update_revision: Option<String>,
    /// The hash of what its template was built from.
    pub template_hash: String,
    /// The server image of its template.
    pub image: String,
    /// True from the delete call until it is gone.
    pub deleting: bool,
    /// Why it has no pod, in the words of the API server that refuses it.
    pub trouble: Option<String>,
}

/// A pod of one member.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PodSeen {
    /// Its UID.
    pub uid: String,
    /// Its resource version.
    pub resource_version: String,
    /// Its address, once it has one.
    pub ip: Option<String>,
    /// The node it is on.
    pub node: Option<String>,
    /// Its server's container: another one after each start.
    pub container: Option<String>,
    /// True once its container runs.
    pub running: bool,
    /// True if Kubernetes sends it clients: its readiness probe passes, and its node reports.
    pub ready: bool,
    /// Unix seconds of the delete call.
    pub deleting_since: Option<i64>,
    /// True if it is being deleted for far longer than its grace period: its node does not report.
    pub stuck: bool,
    /// A finalizer that keeps it from going once it is deleted: Kubernetes sets none on pods.
    pub finalizer: Option<String>,
    /// The hash of what its template was built from.
    pub template_hash: String,
    /// The revision of the StatefulSet's template it was made from.
    pub revision: Option<String>,
    /// True if it carries the label that the disruption budget counts.
    pub labelled_voter: bool,
    /// True if it lacks a label of ours: found by its name.
    pub stripped: bool,
    /// True if its StatefulSet was deleted alone: nothing ends it, or brings it back, before the next one takes it over.
    pub orphan: bool,
    /// Why it does not run, in the scheduler's or the kubelet's words.
    pub trouble: Option<String>,
}

/// A PersistentVolumeClaim of one member.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct VolumeSeen {
    /// Its UID.
    pub uid: String,
    /// Its resource version.
    pub resource_version: String,
    /// The cluster whose data it may hold. Written before a member on it can join.
    pub cluster_id: Option<u64>,
    /// The member that lives on it. Written once that member has said so itself.
    pub member_id: Option<u64>,
    /// The member that lived on it and that this operator took, or is about to take, out of the list.
    pub removed_id: Option<u64>,
    /// The token and the seed it was made for.
    pub bootstrap: Option<Bootstrap>,
    /// The CoordCluster it was made for, as `namespace/name`.
    pub made_for: Option<String>,
    /// Bytes asked for.
    pub requested_bytes: u64,
    /// Bytes that the disk has; `None` while there is none.
    pub capacity_bytes: Option<u64>,
    /// Its storage class.
    pub class: Option<String>,
    /// Why it has not grown yet, in the words of its storage.
    pub resize_trouble: Option<String>,
    /// Whether its class lets it grow. Looked up only while it is too small; `None` also if nobody may read that.
    pub expands: Option<bool>,
    /// The PersistentVolume it is bound to.
    pub volume_name: Option<String>,
    /// The one node it can be used on, by name; `None` if it is not tied to one node, or the operator may not read that.
    pub tied_to: Option<String>,
    /// Whether that node is there. Looked up only while its pod is not ready.
    pub home: Option<BoundNode>,
    /// True if the volume behind the claim is gone.
    pub lost: bool,
    /// True from the delete call until it is gone.
    pub deleting: bool,
    /// True if it goes when the CoordCluster goes.
    pub owned: bool,
    /// Why there is no disk behind it, in the provisioner's words.
    pub trouble: Option<String>,
    /// True if it lacks a label of ours: found by its name.
    pub stripped: bool,
}

/// The one node that a disk can be used on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BoundNode {
    /// The node's name.
    pub node: String,
    /// Whether it is there.
    pub state: NodeState,
}

/// The state of a node, in Kubernetes' view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum NodeState {
    /// It takes part.
    Ready,
    /// It exists and does not report.
    NotReady,
    /// Kubernetes has no such node: somebody, or the cloud, has said that it will not come back.
    Gone,
}

/// A member's report about its server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The cluster it belongs to.
    pub cluster_id: u64,
    /// Its own id.
    pub member_id: u64,
    /// The leader it follows; zero if none.
    pub leader: u64,
    /// Its term.
    pub term: u64,
    /// Its last committed log entry.
    pub raft_index: u64,
    /// Its last applied log entry.
    pub applied_index: u64,
    /// True if it does not vote.
    pub is_learner: bool,
    /// The version of its program; empty if it does not say.
    pub version: String,
    /// Bytes of what it stores, without what it has yet to give back.
    pub in_use_bytes: u64,
    /// Bytes that it may store; zero if there is no limit.
    pub quota_bytes: u64,
    /// Alarms and errors it reports.
    pub errors: Vec<String>,
}

/// A server that runs and does not serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WaitingSeen {
    /// The event that it waits for.
    pub reason: WaitReason,
    /// The same in its own words.
    pub why: String,
    /// A word that is this start's own. Present while its directory is empty and it has heard of no cluster: then it can
    /// be told to form one.
    pub start: Option<String>,
}

/// The event that a server that does not serve waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum WaitReason {
    /// Its directory is empty; it waits to be added.
    NotAdded,
    /// Its directory is empty, and the list has a member of its URL that has run before.
    Wiped,
    /// Its directory is another member's, or another cluster's.
    Foreign,
    /// Something that ends by itself.
    Rebuilding,
}

/// The member list of one moment, confirmed by a quorum and given by the leader.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Membership {
    /// The cluster's id.
    pub cluster_id: u64,
    /// The leader's member id.
    pub leader: u64,
    /// The leader's term.
    pub term: u64,
    /// The leader's applied index, read before the others'.
    pub leader_index: u64,
    /// All members, voters and learners.
    pub members: Vec<MemberSeen>,
}

/// A member of the list.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MemberSeen {
    /// Its id.
    pub id: u64,
    /// Its number, if its peer URL is one that the operator gives; else somebody else added it.
    pub ordinal: Option<Ordinal>,
    /// Its name or, until it has started, its peer URL.
    pub name: String,
    /// True if it does not vote.
    pub is_learner: bool,
}

/// The observed storage class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub enum StorageClassSeen {
    /// It could not be read, or the operator may not read it.
    #[default]
    Unknown,
    /// The spec names one that does not exist.
    Missing,
    /// It exists.
    Found {
        /// True if its volumes can grow.
        expands: bool,
    },
}

impl Observed {
    /// The answer of the pod of `ordinal`, if it is that of `member`.
    pub fn answer_of(&self, member: &MemberSeen) -> Option<&Answer> {
        let answer = self.answers.get(&member.ordinal?)?;
        (answer.member_id == member.id).then_some(answer)
    }

    /// Entries `member` is behind the leader; `None` if it does not answer.
    pub fn lag_of(&self, member: &MemberSeen) -> Option<u64> {
        let membership = self.membership.as_ref()?;
        Some(
            membership
                .leader_index
                .saturating_sub(self.answer_of(member)?.applied_index),
        )
    }

    /// A member that has seen a higher term than the leader that gave the list, if there is any: an election is under
    /// way, or the list is of another history than theirs. Nothing is taken away on the word of such a list.
    pub fn contests_the_list(&self) -> Option<Ordinal> {
        let membership = self.membership.as_ref()?;
        let mut answers = self.answers.iter();
        answers
            .find(|(_, a)| a.cluster_id == membership.cluster_id && a.term > membership.term)
            .map(|(n, _)| *n)
    }

    /// True if the server of `ordinal` runs on an empty directory where the marks say that a member lived.
    pub fn is_emptied(&self, ordinal: Ordinal) -> bool {
        let Some(waiting) = self.waiting.get(&ordinal) else {
            return false;
        };
        let marked = self.volumes.get(&ordinal).and_then(|v| v.member_id);
        match waiting.reason {
            WaitReason::Wiped => true,
            // Nobody is there to tell it that it has run before.
            WaitReason::NotAdded => {
                marked.is_some_and(|id| self.membership.as_ref().is_none_or(|m| m.holds(id)))
            }
            WaitReason::Foreign | WaitReason::Rebuilding => false,
        }
    }

    /// True if `member` answers, follows the leader and has caught up.
    pub fn is_healthy(&self, member: &MemberSeen) -> bool {
        let (Some(membership), Some(answer)) = (&self.membership, self.answer_of(member)) else {
            return false;
        };
        let leaving = member
            .ordinal
            .and_then(|n| self.pods.get(&n))
            .is_some_and(|pod| pod.deleting_since.is_some());
        answer.cluster_id == membership.cluster_id
            && answer.leader == membership.leader
            && answer.applied_index + LAG_ENTRIES_MAX >= membership.leader_index
            && !leaving
    }
}

impl Observed {
    /// A disk that is smaller than `wanted_bytes` and that its class does not let grow.
    pub fn cannot_grow(&self, wanted_bytes: u64) -> Option<(Ordinal, &VolumeSeen)> {
        let small = |v: &VolumeSeen| v.requested_bytes < wanted_bytes && !v.deleting;
        let mut volumes = self.volumes.iter();
        let (n, volume) = volumes.find(|(_, v)| small(v) && v.expands == Some(false))?;
        Some((*n, volume))
    }

    /// The nodes to which the disks of more than one of `numbers` are tied, and whose.
    pub fn shared_nodes(
        &self,
        numbers: impl IntoIterator<Item = Ordinal>,
    ) -> BTreeMap<&str, Vec<Ordinal>> {
        let mut nodes: BTreeMap<&str, Vec<Ordinal>> = BTreeMap::new();
        for n in numbers {
            let volume = self.volumes.get(&n).filter(|volume| !volume.deleting);
            if let Some(node) = volume.and_then(|volume| volume.tied_to.as_deref()) {
                nodes.entry(node).or_default().push(n);
            }
        }
        nodes.retain(|_, numbers| numbers.len() > 1);
        nodes
    }

    /// Why member `n` does not run, in Kubernetes' words: its pod's, else its StatefulSet's, else its disk's.
    pub fn trouble(&self, n: Ordinal) -> Option<&str> {
        let pod = self.pods.get(&n).map(|pod| pod.trouble.as_deref());
        let of_set = || self.sets.get(&n)?.trouble.as_deref();
        let of_volume = || self.volumes.get(&n)?.trouble.as_deref();
        match pod {
            Some(trouble) => trouble.or_else(of_volume),
            None => of_set().or_else(of_volume),
        }
    }

    /// A voter to which the client Service does not send clients yet.
    pub fn voter_without_ready_pod(&self) -> Option<&str> {
        let voters = self.membership.iter().flat_map(Membership::voters);
        voters
            .filter(|m| {
                !m.ordinal
                    .and_then(|n| self.pods.get(&n))
                    .is_some_and(|pod| pod.ready)
            })
            .map(|m| m.name.as_str())
            .next()
    }
}

impl Membership {
    /// All voting members.
    pub fn voters(&self) -> impl Iterator<Item = &MemberSeen> {
        self.members.iter().filter(|m| !m.is_learner)
    }

    /// The member of that number.
    pub fn at(&self, ordinal: Ordinal) -> Option<&MemberSeen> {
        self.members.iter().find(|m| m.ordinal == Some(ordinal))
    }

    /// True if the list holds that id.
    pub fn holds(&self, id: u64) -> bool {
        self.members.iter().any(|m| m.id == id)
    }
}

impl Refusal {
    /// True if it is worth a sentence: it will not pass by itself, or has not for a while.
    pub fn is_told(&self) -> bool {
        self.needs_help || self.count >= TOLD_AFTER
    }
}

/// Refusals in a row of what may pass by itself, before somebody is told.
const TOLD_AFTER: u32 = 3;
