//! The next step: `plan(&Desired, &Observed, now) -> Plan`, pure.
//!
//! Questions in order, each of one lane. An obstacle stops its question's lane and not the others: a roll goes on while
//! growth waits. Growing disks is beside them all: it needs no quorum. At most one step a pass, and each step is chosen
//! so that a crash right after it leaves something the next pass recognises. No clock, no randomness, no I/O: the
//! printed scripts and the properties in `tests/` drive exactly this function.

mod bootstrap;
mod children;
mod cleanup;
mod hopeless;
mod identity;
mod learner;
mod leftover;
mod protect;
mod repair;
mod replacement;
mod roll;
mod safety;
mod scale_down;
mod scale_up;
mod spread;
mod step;
mod volumes;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{Ordinal, names, quorum};
use crate::observe::{MemberSeen, Membership, Observed, VolumeSeen};
use crate::validate::Desired;

pub use protect::{Tied, to_untie};
pub use step::{Children, MemberChild, Plan, Step};

/// Right after a step the next question can be asked.
const AGAIN: Duration = Duration::from_millis(20);
/// While something is under way that no watch reports, such as a learner catching up.
const SOON: Duration = Duration::from_millis(500);
/// Seconds without a healthy answer after which a member counts as dead: a restart is shorter.
const DEAD_SECONDS: i64 = 20;
/// How long a dead member may go unnoticed when nothing in Kubernetes changes.
const LATER: Duration = Duration::from_secs(10);

/// One question's answer.
enum Verdict {
    /// Nothing to say; ask the next.
    Pass,
    /// Do this.
    Act(Step, String),
    /// Nothing more in this lane until this has happened.
    Hold(String),
    /// Nothing more until somebody helps.
    Stall(String),
    /// This must happen some day, but other questions may act meanwhile.
    Later(String),
}

/// The lane of a question: a question waits for none of another lane.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lane {
    /// The cluster's identity, and whether it can decide anything: nothing goes on without.
    Platform,
    /// The member list, and what its members leave behind.
    Members,
    /// The pods' template.
    Pods,
}

/// The input of every question.
struct Case<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    /// Unix seconds.
    now: i64,
}

/// The next step of the cluster. `now` is in Unix seconds.
///
/// Asking twice with the same arguments gives the same plan, and a cluster that is as it should be gives `Done`.
pub fn plan(desired: &Desired, observed: &Observed, now: i64) -> Plan {
    let case = Case {
        desired,
        observed,
        now,
    };
    let idle = |because: String, requeue| Plan {
        children: None,
        grow: BTreeMap::new(),
        step: Step::Wait,
        because,
        requeue,
    };
    if desired.paused {
        return idle("spec.paused is true: nothing is touched".to_owned(), LATER);
    }
    if let Some(first) = observed.in_the_way.first() {
        return idle(first.clone(), SOON);
    }
    let (step, because, requeue) = next_step(&case);
    // Without a record of who bootstraps no pod may exist; and once the cluster is recorded, what was right before that
    // is not applied after it.
    let is_recorded = observed.record.cluster_id.is_some() || observed.record.bootstrap.is_some();
    let is_known_now = matches!(step, Step::RecordCluster { .. });
    Plan {
        children: (is_recorded && !is_known_now).then(|| children::children(&case, &step)),
        grow: volumes::growth(&case),
        step,
        because,
        requeue,
    }
}

fn next_step(case: &Case) -> (Step, String, Duration) {
    let (mut closed, mut held, mut later) = (Vec::new(), None, None);
    for (lane, question) in QUESTIONS {
        if closed.contains(&lane) {
            continue;
        }
        let verdict = match question(case) {
            Verdict::Act(step, because) => case.on_trusted_word(step, because),
            verdict => verdict,
        };
        match verdict {
            Verdict::Pass => {}
            Verdict::Act(step, because) => return (step, because, AGAIN),
            Verdict::Stall(because) => return (Step::Stall, because, LATER),
            Verdict::Hold(because) if lane == Lane::Platform => return (Step::Wait, because, SOON),
            Verdict::Hold(because) => {
                closed.push(lane);
                held.get_or_insert(because);
            }
            Verdict::Later(because) => {
                later.get_or_insert(because);
            }
        }
    }
    if let Some(because) = held.or(later) {
        return (Step::Wait, because, SOON);
    }
    let voters = case.membership().into_iter().flat_map(Membership::voters);
    let healthy = voters.filter(|m| case.is_healthy(m)).count();
    let because = format!("{healthy} of {} voters serve", case.desired.replicas);
    (Step::Done, because, LATER)
}

/// A reason as an aside that ends a sentence: ` (why)`, or nothing.
fn aside(why: Option<&str>) -> String {
    why.map(|why| format!(" ({why})")).unwrap_or_default()
}

/// A question to one pass; the first in a lane that answers decides it.
type Question = fn(&Case) -> Verdict;

/// The questions in order of urgency. Those after `bootstrap::is_quorate` only run with a confirmed member list.
const QUESTIONS: [(Lane, Question); 13] = [
    (Lane::Platform, bootstrap::is_recorded),
    (Lane::Platform, identity::is_one_cluster),
    (Lane::Pods, roll::is_a_broken_pod_outdated),
    (Lane::Platform, bootstrap::is_started),
    (Lane::Platform, bootstrap::is_quorate),
    (Lane::Members, identity::are_volumes_marked),
    (Lane::Members, cleanup::is_anything_left_over),
    (Lane::Members, repair::has_a_member_lost_its_disk),
    (Lane::Members, learner::is_one_pending),
    (Lane::Pods, roll::is_a_pod_outdated),
    (Lane::Members, scale::is_the_number_right),
    (Lane::Members, identity::are_marks_of_removal_true),
    (Lane::Members, volumes::are_they_large_enough),
];

/// Scaling, both ways.
mod scale {
    use super::{Case, Verdict, scale_down, scale_up};

    pub(super) fn is_the_number_right(case: &Case) -> Verdict {
        let Some(membership) = case.membership() else {
            return Verdict::Pass;
        };
        let voters = membership.voters().filter(|m| m.ordinal.is_some()).count();
        if voters > case.replicas() {
            scale_down::next(case, membership)
        } else {
            scale_up::next(case, membership)
        }
    }
}

impl<'a> Case<'a> {
    /// The confirmed member list, if it is this cluster's.
    fn membership(&self) -> Option<&'a Membership> {
        let membership = self.observed.membership.as_ref()?;
        (self.observed.record.cluster_id == Some(membership.cluster_id)).then_some(membership)
    }

    fn replicas(&self) -> usize {
        self.desired.replicas as usize
    }

    /// Voters that there are to be now: as many as the spec says, and one more while two are parted or one is replaced.
    fn wanted(&self, membership: &Membership) -> usize {
        self.replicas() + spread::more(self, membership).max(replacement::more(self, membership))
    }

    /// True if the only voter is to get company: two at once.
    fn grows_from_one(&self, membership: &Membership) -> bool {
        membership.voters().count() == 1 && self.replicas() > 1
    }

    /// True if three voters are to become one: two leave at once.
    fn shrinks_to_one(&self, membership: &Membership) -> bool {
        self.replicas() == 1 && membership.voters().count() == 3
    }

    /// A sentence about a member that somebody else added, and the way to be rid of it; `None` for one of ours.
    fn stranger(&self, member: &MemberSeen) -> Option<String> {
        member.ordinal.is_none().then(|| {
            format!(
                "somebody else added {}, and the operator cannot ask it; if nobody needs it: etcdctl member remove {:x}",
                member.name, member.id
            )
        })
    }

    /// The number of pods that the disruption budget keeps of `voters`.
    ///
    /// Not of those that are wanted: a pod that cannot run must not make every node undrainable. One voter has no
    /// quorum to keep, and a budget would only make its node undrainable.
    fn min_available(&self, voters: usize) -> Option<usize> {
        (voters > 1).then(|| quorum(voters))
    }

    /// A step that takes something away is not done on the word of a list that somebody contests.
    fn on_trusted_word(&self, step: Step, because: String) -> Verdict {
        match self.observed.contests_the_list() {
            Some(n) if step.is_destructive() => Verdict::Hold(format!(
                "{because}: not while {} has seen a higher term than the leader",
                self.name(n)
            )),
            _ => Verdict::Act(step, because),
        }
    }

    /// True if the claim of `ordinal` is being deleted: its disk goes with its pod.
    fn is_claim_going(&self, ordinal: Ordinal) -> bool {
        self.observed
            .volumes
            .get(&ordinal)
            .is_some_and(|volume| volume.deleting)
    }

    /// True if this operator made the claim, or took it over, for this cluster.
    fn is_ours(&self, volume: &VolumeSeen) -> bool {
        let record = &self.observed.record;
        let tokens = record.bootstrap.as_ref().zip(volume.bootstrap.as_ref());
        (volume.cluster_id.is_some() && volume.cluster_id == record.cluster_id)
            || tokens.is_some_and(|(ours, its)| ours.token == its.token)
    }

    /// Takes a member out of the list.
    fn remove(&self, member: &MemberSeen, because: String) -> Verdict {
        self.remove_together(member, &[], because)
    }

    /// Takes members out of the list in one change. First their disks are marked: only what is marked so is deleted
    /// afterwards, and the mark outlives a status that is lost.
    fn remove_together(
        &self,
        first: &MemberSeen,
        with: &[&MemberSeen],
        because: String,
    ) -> Verdict {
        let mut members = std::iter::once(first).chain(with.iter().copied());
        let mark = members.find_map(|member| self.mark_of_removal(member));
        let step = mark.unwrap_or_else(|| Step::RemoveMember {
            name: first.name.clone(),
            id: first.id,
            with: with.iter().map(|member| member.id).collect(),
        });
        Verdict::Act(step, because)
    }

    /// The mark that the disk of `member` is to get before the member is removed; `None` if it has it, or must not have it.
    fn mark_of_removal(&self, member: &MemberSeen) -> Option<Step> {
        let ordinal = member.ordinal?;
        let volume = self.observed.volumes.get(&ordinal)?;
        let is_its_disk = volume.member_id.is_none_or(|id| id == member.id)
            && (volume.member_id.is_some() || member.is_learner);
        let is_due = !volume.deleting && volume.removed_id != Some(member.id);
        (is_its_disk && is_due).then(|| Step::MarkRemoved {
            ordinal,
            uid: volume.uid.clone(),
            member_id: Some(member.id),
        })
    }

    fn name(&self, ordinal: Ordinal) -> String {
        names::member(&self.desired.name, ordinal)
    }

    fn is_healthy(&self, member: &MemberSeen) -> bool {
        self.observed.is_healthy(member)
    }

    /// True if the pod runs something other than the spec says now, or would when it comes back.
    fn is_outdated(&self, ordinal: Ordinal) -> bool {
        let wanted = &self.desired.template_hash;
        let pod = self
            .observed
            .pods
            .get(&ordinal)
            .map(|pod| &pod.template_hash);
        let set = self
            .observed
            .sets
            .get(&ordinal)
            .map(|set| &set.template_hash);
        pod.or(set).is_some_and(|hash| hash != wanted)
    }

    /// Deletes the pod of `ordinal`, if the StatefulSet would bring it back from the new template.
    fn restart(&self, ordinal: Ordinal, because: String) -> Verdict {
        let (Some(pod), Some(set)) = (
            self.observed.pods.get(&ordinal),
            self.observed.sets.get(&ordinal),
        ) else {
            return Verdict::Hold(format!("waiting for the pod of {}", self.name(ordinal)));
        };
        if pod.deleting_since.is_some() {
            return Verdict::Hold(format!("waiting for {} to restart", self.name(ordinal)));
        }
        if self.is_claim_going(ordinal) {
            return Verdict::Later(format!(
                "{because}: not while its claim {} is being deleted, its disk would go with the pod",
                names::volume(&self.desired.name, ordinal)
            ));
        }
        if set.template_hash != self.desired.template_hash {
            return Verdict::Hold(format!(
                "waiting for the StatefulSet of {} to take the new template",
                self.name(ordinal)
            ));
        }
        Verdict::Act(
            Step::RestartPod {
                ordinal,
                uid: pod.uid.clone(),
            },
            because,
        )
    }
}
