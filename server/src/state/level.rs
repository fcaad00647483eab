//! The feature level: which law the cluster's entries are written for.
//!
//! A replicated number, 1 until it is raised, so that all members change their law at the same entry, whatever version
//! each of them runs. It never falls: entries written for it stay in the log and the state.

use super::law::Law;
use super::ledger::{self, tag};
use super::spaces::SYSTEM;
use crate::command::codec::wire::{Reader, Writer};
use crate::command::level::FIRST_LEVEL;
use crate::command::{Fault, Response};
use crate::disk::Rows;

impl Law<'_> {
    pub(super) fn raise(&mut self, level: u32) -> Result<Response, Fault> {
        if level > self.level_max {
            return Err(Fault::UnknownEntry {
                index: self.at.index,
                why: beyond(level, self.level_max),
            });
        }
        if level > *self.level {
            let mut out = Writer::with_capacity(5);
            out.u64(u64::from(level));
            self.rows
                .put(SYSTEM, ledger::system_key(tag::LEVEL, &[]), out.finish());
            *self.level = level;
        }
        Ok(Response::Done)
    }
}

/// The level of these rows.
///
/// Faults: [`Fault::Store`] if it is beyond `level_max`.
pub(super) fn load(rows: &Rows<'_>, level_max: u32) -> Result<u32, Fault> {
    let Some(row) = rows.get(SYSTEM, &[tag::LEVEL])? else {
        return Ok(FIRST_LEVEL);
    };
    let mut input = Reader::new(row);
    let level = input.u32("feature level");
    let level = level.and_then(|level| input.end().map(|()| level));
    let level = level.map_err(|error| ledger::damaged("the feature level", &error))?;
    if level > level_max {
        return Err(Fault::Store(beyond(level, level_max)));
    }
    Ok(level)
}

/// Why this version cannot go on.
pub(super) fn beyond(level: u32, level_max: u32) -> String {
    format!(
        "the cluster is at feature level {level}, this version knows {level_max}: start a newer version"
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::disk::Disk;
    use crate::mvcc::RESIDENT_BYTES_MAX;
    use crate::state::State;
    use crate::state::spaces::LAYOUT;

    /// Its other rows may be of any form: as they cannot be read, they must not pass for damage, which is set aside.
    #[test]
    fn a_store_above_the_level_is_refused_before_anything_else_of_it_is_read() {
        let disk = Disk::in_memory(&LAYOUT);
        let mut rows = disk.rows();
        rows.put(
            SYSTEM,
            Bytes::from_static(&[tag::LEVEL]),
            Bytes::from_static(&[2]),
        );
        let unknown = Bytes::from_static(b"of another form");
        rows.put(SYSTEM, Bytes::from_static(&[tag::LEDGER]), unknown);
        drop(rows);
        let refused = State::load(disk, 1, RESIDENT_BYTES_MAX).err().unwrap();
        assert!(matches!(refused, Fault::Store(_)), "{refused}");
        assert!(
            refused
                .to_string()
                .contains("at feature level 2, this version knows 1")
        );
    }
}
