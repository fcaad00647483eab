//! The directories of the state: `<dir>/<n>/`, and `<dir>/current` that names the one in use.
//!
//! A snapshot is written into a fresh directory that becomes current by the rename of one small file, so a crash
//! leaves the old state or the new one, never a mixture.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::error::OpenError;
use super::filling::Filling;
use super::marks::Mark;
use super::note;
use super::space::{Layout, Space};
use super::store::Store;
use crate::command::Fault;
use bytes::Bytes;

const POINTER: &str = "current";
/// The defect of a directory without a pointer.
const UNNAMED: &str = "it is missing, but there are generations";

/// Where one generation is.
#[derive(Clone, Debug)]
pub(super) struct Generation {
    dir: PathBuf,
    number: u64,
}

impl Generation {
    /// Finds the current generation below `dir`, the first if there is none, and removes unfinished or superseded ones.
    pub(super) fn current(dir: &Path) -> Result<Self, Fault> {
        fs::create_dir_all(dir).map_err(io(dir))?;
        let number = match read_pointer(dir)? {
            Some(number) => number,
            None if numbers(dir)?.is_empty() => {
                write_pointer(dir, 1)?;
                1
            }
            None => {
                return Err(damaged_pointer(dir, UNNAMED));
            }
        };
        let dir = dir.to_owned();
        for other in numbers(&dir)?.into_iter().filter(|other| *other != number) {
            Self {
                dir: dir.clone(),
                number: other,
            }
            .remove()?;
        }
        Ok(Self { dir, number })
    }

    pub(super) fn path(&self) -> PathBuf {
        self.dir.join(self.number.to_string())
    }

    /// Makes it the one that the next open finds. Durable when it returns.
    pub(super) fn make_current(&self) -> Result<(), Fault> {
        write_pointer(&self.dir, self.number)
    }

    /// Makes sure that its name lasts, and that of the directory of all: their files are synced by who writes them, but
    /// not what they are called.
    pub(super) fn sync_names(&self) -> Result<(), Fault> {
        sync(&self.dir)?;
        match self.dir.parent() {
            Some(parent) if parent != Path::new("") => sync(parent),
            Some(_) | None => Ok(()),
        }
    }

    /// Removes it; its store must be closed.
    pub(super) fn remove(&self) -> Result<(), Fault> {
        let path = self.path();
        note::clear(&path)?;
        fs::remove_dir_all(&path).map_err(io(&path))
    }

    /// Renames it, the current one, out of the way and makes an empty one current.
    pub(super) fn set_aside(&mut self) -> Result<(), Fault> {
        let damaged = self.path();
        let aside = self.dir.join(format!("{}.damaged", self.number));
        // One specimen is enough to look at; a member that fails again and again must not fill its disk with them.
        for entry in fs::read_dir(&self.dir).map_err(io(&self.dir))? {
            let path = entry.map_err(io(&self.dir))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "damaged")
            {
                fs::remove_dir_all(&path).map_err(io(&path))?;
            }
        }
        // First the name, then the pointer: a crash between the two leaves an empty current generation, which is the end.
        match fs::rename(&damaged, &aside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(io(&damaged)(error)),
            Ok(()) | Err(_) => {}
        }
        note::clear(&damaged)?;
        self.number += 1;
        self.make_current()
    }
}

/// A generation being filled. Dropped before it became current, it is removed at the next open.
pub struct Fresh {
    filling: Option<Filling>,
    pub(super) generation: Generation,
    pub(super) store: Store,
}

impl Fresh {
    /// Begins an empty generation below `dir`, after the current one.
    pub fn create(dir: &Path, layout: &Layout) -> Result<Self, Fault> {
        let generation = Generation {
            dir: dir.to_owned(),
            number: read_pointer(dir)?.unwrap_or(0) + 1,
        };
        let path = generation.path();
        if path.exists() {
            generation.remove()?;
        }
        let store = Store::open(&path, layout).map_err(OpenError::into_fault)?;
        Ok(Self {
            filling: None,
            generation,
            store,
        })
    }

    /// Says which level the state has that fills it, before the first row. Until then it is the first.
    pub fn written_for(&mut self, level: u32) {
        self.store.written_for(level);
    }

    /// Writes rows of the layout's first space, in any order. Blocks, and may sleep while fjall is behind.
    pub fn write(&mut self, rows: &[(Bytes, Bytes)]) -> Result<(), Fault> {
        let mark = Mark {
            last: self.store.mark.last + 1,
            checkpoint: self.store.mark.checkpoint,
        };
        let mut batch = self.store.batch(mark, rows.len());
        for (key, value) in rows {
            batch.set(Layout::SMALL, key, Some(value));
        }
        batch.commit()?;
        self.store.mark = mark;
        Ok(())
    }

    /// Writes rows of another space, whose keys must ascend as long as the space stays the same. Blocks.
    pub fn fill(&mut self, space: Space, rows: Vec<(Bytes, Bytes)>) -> Result<(), Fault> {
        if self
            .filling
            .as_ref()
            .is_some_and(|filling| filling.space() != space)
        {
            self.end_filling()?;
        }
        let store = &self.store;
        let filling = self.filling.get_or_insert_with(|| store.fill(space));
        let filled = filling.write(rows);
        filled.map_err(|error| store.fill_fault(error))
    }

    fn end_filling(&mut self) -> Result<(), Fault> {
        let ended = self.filling.take().map_or(Ok(()), Filling::end);
        ended.map_err(|error| self.store.fill_fault(error))
    }

    /// Makes what was written durable.
    pub fn sync(&mut self) -> Result<(), Fault> {
        self.end_filling()?;
        // Every space has the format and the number of the last batch, whatever was written.
        self.write(&[])?;
        self.store.sync()
    }

    /// The store, which is whole since [`sync`](Self::sync).
    pub(super) fn into_store(self) -> (Generation, Store) {
        (self.generation, self.store)
    }
}

/// The generation that the next open finds below `dir`, without a change to anything; `None` if none was ever made.
///
/// Errors: `Corrupt` if nothing says which one counts; `Io`.
pub(super) fn pointed_at(dir: &Path) -> Result<Option<PathBuf>, Fault> {
    match read_pointer(dir)? {
        Some(number) => Ok(Some(dir.join(number.to_string()))),
        None if numbers(dir)?.is_empty() => Ok(None),
        None => Err(damaged_pointer(dir, UNNAMED)),
    }
}

/// The generations there are.
fn numbers(dir: &Path) -> Result<Vec<u64>, Fault> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(io(dir))? {
        let name = entry.map_err(io(dir))?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    Ok(numbers)
}

/// The number and its checksum: a flipped bit must not name a generation that another then is removed for.
fn pointer_text(number: u64) -> String {
    let number = number.to_string();
    let sum = crc32fast::hash(number.as_bytes());
    format!("{number} {sum:08x}\n")
}

fn read_pointer(dir: &Path) -> Result<Option<u64>, Fault> {
    let path = dir.join(POINTER);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Fault::Io { path, source }),
    };
    let number = std::str::from_utf8(&text)
        .ok()
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .filter(|number| pointer_text(*number).as_bytes() == text);
    match number {
        Some(number) => Ok(Some(number)),
        None => Err(damaged_pointer(dir, "its checksum does not fit")),
    }
}

fn damaged_pointer(dir: &Path, why: &str) -> Fault {
    Fault::irreparable(dir.join(POINTER).display().to_string(), why)
}

fn write_pointer(dir: &Path, number: u64) -> Result<(), Fault> {
    let path = dir.join(POINTER);
    let unfinished = dir.join("current.new");
    let mut file = File::create(&unfinished).map_err(io(&unfinished))?;
    file.write_all(pointer_text(number).as_bytes())
        .map_err(io(&unfinished))?;
    file.sync_all().map_err(io(&unfinished))?;
    fs::rename(&unfinished, &path).map_err(io(&path))?;
    sync(dir)
}

/// Makes the names in a directory durable.
fn sync(dir: &Path) -> Result<(), Fault> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(io(dir))
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Fault {
    let path = path.to_owned();
    move |source| Fault::Io { path, source }
}
