//! The waits of a run: that the cluster goes on, that a member serves again.
//!
//! A member that ends by itself ends every wait at once, and says why: nothing that comes later explains a run better.

use std::time::Duration;

use super::failure::Failure;
use super::scenario::Site;
use crate::clients::etcd::request::put;
use crate::cluster::within;

/// Writes before the first fault, between faults, and during a fault that leaves a quorum: faults on an idle cluster
/// prove little.
const WRITES: u64 = 60;
/// How long they may take on a busy machine, with an election in it.
const WRITES_MAX: Duration = Duration::from_secs(60);
/// How long all members may take to serve again after a fault: two seconds usually, but on a machine that does much else.
const SERVES_MAX: Duration = Duration::from_secs(60);
/// One attempt: longer than a member itself lets a write wait.
const ATTEMPT_MAX: Duration = Duration::from_secs(10);

impl Site {
    /// The cluster as a whole acknowledges writes.
    pub async fn goes_on(&self) -> Result<(), Failure> {
        self.unless_one_ends(async {
            let served = self.load.goes_on(WRITES, WRITES_MAX).await;
            served.map_err(|why| Failure::Broken(format!("the cluster does not go on: {why:#}")))
        })
        .await
    }

    /// Those that a fault leaves able to serve do.
    pub async fn others_serve(&self) -> Result<(), Failure> {
        self.unless_one_ends(async {
            let served = self.load.goes_on(WRITES, WRITES_MAX).await;
            served.map_err(|why| Failure::Broken(format!("a quorum did not serve: {why:#}")))
        })
        .await
    }

    /// Every member that is to run takes a write again, by itself.
    pub async fn serves_again(&self) -> Result<(), Failure> {
        self.unless_one_ends(async {
            for member in self.cluster.present() {
                self.takes_a_write(member).await?;
            }
            Ok(())
        })
        .await
    }

    async fn takes_a_write(&self, member: usize) -> Result<(), Failure> {
        let client = self.cluster.client_of(member)?;
        let served = within(SERVES_MAX, "a member serves again", || async {
            let value = format!("{member}.{:?}", self.load.now());
            tokio::time::timeout(ATTEMPT_MAX, client.put(put("served", &value))).await??;
            Ok(())
        });
        served.await.map_err(|why| {
            let name = self.cluster.name(member);
            Failure::Broken(format!("{name} does not serve again: {why:#}"))
        })
    }

    /// Does something that takes a while, unless a member ends by itself.
    pub async fn unless_one_ends<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            // A member that was reached counts, even if one ends in the same moment: that is found next time.
            biased;
            done = work => done,
            failure = self.one_ends() => Err(failure),
        }
    }

    async fn one_ends(&self) -> Failure {
        const LOOK_EVERY: Duration = Duration::from_millis(50);
        loop {
            if let Some(failure) = self.ended() {
                return failure;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The last words of a member that ended by itself, if one did.
    pub fn ended(&self) -> Option<Failure> {
        let mut present = self.cluster.present().into_iter();
        let member = present.find(|member| !self.cluster.runs(*member))?;
        let name = self.cluster.name(member);
        let why = last_words(&self.cluster.lines(member));
        Some(Failure::Broken(format!("{name} ended by itself: {why}")))
    }
}

/// The first panic, which explains those after it, or else the last line.
fn last_words(lines: &[String]) -> String {
    let panic = lines.iter().position(|line| line.contains("panicked at"));
    let said = match panic {
        Some(at) => &lines[at..lines.len().min(at + 2)],
        None => &lines[lines.len().saturating_sub(1)..],
    };
    said.join(" ")
}
