//! Watchers: some see everything from the first revision to the last, however often their stream breaks; others come,
//! begin somewhere in the past, and go.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use coord_proto::etcd::etcdserverpb as pb;
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::super::record::Watcher;
use super::{Common, Output};
use crate::check::watch::Seen;
use crate::clients::etcd::request::{prefix_end, watch};

/// The silence after which a stream is given up: its member may be frozen, and cannot say so.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// How often a quiet stream is asked up to where it has told everything.
const ASK_EVERY: Duration = Duration::from_millis(400);
/// How long a watcher may take to see the last event once the cluster is well again.
const END_MAX: Duration = Duration::from_secs(30);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);

/// All keys there are.
fn everything() -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        range_end: "\0".into(),
        ..watch("\0")
    }
}

/// One logical watcher, over as many streams as it takes.
struct Following {
    seen: Seen,
    /// The first revision it has not been told everything about.
    next: i64,
}

/// Why a stream ended.
enum End {
    /// It was to end.
    Wanted,
    /// It broke, or was silent.
    Broken,
    /// History that it wants is compacted up to before this revision.
    Compacted(i64),
}

impl Following {
    fn new(request: pb::WatchCreateRequest, start: i64) -> Self {
        Self {
            seen: Seen {
                request,
                start,
                responses: Vec::new(),
            },
            next: start,
        }
    }

    fn watcher(self, owed: i64, is_whole: bool) -> Watcher {
        Watcher {
            seen: self.seen,
            owed,
            is_whole,
        }
    }

    /// Watches on one member until it breaks or `is_over` says so, given the next revision.
    async fn stream(
        &mut self,
        common: &Common,
        member: usize,
        is_over: impl Fn(i64) -> bool,
    ) -> Result<End> {
        let mut stream = common.pinned(member)?.watch();
        let request = pb::WatchCreateRequest {
            start_revision: self.next,
            ..self.seen.request.clone()
        };
        let created = tokio::time::timeout(SILENCE_MAX, stream.create(request)).await;
        let Ok(Ok(created)) = created else {
            return Ok(End::Broken);
        };
        if created.canceled {
            return Ok(self.cancelled(&created));
        }
        let mut heard = Instant::now();
        loop {
            if is_over(self.next) {
                return Ok(End::Wanted);
            }
            let Ok(response) = stream.within(ASK_EVERY).await else {
                return Ok(End::Broken);
            };
            let Some(response) = response else {
                if heard.elapsed() > SILENCE_MAX {
                    return Ok(End::Broken);
                }
                stream.request_progress();
                continue;
            };
            heard = Instant::now();
            if response.canceled {
                return Ok(self.cancelled(&response));
            }
            let header = response.header.as_ref().map_or(0, |header| header.revision);
            let last = response.events.last().and_then(|event| event.kv.as_ref());
            self.next = self.next.max(last.map_or(header, |kv| kv.mod_revision) + 1);
            self.seen.responses.push(response);
        }
    }

    fn cancelled(&self, response: &pb::WatchResponse) -> End {
        match response.compact_revision {
            0 => End::Broken,
            oldest => End::Compacted(oldest),
        }
    }
}

/// Sees everything, mostly on one member, until the goal is known and reached.
pub(super) async fn follow(common: Common, home: usize) -> Result<Output> {
    let request = pb::WatchCreateRequest {
        // No event can tell the value that a compaction took away.
        prev_kv: !common.profile.compacts,
        ..everything()
    };
    let mut watchers = Vec::new();
    let mut following = Following::new(request.clone(), 1);
    let mut member = home;
    let last_call = OnceLock::new();
    let too_late = || {
        let goal_known = common.goal.load(Ordering::Relaxed) > 0;
        goal_known && last_call.get_or_init(Instant::now).elapsed() > END_MAX
    };
    // A member that never gets there may go on to answer: what it owes is found missing.
    let is_over = |next: i64| {
        let goal = common.goal.load(Ordering::Relaxed);
        (goal > 0 && next > goal) || too_late()
    };
    loop {
        match following.stream(&common, member, is_over).await? {
            End::Wanted => break,
            End::Broken => {
                member += 1;
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
            }
            End::Compacted(oldest) => {
                // An explicit answer: what it missed it must list; from here on it is owed everything again.
                let fresh = Following::new(request.clone(), oldest);
                watchers.push(std::mem::replace(&mut following, fresh).watcher(0, true));
            }
        }
        if too_late() {
            break;
        }
    }
    watchers.push(following.watcher(common.goal.load(Ordering::Relaxed), true));
    Ok(Output::Watchers(watchers))
}

/// Begins again and again somewhere in the past, on any member, and goes once it is a little ahead of where the store
/// was.
pub(super) async fn come_and_go(common: Common, home: usize, mut rng: StdRng) -> Result<Output> {
    const BACK_MAX: i64 = 1500;
    const AWAY_MAX: u64 = 700;
    let mut watchers = Vec::new();
    while !common.stops() {
        let now = common.revision.load(Ordering::Relaxed);
        let start = now - rng.random_range(0..BACK_MAX.min(now));
        let request = pb::WatchCreateRequest {
            range_end: prefix_end("k/").into(),
            ..watch("k/")
        };
        let mut following = Following::new(request, start);
        // One break in its life: it resumes elsewhere from where it was.
        for member in [home, home + 1] {
            let until = common.revision.load(Ordering::Relaxed) + rng.random_range(0..100);
            let over = |next| next > until || common.stops();
            if let End::Compacted(_) = following.stream(&common, member, over).await? {
                break;
            }
            let away = Duration::from_millis(rng.random_range(0..AWAY_MAX));
            tokio::time::sleep(away).await;
        }
        watchers.push(following.watcher(0, false));
    }
    Ok(Output::Watchers(watchers))
}
