use super::Observed;
use std::collections::{BTreeMap, BTreeSet};

/// What only shows over several passes of one cluster. Kept by the process, never written down.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    caught_up: BTreeMap<u64, u32>,
    sick_since: BTreeMap<u64, i64>,
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
        observed.caught_up = self.caught_up.clone();
        observed.sick_since = self.sick_since.clone();
    }
}
