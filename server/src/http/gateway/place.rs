//! The method that a path calls.

use std::collections::HashMap;
use std::sync::LazyLock;

use coord_proto::methods::{METHODS, Method};
use http::Method as Verb;
use prost_reflect::{DescriptorPool, MessageDescriptor};

/// The beginning of all paths.
const ROOT: &str = "/v3/";
/// Their beginning before etcd 3.4; still taken.
const OLD_ROOT: &str = "/v3beta/";

/// Read when the first request comes: most members never see one.
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(coord_proto::DESCRIPTORS).expect("our own definitions can be read")
});

static PLACES: LazyLock<HashMap<&'static str, &'static Method>> = LazyLock::new(|| {
    let posts = |method: &'static Method| method.posts.iter().map(move |path| (*path, method));
    METHODS.iter().flat_map(posts).collect()
});

/// A method and its messages.
#[derive(Clone)]
pub(in crate::http) struct Place {
    pub(in crate::http) method: &'static Method,
    pub(super) request: MessageDescriptor,
    pub(super) response: MessageDescriptor,
}

/// The target of a request.
pub(in crate::http) enum Found {
    Place(Place),
    /// A place, but one that is only posted to.
    WrongVerb,
    Nothing,
}

/// Whether a path is the gateway's, there or not.
pub(in crate::http) fn is_below(path: &str) -> bool {
    path.starts_with(ROOT) || path.starts_with(OLD_ROOT)
}

/// The target of a path.
pub(in crate::http) fn find(verb: &Verb, path: &str) -> Found {
    let method = match path.strip_prefix(OLD_ROOT) {
        Some(rest) => PLACES.get(format!("{ROOT}{rest}").as_str()),
        None => PLACES.get(path),
    };
    match method {
        Some(method) if verb == Verb::POST => place(method).map_or(Found::Nothing, Found::Place),
        Some(_) => Found::WrongVerb,
        None => Found::Nothing,
    }
}

fn place(method: &'static Method) -> Option<Place> {
    let service = POOL.get_service_by_name(method.service)?;
    let found = service
        .methods()
        .find(|found| found.name() == method.name)?;
    Some(Place {
        method,
        request: found.input(),
        response: found.output(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_etcd_but_one_has_a_place() {
        let mut without = Vec::new();
        for method in METHODS {
            for path in method.posts {
                let Found::Place(found) = find(&Verb::POST, path) else {
                    panic!("{path} is not there")
                };
                assert_eq!(found.method.path, method.path);
            }
            if method.posts.is_empty() && !method.service.starts_with("grpc.") {
                without.push(method.path);
            }
        }
        // etcd has none for it either.
        assert_eq!(without, ["/etcdserverpb.KV/RangeStream"]);
    }

    #[test]
    fn paths_are_found_by_their_old_root_and_only_when_posted_to() {
        let called = |verb, path| match find(&verb, path) {
            Found::Place(place) => place.method.name,
            Found::WrongVerb => "wrong verb",
            Found::Nothing => "nothing",
        };
        assert_eq!(called(Verb::POST, "/v3beta/kv/range"), "Range");
        assert_eq!(called(Verb::POST, "/v3/kv/lease/leases"), "LeaseLeases");
        assert_eq!(called(Verb::GET, "/v3/kv/range"), "wrong verb");
        for path in ["/v3/", "/v3/kv/range/", "/v3/kv/rangestream", "/v2/keys"] {
            assert_eq!(called(Verb::POST, path), "nothing", "{path}");
        }
    }
}
