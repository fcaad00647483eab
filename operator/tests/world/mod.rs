//! A small model of Kubernetes and of a Coord cluster, for driving the planner without either.
//!
//! It knows what StatefulSets do, what a server does with an empty or a full disk, and who can form a quorum. Every
//! step the planner asks for is checked against the promises of the operator before it is carried out.
#![allow(dead_code, reason = "each test program uses its part")]

mod steps;

use coord_operator::crd::{Bootstrap, CoordCluster, CoordClusterSpec, Storage};
use coord_operator::observe::{
    Answer, MemberSeen, Membership, Memory, Observed, Ordinal, PodSeen, Record, SetSeen, StartMode,
    StorageClassSeen, VolumeSeen, quorum,
};
use coord_operator::plan::{Plan, plan};
use coord_operator::validate::{Desired, ServerImage, validate};
use std::collections::{BTreeMap, BTreeSet};

/// A StatefulSet.
#[derive(Clone, Debug)]
pub(crate) struct Set {
    uid: String,
    mode: StartMode,
    hash: String,
}

/// A pod. It runs unless its number is `dead` or its image is `bad`.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    uid: String,
    mode: StartMode,
    hash: String,
    voter_label: bool,
}

/// A disk, and what a server wrote on it.
#[derive(Clone, Debug)]
pub(crate) struct Volume {
    uid: String,
    cluster_mark: Option<u64>,
    member_mark: Option<u64>,
    bootstrap: Option<Bootstrap>,
    bytes: u64,
    /// (cluster, member)
    data: Option<(u64, u64)>,
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
    pub(crate) record: Record,
    pub(crate) sets: BTreeMap<Ordinal, Set>,
    pub(crate) pods: BTreeMap<Ordinal, Pod>,
    pub(crate) volumes: BTreeMap<Ordinal, Volume>,
    pub(crate) members: Vec<Member>,
    pub(crate) cluster_id: Option<u64>,
    pub(crate) leader: Option<u64>,
    pub(crate) dead: BTreeSet<Ordinal>,
    pub(crate) bootstraps: u32,
    pub(crate) min_available: Option<u32>,
    pub(crate) now: i64,
    /// True once a majority of disks was lost by somebody else's act: then nothing can be promised.
    pub(crate) data_lost: bool,
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
            record: Record::default(),
            sets: BTreeMap::new(),
            pods: BTreeMap::new(),
            volumes: BTreeMap::new(),
            members: Vec::new(),
            cluster_id: None,
            leader: None,
            dead: BTreeSet::new(),
            bootstraps: 0,
            min_available: None,
            now: 1_000,
            data_lost: false,
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
        image_is_good && self.volumes.contains_key(&n) && !self.dead.contains(&n)
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

    /// What Kubernetes and the servers do by themselves in a moment.
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
                    mode: set.mode,
                    hash: set.hash.clone(),
                    voter_label: false,
                },
            );
        }
        for n in self.pods.keys().copied().collect::<Vec<_>>() {
            if self.runs(n) && self.member_on(n).is_none() {
                self.start_on_empty_disk(n);
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

    fn start_on_empty_disk(&mut self, n: Ordinal) {
        match self.pods[&n].mode {
            StartMode::Seed => {
                let (cluster, member) = (0xc0 + self.fresh(), 0xa0 + self.fresh());
                self.bootstraps += 1;
                assert!(
                    self.bootstraps == 1 || self.members.len() <= 1 || self.data_lost,
                    "a second cluster was bootstrapped beside one that others had joined"
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
            StartMode::Join => {
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
                member.lag = 3;
                self.volumes.get_mut(&n).expect("it runs").data = Some((cluster, member.id));
            }
        }
    }

    /// What the operator would see.
    pub(crate) fn observe(&mut self) -> Observed {
        let mut observed = Observed {
            record: self.record.clone(),
            storage_class: StorageClassSeen::Found { expands: true },
            ..Observed::default()
        };
        for (n, set) in &self.sets {
            observed.sets.insert(
                *n,
                SetSeen {
                    uid: set.uid.clone(),
                    resource_version: String::new(),
                    mode: set.mode,
                    template_hash: set.hash.clone(),
                    image: self.image.clone(),
                    deleting: false,
                },
            );
        }
        for (n, pod) in &self.pods {
            let running = self.runs(*n);
            observed.pods.insert(
                *n,
                PodSeen {
                    uid: pod.uid.clone(),
                    running,
                    template_hash: pod.hash.clone(),
                    labelled_voter: pod.voter_label,
                    trouble: (!running).then(|| "Broken".to_owned()),
                    ..PodSeen::default()
                },
            );
        }
        for (n, volume) in &self.volumes {
            observed.volumes.insert(
                *n,
                VolumeSeen {
                    uid: volume.uid.clone(),
                    cluster_id: volume.cluster_mark,
                    member_id: volume.member_mark,
                    bootstrap: volume.bootstrap.clone(),
                    requested_bytes: volume.bytes,
                    ..VolumeSeen::default()
                },
            );
            let Some((cluster_id, member_id)) = volume.data.filter(|_| self.runs(*n)) else {
                continue;
            };
            let member = self.members.iter().find(|m| m.id == member_id);
            // A member that was removed stops serving.
            let Some(member) = member else { continue };
            let answer = Answer {
                cluster_id,
                member_id,
                leader: self.leader.unwrap_or(0),
                applied_index: INDEX - member.lag * 10_000,
                is_learner: member.is_learner,
                ..Answer::default()
            };
            observed.answers.insert(*n, answer);
        }
        let mut caught_up = BTreeSet::new();
        let leads = self
            .voters()
            .any(|m| Some(m.id) == self.leader && self.is_up(m))
            && self.has_quorum();
        if let (Some(leader), Some(cluster_id)) = (self.leader.filter(|_| leads), self.cluster_id) {
            let seen = |m: &Member| MemberSeen {
                id: m.id,
                ordinal: Some(m.ordinal),
                name: format!("demo-{}", m.ordinal),
                is_learner: m.is_learner,
            };
            let members: Vec<MemberSeen> = self.members.iter().map(seen).collect();
            observed.membership = Some(Membership {
                cluster_id,
                leader,
                leader_index: INDEX,
                members,
            });
            let ready = self
                .members
                .iter()
                .filter(|m| m.is_learner && m.lag == 0 && self.is_up(m));
            caught_up = ready.map(|m| m.id).collect();
        }
        self.memory.remember(&mut observed, &caught_up, self.now);
        observed
    }

    pub(crate) fn desired(&self, observed: &Observed) -> Desired {
        let spec = CoordClusterSpec {
            replicas: self.replicas,
            version: None,
            image: Some(self.image.clone()),
            image_pull_policy: None,
            image_pull_secrets: Vec::new(),
            storage: Storage {
                size: self.size.to_owned(),
                storage_class_name: None,
                reclaim_policy: Default::default(),
            },
            resources: None,
            scheduling: Default::default(),
            server: Default::default(),
            paused: self.paused,
        };
        let images = ServerImage {
            repository: String::new(),
            tag: String::new(),
        };
        let mut desired = validate(&CoordCluster::new("demo", spec), observed, &images)
            .expect("the model's specs are valid");
        // Readable in scripts, and the model reads whether it is a bad one.
        desired.template_hash = self.image.clone();
        desired
    }

    /// Looks and decides, and checks that deciding twice gives the same.
    pub(crate) fn decide(&mut self) -> Plan {
        let observed = self.observe();
        let desired = self.desired(&observed);
        let decided = plan(&desired, &observed, self.now);
        assert_eq!(
            decided,
            plan(&desired, &observed, self.now),
            "planned twice, differently"
        );
        decided
    }

    /// One whole pass, as the controller makes it. `crash` ends the operator after its children were applied.
    pub(crate) fn pass(&mut self, crash: bool) -> Plan {
        let decided = self.decide();
        if let Some(children) = &decided.children {
            self.apply_children(children);
        }
        if crash {
            self.forget();
            return decided;
        }
        self.apply_step(&decided.step);
        decided
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
        if !self.has_quorum() {
            // Counted with all who are down brought back: what is on no disk is gone for good.
            let left = self
                .voters()
                .filter(|m| self.member_on(m.ordinal) == Some(m.id))
                .count();
            self.data_lost |= left < quorum(self.voters().count().max(1));
        }
    }

    /// The CoordCluster is deleted, its disks stay, and it is created again.
    pub(crate) fn recreate(&mut self, replicas: i32) {
        self.sets.clear();
        self.pods.clear();
        self.record = Record::default();
        self.leader = None;
        self.replicas = replicas;
        self.forget();
    }

    /// The CoordCluster is restored from a backup that holds no status.
    pub(crate) fn lose_status(&mut self) {
        self.record = Record::default();
        self.forget();
    }

    /// Passes until nothing changes any more; returns the steps.
    pub(crate) fn run(&mut self) -> Vec<Plan> {
        let mut plans = Vec::new();
        let mut quiet = 0;
        for _ in 0..600 {
            self.settle();
            let decided = self.pass(false);
            if decided.step.acts() {
                quiet = 0;
                plans.push(decided);
            } else {
                // Longer than it takes to call a member dead.
                quiet += 1;
                if quiet > 30 {
                    plans.push(decided);
                    return plans;
                }
            }
        }
        panic!("does not come to rest; last: {:?}", plans.last());
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
