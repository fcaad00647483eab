//! Changes of the member list. Each goes to the leader, and each is safe to repeat: an added member is found in the
//! list by its URL, who was removed is not found.

use super::{ExecuteError, Writer};
use crate::member_client::{self, MemberClient, MemberError};
use crate::model::{Ordinal, names};

pub(super) async fn add_learner(writer: &Writer<'_>, ordinal: Ordinal) -> Result<(), ExecuteError> {
    let url = names::peer_url(&writer.desired.name, &writer.desired.namespace, ordinal);
    let leader = leader(writer).await?;
    writer.may_write()?;
    let member = leader.add_learner(&url).await?;
    writer.writes.wrote("MemberAdd");
    tracing::info!(
        member = ordinal,
        member_id = member.map(|m| format!("{:x}", m.id)),
        "member added"
    );
    Ok(())
}

/// Tells the seed to form the cluster. Sent only to the start of it that was seen waiting: over a connection that was
/// made before, and with the word that this start had given.
pub(super) async fn bootstrap(
    writer: &Writer<'_>,
    ordinal: Ordinal,
    start: &str,
) -> Result<(), ExecuteError> {
    let Some(bootstrap) = &writer.observed.record.bootstrap else {
        return Err(ExecuteError::TooLate);
    };
    let ip = writer
        .observed
        .pods
        .get(&ordinal)
        .and_then(|pod| pod.ip.as_deref());
    let pod = names::pod(&writer.desired.name, ordinal);
    let address = writer
        .route
        .address(&pod, ip)
        .ok_or(ExecuteError::NoLeader)?;
    let may_send = || writer.may_write().map_err(std::io::Error::other);
    let told = member_client::bootstrap(&address, &bootstrap.token, start, may_send).await;
    told.map_err(|source| MemberError::Http {
        call: "bootstrap",
        address,
        source,
    })?;
    writer.writes.wrote("Bootstrap");
    Ok(())
}

pub(super) async fn promote(
    writer: &Writer<'_>,
    id: u64,
    with: &[u64],
) -> Result<(), ExecuteError> {
    let leader = leader(writer).await?;
    writer.may_write()?;
    leader.promote(id, with).await?;
    writer.writes.wrote("MemberPromote");
    Ok(())
}

pub(super) async fn remove(writer: &Writer<'_>, id: u64, with: &[u64]) -> Result<(), ExecuteError> {
    let leader = leader(writer).await?;
    writer.may_write()?;
    leader.remove(id, with).await?;
    writer.writes.wrote("MemberRemove");
    Ok(())
}

pub(super) async fn move_leader(writer: &Writer<'_>, to: u64) -> Result<(), ExecuteError> {
    let leader = leader(writer).await?;
    writer.may_write()?;
    leader.move_leader(to).await?;
    writer.writes.wrote("MoveLeader");
    Ok(())
}

async fn leader(writer: &Writer<'_>) -> Result<MemberClient, ExecuteError> {
    let observed = writer.observed;
    let address = observed.membership.as_ref().and_then(|membership| {
        let n = membership
            .members
            .iter()
            .find(|m| m.id == membership.leader)?
            .ordinal?;
        let ip = observed.pods.get(&n)?.ip.as_deref();
        writer
            .route
            .address(&names::pod(&writer.desired.name, n), ip)
    });
    Ok(MemberClient::connect(&address.ok_or(ExecuteError::NoLeader)?).await?)
}
