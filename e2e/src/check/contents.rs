//! The contents of a member at the end are those that the log leaves: nothing acknowledged is lost, nothing else is
//! there, and all members hold the same.

use std::collections::BTreeMap;

use coord_proto::etcd::mvccpb::Event;
use serde::{Deserialize, Serialize};

use super::{Violation, is_delete, kv, require, text};
use crate::history::Version;

/// All keys of one member at one revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// The member.
    pub member: usize,
    /// The revision at which it was read.
    pub revision: i64,
    /// Every key.
    pub keys: BTreeMap<String, Version>,
}

/// Checks one member against the log, which must begin with the store and reach the revision of the read.
pub fn check(contents: &Contents, log: &[Event]) -> Result<(), Violation> {
    let Contents {
        member,
        revision,
        keys,
    } = contents;
    let mut expected: BTreeMap<String, Version> = BTreeMap::new();
    let mut newest = 1;
    for event in log {
        let kv = kv(event)?;
        newest = kv.mod_revision;
        if kv.mod_revision > *revision {
            break;
        }
        if is_delete(event) {
            expected.remove(&text(&kv.key));
        } else {
            expected.insert(text(&kv.key), Version::from(kv));
        }
    }
    require!(
        newest >= *revision,
        "member {member} is at revision {revision}, but the log ends at {newest}"
    );
    for key in expected.keys().chain(keys.keys()) {
        let (log, found) = (expected.get(key), keys.get(key));
        require!(
            log == found,
            "member {member} has {found:?} under {key} at revision {revision}, the log has {log:?}"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use coord_proto::etcd::mvccpb::KeyValue;
    use coord_proto::etcd::mvccpb::event::EventType;

    use super::*;

    fn event(kind: EventType, key: &str, revision: i64) -> Event {
        let kv = KeyValue {
            key: key.to_owned().into(),
            value: "x".into(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: 0,
        };
        Event {
            r#type: kind.into(),
            kv: Some(kv),
            prev_kv: None,
        }
    }

    fn contents(revision: i64, keys: &[(&str, i64)]) -> Contents {
        let version = |revision| Version {
            value: "x".into(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
        };
        Contents {
            member: 0,
            revision,
            keys: keys
                .iter()
                .map(|(key, at)| ((*key).to_owned(), version(*at)))
                .collect(),
        }
    }

    fn log() -> [Event; 4] {
        [
            event(EventType::Put, "a", 2),
            event(EventType::Put, "b", 3),
            event(EventType::Delete, "a", 4),
            event(EventType::Put, "c", 5),
        ]
    }

    #[test]
    fn what_the_log_leaves_passes_at_each_revision() {
        check(&contents(3, &[("a", 2), ("b", 3)]), &log()).unwrap();
        check(&contents(4, &[("b", 3)]), &log()).unwrap();
        check(&contents(5, &[("b", 3), ("c", 5)]), &log()).unwrap();
    }

    #[test]
    fn a_lost_key_a_key_too_many_and_a_wrong_version_are_rejected() {
        check(&contents(5, &[("c", 5)]), &log()).unwrap_err();
        check(&contents(5, &[("a", 2), ("b", 3), ("c", 5)]), &log()).unwrap_err();
        check(&contents(5, &[("b", 2), ("c", 5)]), &log()).unwrap_err();
    }

    #[test]
    fn a_member_ahead_of_the_log_is_rejected() {
        check(&contents(6, &[("b", 3), ("c", 5)]), &log()).unwrap_err();
    }
}
