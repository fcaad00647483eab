//! The directories of the state: `<dir>/<n>/`, and `<dir>/current` that names the one in use.
//!
//! A snapshot is written into a fresh directory that becomes current by the rename of one small file, so a crash
//! leaves the old state or the new one, never a mixture.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::layers::Space;
use super::marks::Mark;
use super::store::{OpenError, Store};
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
        let pointer = dir.join(POINTER);
        let current = match fs::read_to_string(&pointer) {
            Ok(text) => text.trim().parse().map_err(|_| Fault::Corrupt {
                what: pointer.display().to_string(),
                why: "not a number".to_owned(),
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                write_pointer(dir, 1)?;
                1
            }
            Err(source) => {
                return Err(Fault::Io {
                    path: pointer,
                    source,
                });
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
        for entry in fs::read_dir(&self.dir).map_err(io(&self.dir))? {
            let entry = entry.map_err(io(&self.dir))?;
            let number = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u64>().ok());
            if number.is_some_and(|number| number != self.current) {
                fs::remove_dir_all(entry.path()).map_err(io(&entry.path()))?;
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
        self.current += 1;
        write_pointer(&self.dir, self.current)?;
        fs::rename(&damaged, &aside).map_err(io(&damaged))?;
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

fn read_pointer(dir: &Path) -> Result<Option<u64>, Fault> {
    let path = dir.join(POINTER);
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map(Some).map_err(|_| Fault::Corrupt {
            what: path.display().to_string(),
            why: "it names no generation".to_owned(),
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Fault::Io { path, source }),
    }
}

fn write_pointer(dir: &Path, number: u64) -> Result<(), Fault> {
    let path = dir.join(POINTER);
    let unfinished = dir.join("current.new");
    let mut file = File::create(&unfinished).map_err(io(&unfinished))?;
    writeln!(file, "{number}").map_err(io(&unfinished))?;
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
