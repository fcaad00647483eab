//! Taking back a revision that did not end before a crash.
//!
//! A large change reaches the disk piece by piece, before its revision has ended. A change in the log above the newest
//! revision that ended belongs to such a piece; each is undone from the version that it superseded.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::history::{self, Change};
use super::row::{self, Version};
use super::{CURRENT, LOG, PAST};
use crate::command::{Fault, LeaseId, Stamp};
use crate::disk::Rows;

/// A key that is again what it was.
#[derive(Debug)]
pub struct Undone {
    /// The key.
    pub key: Bytes,
    /// The lease that it was attached to by the change.
    pub from: Option<LeaseId>,
    /// The lease that it is attached to again.
    pub to: Option<LeaseId>,
}

/// Undoes the first changes from `from` on, at most `limit`; none if there are none. `next` is where to go on.
pub fn undo(rows: &mut Rows<'_>, from: Stamp, limit: usize) -> Result<(Vec<Undone>, Stamp), Fault> {
    let mut changes = Vec::new();
    history::scan(rows, from, None, &mut |at, change, key| {
        changes.push((at, change, Bytes::copy_from_slice(key)));
        Ok(match changes.len() < limit {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        })
    })?;
    let mut undone = Vec::with_capacity(changes.len());
    let mut next = from;
    for (at, change, key) in changes {
        next = Stamp {
            main: at.main,
            sub: at.sub + 1,
        };
        let lease = |row: Option<Bytes>| {
            let version = row.map(Version::decode).transpose()?;
            Ok::<_, Fault>(version.and_then(|version| version.lease))
        };
        let made = rows.get(CURRENT, &key)?;
        let past = row::past_key(&key, at.main);
        let before = match change {
            Change::Create => None,
            Change::Update | Change::Delete => Some(rows.get(PAST, &past)?),
        };
        match before {
            None => rows.delete(CURRENT, key.clone()),
            Some(Some(before)) => {
                rows.put(CURRENT, key.clone(), before.clone());
                rows.delete(PAST, past);
            }
            Some(None) => {
                return Err(Fault::Corrupt {
                    what: format!("revision {} in the state store", at.main),
                    why: "a version that it superseded is gone".to_owned(),
                });
            }
        }
        rows.delete(LOG, row::log_key(at));
        undone.push(Undone {
            from: lease(made)?,
            to: lease(rows.get(CURRENT, &key)?)?,
            key,
        });
    }
    Ok((undone, next))
}
