//! All reads: from the API server (uncached, at every pass) and from the members, into one plain value.
//!
//! In: a CoordCluster. Out: [`Observed`]. This room decides nothing and writes nothing. Read `observed` first.

mod events;
mod home;
mod kube;
mod members;
mod memory;
mod observed;
mod pod;
mod text;
mod volume;

use ::kube::{Client, ResourceExt};

use crate::crd::CoordCluster;
use crate::member_client::Route;

pub use memory::{Failure, Memory};
pub use observed::{
    Answer, Applied, BoundNode, ChildSeen, LAG_ENTRIES_MAX, MemberSeen, Membership, NodeState,
    Observed, PodSeen, Record, Refusal, SetSeen, StorageClassSeen, VolumeSeen, WaitReason,
    WaitingSeen, child_key,
};

/// Reads everything about `cluster`. `now` is in Unix seconds.
///
/// `memory` carries what only shows over several passes; losing it makes the operator slower, never wrong.
pub async fn observe(
    client: &Client,
    route: &Route,
    memory: &mut Memory,
    cluster: &CoordCluster,
    now: i64,
) -> Result<Observed, ::kube::Error> {
    let mut observed = kube::read(client, cluster, now).await?;
    home::find(client, memory, &cluster.spec.scheduling, &mut observed).await?;
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    events::quote(client, &namespace, &name, memory, &mut observed, now).await?;
    let recorded = observed.record.cluster_id;
    let seen = members::ask(route, &name, &namespace, recorded, &observed.pods).await;
    observed.answers = seen.answers;
    members::versions(route, &name, memory, &observed.pods, &mut observed.answers).await;
    observed.waiting = seen.waiting;
    observed.locked = seen.locked;
    observed.membership = seen.membership;
    memory.remember(&mut observed, &seen.caught_up, now);
    Ok(observed)
}
