//! A small model of Kubernetes and of a Coord cluster, for driving the planner without either.
//!
//! It knows what StatefulSets do, what a server does with an empty or a full disk, who can form a quorum, and which
//! preconditions the API server and the leader hold a write against. A pass is a list of single writes, so that it can
//! end after any of them, and one of them can land late. Every step the planner asks for is checked against the
//! promises of the operator before it is carried out.
//!
//! `mod`: the world and its own moves. `observe`: the operator's view of it. `pass`: the operator's passes and failures.
//! `writes`, `steps`: the effect of a write, and its preconditions.
#![allow(dead_code, reason = "each test program uses its part")]

mod observe;
mod pass;
mod steps;
mod writes;

use coord_operator::crd::{Bootstrap, LostNode};
use coord_operator::model::{Ordinal, quorum};
use coord_operator::observe::{ChildSeen, Memory, Observed, Record};
use coord_operator::plan::{Plan, plan};
use std::collections::{BTreeMap, BTreeSet};

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
        self.runs(member.ordinal) && self.member_on(member.ordinal) == Some(member.id)
    }

    fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|m| !m.is_learner)
    }

    fn has_quorum(&self) -> bool {
        self.voters().filter(|m| self.is_up(m)).count() >= quorum(self.voters().count().max(1))
    }

    /// The moves that Kubernetes and the servers make by themselves in a moment.
    pub(crate) fn settle(&mut self) {
        self.now += 1;
        let orphans: Vec<Ordinal> = self
            .pods
            .keys()
            .filter(|n| !self.sets.contains_key(n))
            .copied()
            .collect();
        for n in orphans {
            self.pods.remove(&n);
        }
        let going: Vec<Ordinal> = self
            .volumes
            .iter()
            .filter(|(n, v)| v.terminating && !self.pods.contains_key(n))
            .map(|(n, _)| *n)
            .collect();
        for n in going {
            self.volumes.remove(&n);
            self.count_what_is_left();
        }
        let missing: Vec<Ordinal> = self
            .sets
            .keys()
            .filter(|n| !self.pods.contains_key(n))
            .copied()
            .collect();
        for n in missing {
            let (uid, set) = (format!("pod-{}", self.fresh()), &self.sets[&n]);
            self.pods.insert(
                n,
                Pod {
                    uid,
                    start: 0,
                    hash: set.hash.clone(),
                    voter_label: false,
                    is_strict: set.is_strict,
                    is_placed: false,
                    revision: set.content.clone(),
                    is_nonsense: set.is_nonsense,
                },
            );
        }
        self.schedule();
        if self.resizer == Resizer::Works {
            self.volumes
                .values_mut()
                .for_each(|volume| volume.capacity = volume.bytes);
        }
        for n in self.pods.keys().copied().collect::<Vec<_>>() {
            if self.runs(n) && self.member_on(n).is_none() {
                self.start_on_empty_disk(n);
                // Its pod turns ready, which the StatefulSet's status tells.
                if self.member_on(n).is_some()
                    && let Some(set) = self.sets.get_mut(&n)
                {
                    set.version += 1;
                }
            }
        }
        if self.has_quorum() {
            for member in &mut self.members {
                member.lag = member.lag.saturating_sub(1);
            }
            let leads = self
                .leader
                .and_then(|id| self.voters().find(|m| m.id == id))
                .is_some_and(|m| self.is_up(m));
            if !leads {
                let elected = self.voters().find(|m| self.is_up(m)).map(|m| m.id);
                self.leader = elected;
            }
        } else {
            self.leader = None;
        }
    }

    /// Gives pods their nodes, as the scheduler does: where the disk is, else where the fewest members are; and a strict
    /// pod nowhere where there would be two more than on another node that takes pods.
    fn schedule(&mut self) {
        let waiting: Vec<Ordinal> = self
            .pods
            .iter()
            .filter(|(n, pod)| !pod.is_placed && self.volumes.contains_key(n))
            .map(|(n, _)| *n)
            .collect();
        for n in waiting {
            let placed = self.pods.iter().filter(|(_, pod)| pod.is_placed);
            let used: Vec<&String> = placed
                .filter_map(|(n, _)| self.volumes.get(n)?.node.as_ref())
                .collect();
            let count = |node: &String| used.iter().filter(|used| **used == node).count();
            let open: Vec<&String> = self
                .nodes
                .iter()
                .filter_map(|(node, is_open)| is_open.then_some(node))
                .collect();
            let least = open.iter().map(|node| count(node)).min().unwrap_or(0);
            let tied_to = self.volumes[&n].node.clone();
            let mut candidates = open.clone();
            candidates.retain(|node| tied_to.as_ref().is_none_or(|tied| tied == *node));
            candidates.sort_by_key(|node| count(node));
            let is_strict = self.pods[&n].is_strict;
            let fits = |node: &&&String| !is_strict || count(node) < least + 1;
            let Some(node) = candidates.iter().find(fits).map(|node| (*node).clone()) else {
                continue;
            };
            self.volumes.get_mut(&n).expect("it has a disk").node = Some(node);
            self.pods.get_mut(&n).expect("it waits").is_placed = true;
        }
    }

    /// A server on an empty disk waits to be added; it never does more by itself.
    fn start_on_empty_disk(&mut self, n: Ordinal) {
        let Some(cluster) = self.cluster_id.filter(|_| self.leader.is_some()) else {
            return;
        };
        // A member that had joined and lost its disk is refused under its old id.
        let Some(member) = self
            .members
            .iter_mut()
            .find(|m| m.ordinal == n && !m.joined)
        else {
            return;
        };
        member.joined = true;
        member.lag = self.copy_takes;
        self.volumes.get_mut(&n).expect("it runs").data = Some((cluster, member.id));
    }

    /// The server of `n`, which waits on an empty disk, forms a cluster alone. Ids come from its URL and the token.
    fn form(&mut self, n: Ordinal) {
        let (cluster, member) = (0xc0 + self.fresh(), 0xa0 + self.fresh());
        self.bootstraps += 1;
        assert!(
            self.bootstraps == 1 || self.members.len() <= 1 || self.data_lost,
            "a second cluster was formed beside one that others had joined"
        );
        assert!(
            self.record.cluster_id.is_none(),
            "a cluster was formed though one is recorded"
        );
        self.cluster_id = Some(cluster);
        self.members = vec![Member {
            id: member,
            ordinal: n,
            is_learner: false,
            joined: true,
            lag: 0,
        }];
        self.volumes.get_mut(&n).expect("it runs").data = Some((cluster, member));
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

    /// The member of number `n` wins an election.
    pub(crate) fn lead(&mut self, n: Ordinal) {
        let leader = self.voters().find(|m| m.ordinal == n).map(|m| m.id);
        self.leader = leader;
    }

    /// Somebody deletes the disk of `n` and its pod.
    pub(crate) fn lose_disk(&mut self, n: Ordinal) {
        self.volumes.remove(&n);
        self.pods.remove(&n);
        self.count_what_is_left();
    }

    /// The directory of `n` is emptied under its claim, and its container starts again in place.
    pub(crate) fn empty_disk(&mut self, n: Ordinal) {
        self.put_on_disk(n, None);
    }

    /// Another cluster's directory is put in the place of that of `n`.
    pub(crate) fn foreign_disk(&mut self, n: Ordinal) {
        self.put_on_disk(n, Some((0xf0, 0xf1)));
    }

    fn put_on_disk(&mut self, n: Ordinal, data: Option<(u64, u64)>) {
        let Some(volume) = self.volumes.get_mut(&n) else {
            return;
        };
        volume.data = data;
        if let Some(pod) = self.pods.get_mut(&n) {
            pod.start += 1;
        }
        self.count_what_is_left();
    }

    /// All disks that are made from now on are local to one of `count` nodes.
    pub(crate) fn local_nodes(&mut self, count: u32) {
        self.nodes = (1..=count).map(|n| (format!("n{n}"), true)).collect();
    }

    /// Whether node `n` takes pods from now on; nothing if there is no such node.
    pub(crate) fn open(&mut self, n: u32, is_open: bool) {
        if let Some(node) = self.nodes.get_mut(&format!("n{n}")) {
            *node = is_open;
        }
    }

    /// The node that each disk is tied to.
    pub(crate) fn show_nodes(&self) -> String {
        let nodes = self.volumes.iter();
        let lines = nodes.map(|(n, v)| format!("demo-{n}: {}", v.node.as_deref().unwrap_or("-")));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Somebody writes nonsense into the template of `n` by hand, and its pod is made anew.
    pub(crate) fn break_template(&mut self, n: Ordinal) {
        if let Some(set) = self.sets.get_mut(&n) {
            set.is_nonsense = true;
            set.content = format!("{} by hand", set.content);
            set.version += 1;
        }
        self.pods.remove(&n);
        self.settle();
    }

    /// Somebody deletes the pod of `n`; its StatefulSet brings it back.
    pub(crate) fn delete_pod(&mut self, n: Ordinal) {
        self.pods.remove(&n);
    }

    /// Somebody deletes the claim of `n`: Kubernetes keeps it for as long as there is a pod.
    pub(crate) fn delete_claim(&mut self, n: Ordinal) {
        if let Some(volume) = self.volumes.get_mut(&n) {
            volume.terminating = true;
            volume.version += 1;
        }
    }

    /// Somebody takes the member of `n` out of the list, if the leader agrees.
    pub(crate) fn take_out(&mut self, n: Ordinal) {
        let Some(id) = self.members.iter().find(|m| m.ordinal == n).map(|m| m.id) else {
            return;
        };
        if self.leader != Some(id) && self.may_remove(id) {
            self.members.retain(|m| m.id != id);
            self.taken_out.insert(id);
        }
    }

    /// The people who read the conditions do as told: delete the claims of disks that are another's, and of those that
    /// are kept, and give company to a member whose disk goes with its pod.
    pub(crate) fn do_as_told(&mut self) {
        for _ in 0..100 {
            self.settle();
            self.pass();
        }
        let foreign = self.volumes.iter();
        let foreign = foreign.filter(|(_, v)| {
            v.data.is_some_and(|(cluster, id)| {
                Some(cluster) != self.cluster_id || self.taken_out.contains(&id)
            })
        });
        let numbers: Vec<Ordinal> = foreign.map(|(n, _)| *n).chain(self.kept()).collect();
        numbers.into_iter().for_each(|n| self.delete_claim(n));
        if self.record.cluster_id.is_none() {
            let gone = |n: &Ordinal| self.volumes.get(n).is_none_or(|v| !v.terminating);
            self.pods.retain(|n, _| gone(n));
        }
        if self.replicas == 1 && self.volumes.values().any(|v| v.terminating) {
            self.replicas = 3;
        }
    }

    /// Numbers whose disk is kept because somebody else took its member out of the list.
    pub(crate) fn kept(&self) -> BTreeSet<Ordinal> {
        let volumes = self.volumes.iter();
        volumes
            .filter(|(_, v)| v.member_mark.is_some_and(|id| self.taken_out.contains(&id)))
            .filter(|(_, v)| v.removed_mark != v.member_mark)
            .map(|(n, _)| *n)
            .collect()
    }

    /// The node that holds the disk of `n` is gone for good, and Kubernetes has been told so.
    pub(crate) fn lose_node(&mut self, n: Ordinal) {
        if let Some(volume) = self.volumes.get_mut(&n) {
            volume.stranded = true;
        }
        self.pods.remove(&n);
        self.count_what_is_left();
    }

    fn count_what_is_left(&mut self) {
        if !self.has_quorum() {
            // Counted with all who are down brought back: a voter without a disk is gone for good.
            let has_data = |m: &&Member| {
                let volume = self.volumes.get(&m.ordinal);
                volume.is_some_and(|v| !v.stranded && v.data.is_some_and(|(_, id)| id == m.id))
            };
            let left = self.voters().filter(has_data).count();
            self.data_lost |= left < quorum(self.voters().count().max(1));
        }
    }

    /// The CoordCluster is deleted, its disks stay, and it is created again.
    pub(crate) fn recreate(&mut self, replicas: i32) {
        self.sets.clear();
        self.pods.clear();
        self.children.clear();
        self.min_available = None;
        self.record = Record::default();
        self.version += 1;
        self.leader = None;
        self.replicas = replicas;
        self.forget();
    }

    /// The CoordCluster is restored from a backup that holds no status.
    pub(crate) fn lose_status(&mut self) {
        self.record = Record::default();
        self.version += 1;
        self.forget();
    }

    /// The size that each disk asks for.
    pub(crate) fn show_disks(&self) -> String {
        let disks = self.volumes.iter();
        let lines = disks.map(|(n, v)| format!("demo-{n}: {} MiB", v.bytes >> 20));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// One line per number in use.
    pub(crate) fn show(&self) -> String {
        let numbers: BTreeSet<Ordinal> = self
            .sets
            .keys()
            .chain(self.volumes.keys())
            .copied()
            .collect();
        let mut lines: Vec<String> = numbers
            .into_iter()
            .map(|n| {
                let member = self.members.iter().find(|m| m.ordinal == n);
                let role = match member {
                    None => "no member",
                    Some(m) if self.leader == Some(m.id) => "leader",
                    Some(m) if m.is_learner => "learner",
                    Some(_) => "voter",
                };
                let pod = match self.pods.get(&n) {
                    None => "no pod".to_owned(),
                    Some(pod) if self.runs(n) => format!("runs {}", pod.hash),
                    Some(_) => "down".to_owned(),
                };
                let disk = if self.volumes.contains_key(&n) {
                    "disk"
                } else {
                    "no disk"
                };
                format!("demo-{n}: {role}, {pod}, {disk}")
            })
            .collect();
        if let Some(min_available) = self.min_available {
            lines.push(format!("budget keeps {min_available}"));
        }
        lines.join("\n")
    }
}

/// Where the leader's log stands in the model.
const INDEX: u64 = 100_000;
