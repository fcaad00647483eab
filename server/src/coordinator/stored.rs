//! All that is stored, to be copied or hashed: read page by page at one moment, beside the clients' work.

use super::{Coordinator, Error};
use crate::command::{AuthTables, Lease, LogPosition, Member, Revision, Unavailable};
use crate::scratch;
use crate::state::StoredPage;
pub use crate::state::{Stored, StoredReading};

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
    /// Errors: `Refused` if `revision` is compacted or has not been; `Unavailable` if this member stops.
    pub async fn read_stored(
        &self,
        revision: Option<Revision>,
    ) -> Result<(StoredReading, Revision), Error> {
        let (stored, newest) = self
            .state
            .with(|state| Ok::<_, Error>((state.read_stored(revision)?, state.revision())))?;
        let stored = stored.await.ok_or(Unavailable::Stopped)?;
        Ok((stored, newest))
    }

    /// Holds this member's state as it is now.
    ///
    /// Errors: `Unavailable` if this member stops.
    pub async fn moment(&self) -> Result<Moment, Error> {
        let members = self.members_now()?;
        let (stored, applied, leases, auth) = self.state.with(|state| {
            let stored = state.read_stored(None)?;
            Ok::<_, Error>((stored, state.applied(), state.leases(), state.auth_tables()))
        })?;
        Ok(Moment {
            stored: stored.await.ok_or(Unavailable::Stopped)?,
            applied,
            leases,
            auth,
            members,
        })
    }

    /// The next page of what is stored, some hundred kilobytes of it; `None` after the last. Blocks on the disk.
    ///
    /// Errors: `Unavailable` if the state was replaced meanwhile, or cannot be read, which stops this member.
    pub fn next_stored(&self, reading: &mut StoredReading) -> Result<Option<Vec<Stored>>, Error> {
        let page = reading.next_page();
        match page.map_err(|fault| self.stop_on(&fault))? {
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
    pub fn scratch(&self) -> Option<&scratch::Room> {
        self.scratch.as_ref()
    }
}
