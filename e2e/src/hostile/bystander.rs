//! The other client: writes and reads all the while, and notes whether it is served.

use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::clients::etcd::Client;
use crate::clients::etcd::request::put;

/// Between two rounds, so that it does not load the member itself.
const PAUSE: Duration = Duration::from_millis(10);

/// A client at work until it is asked how it was.
pub struct Bystander {
    stop: oneshot::Sender<()>,
    work: JoinHandle<Result<Served>>,
}

/// How a bystander was served.
#[derive(Clone, Copy, Debug, Default)]
pub struct Served {
    /// Rounds of one write and one linearizable read.
    pub rounds: u32,
    /// The longest.
    pub longest: Duration,
}

impl Bystander {
    /// Begins, and returns once it was served for the first time.
    pub async fn begin(client: Client) -> Result<Self> {
        round(&client, 0).await?;
        let (stop, mut stopped) = oneshot::channel();
        let work = tokio::spawn(async move {
            let mut served = Served::default();
            while stopped.try_recv().is_err() {
                let before = Instant::now();
                round(&client, served.rounds).await?;
                served.longest = served.longest.max(before.elapsed());
                served.rounds += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Ok(served)
        });
        Ok(Self { stop, work })
    }

    /// Ends. Errors: the first request that was not served, or a value that was not the one written.
    pub async fn end(self) -> Result<Served> {
        // It may have ended with an error.
        let _ = self.stop.send(());
        let served = self.work.await??;
        println!(
            "a bystander was served {} times, within {} ms",
            served.rounds,
            served.longest.as_millis()
        );
        ensure!(served.rounds > 0, "it was not served at all");
        Ok(served)
    }
}

async fn round(client: &Client, number: u32) -> Result<()> {
    let value = number.to_string();
    client.put(put("bystander", &value)).await?;
    let read = client.get("bystander").await?;
    ensure!(
        read.as_ref() == Some(&value),
        "wrote {value}, read {read:?}"
    );
    Ok(())
}
