//! What to do next: `plan(&Desired, &Observed, now) -> Plan`, pure.
//!
//! An ordered list of questions; the first that answers decides the pass. At most one step a pass, and each step is
//! chosen so that a crash right after it leaves something the next pass recognises. No clock, no randomness, no I/O:
//! the printed scripts and the properties in `tests/` drive exactly this function.

mod bootstrap;
mod children;
mod cleanup;
mod identity;
mod learner;
mod leftover;
mod repair;
mod roll;
mod safety;
mod scale_down;
mod scale_up;
mod step;
mod volumes;

pub use step::{Children, MemberChild, Plan, Step};

use crate::build::names;
use crate::observe::{MemberSeen, Membership, Observed, Ordinal, quorum};
use crate::validate::Desired;
use std::time::Duration;

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
    /// Nothing more until this has happened.
    Hold(String),
    /// Nothing more until somebody helps.
    Stall(String),
    /// This must happen some day, but other questions may act meanwhile.
    Later(String),
}

/// What every question looks at.
struct Case<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    /// Unix seconds.
    now: i64,
}

/// What to do next with the cluster. `now` is in Unix seconds.
///
/// Asking twice with the same arguments gives the same plan, and a cluster that is as it should be gives `Done`.
pub fn plan(desired: &Desired, observed: &Observed, now: i64) -> Plan {
    let case = Case {
        desired,
        observed,
        now,
    };
    if desired.paused {
        let because = "spec.paused is true: nothing is touched".to_owned();
        return Plan {
            children: None,
            step: Step::Wait,
            because,
            requeue: LATER,
        };
    }
    if let Some(first) = observed.in_the_way.first() {
        return Plan {
            children: None,
            step: Step::Wait,
            because: first.clone(),
            requeue: SOON,
        };
    }
    // Without a record of who bootstraps no pod may exist.
    let children = |step: &Step| {
        (observed.record.cluster_id.is_some() || observed.record.bootstrap.is_some())
            .then(|| children::children(&case, step))
    };

    let mut later = None;
    for question in QUESTIONS {
        let (step, because, requeue) = match question(&case) {
            Verdict::Pass => continue,
            Verdict::Later(because) => {
                later.get_or_insert(because);
                continue;
            }
            Verdict::Act(step, because) => (step, because, AGAIN),
            Verdict::Hold(because) => (Step::Wait, because, SOON),
            Verdict::Stall(because) => (Step::Stall, because, LATER),
        };
        // Once the cluster is recorded nobody may bootstrap, so what was right before that is not applied after it.
        let is_known_now = matches!(step, Step::RecordCluster { .. });
        return Plan {
            children: children(&step).filter(|_| !is_known_now),
            step,
            because,
            requeue,
        };
    }
    match later {
        Some(because) => Plan {
            children: children(&Step::Wait),
            step: Step::Wait,
            because,
            requeue: SOON,
        },
        None => {
            let because = format!("{} of {} voters serve", desired.replicas, desired.replicas);
            Plan {
                children: children(&Step::Done),
                step: Step::Done,
                because,
                requeue: LATER,
            }
        }
    }
}

/// The questions in order of urgency. Those after `bootstrap::is_quorate` only run with a confirmed member list.
const QUESTIONS: [fn(&Case) -> Verdict; 12] = [
    bootstrap::is_recorded,
    identity::is_one_cluster,
    roll::is_a_broken_pod_outdated,
    bootstrap::is_started,
    bootstrap::is_quorate,
    identity::are_volumes_marked,
    cleanup::is_anything_left_over,
    repair::has_a_member_lost_its_disk,
    learner::is_one_pending,
    roll::is_a_pod_outdated,
    scale::is_the_number_right,
    volumes::are_they_large_enough,
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

    /// What the disruption budget keeps of so many voters.
    ///
    /// One voter has no quorum to keep, and a budget would only make its node undrainable.
    fn min_available(&self, voters: usize) -> Option<usize> {
        (voters > 1).then(|| quorum(voters))
    }

    fn name(&self, ordinal: Ordinal) -> String {
        names::member(&self.desired.name, ordinal)
    }

    fn is_healthy(&self, member: &MemberSeen) -> bool {
        self.observed.is_healthy(member)
    }

    /// True if the pod runs something other than the spec says now.
    fn is_outdated(&self, ordinal: Ordinal) -> bool {
        self.observed
            .pods
            .get(&ordinal)
            .is_some_and(|pod| pod.template_hash != self.desired.template_hash)
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
