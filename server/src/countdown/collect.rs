//! A new leader's collection of the members' copies of the last countdown.
//!
//! A renewal is answered only when a majority holds it, so the copies of any majority together know every answered
//! renewal. They say when each lease ends: never too early, and too late only by the time that a renewal may take.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};

use super::consensus::Consensus;
use super::counted::Counted;
use super::replica::Clock;
use super::wire::{self, Held, LeaderMillis, Table};
use crate::clock::Moment;
use crate::command::{LeaderKey, MemberId, Unavailable};
use crate::raft::sideband;

/// Pause before a member is asked again that cannot be reached, or does not follow the new leader yet.
const ASK_PAUSE: Duration = Duration::from_millis(20);

/// The copies of the newest leadership of which there is one.
#[derive(Debug)]
pub(super) struct Collected {
    leadership: LeaderKey,
    /// The fastest of the copies' clocks: none is ahead of the leader's.
    clock: Clock,
    copies: Vec<(u64, HashMap<Counted, LeaderMillis>)>,
}

impl Collected {
    /// One copy, received at `at`.
    pub(super) fn new(at: Moment, table: Table) -> Self {
        let Table {
            leadership,
            now,
            through,
            ends,
        } = table;
        Self {
            leadership,
            clock: Clock::new(at, now),
            copies: vec![(through, ends.into_iter().collect())],
        }
    }

    /// Adds a copy. One of an older leadership is of no use: the newer one began with all that it knew.
    pub(super) fn add(&mut self, at: Moment, table: Table) {
        if table.leadership < self.leadership {
            return;
        }
        let now = table.now;
        let newer = Self::new(at, table);
        if newer.leadership > self.leadership {
            *self = newer;
            return;
        }
        self.clock.observe(at, now);
        self.copies.extend(newer.copies);
    }

    /// When a lease ends that was granted by the log entry `granted`, 0 if that was long ago. `None` if no copy knows the
    /// log that far: another lease of that id may be meant.
    pub(super) fn ends(&self, now: Moment, id: Counted, granted: u64) -> Option<Moment> {
        let knows = self
            .copies
            .iter()
            .filter(|(through, _)| *through >= granted);
        let ends = knows.filter_map(|(_, ends)| ends.get(&id)).max()?;
        let left = ends.0.saturating_sub(self.clock.now(now).0);
        Some(now.after(Duration::from_millis(u64::try_from(left).unwrap_or(0))))
    }
}

/// Whether these members are a majority of each configuration.
pub(super) fn is_quorum(
    configurations: &[BTreeSet<MemberId>],
    members: &BTreeSet<MemberId>,
) -> bool {
    let has_majority =
        |voters: &BTreeSet<MemberId>| voters.intersection(members).count() * 2 > voters.len();
    !configurations.is_empty() && configurations.iter().all(has_majority)
}

/// Asks the voters until a majority has given its copy. `None` if no majority has one, or if it takes longer than
/// `patience`: the members that do not answer may be those that know more.
pub(super) async fn gather<C: Consensus>(
    consensus: &C,
    leadership: LeaderKey,
    own: Option<Table>,
    patience: Duration,
) -> Option<Collected> {
    let began = Moment::now();
    let configurations = consensus.voters();
    let voters: BTreeSet<MemberId> = configurations.iter().flatten().copied().collect();
    let others = voters.iter().filter(|voter| **voter != leadership.1);
    let mut asked: FuturesUnordered<_> = others
        .map(|voter| async { (*voter, ask(consensus, *voter, leadership).await) })
        .collect();
    let mut collected = None;
    let mut have = BTreeSet::new();
    let mut lack = HashSet::new();
    let mut answer = Some((leadership.1, own));
    loop {
        match answer {
            Some((voter, Some(table))) => {
                have.insert(voter);
                let now = Moment::now();
                match &mut collected {
                    None => collected = Some(Collected::new(now, table)),
                    Some(collected) => collected.add(now, table),
                }
            }
            Some((voter, None)) => {
                lack.insert(voter);
            }
            None => return None,
        }
        if is_quorum(&configurations, &have) {
            return collected;
        }
        let may = voters.iter().filter(|voter| !lack.contains(voter));
        if !is_quorum(&configurations, &may.copied().collect()) {
            return None;
        }
        let left = patience.saturating_sub(Moment::now().since(began));
        answer = tokio::time::timeout(left, asked.next())
            .await
            .ok()
            .flatten();
    }
}

/// Asks one member until it answers.
async fn ask<C: Consensus>(consensus: &C, voter: MemberId, leadership: LeaderKey) -> Option<Table> {
    loop {
        let question = wire::collect(consensus.feature_level());
        let asked = consensus.collect(voter, leadership, question).await;
        match read(asked).await {
            Ok(Held::Table(table)) => return Some(table),
            Ok(Held::Nothing) => return None,
            Ok(Held::NotFollowing) | Err(_) => tokio::time::sleep(ASK_PAUSE).await,
        }
    }
}

/// Puts a copy together from its pages.
async fn read(asked: Result<sideband::Collected, Unavailable>) -> Result<Held, Unavailable> {
    let sideband::Collected { received, pages } = asked?;
    let mut held = None;
    for page in pages {
        let page = wire::read_page(page).map_err(|error| {
            tracing::debug!(%error, "a copy of the countdown cannot be read");
            Unavailable::LeaderChanged
        })?;
        match (&mut held, page) {
            (Some(Held::Table(table)), Held::Table(more)) => table.ends.extend(more.ends),
            (held, page) => *held = Some(page),
        }
        // A page is as much as one turn should read.
        tokio::task::yield_now().await;
    }
    if let Some(Held::Table(table)) = &mut held {
        // The member's clock has gone on while its pages came in.
        table.now = table.now.after(Moment::now().since(received));
    }
    held.ok_or(Unavailable::LeaderChanged)
}
