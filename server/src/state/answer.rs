//! Questions to the state as it is now.

use super::view::View;
use super::{State, lease, txn};
use crate::command::{Fault, LeaseTimeToLive, Outcome, Query, Response};

/// About how much one range answers: whoever wants the rest asks again after its last key, and others get a turn.
const PAGE_BYTES: usize = 4 << 20;

impl State {
    /// Answers `query` from what is applied. Reads disk when the rows are not in memory.
    ///
    /// A range may end before its limit, and says so in `more`, when it has some megabytes.
    pub fn answer(&self, query: &Query) -> Result<Outcome, Fault> {
        let rows = self.disk.rows();
        let view = View {
            rows: &rows,
            mvcc: &self.mvcc,
            newest: self.ledger.revision,
            floor: self.ledger.floor,
            is_settled: true,
        };
        let result = match query {
            Query::Range(range) => match view.check_revision(range.revision) {
                Ok(()) => Ok(Response::Range(view.page(range, PAGE_BYTES)?)),
                Err(refusal) => Err(refusal),
            },
            Query::Txn(txn) => txn::read_only(&view, txn)?,
            Query::Lease { id, keys } => Ok(Response::Lease(match self.leases.get(id) {
                Some(lease) => Some(LeaseTimeToLive {
                    lease: *lease,
                    keys: if *keys {
                        lease::attached_keys(&rows, *id)?
                    } else {
                        Vec::new()
                    },
                }),
                None => None,
            })),
            Query::Leases => Ok(Response::Leases(self.leases.keys().copied().collect())),
        };
        Ok(Outcome {
            revision: self.ledger.revision,
            result,
        })
    }
}
