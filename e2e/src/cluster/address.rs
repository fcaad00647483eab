//! An address for each member: on the loopback interface, unless the cluster has a network of its own.
//!
//! Members have an address of their own (127.x.y.z) with etcd's usual ports on it. A free port of 127.0.0.1 may be
//! taken by an outgoing connection before its member starts, or while it is down.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Held open by the owner of an address, and listened on by nobody else.
const CLAIM_PORT: u16 = 2378;
const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

/// An address that no other test uses while this value lives.
#[derive(Debug)]
pub struct Address {
    ip: Ipv4Addr,
    _claim: Option<TcpListener>,
}

impl Address {
    /// Claims an address, against other processes too.
    pub fn claim() -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            // Tests of other processes mostly start elsewhere; where they do not, the claim decides.
            let number = NEXT
                .fetch_add(1, Ordering::Relaxed)
                .wrapping_add(std::process::id() << 8);
            let [_, a, b, c] = number.to_be_bytes();
            // 64 and up stays clear of 127.0.0.1 and of what resolvers use.
            let ip = Ipv4Addr::new(127, 64 | (a & 63), b, c.max(1));
            match TcpListener::bind((ip, CLAIM_PORT)) {
                Ok(claim) => {
                    return Ok(Self {
                        ip,
                        _claim: Some(claim),
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// An address that somebody else has claimed.
    #[must_use]
    pub fn of(ip: Ipv4Addr) -> Self {
        Self { ip, _claim: None }
    }

    /// The bare address.
    #[must_use]
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// Where clients connect.
    #[must_use]
    pub fn client_url(&self) -> String {
        format!("http://{}:{CLIENT_PORT}", self.ip)
    }

    /// Where members connect.
    #[must_use]
    pub fn peer_url(&self) -> String {
        format!("http://{}:{PEER_PORT}", self.ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_claims_at_once_differ() {
        let claims: Vec<_> = (0..20).map(|_| Address::claim().unwrap()).collect();
        let mut ips: Vec<_> = claims.iter().map(|claim| claim.ip).collect();
        ips.sort();
        ips.dedup();
        assert_eq!(ips.len(), claims.len());
        assert!(ips.iter().all(Ipv4Addr::is_loopback));
    }
}
