//! A note beside a store, `<n>.suspect`, with the facts that the next open must know before it trusts the store.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::command::Fault;

/// First word of a note that asks for a check of every row.
const UNSURE: &str = "unsure:";

/// The message of a note.
pub(super) enum Note {
    /// Damage was met: set the store aside.
    Damaged(String),
    /// A background task of fjall's failed, which says nothing more. If a table is damaged, only reading finds it.
    Unsure,
}

/// Where the note on the store at `path` is.
pub(super) fn place(path: &Path) -> PathBuf {
    path.with_extension("suspect")
}

/// The note on the store at `path`.
pub(super) fn read(path: &Path) -> Option<Note> {
    let text = fs::read(place(path)).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    // Nothing in it: it was begun on a disk that was full. The damage that it was to report will be met again.
    if text.is_empty() {
        return None;
    }
    Some(match text.starts_with(UNSURE) {
        true => Note::Unsure,
        false => Note::Damaged(text),
    })
}

/// Notes damage. If that cannot be written either, the next open stops at the same damage.
pub(super) fn damaged(path: &Path, why: &str) {
    let _ = fs::write(place(path), format!("damaged: {why}"));
}

/// Notes that something failed which may have been damage; a note that is there says more.
pub(super) fn unsure(path: &Path, why: &str) {
    if read(path).is_none() {
        let _ = fs::write(place(path), format!("{UNSURE} {why}"));
    }
}

/// Removes the note, if there is one.
pub(super) fn clear(path: &Path) -> Result<(), Fault> {
    let note = place(path);
    match fs::remove_file(&note) {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(Fault::Io { path: note, source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
