//! A disk without room: a small file system in memory under a member's data directory, and a file that fills it.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::Evidence;
use crate::cluster::Cluster;

/// A first segment of the log, the one after it, a state store that has just begun.
const BYTES: u64 = 256 << 20;
const BALLAST: &str = "ballast";

/// A mounted file system. Dropping it unmounts it, even with files open on it.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one where a member that has not been started yet will keep its data. Needs root.
    pub fn mount(path: &Path) -> Result<Self> {
        fs::create_dir_all(path)?;
        let options = std::ffi::CString::new(format!("size={BYTES},mode=0700"))?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("coord-faults", path, "tmpfs", flags, options.as_c_str())
            .with_context(|| format!("mount a tmpfs on {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Takes all the room there is.
    pub fn fill(&self) -> Result<u64> {
        let mut ballast = File::create(self.path.join(BALLAST))?;
        let mut bytes = 0;
        // Down to single pages: a block that does not fit as a whole may leave room for a small write.
        for size in [1 << 20, 4096] {
            let block = vec![0x5a; size];
            loop {
                match ballast.write(&block) {
                    Ok(written) => bytes += written as u64,
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => bail!("fill {}: {error}", self.path.display()),
                }
            }
        }
        Ok(bytes)
    }

    /// Gives the room back.
    pub fn empty(&self) -> Result<()> {
        Ok(fs::remove_file(self.path.join(BALLAST))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Processes that are being killed may still hold files: the rest goes with the last of them.
        if let Err(error) = unmount(&self.path, UnmountFlags::DETACH) {
            eprintln!("{} is still mounted: {error}", self.path.display());
        }
    }
}

/// Fills the disk of a member until it ends by itself, gives the room back and starts it again, ready or not.
///
/// Errors: it ended for another reason, or did not end.
pub async fn one(
    cluster: &mut Cluster,
    member: usize,
    disk: &SmallDisk,
    held: Duration,
) -> Result<Evidence> {
    let bytes = disk.fill()?;
    let ended = cluster.ended(member).await;
    tokio::time::sleep(held).await;
    disk.empty()?;
    let (status, said) = ended?;
    ensure!(
        said.contains("No space left") || said.contains("StorageFull"),
        "{} ended ({status:?}) on a full disk without saying so:\n{said}",
        cluster.name(member)
    );
    cluster.spawn(member)?;
    Ok(Evidence(format!(
        "{} had no room after {} MiB, and said so",
        cluster.name(member),
        bytes >> 20
    )))
}
