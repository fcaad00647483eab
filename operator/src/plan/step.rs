//! The planner's answer: the plan, its one step, and the children that must exist.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::model::Ordinal;

/// The work of one pass.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Objects to create or keep as they should be; `None` touches none. Applying them is harmless at any time.
    pub children: Option<Children>,
    /// Disks to grow, with the UIDs of their claims: it needs no quorum, stops nobody, and waits for nothing.
    pub grow: BTreeMap<Ordinal, String>,
    /// The one thing that changes the cluster.
    pub step: Step,
    /// Why, in a sentence for status, event and log.
    pub because: String,
    /// When to look again at the latest.
    pub requeue: Duration,
}

/// The objects a cluster consists of.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Children {
    /// One StatefulSet each.
    pub members: BTreeMap<Ordinal, MemberChild>,
    /// The number of pods that the disruption budget keeps; `None` if there must be no budget.
    pub min_available: Option<u32>,
}

/// The objects of one member.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemberChild {
    /// True if the disruption budget counts its pod.
    pub is_voter: bool,
    /// True if a missing disk may be created: never for a member that is in the list, its data would be missed.
    pub may_create_volume: bool,
    /// True if its StatefulSet takes the pod template of today; else it keeps what it has until its turn, so that a pod
    /// that is recreated meanwhile comes back as it was.
    pub takes_template: bool,
    /// True if its disk is tied to a node: then there is nothing left to spread, and a strict rule could only keep it from
    /// running.
    pub is_placed: bool,
}

/// One change. Everything that names an object carries the UID it was decided on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Step {
    /// All is as the spec says.
    Done,
    /// Something must happen first that the operator only watches.
    Wait,
    /// Somebody must help.
    Stall,
    /// Write down who bootstraps; with the token found on a disk, or a new one.
    RecordBootstrap {
        /// The member that starts alone.
        seed: Ordinal,
        /// A token that an earlier CoordCluster of this name gave to the disks.
        token: Option<String>,
    },
    /// Write down that the cluster exists; from now on nobody bootstraps.
    RecordCluster {
        /// Its id.
        cluster_id: u64,
    },
    /// Write on a disk whose data it may hold.
    MarkVolume {
        /// The member's number.
        ordinal: Ordinal,
        /// The disk's UID.
        uid: String,
        /// The cluster.
        cluster_id: u64,
        /// The member, once it lives there.
        member_id: Option<u64>,
    },
    /// Tell the seed, which waits on an empty disk, to form the cluster.
    Bootstrap {
        /// The seed's number.
        ordinal: Ordinal,
        /// The word of the start that was seen: a server that has been started again since refuses.
        start: String,
    },
    /// Write on a disk that its member is about to be removed, so that it may be deleted once it is; or take that back.
    MarkRemoved {
        /// The member's number.
        ordinal: Ordinal,
        /// The disk's UID.
        uid: String,
        /// The member; `None` takes the mark back.
        member_id: Option<u64>,
    },
    /// Add the waiting pod as a learner.
    AddLearner {
        /// The member's number.
        ordinal: Ordinal,
    },
    /// Make learners voters, all in one change.
    Promote {
        /// The member's number.
        ordinal: Ordinal,
        /// Its id.
        id: u64,
        /// The ids of others that get their votes with it.
        with: Vec<u64>,
    },
    /// Move leadership to a follower.
    MoveLeader {
        /// The leader's id.
        from: u64,
        /// The follower's id.
        to: u64,
    },
    /// Remove members from the list, all in one change.
    RemoveMember {
        /// The member's name.
        name: String,
        /// Its id.
        id: u64,
        /// The ids of others that leave with it.
        with: Vec<u64>,
    },
    /// Delete the StatefulSet of a member that is not in the list.
    DeleteSet {
        /// The member's number.
        ordinal: Ordinal,
        /// The StatefulSet's UID.
        uid: String,
    },
    /// Delete the disk of a member that is not in the list.
    DeleteVolume {
        /// The member's number.
        ordinal: Ordinal,
        /// The claim's UID.
        uid: String,
    },
    /// Delete a pod, so that it comes back from the new template; or one that nobody needs and that has no StatefulSet.
    RestartPod {
        /// The member's number.
        ordinal: Ordinal,
        /// The pod's UID.
        uid: String,
    },
}

impl Step {
    /// Its name in metrics, events and status.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Done => "Done",
            Self::Wait => "Wait",
            Self::Stall => "Stall",
            Self::RecordBootstrap { .. } => "RecordBootstrap",
            Self::RecordCluster { .. } => "RecordCluster",
            Self::MarkVolume { .. } => "MarkVolume",
            Self::Bootstrap { .. } => "Bootstrap",
            Self::MarkRemoved { .. } => "MarkRemoved",
            Self::AddLearner { .. } => "AddLearner",
            Self::Promote { .. } => "Promote",
            Self::MoveLeader { .. } => "MoveLeader",
            Self::RemoveMember { .. } => "RemoveMember",
            Self::DeleteSet { .. } => "DeleteSet",
            Self::DeleteVolume { .. } => "DeleteVolume",
            Self::RestartPod { .. } => "RestartPod",
        }
    }

    /// True if it can cost availability or data: decided twice, on two separate reads.
    pub fn is_destructive(&self) -> bool {
        match self {
            Self::MoveLeader { .. }
            | Self::RemoveMember { .. }
            | Self::DeleteSet { .. }
            | Self::DeleteVolume { .. }
            | Self::RestartPod { .. } => true,
            Self::Done
            | Self::Wait
            | Self::Stall
            | Self::RecordBootstrap { .. }
            | Self::RecordCluster { .. }
            | Self::MarkVolume { .. }
            | Self::Bootstrap { .. }
            | Self::MarkRemoved { .. }
            | Self::AddLearner { .. }
            | Self::Promote { .. } => false,
        }
    }

    /// True if it is written down in the status before it is done: what costs availability or data, what adds to the
    /// member list, and what is nothing but a line in the status.
    pub fn needs_intent(&self) -> bool {
        match self {
            Self::RecordBootstrap { .. }
            | Self::RecordCluster { .. }
            | Self::Bootstrap { .. }
            | Self::AddLearner { .. } => true,
            // The leader refuses it while the learner is behind, and repeating it is harmless. Written down first, it
            // would never come in a process that dies after each write: that it has caught up twice is not written down.
            Self::Promote { .. } => false,
            Self::Done
            | Self::Wait
            | Self::Stall
            | Self::MarkVolume { .. }
            | Self::MarkRemoved { .. }
            | Self::MoveLeader { .. }
            | Self::RemoveMember { .. }
            | Self::DeleteSet { .. }
            | Self::DeleteVolume { .. }
            | Self::RestartPod { .. } => self.is_destructive(),
        }
    }

    /// How many members it gives votes.
    pub fn promotes(&self) -> usize {
        match self {
            Self::Promote { with, .. } => 1 + with.len(),
            Self::Done
            | Self::Wait
            | Self::Stall
            | Self::RecordBootstrap { .. }
            | Self::RecordCluster { .. }
            | Self::MarkVolume { .. }
            | Self::Bootstrap { .. }
            | Self::MarkRemoved { .. }
            | Self::AddLearner { .. }
            | Self::MoveLeader { .. }
            | Self::RemoveMember { .. }
            | Self::DeleteSet { .. }
            | Self::DeleteVolume { .. }
            | Self::RestartPod { .. } => 0,
        }
    }

    /// True if it changes something.
    pub fn acts(&self) -> bool {
        !matches!(self, Self::Done | Self::Wait | Self::Stall)
    }
}
