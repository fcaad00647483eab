//! Names, ports and URLs of a cluster's objects, and the way back from a name to its ordinal. Pure.

use super::Ordinal;

/// The port of clients, and of the HTTP health endpoints.
pub const CLIENT_PORT: u16 = 2379;
/// The port of the other members.
pub const PEER_PORT: u16 = 2380;

/// The name of a member and of its StatefulSet.
pub fn member(cluster: &str, ordinal: Ordinal) -> String {
    format!("{cluster}-{ordinal}")
}

/// The name of a member's only pod.
pub fn pod(cluster: &str, ordinal: Ordinal) -> String {
    format!("{cluster}-{ordinal}-0")
}

/// The name of a member's disk.
pub fn volume(cluster: &str, ordinal: Ordinal) -> String {
    format!("data-{cluster}-{ordinal}-0")
}

/// The name of the disk of the member called `member`.
pub fn volume_of(member: &str) -> String {
    format!("data-{member}-0")
}

/// The headless Service under which members find each other, ready or not.
pub fn peer_service(cluster: &str) -> String {
    format!("{cluster}-peers")
}

/// The Service for clients: voters that are ready.
pub fn client_service(cluster: &str) -> String {
    format!("{cluster}-client")
}

/// The ServiceAccount of the members. Not the cluster's own name: every namespace has an account called `default`.
pub fn service_account(cluster: &str) -> String {
    format!("{cluster}-member")
}

/// The DNS name of a member's pod.
pub fn host(cluster: &str, namespace: &str, ordinal: Ordinal) -> String {
    format!(
        "{}.{}.{namespace}.svc",
        pod(cluster, ordinal),
        peer_service(cluster)
    )
}

/// The URL under which other members reach this one. Its host is how the operator tells members apart.
pub fn peer_url(cluster: &str, namespace: &str, ordinal: Ordinal) -> String {
    format!("http://{}:{PEER_PORT}", host(cluster, namespace, ordinal))
}

/// The URL that a member tells clients.
pub fn client_url(cluster: &str, namespace: &str, ordinal: Ordinal) -> String {
    format!("http://{}:{CLIENT_PORT}", host(cluster, namespace, ordinal))
}

/// Where a member that waits to be added asks for the member list.
pub fn any_peer_url(cluster: &str, namespace: &str) -> String {
    format!(
        "http://{}.{namespace}.svc:{PEER_PORT}",
        peer_service(cluster)
    )
}

/// The member's number in a StatefulSet's name; `None` if it is not one of this cluster.
pub fn ordinal_of_member(cluster: &str, name: &str) -> Option<Ordinal> {
    let digits = name.strip_prefix(cluster)?.strip_prefix('-')?;
    // A leading zero or sign would make two names for one number.
    let ordinal: Ordinal = digits.parse().ok()?;
    (ordinal.to_string() == digits).then_some(ordinal)
}

/// The member's number in a pod's name.
pub fn ordinal_of_pod(cluster: &str, name: &str) -> Option<Ordinal> {
    ordinal_of_member(cluster, name.strip_suffix("-0")?)
}

/// The member's number in a disk's name.
pub fn ordinal_of_volume(cluster: &str, name: &str) -> Option<Ordinal> {
    ordinal_of_pod(cluster, name.strip_prefix("data-")?)
}

/// The member's number in a peer URL; `None` if the operator gave no member that host.
///
/// Scheme and port are no part of who a member is: either may change under it, as when peers begin to speak TLS.
pub fn ordinal_of_peer_url(cluster: &str, namespace: &str, url: &str) -> Option<Ordinal> {
    let authority = url.split_once("://")?.1.split('/').next()?;
    let its = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    let ordinal = ordinal_of_pod(cluster, its.split_once('.')?.0)?;
    (host(cluster, namespace, ordinal) == its).then_some(ordinal)
}

/// How a disk says for which CoordCluster it was made.
pub fn made_for(cluster: &str, namespace: &str) -> String {
    format!("{namespace}/{cluster}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_the_member() {
        assert_eq!(ordinal_of_member("demo", "demo-12"), Some(12));
        assert_eq!(ordinal_of_pod("demo", &pod("demo", 3)), Some(3));
        assert_eq!(ordinal_of_volume("demo", &volume("demo", 3)), Some(3));
        assert_eq!(
            ordinal_of_peer_url("demo", "ns", &peer_url("demo", "ns", 7)),
            Some(7)
        );
        for foreign in [
            "demo", "demo-", "demo-01", "demo-+1", "demo-x", "other-1", "demo-1-0",
        ] {
            assert_eq!(ordinal_of_member("demo", foreign), None, "{foreign}");
        }
    }

    /// Every namespace has a ServiceAccount `default`, which is nobody's to change.
    #[test]
    fn a_cluster_may_be_called_default() {
        assert_ne!(service_account("default"), "default");
    }

    #[test]
    fn a_member_is_its_host_whatever_scheme_and_port_it_is_reached_by() {
        for url in [
            "http://demo-1-0.demo-peers.ns.svc:2380",
            "https://demo-1-0.demo-peers.ns.svc:2380",
            "https://demo-1-0.demo-peers.ns.svc:12380/",
            "http://demo-1-0.demo-peers.ns.svc",
        ] {
            assert_eq!(ordinal_of_peer_url("demo", "ns", url), Some(1), "{url}");
        }
        for url in [
            "http://demo-1-0.demo-peers.other.svc:2380",
            "http://demo-1-0.other-peers.ns.svc:2380",
            "http://demo-01-0.demo-peers.ns.svc:2380",
            "http://10.0.0.1:2380",
            "http://[fd00::1]:2380",
            "demo-1-0.demo-peers.ns.svc:2380",
        ] {
            assert_eq!(ordinal_of_peer_url("demo", "ns", url), None, "{url}");
        }
    }
}
