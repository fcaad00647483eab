use std::collections::BTreeSet;

use coord_operator::crd::CoordCluster;
use coord_operator::model::names;
use coord_operator::observe::{
    Answer, BoundNode, ChildSeen, MemberSeen, Membership, NodeState, Observed, PodSeen, SetSeen,
    StorageClassSeen, VolumeSeen, WaitReason, WaitingSeen, child_key,
};
use coord_operator::validate::{Desired, ServerImage, validate};
use serde_json::json;

use super::World;
use super::{INDEX, Member, Resizer, STRANGER};

impl World {
    /// The operator's observation of the world.
    pub(crate) fn observe(&mut self) -> Observed {
        let mut observed = Observed {
            record: self.record.clone(),
            storage_class: match self.is_class_gone {
                true => StorageClassSeen::Missing,
                false => StorageClassSeen::Found { expands: true },
            },
            children: self.children.clone(),
            ..Observed::default()
        };
        for (n, set) in &self.sets {
            let seen = ChildSeen {
                uid: set.uid.clone(),
                resource_version: set.version.to_string(),
                content: set.content.clone(),
                is_ours: true,
                min_available: None,
            };
            let key = child_key("StatefulSet", &format!("demo-{n}"));
            observed.children.insert(key, seen);
            observed.sets.insert(
                *n,
                SetSeen {
                    uid: set.uid.clone(),
                    resource_version: set.version.to_string(),
                    replicas: 1,
                    update_revision: Some(set.content.clone()),
                    template_hash: set.hash.clone(),
                    image: self.image.clone(),
                    deleting: false,
                    trouble: None,
                },
            );
        }
        for (n, pod) in &self.pods {
            let running = self.runs(*n);
            let serves =
                self.leader.is_some() && self.voters().any(|m| m.ordinal == *n && self.is_up(m));
            observed.pods.insert(
                *n,
                PodSeen {
                    uid: pod.uid.clone(),
                    running,
                    node: (self.nodes.is_empty() || pod.is_placed).then(|| format!("n{n}")),
                    ready: serves,
                    orphan: pod.is_orphan && !self.sets.contains_key(n),
                    template_hash: pod.hash.clone(),
                    labelled_voter: pod.voter_label,
                    revision: Some(pod.revision.clone()),
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
                    resource_version: volume.version.to_string(),
                    tied_to: volume.node.clone(),
                    home: volume.stranded.then(|| BoundNode {
                        node: volume.node.clone().unwrap_or_else(|| format!("n{n}")),
                        state: NodeState::Gone,
                    }),
                    cluster_id: volume.cluster_mark,
                    member_id: volume.member_mark,
                    removed_id: volume.removed_mark,
                    deleting: volume.terminating,
                    bootstrap: volume.bootstrap.clone(),
                    made_for: Some(names::made_for("demo", "")),
                    requested_bytes: volume.bytes,
                    capacity_bytes: Some(volume.capacity),
                    expands: Some(self.resizer != Resizer::Absent),
                    class: Some("local".to_owned()),
                    ..VolumeSeen::default()
                },
            );
            if !self.runs(*n) || self.mute.contains(n) {
                continue;
            }
            if self.is_locked {
                observed.locked.insert(*n);
                continue;
            }
            let Some((cluster_id, member_id)) = volume
                .data
                .filter(|(cluster, _)| Some(*cluster) == self.cluster_id)
            else {
                observed.waiting.insert(*n, self.waits(*n));
                continue;
            };
            let member = self.members.iter().find(|m| m.id == member_id);
            // A member that was removed stops serving.
            let Some(member) = member else { continue };
            let answer = Answer {
                cluster_id,
                member_id,
                leader: self.leader.unwrap_or(0),
                applied_index: INDEX.saturating_sub(member.lag * 10_000),
                in_use_bytes: self.filled,
                quota_bytes: 100,
                is_learner: member.is_learner,
                ..Answer::default()
            };
            observed.answers.insert(*n, answer);
        }
        let shared = observed.shared_nodes(self.volumes.keys().copied());
        if !shared.is_empty() {
            let is_free = |node: &String| {
                let mut volumes = self.volumes.values();
                !volumes.any(|volume| volume.node.as_ref() == Some(node))
            };
            let open = self.nodes.iter().filter(|(_, is_open)| **is_open);
            let open = open.map(|(node, _)| node.clone());
            observed.free_nodes = open.filter(is_free).collect();
        }
        let mut caught_up = BTreeSet::new();
        let leads = self
            .voters()
            .filter(|m| !self.mute.contains(&m.ordinal))
            .any(|m| Some(m.id) == self.leader && self.is_up(m))
            && self.has_quorum()
            && !self.is_locked;
        if let (Some(leader), Some(cluster_id)) = (self.leader.filter(|_| leads), self.cluster_id) {
            let seen = |m: &Member| MemberSeen {
                id: m.id,
                ordinal: (m.ordinal != STRANGER).then_some(m.ordinal),
                name: match m.ordinal {
                    STRANGER => "stranger".to_owned(),
                    n => format!("demo-{n}"),
                },
                is_learner: m.is_learner,
            };
            let members: Vec<MemberSeen> = self.members.iter().map(seen).collect();
            observed.membership = Some(Membership {
                cluster_id,
                leader,
                term: 0,
                leader_index: INDEX,
                members,
            });
            let ready = self
                .members
                .iter()
                .filter(|m| m.is_learner && m.lag == 0 && self.is_up(m))
                .filter(|m| !self.mute.contains(&m.ordinal));
            caught_up = ready.map(|m| m.id).collect();
        }
        self.memory.remember(&mut observed, &caught_up, self.now);
        observed
    }

    /// The report of the server of `n`, whose disk is empty or another's.
    fn waits(&self, n: u32) -> WaitingSeen {
        let is_empty = self.member_on(n).is_none();
        let has_run = self.members.iter().any(|m| m.ordinal == n && m.joined);
        let reason = match (is_empty, has_run && self.leader.is_some()) {
            (false, _) => WaitReason::Foreign,
            (true, true) => WaitReason::Wiped,
            (true, false) => WaitReason::NotAdded,
        };
        let has_heard = self.members.iter().any(|m| self.is_up(m));
        WaitingSeen {
            reason,
            why: format!("{reason:?}"),
            start: (is_empty && !has_heard).then(|| self.pods[&n].start.to_string()),
        }
    }

    pub(crate) fn desired(&self, observed: &Observed) -> Desired {
        let spec = json!({
            "replicas": self.replicas, "image": self.image, "storage": { "size": self.size, "storageClassName": "local" }, "paused": self.paused,
            "repair": { "lostNode": self.lost_node, "lostNodeSeconds": 10 },
        });
        let spec = serde_json::from_value(spec).expect("a spec");
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
}
