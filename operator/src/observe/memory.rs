//! What a pass cannot see because it takes time: since when a member is silent or behind. Kept by this process only, so
//! a restart of the operator starts its clocks anew.

use super::home::Tie;
use super::{HomeState, Observed, Ordinal};
use std::collections::{BTreeMap, BTreeSet};

/// Enough for every disk a cluster has at one time, many times over.
const TIES_MAX: usize = 64;

/// What only shows over several passes of one cluster. Kept by the process, never written down.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    caught_up: BTreeMap<u64, u32>,
    sick_since: BTreeMap<u64, i64>,
    home_gone_since: BTreeMap<Ordinal, i64>,
    /// By PersistentVolume, whose affinity never changes.
    ties: BTreeMap<String, Option<Tie>>,
    idle_since: Option<i64>,
}

impl Memory {
    /// Seconds for which passes have done nothing; `acted` says whether this one did something.
    pub fn idle_seconds(&mut self, acted: bool, now: i64) -> i64 {
        if acted {
            self.idle_since = None;
            return 0;
        }
        now - *self.idle_since.get_or_insert(now)
    }

    /// What a PersistentVolume is tied to, if that has been asked before.
    pub(super) fn tie(&self, volume: &str) -> Option<Option<Tie>> {
        self.ties.get(volume).cloned()
    }

    /// Keeps what a PersistentVolume is tied to.
    pub(super) fn remember_tie(&mut self, volume: &str, tie: Option<Tie>) {
        // Old ones are of disks that are gone.
        if self.ties.len() >= TIES_MAX {
            self.ties.clear();
        }
        self.ties.insert(volume.to_owned(), tie);
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
        self.sick_since.retain(|id, _| sick.contains(id));
        for id in sick {
            self.sick_since.entry(id).or_insert(now);
        }
        let gone: BTreeSet<Ordinal> = observed
            .volumes
            .iter()
            .filter(|(_, v)| v.home.as_ref().is_some_and(|h| h.state == HomeState::Gone))
            .map(|(n, _)| *n)
            .collect();
        self.home_gone_since.retain(|n, _| gone.contains(n));
        for n in gone {
            self.home_gone_since.entry(n).or_insert(now);
        }
        observed.home_gone_since = self.home_gone_since.clone();
        observed.caught_up = self.caught_up.clone();
        observed.sick_since = self.sick_since.clone();
    }
}
