//! A disk that takes long over every write of the log. Only a server built for it has the seam (`failpoints::disk`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Evidence;
use crate::clients::http;
use crate::cluster::Cluster;

/// The variable that names the file a server looks at.
pub const VARIABLE: &str = "COORD_FAILPOINT_SLOW_DISK";

/// How slow the disks of members are: those that were given its file.
#[derive(Clone, Debug)]
pub struct Brake {
    file: PathBuf,
}

impl Brake {
    /// Off. Give the file's name to the server in [`VARIABLE`].
    pub fn new(folder: &Path) -> Result<Self> {
        let brake = Self {
            file: folder.join("write-delay"),
        };
        brake.set(Duration::ZERO)?;
        Ok(brake)
    }

    /// The file that a server looks at.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// From now on each write takes longer by `delay`.
    pub fn set(&self, delay: Duration) -> Result<()> {
        // Replaced whole: a reader never finds half a number.
        let new = self.file.with_extension("new");
        std::fs::write(&new, delay.as_millis().to_string())?;
        std::fs::rename(&new, &self.file)?;
        Ok(())
    }
}

/// Makes the disks of all members slow for a while.
pub async fn all(
    cluster: &Cluster,
    brake: &Brake,
    delay: Duration,
    held: Duration,
) -> Result<Evidence> {
    let before = written(cluster).await?;
    brake.set(delay)?;
    tokio::time::sleep(held).await;
    let after = written(cluster).await;
    brake.set(Duration::ZERO)?;
    let after = after?;
    let writes = after.count - before.count;
    let mean = (after.seconds - before.seconds) / writes.max(1.0);
    // Half of it at least: reading the pages takes a moment, in which writes are as fast as ever.
    ensure!(
        writes >= 1.0 && mean >= delay.as_secs_f64() / 2.0,
        "{writes} writes of the logs took {mean:.3} s each"
    );
    Ok(Evidence(format!(
        "{writes} writes of the logs took {:.0} ms each",
        mean * 1000.0
    )))
}

/// Writes of all members' logs, and the time they took.
struct Written {
    count: f64,
    seconds: f64,
}

async fn written(cluster: &Cluster) -> Result<Written> {
    let mut all = Written {
        count: 0.0,
        seconds: 0.0,
    };
    for endpoint in cluster.endpoints() {
        let page = http::request("GET", &endpoint, "/metrics").await?;
        let value = |name: &str| {
            let line = page
                .text
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.trim().parse::<f64>().ok())
                .with_context(|| format!("{name} is on the metrics page"))
        };
        all.count += value("etcd_disk_wal_fsync_duration_seconds_count")?;
        all.seconds += value("etcd_disk_wal_fsync_duration_seconds_sum")?;
    }
    Ok(all)
}
