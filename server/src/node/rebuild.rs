//! A member whose state is gone, and whose log no longer goes back to the beginning: it takes another member's state.
//!
//! Its log and its vote are whole, so it keeps its id and every promise. Only a cluster of one cannot be helped so.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::JoinSet;

use super::join::{duplicate, texts};
use super::{Platform, Stop, directory, stored};
use crate::admin::{self, Reason, Waiting};
use crate::command::{Fault, LogPosition};
use crate::config::Config;
use crate::http::Endpoint;
use crate::offload::Offload;
use crate::raft::peer::{AskError, fetch_state, places_in_log};
use crate::state::{self, InstallReady, State};
use crate::wal::Wal;

/// Pause between two rounds of asking everyone.
const ASK_PAUSE: Duration = Duration::from_millis(500);
/// Rounds between two log lines about the wait.
const LOG_EVERY: u32 = 20;

/// Waits until a member at one of the places of `--initial-cluster` or of the log's membership has sent its state.
///
/// `gap` is why this is needed, and up to which entry the state must reach. Meanwhile the client port says on `/readyz`
/// what it waits for.
/// Errors: `Refused` if this member was removed; `gap`'s fault if there is nobody else to ask.
pub(super) async fn rebuild(
    config: &Config,
    platform: &Platform,
    wal: &Wal,
    state: State,
    gap: (Fault, u64),
    client: &[Endpoint],
) -> Result<State, Stop> {
    let (fault, at_least) = gap;
    let own = texts(&config.peer.advertise);
    // The flags may be of the day when this member was alone.
    let log = wal.clone();
    let in_log = stored::aside(platform.offload, move || places_in_log(&log)).await?;
    let places = config.initial.cluster.iter();
    let places = places.flat_map(|(_, urls)| texts(urls)).chain(in_log);
    let places: BTreeSet<String> = places.filter(|url| !own.contains(url)).collect();
    let places: Vec<String> = places.into_iter().collect();
    if places.is_empty() {
        return Err(fault.into());
    }
    tracing::error!(
        at_least,
        "the state is gone and the log does not go back to its beginning; another member's state is taken"
    );
    let mut waiting = JoinSet::new();
    for listener in client {
        let listener = duplicate(listener)?;
        let why = "waiting for another member's state, because this one's is gone";
        let answers = Waiting::new(Reason::Rebuilding, why);
        waiting.spawn(admin::serve_waiting(listener, answers));
    }
    let mut asked = 0u32;
    let ready = loop {
        let fetched = fetch_state(
            &platform.network,
            &places,
            wal.identity(),
            at_least,
            &platform.state,
            platform.offload,
        );
        match fetched.await {
            Ok(ready) => break ready,
            Err(AskError::Refused(why)) => return Err(Stop::Refused(why)),
            Err(AskError::Unreachable(why)) => {
                if asked.is_multiple_of(LOG_EVERY) {
                    tracing::warn!(why, "waiting for another member's state");
                }
            }
        }
        asked = asked.wrapping_add(1);
        tokio::time::sleep(ASK_PAUSE).await;
    };
    waiting.shutdown().await;
    adopt(config, platform.offload, wal, state, ready).await
}

/// Puts the log behind the state that was received, then the state in its place.
async fn adopt(
    config: &Config,
    offload: Offload,
    wal: &Wal,
    state: State,
    ready: InstallReady,
) -> Result<State, Stop> {
    let Some(at) = ready.position() else {
        return Err(Fault::Store("the state that was received is empty".to_owned()).into());
    };
    let log = wal.clone();
    if !stored::aside(offload, move || stored::agrees(&log, at)).await? {
        let path = directory::wal(&config.data_dir);
        let followed = follow(wal, at).await;
        followed.map_err(|source| Fault::Io { path, source })?;
    }
    let state = state::Handle::new(state);
    let state = stored::aside(offload, move || {
        let revision = ready.install(&state)?;
        tracing::info!(position = ?at, %revision, "the state is another member's now");
        Ok(state.into_state().expect("there is no other handle"))
    });
    Ok(state.await?)
}

/// Lets the log go on after `at`: it ends before, or it holds entries that were never committed there.
async fn follow(wal: &Wal, at: LogPosition) -> std::io::Result<()> {
    wal.truncate(wal.ends().purged)?;
    // First the log, durably: a crash before the state is in its place only means that it is fetched again.
    wal.purge_durably(at).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::command::MemberId;
    use crate::wal::{Ends, Entry, Identity, MemoryDisk, Options, Payload};

    fn at(term: u64, index: u64) -> LogPosition {
        LogPosition {
            term,
            leader: MemberId(1),
            index,
        }
    }

    const OPTIONS: Options = Options {
        segment_bytes: 1 << 16,
        entry_bytes_max: 1 << 15,
        recent_bytes_max: 0,
        threaded: false,
    };

    /// A log of the entries 3 to 9, all of term 2.
    fn log(disk: &MemoryDisk) -> Wal {
        let identity = Identity::of_test(1, 1);
        let wal = Wal::create_on(Arc::new(disk.clone()), &identity, OPTIONS).unwrap();
        let entries = (0..10).map(|index| Entry {
            position: at(2, index),
            payload: Payload::Blank,
        });
        wal.append(entries, |written| written.unwrap()).unwrap();
        wal.purge(at(2, 2)).unwrap();
        wal
    }

    #[test]
    fn a_log_agrees_with_what_it_holds_and_with_nothing_else() {
        let wal = log(&MemoryDisk::default());
        assert!(stored::agrees(&wal, at(2, 5)).unwrap());
        assert!(stored::agrees(&wal, at(2, 2)).unwrap(), "it begins there");
        assert!(!stored::agrees(&wal, at(1, 5)).unwrap(), "another entry");
        assert!(!stored::agrees(&wal, at(2, 10)).unwrap(), "beyond its end");
    }

    #[tokio::test]
    async fn a_log_that_does_not_agree_goes_on_after_the_state_and_so_does_the_next_opening() {
        for position in [at(3, 5), at(3, 20)] {
            let disk = MemoryDisk::default();
            let wal = log(&disk);
            follow(&wal, position).await.unwrap();
            let ends = Ends {
                purged: Some(position),
                last: Some(position),
            };
            assert_eq!(wal.ends(), ends);
            // As a power cut would leave it.
            let left = MemoryDisk::with(disk.files());
            let wal = Wal::open_on(Arc::new(left), OPTIONS).unwrap();
            assert_eq!(wal.ends(), ends);
        }
    }
}
