//! The faults that a cluster suffers, one scenario each, and what must hold *meanwhile*.
//!
//! A round inflicts one fault, holds it until the part of the cluster that can serve has served, and takes it back. The
//! demands afterwards are alike for all and stand in [`run`](super::run) and [`verdict`](super::verdict).

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::RngExt;
use rand::rngs::StdRng;

use super::failure::Failure;
use super::load::{Load, Profile};
use crate::cluster::Cluster;
use crate::nemesis::disk_full::SmallDisk;
use crate::nemesis::disk_slow::Brake;
use crate::nemesis::partition::Way;
use crate::nemesis::{Evidence, disk_full, disk_slow, kill, partition, pause};

/// The fault that a cluster of three suffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Scenario {
    /// The leader is killed and comes back.
    KillLeader,
    /// All are killed at once and come back.
    KillAll,
    /// All lose their power at once: unsynced writes are gone.
    PowerCut,
    /// The leader stands still, for less and for more than a lease, and goes on.
    Pause,
    /// The leader, or another one, is cut off from the others.
    Cut,
    /// The leader is not heard by the others, or does not hear them.
    OneWay,
    /// A member that does not lead was cut off, and returns.
    Return,
    /// Every write of the logs takes long.
    SlowDisk,
    /// A member's disk is full.
    FullDisk,
    /// A member was away for so long that it needs a snapshot.
    FarBehind,
    /// A member comes back without its data, when only one that is behind is there to ask.
    Wiped,
    /// Old revisions are compacted all the time, while a member comes and goes.
    Compaction,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::KillLeader,
        Self::KillAll,
        Self::PowerCut,
        Self::Pause,
        Self::Cut,
        Self::OneWay,
        Self::Return,
        Self::SlowDisk,
        Self::FullDisk,
        Self::FarBehind,
        Self::Wiped,
        Self::Compaction,
    ];

    /// Its name in reports and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::KillLeader => "kill-leader",
            Self::KillAll => "kill-all",
            Self::PowerCut => "power-cut",
            Self::Pause => "pause",
            Self::Cut => "cut",
            Self::OneWay => "one-way",
            Self::Return => "return",
            Self::SlowDisk => "slow-disk",
            Self::FullDisk => "full-disk",
            Self::FarBehind => "far-behind",
            Self::Wiped => "wiped",
            Self::Compaction => "compaction",
        }
    }

    /// Whether it needs the server that has failpoints for it.
    #[must_use]
    pub fn needs_seams(self) -> bool {
        matches!(self, Self::PowerCut | Self::SlowDisk)
    }

    /// Flags of every member.
    #[must_use]
    pub fn flags(self) -> &'static [(&'static str, &'static str)] {
        match self {
            // So little log that a member away for a second needs more than the log.
            Self::PowerCut | Self::FarBehind => &[("snapshot-catchup-entries", "30")],
            // Long enough that a busy machine does not end a leadership by itself.
            Self::Return => &[("election-timeout", "3000")],
            _ => &[],
        }
    }

    /// The load of its clients.
    #[must_use]
    pub fn profile(self) -> Profile {
        Profile {
            compacts: self == Self::Compaction,
            ..Profile::default()
        }
    }

    /// Whether it can be done only once to a cluster.
    #[must_use]
    pub fn is_single(self) -> bool {
        self == Self::Wiped
    }
}

/// The cluster under fault, and what belongs to it.
pub struct Site {
    /// The members.
    pub cluster: Cluster,
    /// The clients.
    pub load: Load,
    /// Makes every choice.
    pub rng: StdRng,
    /// Slows the disks.
    pub brake: Brake,
    /// The member with a small disk, if one has.
    pub small_disk: Option<(usize, SmallDisk)>,
    /// The round of its ways that a scenario is in; every run begins elsewhere.
    pub round: usize,
}

impl Site {
    /// One round of a scenario. Says what was done; members may still be starting when it returns.
    pub async fn inflict(&mut self, scenario: Scenario) -> Result<Evidence, Failure> {
        let evidence = match scenario {
            Scenario::KillLeader => {
                let leader = self.leader().await?;
                match self.round % 2 {
                    // As somebody in a hurry does, in the same moment.
                    1 => kill::replace(&mut self.cluster, leader).await?,
                    _ => {
                        let down = self.millis(300..2_500);
                        kill::one(&mut self.cluster, leader, down).await?
                    }
                }
            }
            Scenario::KillAll | Scenario::PowerCut => {
                let all: Vec<_> = (0..self.cluster.len()).collect();
                let down = self.millis(0..300);
                kill::all(&mut self.cluster, &all, down).await?
            }
            Scenario::Pause => self.stand_still().await?,
            Scenario::Cut => self.cut(Way::Both).await?,
            Scenario::OneWay => match self.round % 2 {
                0 => self.cut(Way::Unheard).await?,
                _ => self.cut(Way::Deaf).await?,
            },
            Scenario::Return => self.come_back().await?,
            Scenario::SlowDisk => {
                let (delay, held) = (self.millis(40..150), self.millis(2_000..4_000));
                disk_slow::all(&self.cluster, &self.brake, delay, held).await?
            }
            Scenario::FullDisk => {
                let (member, disk) = self
                    .small_disk
                    .as_ref()
                    .context("a small disk is mounted")?;
                let held = Duration::from_secs(1);
                disk_full::one(&mut self.cluster, *member, disk, held).await?
            }
            Scenario::FarBehind => self.fall_behind().await?,
            Scenario::Wiped => self.wipe().await?,
            Scenario::Compaction => {
                self.compacted_further().await?;
                let follower = self.follower().await?;
                let down = self.millis(100..1_000);
                let Evidence(killed) = kill::one(&mut self.cluster, follower, down).await?;
                self.others_serve().await?;
                // Again once the member is back: the log that it missed may be gone.
                let revision = self.compacted_further().await?;
                Evidence(format!("{killed}; compacted up to revision {revision}"))
            }
        };
        self.round += 1;
        Ok(evidence)
    }

    async fn leader(&self) -> Result<usize, Failure> {
        let leader = self.cluster.leader().await;
        leader.map_err(|why| Failure::Broken(format!("there is no leader: {why:#}")))
    }

    async fn follower(&self) -> Result<usize, Failure> {
        let leader = self.leader().await?;
        let others = self.cluster.present().into_iter();
        let follower = others.filter(|member| *member != leader).min();
        Ok(follower.context("a member that does not lead")?)
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.random_range(range))
    }

    /// The others, which are a quorum, serve while one is cut off: the leader in two of three rounds.
    async fn cut(&mut self, way: Way) -> Result<Evidence, Failure> {
        let member = match self.round % 3 {
            2 => self.follower().await?,
            _ => self.leader().await?,
        };
        partition::cut(&self.cluster, member, way)?;
        let held = self.millis(1_500..4_000);
        tokio::time::sleep(held).await;
        self.others_serve().await?;
        Ok(partition::heal(&self.cluster, member, way)?)
    }

    /// The leader stands still until the others have another one, in every second round also until a lease that it
    /// renewed has surely ended there.
    async fn stand_still(&mut self) -> Result<Evidence, Failure> {
        // The time to live of leases of fault runs, and the election timeout that a new leader gives them.
        const LEASE: Duration = Duration::from_secs(3 + 1);
        let leader = self.leader().await?;
        let paused = pause::Paused::begin(&mut self.cluster, leader)?;
        let served = self.others_serve().await;
        if self.round.is_multiple_of(2) {
            let more = self.millis(500..1_500);
            tokio::time::sleep(LEASE + more).await;
        }
        let evidence = paused.end(&mut self.cluster)?;
        served.map(|()| evidence)
    }

    /// Waits until more was compacted than by now; says up to where.
    async fn compacted_further(&self) -> Result<i64, Failure> {
        let before = self.load.compacted();
        self.unless_one_ends(async {
            crate::cluster::eventually("more is compacted", || async {
                let revision = self.load.compacted();
                ensure!(revision > before, "it is still up to revision {before}");
                Ok(revision)
            })
            .await
            .map_err(|why| Failure::Broken(format!("{why:#}")))
        })
        .await
    }

    /// A member that was cut off does not depose a healthy leader when it returns.
    async fn come_back(&mut self) -> Result<Evidence, Failure> {
        let way = match self.round % 3 {
            0 => Way::Both,
            1 => Way::Deaf,
            _ => Way::Unheard,
        };
        let leader = self.leader().await?;
        let follower = self.follower().await?;
        let client = self.cluster.client_of(leader)?;
        let before = client.status().await?;
        partition::cut(&self.cluster, follower, way)?;
        // Three election timeouts: it has long given its leader up.
        tokio::time::sleep(Duration::from_secs(9)).await;
        let cut_off = client.status().await?;
        let evidence = partition::heal(&self.cluster, follower, way)?;
        let lead = |status: &coord_proto::etcd::etcdserverpb::StatusResponse| {
            (status.raft_term, status.leader)
        };
        if lead(&cut_off) != lead(&before) {
            let why = anyhow::anyhow!("the leader changed before the member came back");
            return Err(Failure::Void(why));
        }
        // It hears the leader again once it can serve a read.
        let returned = self.cluster.client_of(follower)?;
        crate::cluster::eventually("the member that was cut off serves", || async {
            Ok(returned.get("k/0").await?)
        })
        .await
        .map_err(|why| Failure::Broken(format!("{why:#}")))?;
        self.others_serve().await?;
        let after = client.status().await?;
        if lead(&after) != lead(&before) {
            return Err(Failure::Broken(format!(
                "a member that came back deposed the leader: term and leader were {:?} and are {:?}",
                lead(&before),
                lead(&after)
            )));
        }
        Ok(evidence)
    }

    /// One is away until the log that it needs is gone.
    async fn fall_behind(&mut self) -> Result<Evidence, Failure> {
        // More than twice what is kept.
        const ENTRIES: u64 = 75;
        let leader = self.cluster.client_of(self.leader().await?)?;
        let follower = self.follower().await?;
        let before = leader.status().await?.raft_index;
        self.cluster.kill(follower).await?;
        // Many writes may share an entry.
        while leader.status().await?.raft_index < before + ENTRIES {
            self.others_serve().await?;
        }
        // The log is looked at every second, and not for two seconds after the last snapshot.
        tokio::time::sleep(Duration::from_millis(4_500)).await;
        self.cluster.spawn(follower)?;
        let installed = crate::cluster::eventually("a snapshot is installed", || async {
            ensure!(
                self.cluster.has_said(follower, "installed a snapshot"),
                "the member that was away got no snapshot"
            );
            Ok(())
        });
        installed.await?;
        Ok(Evidence(format!(
            "{} was away and got a snapshot",
            self.cluster.name(follower)
        )))
    }

    /// One is behind; of the two that acknowledged writes without it, one is dead and the other has lost its disk. The two
    /// that are left must not form a quorum: what only the dead one knows was acknowledged.
    async fn wipe(&mut self) -> Result<Evidence, Failure> {
        /// Two election timeouts for each way an election can go.
        const ALONE: Duration = Duration::from_secs(6);
        /// Clients may still be about to count an answer that was on its way.
        const SETTLES: Duration = Duration::from_millis(500);
        let leader = self.leader().await?;
        let mut others = (0..self.cluster.len()).filter(|member| *member != leader);
        let (behind, wiped) = (
            others.next().context("there are three members")?,
            others.next().context("there are three members")?,
        );
        partition::cut(&self.cluster, behind, Way::Both)?;
        self.others_serve().await?;
        self.cluster.kill_all(&[leader, wiped]).await?;
        std::fs::remove_dir_all(self.cluster.data_dir(wiped)).context("wipe a disk")?;
        tokio::time::sleep(SETTLES).await;
        let written = self.load.written();
        partition::heal(&self.cluster, behind, Way::Both)?;
        self.cluster.spawn(wiped)?;
        // Nothing to wait for: that nothing happens is the claim.
        tokio::time::sleep(ALONE).await;
        let after = self.load.written();
        let was_refused = !self.cluster.runs(wiped);
        self.cluster.spawn(leader)?;
        if !was_refused {
            self.cluster.kill(wiped).await?;
        }
        self.cluster.leave(wiped);
        if after > written {
            return Err(Failure::Broken(format!(
                "{} writes were acknowledged by a member that is behind and one that was wiped",
                after - written
            )));
        }
        Ok(Evidence(format!(
            "{} was wiped while {} was behind, and {}",
            self.cluster.name(wiped),
            self.cluster.name(behind),
            match was_refused {
                true => "ended itself",
                false => "got no vote",
            }
        )))
    }
}
