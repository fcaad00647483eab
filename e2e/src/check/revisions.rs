//! The order that revisions claim, taken at its word and compared with every answer: linear in the history's length.
//!
//! It needs the log: every event from the first revision on, as one watcher of everything was sent it. It finds
//! quicker, and across keys, a part of what [`linear`](super::linear) finds without trusting revisions.
//! Keys that a lease holds may go without a call: all of one lease at once, and none comes under it afterwards.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use coord_proto::etcd::mvccpb::Event;

use super::{Violation, is_delete, kv, require, text};
use crate::history::{Call, Outcome, Reply, Request, Version};

/// Checks a history against the log of all its keys, in order of revision. Keys in it are changed by its calls alone, and by
/// the end of a lease.
///
/// `newest` is the revision up to which the log is complete: changes of other keys may come after its last event.
pub fn check(history: &[Call], log: &[Event], newest: i64) -> Result<(), Violation> {
    let mut replayed = Replayed::new(log)?;
    replayed.newest = replayed.newest.max(newest);
    writes_are_in_the_log(history, &replayed)?;
    the_log_has_nothing_else(history, &replayed)?;
    reads_agree_with_the_log(history, &replayed)?;
    revisions_keep_real_time(history, &replayed)
}

/// Each key's versions by revision; `None` is a deletion.
struct Replayed {
    keys: HashMap<String, BTreeMap<i64, Option<Version>>>,
    /// The revision of each value, all of which differ.
    values: HashMap<String, i64>,
    newest: i64,
    /// Deletions of keys that a lease held, by key and revision.
    of_leases: HashMap<(String, i64), Freed>,
    /// Every put under a lease: lease, revision, key.
    attached: Vec<(i64, i64, String)>,
}

/// The deletion of a key, as its lease sees it.
struct Freed {
    lease: i64,
    /// Keys that it still holds after that revision: none, if it was its end.
    left: Vec<String>,
}

/// The keys that leases hold, while the log is replayed.
#[derive(Default)]
struct Holding {
    lease_of: HashMap<String, i64>,
    keys_of: HashMap<i64, BTreeSet<String>>,
    /// Deleted at the revision that is being replayed, with the lease that held it.
    deleted: Vec<(String, i64)>,
}

impl Holding {
    fn put(&mut self, key: &str, lease: i64) {
        self.free(key);
        if lease != 0 {
            self.lease_of.insert(key.to_owned(), lease);
            self.keys_of
                .entry(lease)
                .or_default()
                .insert(key.to_owned());
        }
    }

    fn delete(&mut self, key: &str) {
        if let Some(lease) = self.free(key) {
            self.deleted.push((key.to_owned(), lease));
        }
    }

    fn free(&mut self, key: &str) -> Option<i64> {
        let lease = self.lease_of.remove(key)?;
        if let Some(keys) = self.keys_of.get_mut(&lease) {
            keys.remove(key);
        }
        Some(lease)
    }

    /// All changes of a revision are through.
    fn end(&mut self, revision: i64, of_leases: &mut HashMap<(String, i64), Freed>) {
        for (key, lease) in self.deleted.drain(..) {
            let left = self.keys_of.get(&lease).into_iter().flatten();
            let freed = Freed {
                lease,
                left: left.cloned().collect(),
            };
            of_leases.insert((key, revision), freed);
        }
    }
}

impl Replayed {
    fn new(log: &[Event]) -> Result<Self, Violation> {
        let mut replayed = Self {
            keys: HashMap::new(),
            values: HashMap::new(),
            newest: 1,
            of_leases: HashMap::new(),
            attached: Vec::new(),
        };
        let mut holding = Holding::default();
        for event in log {
            let kv = kv(event)?;
            let (key, revision) = (text(&kv.key), kv.mod_revision);
            require!(
                revision >= replayed.newest,
                "the log goes from revision {} to {revision}",
                replayed.newest
            );
            if revision > replayed.newest {
                holding.end(replayed.newest, &mut replayed.of_leases);
            }
            replayed.newest = revision;
            if is_delete(event) {
                holding.delete(&key);
            } else {
                holding.put(&key, kv.lease);
                let attached = (kv.lease, revision, key.clone());
                replayed
                    .attached
                    .extend((kv.lease != 0).then_some(attached));
            }
            let version = (!is_delete(event)).then(|| Version::from(kv));
            let before = replayed.at(&key, i64::MAX);
            match (&version, before) {
                (None, None) => require!(false, "{key} is deleted at {revision} but was not there"),
                (None, Some(_)) => {}
                (Some(now), before) => {
                    let (created, number) =
                        before.map_or((revision, 1), |old| (old.create_revision, old.version + 1));
                    require!(
                        (now.create_revision, now.version) == (created, number),
                        "{key} at {revision} is {now:?}, which does not follow from {before:?}"
                    );
                    let again = replayed.values.insert(now.value.clone(), revision);
                    require!(
                        again.is_none(),
                        "{:?} was written at {again:?} and at {revision}",
                        now.value
                    );
                }
            }
            let earlier = replayed
                .keys
                .entry(key.clone())
                .or_default()
                .insert(revision, version);
            require!(earlier.is_none(), "{key} changes twice at {revision}");
        }
        holding.end(replayed.newest, &mut replayed.of_leases);
        Ok(replayed)
    }

    fn at(&self, key: &str, revision: i64) -> Option<&Version> {
        self.keys
            .get(key)?
            .range(..=revision)
            .next_back()?
            .1
            .as_ref()
    }

    /// Whether the key's change at exactly this revision was a deletion.
    fn is_deleted_at(&self, key: &str, revision: i64) -> bool {
        self.keys
            .get(key)
            .and_then(|versions| versions.get(&revision))
            .is_some_and(Option::is_none)
    }
}

fn writes_are_in_the_log(history: &[Call], log: &Replayed) -> Result<(), Violation> {
    for call in history {
        let Outcome::Done { revision, reply } = &call.outcome else {
            continue;
        };
        match (&call.request, reply) {
            (Request::Put { key, value }, Reply::Put)
            | (Request::Swap { key, value, .. }, Reply::Swapped) => {
                let found = log.at(key, *revision);
                let is_there = found
                    .is_some_and(|found| found.value == *value && found.mod_revision == *revision);
                require!(
                    is_there,
                    "acknowledged, but the log has {found:?} there: {call:?}"
                );
                if let Request::Swap { expected, .. } = call.request {
                    let before = log
                        .at(key, revision - 1)
                        .map_or(0, |before| before.mod_revision);
                    require!(
                        before == expected,
                        "swapped, but the key was at {before}: {call:?}"
                    );
                }
            }
            (Request::Delete { key }, Reply::Deleted(true)) => {
                require!(
                    log.is_deleted_at(key, *revision),
                    "acknowledged, but not in the log: {call:?}"
                );
            }
            _ => {}
        }
    }
    Ok(())
}

fn the_log_has_nothing_else(history: &[Call], log: &Replayed) -> Result<(), Violation> {
    let mut writes = HashSet::new();
    let mut deletes: HashSet<(&str, i64)> = HashSet::new();
    let mut unknown_deletes: HashMap<&str, usize> = HashMap::new();
    for call in history {
        match (&call.request, &call.outcome) {
            (Request::Put { value, .. }, _)
            | (
                Request::Swap { value, .. },
                Outcome::Unknown
                | Outcome::Done {
                    reply: Reply::Swapped,
                    ..
                },
            ) => {
                writes.insert(value.as_str());
            }
            (Request::Delete { key }, Outcome::Unknown) => {
                *unknown_deletes.entry(key).or_default() += 1
            }
            (
                Request::Delete { key },
                Outcome::Done {
                    revision,
                    reply: Reply::Deleted(true),
                },
            ) => {
                deletes.insert((key, *revision));
            }
            (Request::Get { .. } | Request::Swap { .. } | Request::Delete { .. }, _) => {}
        }
    }
    let mut ended: HashMap<i64, i64> = HashMap::new();
    for (key, versions) in &log.keys {
        for (revision, version) in versions {
            match version {
                Some(version) => require!(
                    writes.contains(version.value.as_str()),
                    "{key} has {:?} at {revision}, which nobody can have written",
                    version.value
                ),
                None if deletes.contains(&(key.as_str(), *revision)) => {}
                None => {
                    if let Some(Freed { lease, left }) =
                        log.of_leases.get(&(key.clone(), *revision))
                    {
                        require!(
                            left.is_empty(),
                            "lease {lease} ended at {revision} with {key}, and still holds {left:?}"
                        );
                        let before = *ended.entry(*lease).or_insert(*revision);
                        require!(
                            before == *revision,
                            "lease {lease} ended at {before} and at {revision}"
                        );
                        continue;
                    }
                    let left = unknown_deletes
                        .get_mut(key.as_str())
                        .filter(|left| **left > 0);
                    let Some(left) = left else {
                        return Err(Violation(format!(
                            "{key} is deleted at {revision}, which nobody can have done"
                        )));
                    };
                    *left -= 1;
                }
            }
        }
    }
    for (lease, revision, key) in &log.attached {
        let end = ended.get(lease);
        require!(
            end.is_none_or(|end| revision < end),
            "{key} is put at {revision} under lease {lease}, which ended at {end:?}"
        );
    }
    Ok(())
}

fn reads_agree_with_the_log(history: &[Call], log: &Replayed) -> Result<(), Violation> {
    for call in history {
        let Outcome::Done {
            revision,
            reply: Reply::Found(found) | Reply::NotSwapped(found),
        } = &call.outcome
        else {
            continue;
        };
        require!(
            *revision <= log.newest,
            "read at {revision}, but the log ends at {}: {call:?}",
            log.newest
        );
        let expected = log.at(call.request.key(), *revision);
        require!(
            found.as_ref() == expected,
            "the log has {expected:?} at {revision}: {call:?}"
        );
    }
    Ok(())
}

/// A call that ended before another began is not after it in the order of revisions.
fn revisions_keep_real_time(history: &[Call], log: &Replayed) -> Result<(), Violation> {
    let mut by_begin: Vec<&Call> = history
        .iter()
        .filter(|call| !is_serializable(call))
        .collect();
    by_begin.sort_by_key(|call| call.began);
    let mut by_end: Vec<(Duration, i64)> = history
        .iter()
        .filter(|call| !is_serializable(call))
        .filter_map(|call| match call.outcome {
            Outcome::Done { revision, .. } => Some((call.ended, revision)),
            Outcome::Unknown => None,
        })
        .collect();
    by_end.sort_unstable();
    let mut ended = by_end.into_iter().peekable();
    let mut newest = 0;
    for call in by_begin {
        while let Some((_, revision)) = ended.next_if(|(ended, _)| *ended < call.began) {
            newest = newest.max(revision);
        }
        let Some((revision, is_change)) = revision_of(call, log) else {
            continue;
        };
        let is_later = if is_change {
            revision > newest
        } else {
            revision >= newest
        };
        require!(
            is_later,
            "is at revision {revision}, though {newest} was answered before it began: {call:?}"
        );
    }
    Ok(())
}

fn is_serializable(call: &Call) -> bool {
    matches!(
        call.request,
        Request::Get {
            is_serializable: true,
            ..
        }
    )
}

/// Where a call is in the order, and whether it is a change; `None` if it never happened or cannot be told.
fn revision_of(call: &Call, log: &Replayed) -> Option<(i64, bool)> {
    match (&call.outcome, &call.request) {
        (Outcome::Done { revision, reply }, _) => {
            let is_change = match reply {
                Reply::Put | Reply::Swapped | Reply::Deleted(true) => true,
                Reply::Found(_) | Reply::NotSwapped(_) | Reply::Deleted(false) => false,
            };
            Some((*revision, is_change))
        }
        (Outcome::Unknown, Request::Put { value, .. } | Request::Swap { value, .. }) => {
            log.values.get(value).map(|revision| (*revision, true))
        }
        (Outcome::Unknown, Request::Get { .. } | Request::Delete { .. }) => None,
    }
}

#[cfg(test)]
mod tests;
