//! Single writes: what a pass sends, in order, and the preconditions it is held against when it lands.

use coord_operator::crd::{Bootstrap, quantity};
use coord_operator::model::{Ordinal, hash::content_hash};
use coord_operator::observe::{Applied, ChildSeen, Failure, Observed};
use coord_operator::plan::{Plan, Step};
use coord_operator::writes::{Child, Object, Write, writes};
use k8s_openapi::api::apps::v1::StatefulSet;

use super::{Pod, Set, Volume, World};

/// The CoordCluster as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    version: u64,
    replicas: i32,
    image: String,
    paused: bool,
}

/// One of the controller's calls, with what it was decided on.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) write: Write,
    read: Read,
    step: Step,
    made_for: Option<Bootstrap>,
}

/// A call that was done.
#[derive(Debug)]
pub(super) struct Landed {
    /// True if anything is different now.
    pub(super) changed: bool,
    /// The applied content of a child.
    pub(super) applied: Option<Applied>,
}

impl Landed {
    fn changed(changed: bool) -> Self {
        Self {
            changed,
            applied: None,
        }
    }
}

impl World {
    fn read(&self) -> Read {
        Read {
            version: self.version,
            replicas: self.replicas,
            image: self.image.clone(),
            paused: self.paused,
        }
    }

    /// The calls of a pass that planned `plan`: the production code's list.
    pub(super) fn calls(&self, plan: &Plan, observed: &Observed) -> Vec<Call> {
        let outgoing = writes(plan, observed, &self.desired(observed), self.now);
        let calls = outgoing.writes.into_iter().map(|write| Call {
            write,
            read: self.read(),
            step: plan.step.clone(),
            made_for: self.record.bootstrap.clone(),
        });
        calls.collect()
    }

    /// Lands a write that arrives now, and returns its change, or that it was turned away.
    ///
    /// `late`: nobody waits for it any more. It is held against what the API server and the leader check, and must keep
    /// the same promises.
    pub(super) fn land(&mut self, call: &Call, late: bool) -> Result<Landed, Failure> {
        if self
            .refuses
            .is_some_and(|kind| call.write.key().starts_with(kind))
        {
            return Err(Failure::Refused);
        }
        if matches!(&call.write, Write::Step { step, .. } if Some(step.name()) == self.says_no) {
            return Err(Failure::Stale);
        }
        match &call.write {
            Write::Intent => self
                .land_status(&call.read, &call.step)
                .map(Landed::changed),
            Write::Apply(child) => {
                let changed = match &child.object {
                    Object::StatefulSet(set) => self.land_set(child, set, late)?,
                    Object::Budget(budget) => {
                        let keeps = budget.spec.as_ref().and_then(|s| s.min_available.clone());
                        let keeps = keeps.expect("a budget keeps a number");
                        let keeps = serde_json::to_value(keeps).expect("plain");
                        self.min_available = keeps.as_u64().map(|n| n as u32);
                        self.land_child(child, self.min_available)
                    }
                    Object::ServiceAccount(_) | Object::Service(_) => self.land_child(child, None),
                };
                Ok(Landed {
                    changed,
                    applied: Some(Applied {
                        wanted: child.wanted.clone(),
                        content: content(&child.object),
                    }),
                })
            }
            // In the model nobody scales a StatefulSet.
            Write::RunSet { .. } => Ok(Landed::changed(false)),
            Write::Grow { ordinal, uid } => {
                let size = quantity::parse(self.size).expect("a size");
                let Some(volume) = self.volumes.get_mut(ordinal).filter(|v| &v.uid == uid) else {
                    return Err(Failure::Stale);
                };
                volume.version += 1;
                let changed = volume.bytes != size;
                volume.bytes = size;
                Ok(Landed::changed(changed))
            }
            Write::CreateVolume { ordinal, volume: _ } => {
                if self.volumes.contains_key(ordinal) {
                    return Err(Failure::Stale);
                }
                let missed = self.record.cluster_id.is_some()
                    && self.members.iter().any(|m| m.ordinal == *ordinal);
                assert!(
                    late || !missed,
                    "an empty disk for a member that is in the list"
                );
                let volume = Volume {
                    uid: format!("volume-{}", self.fresh()),
                    version: 0,
                    cluster_mark: None,
                    member_mark: None,
                    removed_mark: None,
                    bootstrap: call.made_for.clone(),
                    bytes: quantity::parse(self.size).expect("a size"),
                    capacity: quantity::parse(self.size).expect("a size"),
                    data: None,
                    node: None,
                    stranded: false,
                    terminating: false,
                };
                self.volumes.insert(*ordinal, volume);
                Ok(Landed::changed(true))
            }
            Write::DeleteBudget { name, uid } => {
                let key = coord_operator::observe::child_key("PodDisruptionBudget", name);
                if self.children.get(&key).is_none_or(|seen| &seen.uid != uid) {
                    return Err(Failure::Stale);
                }
                self.children.remove(&key);
                self.min_available = None;
                Ok(Landed::changed(true))
            }
            Write::LabelPod {
                ordinal,
                uid,
                labels,
            } => {
                let Some(pod) = self.pods.get_mut(ordinal).filter(|pod| &pod.uid == uid) else {
                    return Err(Failure::Stale);
                };
                pod.voter_label = labels.get("coord.dev/role").is_some_and(|r| r == "voter");
                Ok(Landed::changed(true))
            }
            Write::TieVolume { .. } => Ok(Landed::changed(true)),
            Write::Step {
                step,
                version,
                evicts,
            } => {
                let version = version.as_ref().and_then(|v| v.parse().ok());
                if !self.is_current(step, version, *evicts) {
                    return Err(Failure::Stale);
                }
                self.apply_step(step, late);
                Ok(Landed::changed(!step_is_a_record(step)))
            }
        }
    }

    fn land_child(&mut self, child: &Child, min_available: Option<u32>) -> bool {
        let content = content(&child.object);
        let before = self.children.get(&child.key);
        if before.is_some_and(|seen| seen.content == content) {
            return false;
        }
        let uid = match before {
            Some(before) => before.uid.clone(),
            None => format!("child-{}", self.written),
        };
        let seen = ChildSeen {
            uid,
            content,
            is_ours: true,
            min_available,
            ..ChildSeen::default()
        };
        self.children.insert(child.key.clone(), seen);
        true
    }

    fn land_status(&mut self, read: &Read, step: &Step) -> Result<bool, Failure> {
        if *read != self.read() {
            return Err(Failure::Stale);
        }
        let intent = Some(format!("{step:?}"));
        let before = self.record.clone();
        self.record_step(step);
        let changed = self.intent != intent || self.record != before;
        self.intent = intent;
        self.version += u64::from(changed);
        Ok(changed)
    }

    fn land_set(
        &mut self,
        child: &Child,
        object: &StatefulSet,
        late: bool,
    ) -> Result<bool, Failure> {
        let n = coord_operator::writes::ordinal_of(child, "demo").expect("a member's");
        let annotations = object.metadata.annotations.clone().unwrap_or_default();
        let there = self.sets.get(&n);
        if let Some(uid) = &object.metadata.uid {
            if there.is_none_or(|set| &set.uid != uid) {
                return Err(Failure::Stale);
            }
        } else if late && there.is_some() {
            // Server-side apply cannot ask for "only if there is none". A call is given up after 8 s and another
            // operator takes 15 s to take over, so that what comes later than its object is one that was given up.
            return Err(Failure::Stale);
        }
        let content = content(&child.object);
        let (uid, version) = match there {
            Some(set) if set.content == content => return Ok(false),
            Some(set) => (set.uid.clone(), set.version + 1),
            None => (format!("set-{}", self.fresh()), 0),
        };
        let hash = annotations["coord.dev/template-hash"].clone();
        self.sets.insert(
            n,
            Set {
                uid,
                version,
                hash,
                content,
                is_strict: is_strict(object),
                is_nonsense: false,
            },
        );
        Ok(true)
    }

    /// The preconditions that the API server and the leader check before they do as they are told.
    fn is_current(&self, step: &Step, version: Option<u64>, evicts: bool) -> bool {
        let member = |id: u64| self.members.iter().find(|m| m.id == id);
        match step {
            Step::Done | Step::Wait | Step::Stall => true,
            Step::RecordBootstrap { .. } | Step::RecordCluster { .. } => true,
            Step::MarkVolume { ordinal, uid, .. } | Step::MarkRemoved { ordinal, uid, .. } => {
                self.volumes.get(ordinal).is_some_and(|v| &v.uid == uid)
            }
            // Only the start that was seen, and while its disk is empty and it has heard of nobody.
            Step::Bootstrap { ordinal, start } => {
                let pod = self.pods.get(ordinal);
                let is_it = pod.is_some_and(|pod| pod.start.to_string() == *start);
                let waits = self.runs(*ordinal) && self.member_on(*ordinal).is_none();
                is_it && waits && !self.members.iter().any(|m| self.is_up(m))
            }
            Step::DeleteVolume { ordinal, uid } => {
                let volume = self.volumes.get(ordinal);
                volume.is_some_and(|v| &v.uid == uid && Some(v.version) == version)
            }
            Step::DeleteSet { ordinal, uid } => {
                let set = self.sets.get(ordinal);
                set.is_some_and(|s| &s.uid == uid && Some(s.version) == version)
            }
            Step::RestartPod { ordinal, uid } => {
                self.pods.get(ordinal).is_some_and(|pod| &pod.uid == uid)
                    && (!evicts || self.budget_allows(*ordinal))
            }
            Step::AddLearner { ordinal } => {
                let is_free = self.members.iter().all(|m| m.ordinal != *ordinal);
                let learners = self.members.iter().filter(|m| m.is_learner).count();
                let max = if self.voters().count() == 1 { 2 } else { 1 };
                self.leader.is_some() && is_free && learners < max
            }
            Step::Promote { id, with, .. } => {
                let mut ids = std::iter::once(id).chain(with);
                let is_ready = |m: &super::Member| m.is_learner && m.joined && m.lag == 0;
                self.leader.is_some() && ids.all(|id| member(*id).is_some_and(is_ready))
            }
            Step::MoveLeader { from, to } => {
                self.leader == Some(*from)
                    && member(*to).is_some_and(|m| !m.is_learner && self.is_up(m))
            }
            Step::RemoveMember { id, with, .. } => {
                let ids: Vec<u64> = std::iter::once(*id).chain(with.iter().copied()).collect();
                self.may_remove(&ids)
            }
        }
    }

    /// Whether the leader agrees to a removal.
    pub(super) fn may_remove(&self, ids: &[u64]) -> bool {
        let is_known = |id: &u64| self.members.iter().any(|m| m.id == *id);
        if self.leader.is_none() || !ids.iter().all(is_known) {
            return false;
        }
        let stays = |m: &&super::Member| !ids.contains(&m.id);
        let left = self.voters().filter(stays).count();
        let up = self.voters().filter(stays).filter(|m| self.is_up(m));
        let are_learners = left == self.voters().count();
        are_learners || (left > 0 && up.count() >= coord_operator::model::quorum(left))
    }

    /// An eviction of a pod that serves is counted against the budget; one that does not serve may always go.
    fn budget_allows(&self, n: Ordinal) -> bool {
        let serves = |n: &Ordinal, pod: &Pod| pod.voter_label && self.runs(*n);
        let serving = self.pods.iter().filter(|(n, pod)| serves(n, pod)).count();
        let counts = self.pods.get(&n).is_some_and(|pod| serves(&n, pod));
        match self.min_available {
            Some(min) if counts => serving > min as usize,
            _ => true,
        }
    }
}

/// True if no two pods of the cluster may share a node.
fn is_strict(set: &StatefulSet) -> bool {
    let spec = set.spec.as_ref().and_then(|s| s.template.spec.as_ref());
    let mut rules = spec
        .and_then(|s| s.topology_spread_constraints.as_ref())
        .into_iter()
        .flatten();
    rules.any(|rule| {
        rule.topology_key == "kubernetes.io/hostname" && rule.when_unsatisfiable == "DoNotSchedule"
    })
}

/// The content of a child once it is applied: in the model nobody adds to it.
fn content(object: &Object) -> String {
    match object {
        Object::ServiceAccount(object) => content_hash(object),
        Object::Service(object) => content_hash(object),
        Object::StatefulSet(object) => content_hash(object),
        Object::Budget(object) => content_hash(object),
    }
}

fn step_is_a_record(step: &Step) -> bool {
    matches!(
        step,
        Step::RecordBootstrap { .. } | Step::RecordCluster { .. }
    )
}
