//! The addresses of an instance: one `10.X.0.0/16` of its own. Pure.

use std::net::Ipv4Addr;

/// An IPv4 range, as `10.90.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first address.
    pub first: Ipv4Addr,
    /// The number of leading bits all its addresses share, 0 to 32.
    pub prefix: u8,
}

impl Range {
    /// Reads `10.1.0.0/16`, `10.1.2.3` (as a /32) and `default` (everything); `None` if it is none of these.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "default" {
            return Some(Self {
                first: Ipv4Addr::UNSPECIFIED,
                prefix: 0,
            });
        }
        let (first, prefix) = text.split_once('/').unwrap_or((text, "32"));
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
        Some(Self {
            first: first.parse().ok()?,
            prefix,
        })
    }

    /// True if the two share an address.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let shared = u32::from(self.prefix.min(other.prefix));
        let mask = u32::MAX.checked_shl(32 - shared).unwrap_or(0);
        (self.first.to_bits() ^ other.first.to_bits()) & mask == 0
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

/// The addresses of one instance; `X` below is its `second` octet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The octet that tells instances apart.
    pub second: u8,
}

impl Addresses {
    /// The octets to choose from, in order of preference.
    pub const CHOICES: std::ops::RangeInclusive<u8> = 90..=127;

    /// The first choice that nothing on the host uses, or `None` if all are taken.
    ///
    /// `used` are the host's own addresses and routes. A route wider than /16 (a VPN's `10.0.0.0/8`, the default route)
    /// takes nothing: ours is the more specific one and wins.
    #[must_use]
    pub fn choose(used: &[Range]) -> Option<Self> {
        Self::CHOICES
            .map(|second| Self { second })
            .find(|choice| choice.is_free(used))
    }

    /// True if nothing in `used` is in the way of these addresses.
    #[must_use]
    pub fn is_free(self, used: &[Range]) -> bool {
        let all = self.all();
        !used
            .iter()
            .any(|range| range.prefix >= 16 && range.overlaps(&all))
    }

    /// All of them.
    #[must_use]
    pub fn all(self) -> Range {
        self.range(0, 16)
    }

    /// The host's own address on the bridge.
    #[must_use]
    pub fn host(self) -> Ipv4Addr {
        self.address(0, 1)
    }

    /// The control plane's address; the API server listens on its port 6443.
    #[must_use]
    pub fn control_plane(self) -> Ipv4Addr {
        self.address(0, 2)
    }

    /// The address of node `index`, counted from 0.
    #[must_use]
    pub fn node(self, index: u8) -> Ipv4Addr {
        self.address(0, 11 + index)
    }

    /// The addresses of the pods on node `index`, counted from 0.
    #[must_use]
    pub fn node_pods(self, index: u8) -> Range {
        self.range(65 + index, 24)
    }

    /// The addresses of all pods.
    #[must_use]
    pub fn pods(self) -> Range {
        self.range(64, 18)
    }

    /// The addresses of Services.
    #[must_use]
    pub fn services(self) -> Range {
        self.range(128, 17)
    }

    /// The Service of the API server: Kubernetes gives it the first address.
    #[must_use]
    pub fn api_service(self) -> Ipv4Addr {
        self.address(128, 1)
    }

    /// The Service of CoreDNS.
    #[must_use]
    pub fn dns_service(self) -> Ipv4Addr {
        self.address(128, 10)
    }

    fn address(self, third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.second, third, fourth)
    }

    fn range(self, third: u8, prefix: u8) -> Range {
        Range {
            first: self.address(third, 0),
            prefix,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(text: &[&str]) -> Vec<Range> {
        text.iter()
            .map(|text| Range::parse(text).unwrap())
            .collect()
    }

    #[test]
    fn an_instance_takes_the_first_subnet_that_nothing_uses() {
        let second = |used: &[&str]| Addresses::choose(&ranges(used)).map(|a| a.second);
        assert_eq!(second(&[]), Some(90));
        assert_eq!(second(&["default", "10.0.0.0/8", "192.0.2.0/24"]), Some(90));
        assert_eq!(second(&["10.90.0.0/24"]), Some(91));
        assert_eq!(second(&["10.90.128.0/17", "10.91.7.7"]), Some(92));
        let all: Vec<_> = Addresses::CHOICES
            .map(|second| Range::parse(&format!("10.{second}.0.0/16")).unwrap())
            .collect();
        assert_eq!(Addresses::choose(&all), None);
    }

    #[test]
    fn nodes_pods_and_services_do_not_overlap() {
        let ours = Addresses { second: 90 };
        let nodes = Range::parse("10.90.0.0/24").unwrap();
        assert!(!nodes.overlaps(&ours.pods()));
        assert!(!nodes.overlaps(&ours.services()));
        assert!(!ours.pods().overlaps(&ours.services()));
        for index in 0..3 {
            assert!(ours.pods().overlaps(&ours.node_pods(index)));
        }
        assert!(!ours.node_pods(0).overlaps(&ours.node_pods(1)));
    }
}
