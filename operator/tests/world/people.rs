//! The acts of people, and the fates of nodes and disks.

use std::collections::BTreeSet;

use coord_operator::model::Ordinal;
use coord_operator::observe::Record;

use super::{Member, STRANGER, World};

impl World {
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

    /// Somebody deletes the StatefulSet of `n`, with its pod or without.
    pub(crate) fn delete_set(&mut self, n: Ordinal, with_pod: bool) {
        self.sets.remove(&n);
        match self.pods.get_mut(&n) {
            Some(pod) if !with_pod => pod.is_orphan = true,
            Some(_) | None => drop(self.pods.remove(&n)),
        }
    }

    /// Somebody deletes the Services, the account and the budget.
    pub(crate) fn delete_children(&mut self) {
        self.children.clear();
        self.min_available = None;
    }

    /// Somebody deletes the claim of `n`: Kubernetes keeps it for as long as there is a pod.
    pub(crate) fn delete_claim(&mut self, n: Ordinal) {
        if let Some(volume) = self.volumes.get_mut(&n) {
            volume.terminating = true;
            volume.version += 1;
        }
    }

    /// Somebody takes the marks off the claim of `n`: a tool that knows no annotations but its own.
    pub(crate) fn strip_marks(&mut self, n: Ordinal) {
        if let Some(volume) = self.volumes.get_mut(&n) {
            volume.cluster_mark = None;
            volume.member_mark = None;
            volume.removed_mark = None;
            volume.version += 1;
        }
    }

    /// Somebody adds a voter that runs elsewhere, out of the operator's sight.
    pub(crate) fn add_stranger(&mut self) {
        let id = 0xa0 + self.fresh();
        self.mute.insert(STRANGER);
        self.members.push(Member {
            id,
            ordinal: STRANGER,
            is_learner: false,
            joined: true,
            lag: 0,
        });
    }

    /// Somebody takes the member of `n` out of the list, if the leader agrees.
    pub(crate) fn take_out(&mut self, n: Ordinal) {
        let Some(id) = self.members.iter().find(|m| m.ordinal == n).map(|m| m.id) else {
            return;
        };
        if self.leader != Some(id) && self.may_remove(&[id]) {
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
}
