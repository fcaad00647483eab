//! A small model of Kubernetes and of a Coord cluster, for driving the planner without either.
//!
//! It knows what StatefulSets do, what a server does with an empty or a full disk, who can form a quorum, and which
//! preconditions the API server and the leader hold a write against. A pass is a list of single writes, so that it can
//! end after any of them, and one of them can land late. Every step the planner asks for is checked against the
//! promises of the operator before it is carried out.
//!
//! `mod`: the world. `alone`: its own moves. `people`: what is done to it. `observe`: the operator's view of it. `pass`:
//! the operator's passes and failures. `writes`, `steps`: the effect of a write, and its preconditions. `show`: in lines.
#![allow(dead_code, reason = "each test program uses its part")]

mod alone;
mod observe;
mod pass;
mod people;
mod show;
mod steps;
mod writes;

use std::collections::{BTreeMap, BTreeSet};

use coord_operator::crd::{Bootstrap, LostNode};
use coord_operator::model::{Ordinal, quorum};
use coord_operator::observe::{ChildSeen, Memory, Observed, Record};
use coord_operator::plan::{Plan, plan};

#[allow(unused_imports, reason = "each test program uses its part")]
pub(crate) use pass::Fault;
pub(crate) use writes::Call;

/// A StatefulSet.
#[derive(Clone, Debug)]
pub(crate) struct Set {
    uid: String,
    version: u64,
    hash: String,
    content: String,
    /// True if its pods may not share a node.
    is_strict: bool,
    /// Somebody wrote nonsense into its template by hand; the annotations stayed.
    is_nonsense: bool,
}

/// A pod. It runs unless its number is `dead` or its image is `bad`.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    uid: String,
    /// Counts up whenever its container starts again in place.
    start: u64,
    hash: String,
    voter_label: bool,
    is_strict: bool,
    /// True once it has a node.
    is_placed: bool,
    /// The template it was made from.
    revision: String,
    is_nonsense: bool,
    /// Its StatefulSet was deleted and it was left behind; the next one of that name takes it over.
    is_orphan: bool,
}

/// A disk, and what a server wrote on it.
#[derive(Clone, Debug)]
pub(crate) struct Volume {
    uid: String,
    version: u64,
    cluster_mark: Option<u64>,
    member_mark: Option<u64>,
    removed_mark: Option<u64>,
    bootstrap: Option<Bootstrap>,
    bytes: u64,
    /// Its size now.
    capacity: u64,
    /// (cluster, member)
    data: Option<(u64, u64)>,
    /// The node it is tied to, once a pod has used it there; none on network disks.
    node: Option<String>,
    /// True if it is on a node that is gone for good.
    stranded: bool,
    /// True if somebody has deleted its claim: it goes as soon as no pod uses it.
    terminating: bool,
}

/// The way in which a disk grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resizer {
    /// It grows in a moment.
    Works,
    /// Its class allows it, and it never comes.
    Fails,
    /// Its class does not allow it.
    Absent,
}

/// An entry of the replicated member list.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    id: u64,
    ordinal: Ordinal,
    is_learner: bool,
    joined: bool,
    lag: u64,
}

/// Everything.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) replicas: i32,
    pub(crate) image: String,
    pub(crate) size: &'static str,
    pub(crate) paused: bool,
    pub(crate) lost_node: LostNode,
    pub(crate) record: Record,
    /// The resource version of the CoordCluster.
    version: u64,
    /// The intent that its status holds.
    intent: Option<String>,
    pub(crate) sets: BTreeMap<Ordinal, Set>,
    pub(crate) pods: BTreeMap<Ordinal, Pod>,
    pub(crate) volumes: BTreeMap<Ordinal, Volume>,
    pub(crate) members: Vec<Member>,
    pub(crate) cluster_id: Option<u64>,
    pub(crate) leader: Option<u64>,
    pub(crate) dead: BTreeSet<Ordinal>,
    /// Members that take part and whose answers do not reach the operator.
    pub(crate) mute: BTreeSet<Ordinal>,
    /// Somebody has enabled authentication: the members answer the operator nothing.
    pub(crate) is_locked: bool,
    /// Moments that a copy of everything takes.
    pub(crate) copy_takes: u64,
    /// Percent of the quota that is stored.
    pub(crate) filled: u64,
    /// The way in which its disks grow.
    pub(crate) resizer: Resizer,
    /// Somebody deleted the storage class.
    pub(crate) is_class_gone: bool,
    pub(crate) bootstraps: u32,
    pub(crate) min_available: Option<u32>,
    /// Accounts, Services and the budget, by key.
    pub(crate) children: BTreeMap<String, ChildSeen>,
    /// The API server refuses writes whose keys begin so: a policy, a quota, a webhook.
    pub(crate) refuses: Option<&'static str>,
    /// The leader answers "no" to the step of that name.
    pub(crate) says_no: Option<&'static str>,
    /// Nodes with local disks, and whether they take pods. Without any all disks are on a network.
    pub(crate) nodes: BTreeMap<String, bool>,
    pub(crate) now: i64,
    /// True once a majority of disks was lost by somebody else's act: then nothing can be promised.
    pub(crate) data_lost: bool,
    /// Members that the operator took out of the list, and those that somebody else did.
    removed: BTreeSet<u64>,
    pub(crate) taken_out: BTreeSet<u64>,
    /// Writes that changed something.
    pub(crate) written: u64,
    /// The number of writes after which the operator dies.
    pub(crate) dies_after: Option<u64>,
    /// Calls of operators that are no more, still on their way.
    late: Vec<Call>,
    memory: Memory,
    next: u64,
}

impl World {
    pub(crate) fn new(replicas: i32) -> Self {
        Self {
            replicas,
            image: "server:1".to_owned(),
            size: "1Gi",
            paused: false,
            lost_node: LostNode::Replace,
            record: Record::default(),
            version: 0,
            intent: None,
            sets: BTreeMap::new(),
            pods: BTreeMap::new(),
            volumes: BTreeMap::new(),
            members: Vec::new(),
            cluster_id: None,
            leader: None,
            dead: BTreeSet::new(),
            mute: BTreeSet::new(),
            is_locked: false,
            copy_takes: 3,
            filled: 1,
            resizer: Resizer::Works,
            is_class_gone: false,
            bootstraps: 0,
            min_available: None,
            children: BTreeMap::new(),
            refuses: None,
            says_no: None,
            nodes: BTreeMap::new(),
            now: 1_000,
            data_lost: false,
            removed: BTreeSet::new(),
            taken_out: BTreeSet::new(),
            written: 0,
            dies_after: None,
            late: Vec::new(),
            memory: Memory::default(),
            next: 0,
        }
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn runs(&self, n: Ordinal) -> bool {
        let image_is_good = self
            .pods
            .get(&n)
            .is_some_and(|pod| !pod.hash.contains("bad"));
        let has_disk = self.volumes.get(&n).is_some_and(|volume| !volume.stranded);
        let has_node = self.nodes.is_empty() || self.pods.get(&n).is_some_and(|pod| pod.is_placed);
        let is_nonsense = self.pods.get(&n).is_some_and(|pod| pod.is_nonsense);
        image_is_good && !is_nonsense && has_disk && has_node && !self.dead.contains(&n)
    }

    fn member_on(&self, n: Ordinal) -> Option<u64> {
        self.volumes.get(&n)?.data.map(|(_, member)| member)
    }

    fn is_up(&self, member: &Member) -> bool {
        member.ordinal == STRANGER
            || self.runs(member.ordinal) && self.member_on(member.ordinal) == Some(member.id)
    }

    fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|m| !m.is_learner)
    }

    fn has_quorum(&self) -> bool {
        self.voters().filter(|m| self.is_up(m)).count() >= quorum(self.voters().count().max(1))
    }

    /// Looks and decides, and checks that deciding twice gives the same.
    pub(crate) fn decide(&mut self) -> Plan {
        self.look().0
    }

    /// As [`World::decide`], with what was seen.
    pub(crate) fn look(&mut self) -> (Plan, Observed) {
        let observed = self.observe();
        let desired = self.desired(&observed);
        let decided = plan(&desired, &observed, self.now);
        assert_eq!(
            decided,
            plan(&desired, &observed, self.now),
            "planned twice, differently"
        );
        (decided, observed)
    }

    /// The operator restarts: all it keeps in memory is gone.
    pub(crate) fn forget(&mut self) {
        self.memory = Memory::default();
    }
}

/// The number, in this model alone, of a member that somebody else added.
pub(crate) const STRANGER: Ordinal = 99;

/// Where the leader's log stands in the model.
const INDEX: u64 = 100_000;
