//! A check that fjall 3.1 leaves out when it opens: the list of tables that each of its trees consists of.
//!
//! A tree's `current` file holds the number of a version and the checksum of the file `v<number>`, which lists the
//! tables by level. fjall reads the list and leaves the checksum alone ("TODO" in its code), and a list that lacks a
//! table would lack its rows. So the checksum is checked here.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::error::OpenError;
use crate::command::Fault;

/// Number (8 bytes), checksum (16), both little-endian, and the checksum's type.
const CURRENT_BYTES: usize = 25;
/// The only type of checksum there is: XXH3 with 128 bits.
const XXH3: u8 = 0;

/// Checks every tree of the database at `path`; one that does not exist yet has none.
pub(super) fn check(path: &Path) -> Result<(), OpenError> {
    let folder = path.join("keyspaces");
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Fault(Fault::Io { path, source })
    };
    if !folder.try_exists().map_err(io(&folder))? {
        return Ok(());
    }
    for entry in fs::read_dir(&folder).map_err(io(&folder))? {
        let tree = entry.map_err(io(&folder))?.path();
        let current = tree.join("current");
        match fs::read(&current) {
            Ok(fields) => check_tree(&tree, &fields)?,
            // A tree that was being created when the process ended. fjall removes it and begins anew.
            Err(error) if error.kind() == ErrorKind::NotFound && !has_tables(&tree) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(damaged(&tree, "its pointer is missing"));
            }
            // A stray file, which fjall passes over.
            Err(error) if error.kind() == ErrorKind::NotADirectory => {}
            Err(error) => return Err(io(&current)(error)),
        }
    }
    Ok(())
}

fn has_tables(tree: &Path) -> bool {
    fs::read_dir(tree.join("tables")).is_ok_and(|mut tables| tables.next().is_some())
}

fn damaged(tree: &Path, why: &str) -> OpenError {
    OpenError::Damaged(format!("the table list of {}: {why}", tree.display()))
}

fn check_tree(tree: &Path, current: &[u8]) -> Result<(), OpenError> {
    let damaged = |why: &str| damaged(tree, why);
    let fields: &[u8; CURRENT_BYTES] = current
        .try_into()
        .map_err(|_| damaged("its pointer does not have its whole length"))?;
    let (number, rest) = fields.split_first_chunk::<8>().expect("25 bytes");
    let (checksum, kind) = rest.split_first_chunk::<16>().expect("17 bytes");
    if *kind != [XXH3] {
        return Err(damaged("the kind of its checksum is unknown"));
    }
    let list = tree.join(format!("v{}", u64::from_le_bytes(*number)));
    let list = fs::read(&list).map_err(|error| damaged(&error.to_string()))?;
    if xxhash_rust::xxh3::xxh3_128(&list) != u128::from_le_bytes(*checksum) {
        return Err(damaged("its checksum does not fit"));
    }
    Ok(())
}
