//! Facts that a pass cannot see because they take time: since when a member is silent or behind. Kept by this process
//! only, so a restart of the operator starts its clocks anew.

use std::collections::{BTreeMap, BTreeSet};

use super::home::NodeAffinity;
use super::{Applied, NodeState, Observed, Refusal};
use crate::model::Ordinal;

/// Enough for every disk a cluster has at one time, many times over.
const AFFINITIES_MAX: usize = 64;

/// Facts that only show over several passes of one cluster. Kept by the process, never written down.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    caught_up: BTreeMap<u64, u32>,
    sick_since: BTreeMap<u64, i64>,
    home_gone_since: BTreeMap<Ordinal, i64>,
    unheard_since: BTreeMap<u64, i64>,
    podless_since: BTreeMap<Ordinal, i64>,
    down_since: BTreeMap<Ordinal, i64>,
    /// By PersistentVolume, whose affinity never changes.
    affinities: BTreeMap<String, Option<NodeAffinity>>,
    idle_since: Option<i64>,
    leaderless_since: Option<i64>,
    /// By container: its program never changes.
    versions: BTreeMap<String, String>,
    not_running_since: BTreeMap<Ordinal, i64>,
    applied: BTreeMap<String, Applied>,
    refusals: BTreeMap<String, Refusal>,
    /// Of the spec that the refusals are about.
    generation: Option<i64>,
}

/// Answers of "not yet" in a row that are asked again at once; the next ones are waited for, and told.
const PATIENT_REFUSALS: u32 = 3;
/// Seconds between two tries of a write that goes on being refused, at most.
const BACK_OFF_SECONDS_MAX: i64 = 60;

/// How a write failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The world moved on, or is not ready yet.
    Stale,
    /// Somebody must help: the same will be said for ever.
    Refused,
    /// The server failed or did not answer; whether it was done is not known.
    Unknown,
}

impl Memory {
    /// Takes in which spec is looked at. Writes refused for an earlier one are tried again at once: somebody has mended it.
    pub fn is_of_spec(&mut self, generation: Option<i64>) {
        if self.generation != generation {
            self.generation = generation;
            self.refusals.clear();
        }
    }

    /// Seconds for which passes have done nothing; `acted` says whether this one did something.
    pub fn idle_seconds(&mut self, acted: bool, now: i64) -> i64 {
        if acted {
            self.idle_since = None;
            return 0;
        }
        now - *self.idle_since.get_or_insert(now)
    }

    /// The version of the program in a container, if it has been asked before.
    pub(super) fn version(&self, container: &str) -> Option<String> {
        self.versions.get(container).cloned()
    }

    /// Keeps the version of the program in a container.
    pub(super) fn remember_version(&mut self, container: &str, version: &str) {
        // Old ones are of containers that are gone.
        if self.versions.len() >= AFFINITIES_MAX {
            self.versions.clear();
        }
        self.versions
            .insert(container.to_owned(), version.to_owned());
    }

    /// Seconds for which there has been no confirmed member list.
    pub fn leaderless_seconds(&mut self, has_list: bool, now: i64) -> i64 {
        if has_list {
            self.leaderless_since = None;
            return i64::MAX;
        }
        now - *self.leaderless_since.get_or_insert(now)
    }

    /// Takes in which members don't run now; returns those of which that has been so for `seconds`.
    pub(super) fn idle_for(
        &mut self,
        idle: &BTreeSet<Ordinal>,
        seconds: i64,
        now: i64,
    ) -> BTreeSet<Ordinal> {
        self.not_running_since.retain(|n, _| idle.contains(n));
        for n in idle {
            self.not_running_since.entry(*n).or_insert(now);
        }
        let since = self.not_running_since.iter();
        since
            .filter(|(_, since)| now - **since >= seconds)
            .map(|(n, _)| *n)
            .collect()
    }

    /// A child was applied.
    pub fn remember_applied(&mut self, key: &str, applied: Applied) {
        self.applied.insert(key.to_owned(), applied);
    }

    /// The write of that key was done.
    pub fn succeeded(&mut self, key: &str) {
        self.refusals.remove(key);
    }

    /// The write of that key was not done. Returns for how many times in a row.
    pub fn failed(&mut self, key: &str, message: String, failure: Failure, now: i64) -> u32 {
        let count = self.refusals.get(key).map_or(0, |before| before.count) + 1;
        let wait = match failure {
            Failure::Stale if count < PATIENT_REFUSALS => 0,
            Failure::Stale => 1 << (count - PATIENT_REFUSALS).min(6),
            Failure::Refused | Failure::Unknown => 3 << (count - 1).min(6),
        };
        let refusal = Refusal {
            message,
            count,
            until: now + BACK_OFF_SECONDS_MAX.min(wait),
            needs_help: failure == Failure::Refused,
        };
        self.refusals.insert(key.to_owned(), refusal);
        count
    }

    /// Writes that were refused and have not been done yet.
    pub fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.refusals.values()
    }

    /// Forgets refusals of what is not wanted any more.
    pub fn retain_refusals(&mut self, wanted: impl Fn(&str) -> bool) {
        self.refusals.retain(|key, _| wanted(key));
    }

    /// The node that a PersistentVolume is tied to, if that has been asked before.
    pub(super) fn affinity(&self, volume: &str) -> Option<Option<NodeAffinity>> {
        self.affinities.get(volume).cloned()
    }

    /// Keeps what a PersistentVolume is tied to.
    pub(super) fn remember_affinity(&mut self, volume: &str, affinity: Option<NodeAffinity>) {
        // Old ones are of disks that are gone.
        if self.affinities.len() >= AFFINITIES_MAX {
            self.affinities.clear();
        }
        self.affinities.insert(volume.to_owned(), affinity);
    }

    /// Takes this pass in, and completes `observed` with what the passes together say.
    pub fn remember(&mut self, observed: &mut Observed, caught_up: &BTreeSet<u64>, now: i64) {
        self.caught_up.retain(|id, _| caught_up.contains(id));
        for id in caught_up {
            *self.caught_up.entry(*id).or_default() += 1;
        }
        // Without a confirmed list nobody can be called sick; the clocks start again.
        let sick: BTreeSet<u64> = observed
            .membership
            .iter()
            .flat_map(|membership| &membership.members)
            .filter(|member| !observed.is_healthy(member))
            .map(|member| member.id)
            .collect();
        keep_time(&mut self.sick_since, sick, now);
        let gone: BTreeSet<Ordinal> = observed
            .volumes
            .iter()
            .filter(|(_, v)| v.home.as_ref().is_some_and(|h| h.state == NodeState::Gone))
            .map(|(n, _)| *n)
            .collect();
        keep_time(&mut self.home_gone_since, gone, now);
        // Behind is not unheard: a copy of everything may take longer than anybody should wait for a word.
        let members = observed.membership.iter().flat_map(|m| &m.members);
        let unheard = members.filter(|m| observed.answer_of(m).is_none());
        keep_time(
            &mut self.unheard_since,
            unheard.map(|m| m.id).collect(),
            now,
        );
        let sets = observed.sets.keys();
        let podless = sets.filter(|n| !observed.pods.contains_key(n));
        keep_time(&mut self.podless_since, podless.copied().collect(), now);
        let pods = observed.pods.iter();
        let down = pods.filter(|(_, pod)| !pod.running).map(|(n, _)| *n);
        keep_time(&mut self.down_since, down.collect(), now);
        observed.down_since = self.down_since.clone();
        observed.unheard_since = self.unheard_since.clone();
        observed.podless_since = self.podless_since.clone();
        observed.home_gone_since = self.home_gone_since.clone();
        observed.caught_up = self.caught_up.clone();
        observed.sick_since = self.sick_since.clone();
        self.applied
            .retain(|key, _| observed.children.contains_key(key));
        observed.applied = self.applied.clone();
        observed.refusals = self.refusals.clone();
        let has_list = observed.membership.is_some();
        self.leaderless_since = (!has_list).then(|| self.leaderless_since.unwrap_or(now));
        observed.leaderless_since = self.leaderless_since;
    }
}

/// Since when each has been so: those that are so now keep their time or begin it, all others lose it.
fn keep_time<K: Ord + Copy>(since: &mut BTreeMap<K, i64>, now_so: BTreeSet<K>, now: i64) {
    since.retain(|key, _| now_so.contains(key));
    for key in now_so {
        since.entry(key).or_insert(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_tried_again_at_once_when_the_spec_is_edited() {
        let mut memory = Memory::default();
        memory.is_of_spec(Some(1));
        for _ in 0..5 {
            memory.failed("StatefulSet demo-2", "no".to_owned(), Failure::Refused, 100);
        }
        memory.is_of_spec(Some(1));
        assert!(memory.refusals().all(|refusal| refusal.until > 130));
        assert_eq!(memory.refusals().count(), 1);
        memory.is_of_spec(Some(2));
        assert_eq!(memory.refusals().count(), 0);
    }
}
