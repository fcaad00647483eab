//! All that is stored, to be copied or hashed: read page by page at one moment, beside the clients' work.

use std::path::Path;

use tokio::time::Instant;

use super::{Coordinator, Error};
use crate::command::{AuthTables, Lease, LogPosition, Member, Revision, Unavailable};
use crate::state::StoredPage;
pub use crate::state::{Stored, StoredReading};

/// Rest after a page, in the time that it took: writers have half of the thread.
const REST: u32 = 1;

/// One moment of a member's state.
#[derive(Debug)]
pub struct Moment {
    /// Its keys, to be read with [`Coordinator::next_stored`].
    pub stored: StoredReading,
    /// The last entry it has.
    pub applied: Option<LogPosition>,
    /// The leases, by id.
    pub leases: Vec<Lease>,
    /// Users and roles.
    pub auth: AuthTables,
    /// The members of the cluster, by id; as of a moment before.
    pub members: Vec<Member>,
}

impl Coordinator {
    /// Begins to read what is stored up to `revision`, the newest without one; also answers the newest.
    ///
    /// Errors: `Refused` if `revision` is compacted or has not been.
    pub fn read_stored(
        &self,
        revision: Option<Revision>,
    ) -> Result<(StoredReading, Revision), Error> {
        self.state
            .with(|state| Ok((state.read_stored(revision)?, state.revision())))
    }

    /// Holds this member's state as it is now.
    pub fn moment(&self) -> Result<Moment, Error> {
        let members = self.members_now()?;
        self.state.with(|state| {
            Ok(Moment {
                stored: state.read_stored(None)?,
                applied: state.applied(),
                leases: state.leases(),
                auth: state.auth_tables(),
                members,
            })
        })
    }

    /// The next page of what is stored, some hundred kilobytes of it; `None` after the last. Rests before it returns.
    ///
    /// Errors: `Unavailable` if the state was replaced meanwhile, or cannot be read, which stops this member.
    pub async fn next_stored(
        &self,
        reading: &mut StoredReading,
    ) -> Result<Option<Vec<Stored>>, Error> {
        let ahead = self.state.with(|state| state.ahead_of_page(reading));
        self.read_ahead(ahead).await?;
        // Only the time counts for which everybody else waited.
        let began = Instant::now();
        let page = self.state.with(|state| state.next_stored(reading));
        let page = page.map_err(|fault| self.stop_on(&fault))?;
        tokio::task::yield_now().await;
        tokio::time::sleep(began.elapsed() * REST).await;
        match page {
            StoredPage::Some(stored) => Ok(Some(stored)),
            StoredPage::End => Ok(None),
            StoredPage::Replaced => Err(Unavailable::LeaderChanged.into()),
        }
    }

    /// The compaction floor; `None` if nothing was ever compacted.
    pub fn compacted(&self) -> Option<Revision> {
        self.state.with(|state| state.compacted())
    }

    /// Where files may be put that nobody needs after a restart; `None` if this member has no directory.
    pub fn scratch(&self) -> Option<&Path> {
        self.scratch.as_deref()
    }
}
