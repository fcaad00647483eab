//! The operator's steps in the world, each checked against its promises first.

use coord_operator::crd::Bootstrap;
use coord_operator::model::quorum;
use coord_operator::plan::Step;

use super::{Member, Pod, World};

impl World {
    /// The record of a status that announces `step`.
    pub(super) fn record_step(&mut self, step: &Step) {
        match step {
            Step::RecordBootstrap { seed, token } => {
                assert!(self.record.bootstrap.is_none() && self.record.cluster_id.is_none());
                let token = token
                    .clone()
                    .unwrap_or_else(|| format!("token-{}", self.next));
                self.record.bootstrap = Some(Bootstrap {
                    seed: i32::try_from(*seed).expect("small"),
                    token,
                });
            }
            Step::RecordCluster { cluster_id } => {
                self.record.cluster_id = Some(*cluster_id);
                let on_disk = self
                    .volumes
                    .values()
                    .filter(|v| v.cluster_mark == Some(*cluster_id));
                let on_disk = on_disk.filter_map(|v| v.bootstrap.clone()).next();
                self.record.bootstrap = self.record.bootstrap.take().or(on_disk);
            }
            _ => {}
        }
    }

    /// `late`: decided on a state that may be long gone; what only a fresh decision must know is not asked then.
    pub(super) fn apply_step(&mut self, step: &Step, late: bool) {
        match step {
            Step::Done | Step::Wait | Step::Stall => {}
            // Done with the status that records them.
            Step::RecordBootstrap { .. } | Step::RecordCluster { .. } => {}
            Step::MarkVolume {
                ordinal,
                uid,
                cluster_id,
                member_id,
            } => {
                let volume = self.volumes.get_mut(ordinal).expect("marked disks exist");
                assert_eq!(&volume.uid, uid);
                volume.version += 1;
                volume.cluster_mark = Some(*cluster_id);
                volume.member_mark = member_id.or(volume.member_mark);
                volume.bootstrap = self.record.bootstrap.clone().or(volume.bootstrap.take());
            }
            Step::Bootstrap { ordinal, .. } => self.form(*ordinal),
            Step::MarkRemoved {
                ordinal,
                uid,
                member_id,
            } => {
                let volume = self.volumes.get_mut(ordinal).expect("marked disks exist");
                assert_eq!(&volume.uid, uid);
                volume.version += 1;
                volume.removed_mark = *member_id;
            }
            Step::AddLearner { ordinal } => {
                assert!(self.leader.is_some());
                assert!(
                    self.members.iter().all(|m| m.ordinal != *ordinal),
                    "added twice"
                );
                assert!(
                    late || self.volumes[ordinal].data.is_none(),
                    "a disk with data joins under a new id"
                );
                let id = 0xa0 + self.fresh();
                self.members.push(Member {
                    id,
                    ordinal: *ordinal,
                    is_learner: true,
                    joined: false,
                    lag: 3,
                });
            }
            Step::Promote { id, with, .. } => {
                let promoted: Vec<u64> = std::iter::once(*id).chain(with.iter().copied()).collect();
                let voters = self.voters().count() + promoted.len();
                assert!(late || voters != 2, "of two voters neither may be lost");
                assert!(
                    late || self
                        .min_available
                        .is_some_and(|min| min as usize >= quorum(voters)),
                    "one more voter than the budget knows of"
                );
                for id in promoted {
                    let member = self.members.iter_mut().find(|m| m.id == id);
                    let member = member.expect("promoted members exist");
                    assert!(
                        member.is_learner && member.joined && member.lag == 0,
                        "promoted while behind"
                    );
                    member.is_learner = false;
                }
            }
            Step::MoveLeader { from, to } => {
                assert_eq!(self.leader, Some(*from));
                let to = self.voters().find(|m| m.id == *to).expect("a voter");
                assert!(self.is_up(to), "leadership moved to a member that is down");
                self.leader = Some(to.id);
            }
            Step::RemoveMember { id, with, .. } => {
                let removed: Vec<u64> = std::iter::once(*id).chain(with.iter().copied()).collect();
                let leads = self.leader.is_some_and(|id| removed.contains(&id));
                assert!(late || !leads, "the leader was removed");
                let before = self.voters().count();
                let serves = |m: &&Member| removed.contains(&m.id) && self.is_up(m);
                let served = self.voters().filter(serves).count();
                let is_whole = |m: &Member| {
                    let volume = self.volumes.get(&m.ordinal);
                    volume.is_some_and(|v| {
                        v.data.is_some_and(|(_, id)| id == m.id) && !v.terminating && !v.stranded
                    })
                };
                let loses_one = (self.voters()).any(|m| removed.contains(&m.id) && is_whole(m));
                assert!(
                    late || before > self.replicas as usize || !loses_one,
                    "a voter was removed whose disk is whole and stays"
                );
                self.members.retain(|m| !removed.contains(&m.id));
                self.removed.extend(removed);
                let voters = self.voters().count();
                assert!(
                    late || served == 0 || voters >= self.replicas as usize,
                    "a voter that served was removed before another took its place"
                );
                assert!(
                    late || self.replicas > 1 || (before, voters) != (3, 2),
                    "from three voters to one by way of two, of which neither may be lost"
                );
                assert!(
                    before == voters || self.has_quorum(),
                    "quorum lost by a removal; {voters} voters remain"
                );
            }
            Step::DeleteSet { ordinal, uid } => {
                assert_eq!(&self.sets[ordinal].uid, uid);
                assert!(
                    self.members
                        .iter()
                        .all(|m| m.ordinal != *ordinal || (late && m.is_learner)),
                    "the StatefulSet of a member was deleted"
                );
                self.sets.remove(ordinal);
            }
            Step::DeleteVolume { ordinal, uid } => {
                let volume = self.volumes.remove(ordinal).expect("deleted disks exist");
                assert_eq!(&volume.uid, uid);
                // Kubernetes would keep it until the pod is gone.
                assert!(
                    late || !self.pods.contains_key(ordinal),
                    "a disk was deleted under a pod"
                );
                let lives = volume.data.is_some_and(|(_, id)| {
                    self.members
                        .iter()
                        .any(|m| m.id == id && !(late && m.is_learner))
                });
                assert!(!lives, "the disk of a member was deleted");
                // As far as anybody can know: the mark comes with the first word of the member. An object that this
                // operator had marked to be removed is its own to delete, even if another was quicker at the list.
                assert!(
                    volume.terminating
                        || volume.removed_mark == volume.member_mark
                        || volume
                            .member_mark
                            .is_none_or(|id| !self.taken_out.contains(&id)),
                    "the disk of a member that somebody else took out was deleted"
                );
            }
            Step::RestartPod { ordinal, uid } => {
                let is_voter = self
                    .voters()
                    .any(|m| m.ordinal == *ordinal && self.is_up(m));
                let all_up = self.voters().all(|m| self.is_up(m));
                assert!(
                    late || !is_voter || all_up,
                    "a serving voter was restarted while another was down"
                );
                let volume = self.volumes.get(ordinal);
                let is_a_members = |(_, id)| self.members.iter().any(|m| m.id == id);
                let is_going =
                    volume.is_some_and(|v| v.terminating && v.data.is_some_and(is_a_members));
                assert!(
                    late || !is_going,
                    "a pod was restarted whose disk goes with it"
                );
                let is_known_bad = self.sets.get(ordinal).is_some_and(|set| {
                    let shows_it = |(n, pod): (&u32, &Pod)| {
                        let is_placed = pod.is_placed || self.nodes.is_empty();
                        n != ordinal && pod.hash == set.hash && is_placed
                    };
                    set.hash.contains("bad") && self.pods.iter().any(shows_it)
                });
                assert!(
                    late || !is_voter || self.voters().count() > 1 || !is_known_bad,
                    "the only voter was restarted with an image that another pod does not run with"
                );
                let had_quorum = self.has_quorum();
                let pod = self.pods.remove(ordinal).expect("restarted pods exist");
                assert_eq!(&pod.uid, uid);
                let alone = self.voters().count() <= 1;
                assert!(
                    alone || !had_quorum || self.has_quorum(),
                    "quorum lost by a restart"
                );
            }
        }
    }
}
