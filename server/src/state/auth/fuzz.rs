//! Permissions of any shape, against a user's permissions looked at one key at a time.

use super::merged::Merged;
use crate::command::fuzz::Numbers;
use crate::command::{Access, Keys, Permission};

/// Keys in order. With the first key after each, which is where a permission for one key ends, they stand for all others.
const KEYS: [&[u8]; 9] = [
    b"", b"\0", b"a", b"a\0", b"a\0\0", b"b", b"ba", b"c", b"\xff",
];

fn access(numbers: &mut Numbers<'_>) -> Access {
    [Access::Read, Access::Write, Access::ReadWrite][usize::from(numbers.below(3))]
}

/// Merges permissions and asks for keys.
pub(in crate::state) fn permissions(data: &[u8]) {
    let mut numbers = Numbers::new(data);
    let granted: Vec<_> = (0..numbers.below(7))
        .map(|_| Permission {
            access: access(&mut numbers),
            keys: numbers.keys(&KEYS),
        })
        .collect();
    let merged = Merged::of(granted.iter());
    let allowed = |wanted: Access, key: &[u8]| {
        let grants = |one: &&Permission| one.access == wanted || one.access == Access::ReadWrite;
        let mut grants = granted.iter().filter(grants);
        grants.any(|one| one.keys.contains(key))
    };
    while !numbers.is_empty() {
        let (wanted, asked) = (access(&mut numbers), numbers.keys(&KEYS));
        if let Keys::Range {
            start,
            end: Some(end),
        } = &asked
            && end <= start
        {
            // docs/compatibility.md, "a range that ends before it begins".
            continue;
        }
        let all = KEYS
            .iter()
            .flat_map(|key| [key.to_vec(), [key, &[0][..]].concat()]);
        let expected = all.filter(|key| asked.contains(key)).all(|key| {
            let needed: &[Access] = match wanted {
                Access::ReadWrite => &[Access::Read, Access::Write],
                Access::Read => &[Access::Read],
                Access::Write => &[Access::Write],
            };
            needed.iter().all(|one| allowed(*one, &key))
        });
        // Up to the end of all keys only what was granted to there covers: no key of these stands for the rest.
        let covers = merged.covers(wanted, &asked);
        match &asked {
            Keys::Range { end: None, .. } => assert!(expected || !covers, "{granted:?} {asked:?}"),
            Keys::One(_) | Keys::Range { .. } => {
                assert_eq!(covers, expected, "{granted:?} {wanted:?} {asked:?}");
            }
        }
    }
}
