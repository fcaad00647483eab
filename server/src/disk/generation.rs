//! The directories of the state: `<dir>/<n>/`, and `<dir>/current` that names the one in use.
//!
//! A snapshot is written into a fresh directory that becomes current by the rename of one small file, so a crash
//! leaves the old state or the new one, never a mixture.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::layers::Space;
use super::marks::Mark;
use super::store::{OpenError, Store, suspect};
use crate::command::Fault;
use bytes::Bytes;

const POINTER: &str = "current";

pub(super) struct Generations {
    dir: PathBuf,
    current: u64,
}

impl Generations {
    /// Finds the current generation below `dir` and removes unfinished or superseded ones.
    pub(super) fn open(dir: &Path) -> Result<(Self, PathBuf), Fault> {
        fs::create_dir_all(dir).map_err(io(dir))?;
        let current = match read_pointer(dir)? {
            Some(current) => current,
            None if numbers(dir)?.is_empty() => {
                write_pointer(dir, 1)?;
                1
            }
            None => {
                return Err(damaged_pointer(
                    dir,
                    "it is missing, but there are generations",
                ));
            }
        };
        let generations = Self {
            dir: dir.to_owned(),
            current,
        };
        generations.remove_others()?;
        let path = generations.path(current);
        Ok((generations, path))
    }

    pub(super) fn path(&self, number: u64) -> PathBuf {
        self.dir.join(number.to_string())
    }

    fn remove_others(&self) -> Result<(), Fault> {
        for number in numbers(&self.dir)? {
            if number != self.current {
                let path = self.path(number);
                fs::remove_dir_all(&path).map_err(io(&path))?;
            }
        }
        Ok(())
    }

    /// Renames the current generation out of the way and makes an empty one current; answers where.
    pub(super) fn set_aside(&mut self) -> Result<PathBuf, Fault> {
        let damaged = self.path(self.current);
        let aside = self.dir.join(format!("{}.damaged", self.current));
        if aside.exists() {
            // One specimen is enough to look at; a member that fails again and again must not fill its disk with them.
            fs::remove_dir_all(&aside).map_err(io(&aside))?;
        }
        // First the name, then the pointer: a crash between the two leaves an empty current generation, which is the end.
        match fs::rename(&damaged, &aside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(io(&damaged)(error)),
            Ok(()) | Err(_) => {}
        }
        let note = suspect(&damaged);
        match fs::remove_file(&note) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(io(&note)(error)),
            Ok(()) | Err(_) => {}
        }
        self.current += 1;
        write_pointer(&self.dir, self.current)?;
        Ok(self.path(self.current))
    }

    /// Makes `fresh` current and removes the one before it, whose store must be closed.
    pub(super) fn switch(&mut self, fresh: Fresh) -> Result<Store, Fault> {
        write_pointer(&self.dir, fresh.number)?;
        self.current = fresh.number;
        self.remove_others()?;
        Ok(fresh.store)
    }
}

/// A generation being filled. Dropped without a switch, it is removed at the next open.
pub struct Fresh {
    number: u64,
    store: Store,
}

impl Fresh {
    /// Begins an empty generation below `dir`, after the current one.
    pub fn create(dir: &Path) -> Result<Self, Fault> {
        let current = read_pointer(dir)?.unwrap_or(0);
        let number = current + 1;
        let path = dir.join(number.to_string());
        if path.exists() {
            fs::remove_dir_all(&path).map_err(io(&path))?;
        }
        let store = Store::open(&path).map_err(OpenError::into_fault)?;
        Ok(Self { number, store })
    }

    /// Writes rows. Blocks, and may sleep while fjall is behind.
    pub fn write(&mut self, rows: &[(Space, Bytes, Bytes)]) -> Result<(), Fault> {
        let mark = Mark {
            last: self.store.mark.last + 1,
            checkpoint: self.store.mark.checkpoint,
        };
        let mut batch = self.store.batch(mark, rows.len());
        for (space, key, value) in rows {
            batch.set(*space, key, Some(value));
        }
        batch.commit()?;
        self.store.mark = mark;
        Ok(())
    }

    /// Makes what was written durable.
    pub fn sync(&self) -> Result<(), Fault> {
        self.store.sync()
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
    Fault::Corrupt {
        what: dir.join(POINTER).display().to_string(),
        why: format!(
            "{why}. If other members are healthy, remove this one from the cluster, empty its data directory and add \
             it again"
        ),
    }
}

fn write_pointer(dir: &Path, number: u64) -> Result<(), Fault> {
    let path = dir.join(POINTER);
    let unfinished = dir.join("current.new");
    let mut file = File::create(&unfinished).map_err(io(&unfinished))?;
    file.write_all(pointer_text(number).as_bytes())
        .map_err(io(&unfinished))?;
    file.sync_all().map_err(io(&unfinished))?;
    fs::rename(&unfinished, &path).map_err(io(&path))?;
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(io(dir))
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Fault {
    let path = path.to_owned();
    move |source| Fault::Io { path, source }
}
