//! Writes without pause and remembers what was acknowledged; later asks for each of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coord_proto::etcd::etcdserverpb::kv_client::KvClient;
use coord_proto::etcd::etcdserverpb::{PutRequest, RangeRequest};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tonic::transport::{Channel, Endpoint};

/// The time after which a put without an answer counts as unknown, and the next one goes over a new connection.
const PUT: Duration = Duration::from_secs(3);
/// How long the writer may take to reach the number of puts that makes a test say something.
const ENOUGH: Duration = Duration::from_secs(120);
/// Pause between puts: the test is about loss, not about speed, and shares two cores with three nodes.
const PAUSE: Duration = Duration::from_millis(10);

/// A client that writes `prefix/0`, `prefix/1` and so on until it is stopped.
pub(crate) struct Writer {
    stop: oneshot::Sender<()>,
    task: JoinHandle<BTreeSet<String>>,
    count: Arc<AtomicUsize>,
    prefix: String,
    url: String,
}

impl Writer {
    /// Starts writing to `url`.
    pub(crate) fn start(url: String, prefix: &str) -> Self {
        let (stop, stopped) = oneshot::channel();
        let count = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(write(
            url.clone(),
            prefix.to_owned(),
            Arc::clone(&count),
            stopped,
        ));
        let prefix = prefix.to_owned();
        Self {
            stop,
            task,
            count,
            prefix,
            url,
        }
    }

    /// How many puts were acknowledged so far.
    #[allow(dead_code, reason = "each test program uses its part")]
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Goes on until `min` puts were acknowledged, stops, reads everything back and returns how many there were.
    ///
    /// Errors: an acknowledged put is missing, or `min` were not reached in time, so that the test showed nothing.
    pub(crate) async fn finish(self, min: usize) -> Result<usize> {
        let enough = async {
            while self.count.load(Ordering::Relaxed) < min {
                sleep(PAUSE * 10).await;
            }
        };
        let _ = timeout(ENOUGH, enough).await;
        let _ = self.stop.send(());
        let acknowledged = self.task.await?;
        ensure!(
            acknowledged.len() >= min,
            "only {} puts were acknowledged, {min} wanted",
            acknowledged.len()
        );
        let found = keys(&self.url, &self.prefix).await?;
        let lost: Vec<_> = acknowledged.difference(&found).take(10).collect();
        ensure!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        Ok(acknowledged.len())
    }
}

async fn write(
    url: String,
    prefix: String,
    count: Arc<AtomicUsize>,
    mut stopped: oneshot::Receiver<()>,
) -> BTreeSet<String> {
    let mut acknowledged = BTreeSet::new();
    let mut client = connect(&url);
    for number in 0u64.. {
        if stopped.try_recv().is_ok() {
            break;
        }
        let key = format!("{prefix}/{number:08}");
        let put = PutRequest {
            key: key.clone().into(),
            value: "x".into(),
            ..PutRequest::default()
        };
        match timeout(PUT, client.put(put)).await {
            Ok(Ok(_)) => {
                acknowledged.insert(key);
                count.store(acknowledged.len(), Ordering::Relaxed);
            }
            Ok(Err(_)) | Err(_) => client = connect(&url),
        }
        sleep(PAUSE).await;
    }
    acknowledged
}

fn connect(url: &str) -> KvClient<Channel> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .expect("a URL of the cluster")
        .connect_timeout(PUT);
    KvClient::new(endpoint.connect_lazy())
}

/// All keys below `prefix`, from a linearizable read.
async fn keys(url: &str, prefix: &str) -> Result<BTreeSet<String>> {
    let mut last = None;
    for _ in 0..20 {
        let range = RangeRequest {
            key: format!("{prefix}/").into(),
            // '0' follows '/'.
            range_end: format!("{prefix}0").into(),
            keys_only: true,
            ..RangeRequest::default()
        };
        match timeout(PUT * 3, connect(url).range(range)).await {
            Ok(Ok(answer)) => {
                let keys = answer.into_inner().kvs.into_iter();
                return keys
                    .map(|pair| Ok(String::from_utf8(pair.key.to_vec())?))
                    .collect();
            }
            Ok(Err(status)) => last = Some(status.to_string()),
            Err(_) => last = Some("no answer".to_owned()),
        }
        sleep(PAUSE * 50).await;
    }
    last.map_or(Ok(BTreeSet::new()), |why| Err(anyhow::anyhow!(why)))
        .context("read back")
}
