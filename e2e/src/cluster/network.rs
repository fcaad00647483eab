//! A network of their own for the members of a cluster: each in a namespace, all on one bridge, the test beside them.
//!
//! Owns the names, the addresses and what is cut. A cut drops packets where they arrive, silently, as a broken switch
//! does, and in one direction at a time; the test still reaches every member. It counts what it dropped, so that a run
//! can show that its fault happened. Needs root.
//!
//! ```text
//!  test --veth-- [ coord-faults-N-switch: a bridge ] --veth-- [ coord-faults-N-m0 ]  198.18.N.10
//!                                                    --veth-- [ coord-faults-N-m1 ]  198.18.N.11
//! ```

use std::fs::{self, File};
use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use crate::local_kubernetes::packages;
use crate::local_kubernetes::run::{sh, succeeds};
use crate::netns;

/// Held while a number is in use. The system empties it with the namespaces themselves.
const LOCKS: &str = "/run/coord-faults";
/// Members one network has room for; what an earlier owner left is looked for up to here.
const MEMBERS_MAX: u8 = 9;
const INTERFACE: &str = "eth0";
/// The firewall table that holds a member's cuts.
const TABLE: &str = "inet coord_cut";

/// A bridge with members on it. Dropping it takes all of it down.
#[derive(Debug)]
pub struct Network {
    number: u8,
    members: u8,
    _lock: File,
}

impl Network {
    /// Makes a network without members, under a number that no other process uses.
    pub fn claim() -> Result<Self> {
        packages::install_for(&["ip", "nft"])?;
        fs::create_dir_all(LOCKS).with_context(|| format!("make {LOCKS}"))?;
        for number in 0..=u8::MAX {
            let path = format!("{LOCKS}/{number}");
            let lock = File::create(&path).with_context(|| format!("open {path}"))?;
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            let network = Self {
                number,
                members: 0,
                _lock: lock,
            };
            // A run that held the number and was killed could not remove it.
            network.remove()?;
            let switch = network.switch();
            netns::ensure(&switch)?;
            netns::ensure_bridge(&switch)?;
            let host = format!("198.18.{number}.1/24");
            netns::join_host(&switch, &network.host_link(), &host)?;
            return Ok(network);
        }
        bail!("all networks for fault runs are in use")
    }

    /// Adds a member's namespace, and returns its address.
    pub fn add(&mut self) -> Result<Ipv4Addr> {
        let member = self.members;
        if member >= MEMBERS_MAX {
            bail!("a network has room for {MEMBERS_MAX} members");
        }
        let address = self.address(member);
        let (switch, namespace) = (self.switch(), self.namespace(address));
        netns::join(
            &switch,
            &format!("m{member}"),
            &namespace,
            INTERFACE,
            &format!("{address}/24"),
        )?;
        self.members += 1;
        Ok(address)
    }

    /// The namespace of the member that has this address.
    #[must_use]
    pub fn namespace(&self, address: Ipv4Addr) -> String {
        let [.., last] = address.octets();
        format!("coord-faults-{}-m{}", self.number, last.wrapping_sub(10))
    }

    /// From now on nothing that `from` sends reaches `to`.
    pub fn cut(&self, from: Ipv4Addr, to: Ipv4Addr) -> Result<()> {
        let namespace = self.namespace(to);
        let nft = |words: &str| sh(&format!("ip netns exec {namespace} nft {words}"));
        nft(&format!("add table {TABLE}"))?;
        nft(&format!(
            "add chain {TABLE} input {{ type filter hook input priority 0 ; }}"
        ))?;
        nft(&format!(
            "add rule {TABLE} input ip saddr {from} counter drop"
        ))?;
        Ok(())
    }

    /// Undoes all cuts at this member, and returns how many packets they dropped.
    pub fn heal(&self, member: Ipv4Addr) -> Result<u64> {
        let namespace = self.namespace(member);
        if !succeeds(&format!("ip netns exec {namespace} nft list table {TABLE}")) {
            return Ok(0);
        }
        let rules = sh(&format!("ip netns exec {namespace} nft list table {TABLE}"))?;
        sh(&format!(
            "ip netns exec {namespace} nft delete table {TABLE}"
        ))?;
        Ok(dropped(&rules))
    }

    fn address(&self, member: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.number, 10 + member)
    }

    fn switch(&self) -> String {
        format!("coord-faults-{}-switch", self.number)
    }

    fn host_link(&self) -> String {
        format!("coordf{}", self.number)
    }

    fn remove(&self) -> Result<()> {
        netns::remove_host_link(&self.host_link())?;
        for member in 0..MEMBERS_MAX {
            let namespace = self.namespace(self.address(member));
            for id in netns::processes(&namespace)? {
                // Left by a run that was itself killed; it may be gone by now.
                let _ = Pid::from_raw(id).map(|id| kill_process(id, Signal::KILL));
            }
            netns::remove(&namespace)?;
        }
        netns::remove(&self.switch())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            // The next owner of the number tries again.
            eprintln!("the network of a fault run is still there: {error:#}");
        }
    }
}

/// The packets that all rules of a listing counted.
fn dropped(rules: &str) -> u64 {
    let words: Vec<_> = rules.split_whitespace().collect();
    words
        .windows(2)
        .filter(|pair| pair[0] == "packets")
        .filter_map(|pair| pair[1].parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_all_rules_are_counted() {
        let rules = "table inet coord_cut {\n chain input {\n type filter hook input priority filter; policy accept;\n \
                     ip saddr 198.18.0.10 counter packets 12 bytes 720 drop\n \
                     ip saddr 198.18.0.11 counter packets 30 bytes 1800 drop\n }\n}";
        assert_eq!(dropped(rules), 42);
        assert_eq!(dropped(""), 0);
    }
}
