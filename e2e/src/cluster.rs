//! Coord clusters as tests see them: however one runs, a test asks the same things of it.
//!
//! [`Cluster`] owns what members have in common (names, addresses, flags, data directories); [`process`] runs one as a
//! program, [`in_process`] as a thread of the test. [`claims`] runs one test body on several kinds.
//! With `COORD_ORACLE=/path/to/etcd` every member is that program: what holds there is what a client may rely on.

pub mod address;
pub mod api_faults;
pub mod claims;
pub mod files;
pub mod in_process;
pub mod kubernetes;
mod lives;
pub mod network;
pub mod operator;
pub mod process;
mod waiting;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};

use crate::clients::etcd::Client;
use address::Address;
use in_process::Thread;
use network::Network;
use process::{Process, Program};
pub use waiting::{eventually, within};

/// How members run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One member on a thread of this process.
    InProcess,
    /// This number of members, each a program.
    Processes(usize),
    /// This number of members, each a program in a network namespace of its own, so that they can be cut off. Needs
    /// root.
    Networked(usize),
}

/// Flags beyond those every member gets, as name and value.
pub type Flags<'a> = &'a [(&'a str, &'a str)];

/// A cluster that ends, with all it stored, when it is dropped.
pub struct Cluster {
    kind: Kind,
    members: Vec<Member>,
    /// After the members: they end before it does.
    network: Option<Network>,
    program: Program,
    token: String,
    flags: Vec<(String, String)>,
    directory: tempfile::TempDir,
}

struct Member {
    name: String,
    address: Address,
    /// The command line, the same at every start of this member.
    words: Vec<String>,
    running: Option<Running>,
}

enum Running {
    Process(Process),
    Thread(Thread),
}

/// Where a new member stands: see [`Cluster::prepare`].
pub struct Prepared {
    /// The peer URL that the cluster is told before the member starts.
    pub peer_url: String,
    name: String,
    address: Address,
}

impl Cluster {
    /// Starts a cluster and returns once every member serves requests.
    pub async fn start(kind: Kind) -> Result<Self> {
        Self::start_with(kind, &[]).await
    }

    /// As [`Cluster::start`], with more flags for every member.
    pub async fn start_with(kind: Kind, flags: Flags<'_>) -> Result<Self> {
        let mut cluster = Self::new(kind, flags)?;
        for index in 0..cluster.members.len() {
            cluster.spawn(index)?;
        }
        for index in 0..cluster.members.len() {
            cluster.ready(index).await?;
        }
        Ok(cluster)
    }

    /// A cluster of which no member runs yet.
    pub fn new(kind: Kind, flags: Flags<'_>) -> Result<Self> {
        let count = match kind {
            Kind::InProcess => 1,
            Kind::Processes(count) | Kind::Networked(count) => count,
        };
        let network = match kind {
            Kind::InProcess | Kind::Processes(_) => None,
            Kind::Networked(_) => Some(Network::claim()?),
        };
        // Unique per cluster, so that members that reach a wrong one are refused.
        static CLUSTERS: AtomicU32 = AtomicU32::new(0);
        let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let mut cluster = Self {
            kind,
            members: Vec::new(),
            network,
            program: Program::default(),
            token: format!("test-{}-{number}", std::process::id()),
            flags: flags
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            directory: tempfile::Builder::new().prefix("coord-").tempdir()?,
        };
        let prepared: Vec<_> = (0..count)
            .map(|index| cluster.prepare(&format!("m{index}")))
            .collect::<Result<_>>()?;
        let initial = initial_cluster(prepared.iter());
        for prepared in prepared {
            let words = cluster.words(&prepared, &initial, "new");
            let Prepared { name, address, .. } = prepared;
            cluster.members.push(Member {
                name,
                address,
                words,
                running: None,
            });
        }
        Ok(cluster)
    }

    /// An address for one more member called `name`; tell the cluster its peer URL, then [`Cluster::join`].
    pub fn prepare(&mut self, name: &str) -> Result<Prepared> {
        let address = match &mut self.network {
            Some(network) => Address::of(network.add()?),
            None => Address::claim()?,
        };
        Ok(Prepared {
            peer_url: address.peer_url(),
            name: name.to_owned(),
            address,
        })
    }

    /// Sets the program that members run from their next start on.
    pub fn set_program(&mut self, program: Program) {
        self.program = program;
    }

    /// Starts a member that joins the cluster and returns its index, ready or not.
    pub fn join(&mut self, prepared: Prepared) -> Result<usize> {
        let old = self
            .members
            .iter()
            .map(|member| format!("{}={}", member.name, member.address.peer_url()));
        let initial: Vec<_> = old
            .chain([format!("{}={}", prepared.name, prepared.peer_url)])
            .collect();
        let words = self.words(&prepared, &initial.join(","), "existing");
        let Prepared { name, address, .. } = prepared;
        self.members.push(Member {
            name,
            address,
            words,
            running: None,
        });
        let index = self.members.len() - 1;
        self.spawn(index)?;
        Ok(index)
    }

    /// One more flag for a member, from its next start on; of two the last one counts.
    pub fn set_flag(&mut self, index: usize, name: &str, value: &str) {
        self.members[index].words.push(format!("--{name}={value}"));
    }

    /// Drops a stopped member from this driver, so that [`Cluster::join`] no longer names it.
    ///
    /// The indexes of later members move down by one.
    pub fn forget(&mut self, index: usize) {
        assert!(
            self.members[index].running.is_none(),
            "stop a member before it is forgotten"
        );
        self.members.remove(index);
    }

    /// How its members run.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The number of members, running or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether it has no members, which no cluster of this driver is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Where clients reach a member.
    #[must_use]
    pub fn endpoint(&self, index: usize) -> String {
        self.members[index].address.client_url()
    }

    /// Where members reach a member.
    #[must_use]
    pub fn peer_endpoint(&self, index: usize) -> String {
        self.members[index].address.peer_url()
    }

    /// Where clients reach the cluster.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        (0..self.len()).map(|index| self.endpoint(index)).collect()
    }

    /// A client of all members.
    pub fn client(&self) -> Result<Client> {
        Client::new(&self.endpoints())
    }

    /// A client of one member.
    pub fn client_of(&self, index: usize) -> Result<Client> {
        Client::new(&[self.endpoint(index)])
    }

    /// The name of a member.
    #[must_use]
    pub fn name(&self, index: usize) -> &str {
        &self.members[index].name
    }

    /// Where a member keeps its data.
    #[must_use]
    pub fn data_dir(&self, index: usize) -> PathBuf {
        self.data_dir_of(&self.members[index].name)
    }

    /// A folder that lives as long as the cluster.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// From now on nothing that member `from` sends reaches member `to`. Only where members have a network.
    pub fn cut(&self, from: usize, to: usize) -> Result<()> {
        let (from, to) = (self.ip(from), self.ip(to));
        self.network()?.cut(from, to)
    }

    /// Undoes all cuts towards this member; returns how many packets they dropped.
    pub fn heal(&self, index: usize) -> Result<u64> {
        self.network()?.heal(self.ip(index))
    }

    fn ip(&self, index: usize) -> std::net::Ipv4Addr {
        self.members[index].address.ip()
    }

    fn network(&self) -> Result<&Network> {
        let network = self.network.as_ref();
        network.context("only members with a network can be cut off")
    }

    /// The member that leads, as the members that answer agree; waits until there is one.
    pub async fn leader(&self) -> Result<usize> {
        let mut clients = Vec::new();
        for (index, member) in self.members.iter().enumerate() {
            if member.running.is_some() {
                clients.push((index, self.client_of(index)?));
            }
        }
        eventually("one leader that all running members name", || async {
            let mut named = None;
            let mut leader = None;
            for (index, client) in &clients {
                let status = client.status().await?;
                ensure!(status.leader != 0, "member {index} knows no leader");
                ensure!(
                    *named.get_or_insert(status.leader) == status.leader,
                    "members name different leaders"
                );
                let header = status.header.context("status has a header")?;
                if header.member_id == status.leader {
                    leader = Some(*index);
                }
            }
            leader.context("the leader does not run here")
        })
        .await
    }

    /// A member that does not lead.
    pub async fn follower(&self) -> Result<usize> {
        let leader = self.leader().await?;
        (0..self.len())
            .find(|index| *index != leader && self.members[*index].running.is_some())
            .context("a follower runs")
    }

    fn words(&self, prepared: &Prepared, initial_cluster: &str, state: &str) -> Vec<String> {
        let Prepared {
            peer_url,
            name,
            address,
        } = prepared;
        let client_url = address.client_url();
        let data_dir = self.data_dir_of(name);
        let own = [
            ("name", name.as_str()),
            (
                "data-dir",
                data_dir
                    .to_str()
                    .expect("temporary folders have UTF-8 names"),
            ),
            ("listen-client-urls", &client_url),
            ("advertise-client-urls", &client_url),
            ("listen-peer-urls", peer_url),
            ("initial-advertise-peer-urls", peer_url),
            ("initial-cluster", initial_cluster),
            ("initial-cluster-state", state),
            ("initial-cluster-token", &self.token),
        ];
        let more = self
            .flags
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        own.into_iter()
            .chain(more)
            .map(|(name, value)| format!("--{name}={value}"))
            .collect()
    }

    fn data_dir_of(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

fn initial_cluster<'a>(members: impl Iterator<Item = &'a Prepared>) -> String {
    let pairs: Vec<_> = members
        .map(|member| format!("{}={}", member.name, member.peer_url))
        .collect();
    pairs.join(",")
}
