//! A state directory that is looked at and not changed: its current generation is copied, and the copy opened as a start
//! would open it.
//!
//! Opening writes: fjall cuts its journal and begins a new one, and what is superseded goes. Tables never change once they
//! are written, so the copy has links to them; all else is small.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use fjall::AbstractTree;

use super::error::OpenError;
use super::generation::{self, Generation};
use super::note::{self, Note};
use super::space::Layout;
use super::store::Store;
use super::{Disk, Fault};

/// The folder of a tree's tables.
const TABLES: &str = "tables";

/// The parts of a state directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The generation that a start opens; `None` before the first start.
    pub current: Option<PathBuf>,
    /// Why a start would set it aside: an earlier one found it damaged.
    pub condemned: Option<String>,
    /// Superseded or unfinished generations, which a start removes.
    pub superseded: Vec<PathBuf>,
    /// Generations that were set aside as damaged, for people to look at.
    pub set_aside: Vec<PathBuf>,
}

/// The parts of the state directory at `dir`.
///
/// Errors: `Corrupt` if nothing says which generation counts; `Io`.
pub fn contents(dir: &Path) -> Result<Contents, Fault> {
    let mut contents = Contents::default();
    if !dir.exists() {
        return Ok(contents);
    }
    let current = generation::pointed_at(dir)?;
    let io = |source| Fault::Io {
        path: dir.to_owned(),
        source,
    };
    for entry in fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.ends_with(".damaged") {
            contents.set_aside.push(path);
        } else if name.parse::<u64>().is_ok() && Some(&path) != current.as_ref() {
            contents.superseded.push(path);
        }
    }
    if let Some(path) = &current
        && let Some(Note::Damaged(why)) = note::read(path)
    {
        contents.condemned = Some(why);
    }
    contents.current = current;
    Ok(contents)
}

/// Copies the state directory `from` to `to`, which must not be there yet; tables become links to those of `from`.
///
/// Errors: `Io`.
pub fn copy(from: &Path, to: &Path) -> Result<(), Fault> {
    let of = |path: &Path| {
        let path = path.to_owned();
        move |source| Fault::Io { path, source }
    };
    fs::create_dir(to).map_err(of(to))?;
    let is_tables = from.file_name().is_some_and(|name| name == TABLES);
    for entry in fs::read_dir(from).map_err(of(from))? {
        let entry = entry.map_err(of(from))?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            let is_specimen = path
                .extension()
                .is_some_and(|extension| extension == "damaged");
            if !is_specimen {
                copy(&path, &to)?;
            }
        } else if is_tables {
            let absolute = fs::canonicalize(&path).map_err(of(&path))?;
            symlink(absolute, &to).map_err(of(&to))?;
        } else {
            copy_file(&path, &to).map_err(of(&path))?;
        }
    }
    Ok(())
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    // The copy is opened for writing, though the original may be for reading only.
    let mut rights = fs::metadata(to)?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut rights, 0o600);
    fs::set_permissions(to, rights)
}

impl Disk {
    /// As [`Disk::open`], and reads every row; nothing is set aside. For a copy, see [`copy`].
    ///
    /// Errors: `Corrupt` with what is damaged; others as of opening.
    pub fn inspect(dir: &Path, layout: &'static Layout) -> Result<Self, Fault> {
        let generation = Generation::current(dir)?;
        let path = generation.path();
        let damaged = |error: OpenError| match error {
            OpenError::Damaged(why) => Fault::Corrupt {
                what: path.display().to_string(),
                why,
            },
            OpenError::Fault(fault) => fault,
        };
        let store = Store::open(&path, layout).map_err(damaged)?;
        store.check_tables()?;
        store.check_rows().map_err(damaged)?;
        Ok(Self::start(store, generation, layout))
    }
}

impl Store {
    /// Compares each table with the checksum that was noted when it was written.
    ///
    /// Errors: `Corrupt` for the first that differs; `Io`.
    fn check_tables(&self) -> Result<(), Fault> {
        for space in self.spaces() {
            for table in space.tree.current_version().iter_tables() {
                let path: &Path = &table.path;
                let bytes = fs::read(path).map_err(|source| Fault::Io {
                    path: path.to_owned(),
                    source,
                })?;
                if xxhash_rust::xxh3::xxh3_128(&bytes) != table.checksum().into_u128() {
                    return Err(Fault::Corrupt {
                        what: path.display().to_string(),
                        why: "its checksum is not the one that was noted when it was written"
                            .to_owned(),
                    });
                }
            }
        }
        Ok(())
    }
}
