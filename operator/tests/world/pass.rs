//! The passes of an operator, write by write, and its failures in the middle of one.

use coord_operator::crd::CoordClusterStatus;
use coord_operator::observe::{Failure, Refusal};
use coord_operator::plan::Plan;
use coord_operator::report::{self, Outcome, StatusInput};
use coord_operator::writes::Write;

use super::World;

/// The fault that one write of a pass meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is done, and the operator dies before it knows.
    Crash,
    /// It is done, and the answer is lost: a timeout, a 500, a connection that breaks.
    LostAnswer,
    /// It is not done: a 409, a 429, a 503.
    Refused,
    /// The operator dies, and the call arrives at its destination some time later.
    Late,
}

impl World {
    /// One whole pass, as the controller makes it.
    pub(crate) fn pass(&mut self) -> Plan {
        self.pass_with(None)
    }

    /// As [`World::pass`], with a fault at the write of that number, counted from 0; none if there are fewer.
    pub(crate) fn pass_with(&mut self, fault: Option<(usize, Fault)>) -> Plan {
        let (decided, observed) = self.look();
        let now = self.now;
        let calls = self.calls(&decided, &observed);
        let mut is_stopped = false;
        for (number, call) in calls.into_iter().enumerate() {
            if is_stopped && matches!(call.write, Write::Step { .. }) {
                return decided;
            }
            let fault = fault
                .filter(|(at, _)| *at == number)
                .map(|(_, fault)| fault);
            match fault {
                Some(Fault::Refused) => {
                    let key = call.write.key();
                    let count = self
                        .memory
                        .failed(&key, "no".to_owned(), Failure::Stale, now);
                    is_stopped |= count == 1 || call.write.stops(&decided.step);
                    if matches!(call.write, Write::Intent) {
                        return decided;
                    }
                    continue;
                }
                Some(Fault::Late) => {
                    self.late.push(call);
                    self.forget();
                    return decided;
                }
                Some(Fault::Crash | Fault::LostAnswer) | None => {}
            }
            let key = call.write.key();
            let landed = match self.land(&call, false) {
                Ok(landed) => landed,
                Err(failure) => {
                    let said = format!("{key}: the answer is no");
                    let count = self.memory.failed(&key, said, failure, now);
                    let moved_on = failure == Failure::Stale && count == 1;
                    is_stopped |= moved_on || call.write.stops(&decided.step);
                    if matches!(call.write, Write::Intent) {
                        return decided;
                    }
                    continue;
                }
            };
            self.written += u64::from(landed.changed);
            if fault == Some(Fault::LostAnswer) {
                self.memory
                    .failed(&key, "no answer".to_owned(), Failure::Unknown, now);
                is_stopped |= call.write.stops(&decided.step);
                continue;
            }
            self.memory.succeeded(&key);
            if let Some(applied) = landed.applied {
                self.memory.remember_applied(&key, applied);
            }
            let dies = landed.changed && self.dies_after == Some(self.written);
            if dies || fault == Some(Fault::Crash) {
                self.forget();
                return decided;
            }
        }
        decided
    }

    /// The numbers of the next pass's writes that are more than a look at what is right already. Makes that pass.
    pub(crate) fn writes_that_change_something(&mut self) -> Vec<usize> {
        let (decided, observed) = self.look();
        let calls = self.calls(&decided, &observed);
        let numbered = calls.iter().enumerate();
        numbered
            .filter(|(_, call)| self.land(call, false).is_ok_and(|landed| landed.changed))
            .map(|(number, _)| number)
            .collect()
    }

    /// Runs `passes` passes, a second apart; returns their plans, and how many steps the leader refused.
    pub(crate) fn wait(&mut self, passes: u32) -> (Vec<Plan>, usize) {
        let (mut plans, mut refused): (Vec<Plan>, usize) = (Vec::new(), 0);
        for _ in 0..passes {
            self.settle();
            let due = self.due();
            let plan = self.pass();
            let key = coord_operator::writes::step_key(&plan.step);
            let is_sent = plan.step.acts() && due.contains(&key);
            if Some(plan.step.name()) == self.says_no {
                refused += usize::from(is_sent);
            } else if is_sent {
                plans.push(plan);
            }
        }
        (plans, refused)
    }

    /// The conditions that a pass tells now and that are not as in a cluster at rest, one a line.
    pub(crate) fn conditions(&mut self) -> String {
        let (decided, observed) = self.look();
        let desired = self.desired(&observed);
        let refusals: Vec<Refusal> = self
            .memory
            .refusals()
            .filter(|r| r.is_told())
            .cloned()
            .collect();
        let input = StatusInput {
            name: "demo",
            generation: None,
            observed: &observed,
            outcome: Outcome::Planned {
                desired: &desired,
                plan: &decided,
                refusals: &refusals,
            },
        };
        let before = CoordClusterStatus::default();
        let now = k8s_openapi::jiff::Timestamp::UNIX_EPOCH;
        let status = report::status(&input, &before, now, || "token".to_owned());
        let good = ["Ready", "Quorate", "StorageHealthy", "Spread"];
        let conditions = status.conditions.iter();
        let unlike =
            conditions.filter(|c| (c.status == "True") != good.contains(&c.type_.as_str()));
        let lines = unlike.map(|c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The calls that the next pass would send.
    pub(crate) fn due(&mut self) -> Vec<String> {
        let (decided, observed) = self.look();
        let calls = self.calls(&decided, &observed);
        calls.iter().map(|call| call.write.key()).collect()
    }

    /// Makes a pass; returns how many of its calls the API server refused.
    pub(crate) fn refused_in_a_pass(&mut self) -> usize {
        let due = self.due();
        let refused = |key: &&String| self.refuses.is_some_and(|kind| key.starts_with(kind));
        let refused = due.iter().filter(refused).count();
        self.pass();
        refused
    }

    /// A call that a dead operator had sent arrives. The observation it was decided on may be long gone.
    pub(crate) fn land_late(&mut self) {
        if !self.late.is_empty() {
            let call = self.late.remove(0);
            // A refusal has nobody to go to.
            let _ = self.land(&call, true);
        }
    }

    /// Passes until nothing changes any more; returns the steps.
    pub(crate) fn run(&mut self) -> Vec<Plan> {
        let mut plans = Vec::new();
        let mut quiet = 0;
        for _ in 0..1_200 {
            self.settle();
            let decided = self.pass();
            if decided.step.acts() {
                quiet = 0;
                plans.push(decided);
            } else {
                // Longer than it takes to call a member dead, its node gone, or its disk empty.
                quiet += 1;
                let is_waiting = self.volumes.values().any(|v| v.data.is_none());
                if quiet > if is_waiting { 70 } else { 30 } {
                    plans.push(decided);
                    return plans;
                }
            }
        }
        panic!("does not come to rest; last: {:?}", plans.last());
    }

    /// The state of a cluster at rest, without ids and counts that differ from history to history.
    pub(crate) fn masked(&self) -> String {
        let mut text = self.show();
        let is_whole = |n: &u32, volume: &super::Volume| {
            let member = self.members.iter().find(|m| m.ordinal == *n);
            let on_disk = volume.data.map(|(_, member)| member);
            volume.data.map(|(cluster, _)| cluster) == self.cluster_id
                && volume.cluster_mark == self.cluster_id
                && member.is_some_and(|m| on_disk == Some(m.id) && volume.member_mark == Some(m.id))
        };
        let whole = self.volumes.iter().filter(|(n, v)| is_whole(n, v)).count();
        let labelled = self.pods.values().filter(|pod| pod.voter_label).count();
        text += &format!(
            "\n{whole} disks of one cluster with their members' marks, {labelled} pods labelled, \
             {} members, {} bootstraps, cluster recorded: {}",
            self.members.len(),
            self.bootstraps,
            self.record.cluster_id == self.cluster_id,
        );
        // The leader is a matter of chance.
        text.replace("leader", "voter")
    }
}
