//! Single writes: what a pass sends, in order, and the preconditions it is held against when it lands.

use super::{Pod, Set, Volume, World};
use coord_operator::crd::Bootstrap;
use coord_operator::observe::{Ordinal, StartMode};
use coord_operator::plan::{MemberChild, Plan, Step};

/// What the CoordCluster was when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    version: u64,
    replicas: i32,
    image: String,
    paused: bool,
}

/// One call, with what it was decided on.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    /// The intent, and with a step that is only a record, the record.
    Status { read: Read, step: Step },
    /// A new disk.
    CreateVolume {
        ordinal: Ordinal,
        made_for: Option<Bootstrap>,
    },
    /// Server-side apply of a StatefulSet. `seen` is its UID and, for a seed, its resource version.
    ApplySet {
        ordinal: Ordinal,
        child: MemberChild,
        image: String,
        seen: Option<(String, u64)>,
    },
    /// The disruption budget.
    Budget(Option<u32>),
    /// The label of a running pod.
    LabelPod {
        ordinal: Ordinal,
        uid: String,
        is_voter: bool,
    },
    /// The step itself, with the resource version of the object it deletes.
    Step { step: Step, version: Option<u64> },
}

/// A 409, a 404, a 429, or a member's "no".
pub(super) struct Stale;

impl World {
    fn read(&self) -> Read {
        Read {
            version: self.version,
            replicas: self.replicas,
            image: self.image.clone(),
            paused: self.paused,
        }
    }

    /// What a pass that planned `plan` sends, in the controller's order.
    pub(super) fn writes(&self, plan: &Plan) -> Vec<Write> {
        let mut writes = Vec::new();
        if plan.step.needs_intent() {
            let (read, step) = (self.read(), plan.step.clone());
            writes.push(Write::Status { read, step });
        }
        if let Some(children) = &plan.children {
            let missing = children.members.iter();
            let missing = missing
                .filter(|(n, child)| child.may_create_volume && !self.volumes.contains_key(n));
            writes.extend(missing.map(|(n, _)| Write::CreateVolume {
                ordinal: *n,
                made_for: self.record.bootstrap.clone(),
            }));
            writes.extend(children.members.iter().map(|(n, child)| Write::ApplySet {
                ordinal: *n,
                child: child.clone(),
                image: self.image.clone(),
                seen: self.sets.get(n).map(|set| (set.uid.clone(), set.version)),
            }));
            writes.push(Write::Budget(children.min_available));
            writes.extend(children.members.iter().filter_map(|(n, child)| {
                let pod = self.pods.get(n)?;
                (pod.voter_label != child.is_voter).then(|| Write::LabelPod {
                    ordinal: *n,
                    uid: pod.uid.clone(),
                    is_voter: child.is_voter,
                })
            }));
        }
        if plan.step.acts() {
            let version = match &plan.step {
                Step::DeleteSet { ordinal, .. } => self.sets.get(ordinal).map(|set| set.version),
                Step::DeleteVolume { ordinal, .. } => {
                    self.volumes.get(ordinal).map(|volume| volume.version)
                }
                _ => None,
            };
            let step = plan.step.clone();
            writes.push(Write::Step { step, version });
        }
        writes
    }

    /// What becomes of a write that arrives now: whether it changed something, or that it was turned away.
    ///
    /// `late`: nobody waits for it any more. It is held against what the API server and the leader check, and must keep
    /// the same promises.
    pub(super) fn land(&mut self, write: &Write, late: bool) -> Result<bool, Stale> {
        match write {
            Write::Status { read, step } => self.land_status(read, step),
            Write::CreateVolume { ordinal, made_for } => {
                if self.volumes.contains_key(ordinal) {
                    return Err(Stale);
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
                    bootstrap: made_for.clone(),
                    bytes: coord_operator::crd::quantity::parse(self.size).expect("a size"),
                    data: None,
                    stranded: false,
                };
                self.volumes.insert(*ordinal, volume);
                Ok(true)
            }
            Write::ApplySet {
                ordinal,
                child,
                image,
                seen,
            } => self.land_set(*ordinal, child, image, seen.as_ref(), late),
            Write::Budget(min_available) => {
                let changed = self.min_available != *min_available;
                self.min_available = *min_available;
                Ok(changed)
            }
            Write::LabelPod {
                ordinal,
                uid,
                is_voter,
            } => {
                let Some(pod) = self.pods.get_mut(ordinal).filter(|pod| &pod.uid == uid) else {
                    return Err(Stale);
                };
                pod.voter_label = *is_voter;
                Ok(true)
            }
            Write::Step { step, version } => {
                if !self.is_current(step, *version) {
                    return Err(Stale);
                }
                self.apply_step(step, late);
                Ok(!step_is_a_record(step))
            }
        }
    }

    fn land_status(&mut self, read: &Read, step: &Step) -> Result<bool, Stale> {
        if *read != self.read() {
            return Err(Stale);
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
        n: Ordinal,
        child: &MemberChild,
        image: &str,
        seen: Option<&(String, u64)>,
        late: bool,
    ) -> Result<bool, Stale> {
        assert!(
            late || !(child.is_seed && self.record.cluster_id.is_some()),
            "a known cluster has a seed"
        );
        let there = self.sets.get(&n);
        if let Some((uid, version)) = seen {
            let is_same = there
                .is_some_and(|set| &set.uid == uid && (!child.is_seed || set.version == *version));
            if !is_same {
                return Err(Stale);
            }
        } else if late && there.is_some() {
            // Server-side apply cannot ask for "only if there is none". A call is given up after 8 s and another
            // operator takes 15 s to take over, so that what comes later than its object is one that was given up.
            return Err(Stale);
        }
        let mode = if child.is_seed {
            StartMode::Seed
        } else {
            StartMode::Join
        };
        let (uid, version) = match there {
            Some(set) if set.mode == mode && set.hash == image => return Ok(false),
            Some(set) => (set.uid.clone(), set.version + 1),
            None => (format!("set-{}", self.fresh()), 0),
        };
        let hash = image.to_owned();
        self.sets.insert(
            n,
            Set {
                uid,
                version,
                mode,
                hash,
            },
        );
        Ok(true)
    }

    /// What the API server and the leader check before they do as they are told.
    fn is_current(&self, step: &Step, version: Option<u64>) -> bool {
        let member = |id: u64| self.members.iter().find(|m| m.id == id);
        match step {
            Step::Done | Step::Wait | Step::Stall => true,
            Step::RecordBootstrap { .. } | Step::RecordCluster { .. } => true,
            Step::MarkVolume { ordinal, uid, .. } | Step::GrowVolume { ordinal, uid } => {
                self.volumes.get(ordinal).is_some_and(|v| &v.uid == uid)
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
                    && self.budget_allows(*ordinal)
            }
            Step::AddLearner { ordinal } => {
                let is_free = |m: &super::Member| !m.is_learner && m.ordinal != *ordinal;
                self.leader.is_some() && self.members.iter().all(is_free)
            }
            Step::Promote { id, .. } => {
                self.leader.is_some()
                    && member(*id).is_some_and(|m| m.is_learner && m.joined && m.lag == 0)
            }
            Step::MoveLeader { from, to } => {
                self.leader == Some(*from)
                    && member(*to).is_some_and(|m| !m.is_learner && self.is_up(m))
            }
            Step::RemoveMember { id, .. } => {
                let Some(leaves) = member(*id).filter(|_| self.leader.is_some()) else {
                    return false;
                };
                let (left, up) = (
                    self.voters().count() - 1,
                    self.voters().filter(|m| self.is_up(m)).count(),
                );
                let lost = usize::from(self.is_up(leaves));
                leaves.is_learner
                    || (left > 0 && up - lost >= coord_operator::observe::quorum(left))
            }
        }
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

fn step_is_a_record(step: &Step) -> bool {
    matches!(
        step,
        Step::RecordBootstrap { .. } | Step::RecordCluster { .. }
    )
}
