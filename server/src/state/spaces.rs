//! The spaces of the state store, as the disk is told to keep them.

use crate::disk::{Layout, Space};
use crate::mvcc::{self, CURRENT, LOG, PAST};

/// Small rows: positions, leases, members.
pub(super) const SYSTEM: Space = Space::new(0);

/// All spaces. A new one goes to the end, and is written only from a feature level on.
pub(super) const LAYOUT: Layout = Layout {
    names: &["system", "current", "past", "log"],
    swept: LOG,
    sweep: mvcc::garbage,
};

/// The tag of each space in a snapshot.
const TAGS: [(Space, u8); 4] = [(SYSTEM, 1), (CURRENT, 2), (PAST, 3), (LOG, 4)];

/// A space's tag in snapshots.
pub(super) fn tag(space: Space) -> u8 {
    let found = TAGS.iter().find(|(tagged, _)| *tagged == space);
    found.expect("every space of the layout has a tag").1
}

/// The space of a tag.
pub(super) fn tagged(tag: u8) -> Option<Space> {
    let found = TAGS.iter().find(|(_, known)| *known == tag);
    found.map(|(space, _)| *space)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(tagged(tag(space)), Some(space));
        }
    }
}
