//! Asks a member for its term, again and again.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{sleep, timeout};

use super::{Common, Output};
use crate::check::terms::Sighting;

const ASK_EVERY: Duration = Duration::from_millis(50);
const ANSWER_MAX: Duration = Duration::from_secs(1);

pub(super) async fn ask(common: Common, member: usize) -> Result<Output> {
    let client = common.pinned(member)?;
    let mut sightings = Vec::new();
    while !common.stops() {
        if let Ok(Ok(status)) = timeout(ANSWER_MAX, client.status()).await {
            sightings.push(Sighting {
                at: common.history.now(),
                member,
                term: status.raft_term,
            });
        }
        sleep(ASK_EVERY).await;
    }
    Ok(Output::Sightings(sightings))
}
