//! A member's term never goes backwards: it is stored before it is used, so a crash cannot undo it.
//!
//! Source: Ongaro, "Consensus: Bridging Theory and Practice" (2014), figure 3.1: currentTerm is persistent and increases
//! monotonically. A member that forgets it may vote twice in one term.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Violation, require};

/// A member's report of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// When the answer was there; the next question to the same member was asked later.
    pub at: Duration,
    /// The member.
    pub member: usize,
    /// Its term.
    pub term: u64,
}

/// Checks the sightings of each member, in the order in which they were made.
pub fn check(sightings: &[Sighting]) -> Result<(), Violation> {
    let mut newest: HashMap<usize, Sighting> = HashMap::new();
    for sighting in sightings {
        let before = newest.insert(sighting.member, *sighting);
        require!(
            before.is_none_or(|before| before.term <= sighting.term),
            "member {} forgot its term: {before:?}, then {sighting:?}",
            sighting.member
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(member: usize, term: u64) -> Sighting {
        Sighting {
            at: Duration::ZERO,
            member,
            term,
        }
    }

    #[test]
    fn terms_that_grow_pass_whatever_other_members_say() {
        check(&[
            sighting(0, 3),
            sighting(1, 2),
            sighting(0, 3),
            sighting(1, 4),
        ])
        .unwrap();
    }

    #[test]
    fn a_term_that_goes_backwards_is_rejected() {
        let violation = check(&[sighting(0, 3), sighting(1, 9), sighting(0, 2)]).unwrap_err();
        assert!(violation.0.contains("member 0 forgot"), "{violation}");
    }
}
