//! The spaces of the state store, as the disk is told to keep them.

use crate::command::level::FIRST_LEVEL;
use crate::disk::{Layout, Space};
use crate::mvcc::{self, CURRENT, LOG, PAST};

/// Small rows: positions, leases, members.
pub(super) const SYSTEM: Space = Space::new(0);

/// All spaces. A new one goes to the end; its rows are written from a feature level on ([`SENT`]).
pub(super) const LAYOUT: Layout = Layout {
    names: &["system", "current", "past", "log"],
    swept: LOG,
    sweep: mvcc::garbage,
};

/// The tag of each space in a snapshot, and the level from which on it has rows.
const SENT: &[(Space, u8, u32)] = &[
    (SYSTEM, 1, FIRST_LEVEL),
    (CURRENT, 2, FIRST_LEVEL),
    (PAST, 3, FIRST_LEVEL),
    (LOG, 4, FIRST_LEVEL),
];

/// A space's tag in the snapshot of a cluster at this level. Panics if the level has no rows of the space.
pub(super) fn tag(space: Space, level: u32) -> u8 {
    let has = |(sent, _, from): &&(Space, u8, u32)| *sent == space && *from <= level;
    let found = SENT.iter().find(has);
    found.expect("no rows are written above the level").1
}

/// The space of a tag in the snapshot of a cluster at this level.
pub(super) fn tagged(tag: u8, level: u32) -> Option<Space> {
    let has = |(_, sent, from): &&(Space, u8, u32)| *sent == tag && *from <= level;
    SENT.iter().find(has).map(|(space, ..)| *space)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::level::FEATURE_LEVEL;

    #[test]
    fn every_space_has_its_name_and_a_tag_of_its_own() {
        let named = [
            (SYSTEM, "system"),
            (CURRENT, "current"),
            (PAST, "past"),
            (LOG, "log"),
        ];
        assert_eq!(named.len(), LAYOUT.names.len());
        for (place, (space, name)) in (0..).zip(named) {
            assert_eq!(space, Space::new(place));
            assert_eq!(LAYOUT.names[usize::from(place)], name);
            let (.., from) = SENT[usize::from(place)];
            assert!((FIRST_LEVEL..=FEATURE_LEVEL).contains(&from));
            assert_eq!(tagged(tag(space, from), from), Some(space));
            assert_eq!(tagged(tag(space, from), from - 1), None);
        }
    }
}
