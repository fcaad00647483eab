//! The contents of a data directory, opened in order and checked to fit together.
//!
//! All of it may read for seconds, so it runs beside the runtime: a member that starts can be told to stop.

use super::platform::LogPlace;
use crate::command::{Fault, LogPosition};
use crate::offload::Offload;
use crate::raft;
use crate::state::{State, StatePlace};
use crate::wal::Wal;

/// Opens the log; `None` if no member has lived here yet.
///
/// Errors: `Corrupt` with what to do if it is not all that was acknowledged; `Io`.
pub(super) fn log(place: &LogPlace) -> Result<Option<Wal>, Fault> {
    match place.has_log()? {
        true => place.open().map(Some),
        false => Ok(None),
    }
}

/// Opens the state. One that is damaged is set aside and begins empty: the log rebuilds it, if it still begins at the
/// beginning; see [`gap`].
///
/// Errors: `Corrupt` with what to do; `Io`; `Store`.
pub(super) fn state(place: &StatePlace) -> Result<State, Fault> {
    State::open_at(place)
}

/// Whether the log begins only after the state ends: the fault that this is without help, and up to where the log is
/// gone.
pub(super) fn gap(wal: &Wal, state: &State) -> Option<(Fault, u64)> {
    let fault = raft::check_reach(wal, state.applied()).err()?;
    Some((fault, wal.ends().purged.map_or(0, |purged| purged.index)))
}

/// Whether what the log holds goes on after the entry that was applied at `at`: it begins there, or has it.
///
/// Errors: `Io`; `Corrupt`.
pub(super) fn agrees(wal: &Wal, at: LogPosition) -> Result<bool, Fault> {
    if wal.ends().purged == Some(at) {
        return Ok(true);
    }
    let found = wal.read(at.index, at.index + 1, 1)?;
    Ok(found.first().is_some_and(|entry| entry.position == at))
}

/// Runs `work` where it may block.
pub(super) async fn aside<T: Send + 'static>(
    offload: Offload,
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let done = offload.run(work).await;
    done.unwrap_or_else(|error| {
        Err(Fault::Start(format!(
            "reading the data was cut short: {error}"
        )))
    })
}
