//! One range, slice by slice: keys visited, sorted as they come, counted.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::{Moment, pair_bytes};
use crate::command::{
    Fault, KeyValue, Keys, Order, Range, RangeFilter, RangeResponse, Revision, SortTarget,
};
use crate::mvcc::{AsOf, Budget, Counting, Mvcc, Span, Version};
use crate::state::ahead::Naming;

/// Keys as of a revision. Parts of one range follow each other and do not overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::state) struct Part {
    pub(in crate::state) keys: Keys,
    pub(in crate::state) at: Revision,
}

/// A range on its way. Holds no more pairs than it may answer.
#[derive(Debug)]
pub(in crate::state) struct RangeReading {
    limit: usize,
    keys_only: bool,
    filter: RangeFilter,
    /// The parts that are not visited yet.
    parts: VecDeque<Part>,
    found: Found,
    /// Pairs that passed the filter, found or cut off.
    passed: u64,
    /// Keys that were visited or counted.
    count: u64,
    bytes: usize,
    stage: Stage,
    /// If all of it is one range at one revision: which, and where it ends.
    remembers: Option<(Revision, Option<Bytes>)>,
}

#[derive(Debug)]
enum Stage {
    Visiting,
    /// Enough was found: the rest is only counted.
    Counting(Option<Counting>),
    Sorted,
}

#[derive(Debug)]
enum Found {
    /// In the order of keys.
    Natural(Vec<KeyValue>),
    Ranked {
        sort: (SortTarget, Order),
        by: BTreeMap<(Rank, u64), KeyValue>,
        /// In order, once all are there.
        sorted: Vec<KeyValue>,
    },
}

/// Where a pair belongs; among equals the one that came first is first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Up(u64),
    Down(Reverse<u64>),
    UpBytes(Bytes),
    DownBytes(Reverse<Bytes>),
}

impl Rank {
    fn of(kv: &KeyValue, (target, order): (SortTarget, Order)) -> Self {
        let number = match target {
            SortTarget::Key => return Self::bytes(&kv.key, order),
            SortTarget::Value => return Self::bytes(&kv.value, order),
            SortTarget::Version => kv.version,
            SortTarget::Create => kv.create_revision.0,
            SortTarget::Mod => kv.mod_revision.0,
        };
        match order {
            Order::Ascending => Self::Up(number),
            Order::Descending => Self::Down(Reverse(number)),
        }
    }

    fn bytes(bytes: &Bytes, order: Order) -> Self {
        match order {
            Order::Ascending => Self::UpBytes(bytes.clone()),
            Order::Descending => Self::DownBytes(Reverse(bytes.clone())),
        }
    }
}

impl RangeReading {
    /// A range whose revision was checked, asked at `newest`.
    pub(in crate::state) fn at(range: &Range, newest: Revision) -> Self {
        let at = range.revision.map_or(newest, |at| at.min(newest));
        let parts = VecDeque::from([Part {
            keys: range.keys.clone(),
            at,
        }]);
        Self::of(range, parts)
    }

    /// A range over these parts instead of its own keys and revision.
    pub(in crate::state) fn of(range: &Range, parts: VecDeque<Part>) -> Self {
        let Range {
            keys,
            revision: _,
            limit,
            sort,
            keys_only,
            count_only,
            filter,
        } = range;
        let limit = match (count_only, limit) {
            (true, _) => 0,
            (false, None) => usize::MAX,
            (false, Some(limit)) => usize::try_from(*limit).unwrap_or(usize::MAX),
        };
        let is_natural = *sort == (SortTarget::Key, Order::Ascending);
        let remembers = match (keys, parts.len(), parts.front()) {
            (Keys::Range { end, .. }, 1, Some(part))
                if is_natural && *filter == RangeFilter::default() =>
            {
                Some((part.at, end.clone()))
            }
            _ => None,
        };
        Self {
            limit,
            keys_only: *keys_only,
            filter: *filter,
            parts,
            found: match is_natural {
                true => Found::Natural(Vec::new()),
                false => Found::Ranked {
                    sort: *sort,
                    by: BTreeMap::new(),
                    sorted: Vec::new(),
                },
            },
            passed: 0,
            count: 0,
            bytes: 0,
            stage: match count_only {
                true => Stage::Counting(None),
                false => Stage::Visiting,
            },
            remembers,
        }
    }

    /// All pairs of these parts.
    pub(in crate::state) fn all(parts: VecDeque<Part>) -> Self {
        let range = Range {
            keys: Keys::One(Bytes::new()),
            revision: None,
            limit: None,
            sort: (SortTarget::Key, Order::Ascending),
            keys_only: false,
            count_only: false,
            filter: RangeFilter::default(),
        };
        Self::of(&range, parts)
    }

    /// About what it holds.
    pub(in crate::state) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Names what its next step reads.
    pub(in crate::state) fn names(&self, naming: &mut Naming<'_>) {
        let Some(Part { keys, at }) = self.parts.front() else {
            return;
        };
        if let Stage::Counting(Some(counting)) = &self.stage {
            return counting
                .reads()
                .into_iter()
                .for_each(|rows| naming.rows(rows));
        }
        naming.keys(keys);
        naming.past(keys, *at);
    }

    /// Goes on until the budget is spent; whether it is through.
    pub(in crate::state) fn step(
        &mut self,
        moment: &Moment<'_>,
        budget: &mut Budget,
    ) -> Result<bool, Fault> {
        loop {
            match &mut self.stage {
                Stage::Visiting => {
                    if self.has_enough() {
                        self.stage = Stage::Counting(None);
                    } else if self.parts.is_empty() {
                        self.stage = Stage::Sorted;
                    } else {
                        self.visit(moment, budget)?;
                        if budget.is_spent() && !(self.parts.is_empty() && self.is_natural()) {
                            return Ok(false);
                        }
                    }
                }
                Stage::Counting(counting) => {
                    let Some(part) = self.parts.front() else {
                        self.stage = Stage::Sorted;
                        continue;
                    };
                    let counted = match &part.keys {
                        Keys::One(key) => {
                            budget.spend(1, 0);
                            Some(u64::from(moment.version(key, part.at)?.is_some()))
                        }
                        Keys::Range { start, end } => {
                            let counting = counting.get_or_insert_with(|| {
                                let span = Span {
                                    start: start.clone(),
                                    end: end.clone(),
                                };
                                Counting::new(span, part.at)
                            });
                            let (rows, top) = (moment.rows, moment.top);
                            moment.mvcc.count_on(rows, counting, top, budget)?
                        }
                    };
                    let Some(counted) = counted else {
                        return Ok(false);
                    };
                    self.count += counted;
                    self.parts.pop_front();
                    self.stage = Stage::Counting(None);
                    if budget.is_spent() && !self.parts.is_empty() {
                        return Ok(false);
                    }
                }
                Stage::Sorted => return Ok(self.sort(budget)),
            }
        }
    }

    /// The answer, once it is through.
    pub(in crate::state) fn finish(self, mvcc: &Mvcc) -> RangeResponse {
        let Self {
            limit,
            passed,
            count,
            remembers,
            found,
            ..
        } = self;
        let mut kvs = match found {
            Found::Natural(kvs) => kvs,
            Found::Ranked { sorted, .. } => sorted,
        };
        kvs.truncate(limit);
        // Where nothing is filtered out, what was only counted has passed as well.
        let is_filtered = self.filter != RangeFilter::default();
        let passed = if is_filtered { passed } else { count };
        let more = limit > 0 && passed > kvs.len() as u64;
        if more
            && let Some((at, end)) = remembers
            && let Some(last) = kvs.last()
        {
            mvcc.remember(at, end.as_ref(), &last.key, count - kvs.len() as u64);
        }
        RangeResponse { kvs, more, count }
    }

    fn is_natural(&self) -> bool {
        matches!(self.found, Found::Natural(_))
    }

    /// Whether no further key can be in the answer. With a filter one more is found, to know whether there are more.
    fn has_enough(&self) -> bool {
        match &self.found {
            Found::Natural(kvs) if self.filter == RangeFilter::default() => kvs.len() >= self.limit,
            Found::Natural(_) => self.passed > self.limit as u64,
            Found::Ranked { .. } => false,
        }
    }

    fn visit(&mut self, moment: &Moment<'_>, budget: &mut Budget) -> Result<(), Fault> {
        let Some(part) = self.parts.front_mut() else {
            return Ok(());
        };
        let at = part.at;
        match &mut part.keys {
            Keys::One(key) => {
                let key = key.clone();
                budget.spend(1, 0);
                self.parts.pop_front();
                if let Some(version) = moment.version(&key, at)? {
                    budget.spend(0, version.value_bytes());
                    self.take(key, &version);
                }
            }
            Keys::Range { start, end } => {
                let span = Span {
                    start: start.clone(),
                    end: end.clone(),
                };
                let wanted = match (&self.found, self.filter == RangeFilter::default()) {
                    (Found::Natural(kvs), true) => self.limit - kvs.len(),
                    (Found::Natural(_) | Found::Ranked { .. }, _) => usize::MAX,
                };
                let (rows, mvcc) = (moment.rows, moment.mvcc);
                let slice = match moment.is_newest(at) {
                    true => mvcc.live(rows, &span, wanted, budget)?,
                    false => {
                        let top = Some(moment.top);
                        let then = AsOf { revision: at, top };
                        mvcc.as_of(rows, &span, then, wanted, budget)?
                    }
                };
                match slice.next {
                    Some(next) => *start = next,
                    None => {
                        self.parts.pop_front();
                    }
                }
                for (key, version) in slice.found {
                    self.take(key, &version);
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, key: Bytes, version: &Version) {
        self.count += 1;
        let mut kv = version.pair(key);
        if !passes(&kv, &self.filter) {
            return;
        }
        self.passed += 1;
        match &mut self.found {
            Found::Natural(kvs) => {
                if kvs.len() < self.limit {
                    if self.keys_only {
                        bare(&mut kv);
                    }
                    self.bytes += pair_bytes(&kv);
                    kvs.push(kv);
                }
            }
            Found::Ranked { sort, by, .. } => {
                let rank = Rank::of(&kv, *sort);
                match self.keys_only {
                    // As etcd, which has to read the values for it.
                    true if sort.0 == SortTarget::Value => kv.value.clear(),
                    true => bare(&mut kv),
                    false => {}
                }
                self.bytes += pair_bytes(&kv);
                by.insert((rank, self.passed), kv);
                if by.len() > self.limit
                    && let Some((_, last)) = by.pop_last()
                {
                    self.bytes -= pair_bytes(&last);
                }
            }
        }
    }

    /// Brings what was ranked in order; whether all of it is.
    fn sort(&mut self, budget: &mut Budget) -> bool {
        let Found::Ranked { by, sorted, .. } = &mut self.found else {
            return true;
        };
        while !budget.is_spent() {
            // Several moves cost as much as one row.
            for _ in 0..8 {
                match by.pop_first() {
                    Some((_, kv)) => sorted.push(kv),
                    None => return true,
                }
            }
            budget.spend(1, 0);
        }
        by.is_empty()
    }
}

impl Moment<'_> {
    /// A key's version as of a revision.
    pub(in crate::state) fn version(
        &self,
        key: &[u8],
        at: Revision,
    ) -> Result<Option<Version>, Fault> {
        match self.is_newest(at) {
            true => self.mvcc.get(self.rows, key),
            false => self.mvcc.get_at(self.rows, key, at),
        }
    }
}

/// Leaves what etcd's index knows of a key, which alone answers ranges of keys only: neither value nor lease.
fn bare(kv: &mut KeyValue) {
    kv.value.clear();
    kv.lease = None;
}

fn passes(kv: &KeyValue, filter: &RangeFilter) -> bool {
    let RangeFilter {
        min_mod,
        max_mod,
        min_create,
        max_create,
    } = filter;
    min_mod.is_none_or(|bound| kv.mod_revision >= bound)
        && max_mod.is_none_or(|bound| kv.mod_revision <= bound)
        && min_create.is_none_or(|bound| kv.create_revision >= bound)
        && max_create.is_none_or(|bound| kv.create_revision <= bound)
}
