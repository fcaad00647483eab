//! A member's identity, derived from the settings it was started with.
//!
//! Members of a static `--initial-cluster` must agree on all ids before they have spoken, so ids come from peer URLs and
//! the token, as in etcd: the first eight bytes of a SHA-1.

use sha1::{Digest, Sha1};

use crate::command::{ClusterId, MemberId};

/// The id of a member of a static initial cluster.
pub fn member_id(peer_urls: &[String], token: &str) -> MemberId {
    let mut urls: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    for url in urls {
        hash.update(url.as_bytes());
    }
    hash.update(token.as_bytes());
    MemberId(first_eight(hash))
}

/// The id of the cluster that these members form.
pub fn cluster_id(members: &[MemberId]) -> ClusterId {
    let mut ids: Vec<u64> = members.iter().map(|id| id.0).collect();
    ids.sort_unstable();
    let mut hash = Sha1::new();
    for id in ids {
        hash.update(id.to_be_bytes());
    }
    ClusterId(first_eight(hash))
}

fn first_eight(hash: Sha1) -> u64 {
    let digest = hash.finalize();
    let bytes: [u8; 8] = digest[..8].try_into().expect("a SHA-1 has 20 bytes");
    // 0 means nobody.
    u64::from_be_bytes(bytes).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn an_id_does_not_depend_on_the_order_of_urls() {
        let one = member_id(&urls(&["http://a:1", "http://b:1"]), "t");
        assert_eq!(one, member_id(&urls(&["http://b:1", "http://a:1"]), "t"));
        assert_ne!(one, member_id(&urls(&["http://a:1", "http://b:1"]), "u"));
    }

    #[test]
    fn the_cluster_id_depends_on_all_members() {
        let [a, b] = ["a", "b"].map(|host| member_id(&urls(&[&format!("http://{host}:1")]), "t"));
        assert_eq!(cluster_id(&[a, b]), cluster_id(&[b, a]));
        assert_ne!(cluster_id(&[a]), cluster_id(&[a, b]));
    }

    #[test]
    fn ids_are_those_of_etcd() {
        // The default name of an etcd started without flags.
        let member = member_id(&urls(&["http://localhost:2380"]), "etcd-cluster");
        assert_eq!(
            (member.0, cluster_id(&[member]).0),
            (0x8e9e_05c5_2164_694d, 0xcdf8_1819_4e3a_8c32)
        );
    }
}
