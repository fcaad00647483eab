//! The writes of a process to the files below one folder, as `strace` saw them, and the part that a power cut would
//! have left.
//!
//! The model is a disk under ext4, as far as programs may rely on it. An fsync makes the file's earlier writes durable,
//! and every earlier change of names and lengths, because those go through one ordered journal. An fdatasync does so
//! for the file's own only. A write to a file opened with O_DSYNC is durable when it returns. Of all that is not
//! durable a cut may keep anything: names and lengths in their order, of writes any sectors of 512 bytes.
//! [`Loss::Strict`] is meaner than ext4: names come back unless their own folder was synced.

mod strace;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const SECTOR: usize = 512;
/// Never.
const NEVER: usize = usize::MAX;

/// A file that was created, whatever its name is by now.
type FileId = usize;

enum Change {
    Folder(PathBuf),
    Link {
        path: PathBuf,
        file: FileId,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Unlink(PathBuf),
    Length {
        file: FileId,
        bytes: u64,
    },
    Write {
        file: FileId,
        offset: u64,
        bytes: Vec<u8>,
    },
}

struct Op {
    /// Line at which it began and ended, and from which on it is durable: as ext4 has it, and strictly.
    begin: usize,
    end: usize,
    durable: usize,
    durable_strictly: usize,
    change: Change,
}

/// The part that is lost of all that is not durable.
#[derive(Clone, Copy, Debug)]
pub(super) enum Loss {
    /// Nothing: as if only the process had died.
    Nothing,
    /// All of it.
    Everything,
    /// All of it, and names that ext4 would have kept.
    Strict,
    /// Data, but no names and lengths.
    Data,
    /// The newest write from its middle on.
    Tail,
    /// The newest write up to its middle.
    Head,
    /// Any part.
    Some { seed: u64 },
}

/// A recording.
pub(super) struct Recording {
    base: PathBuf,
    ops: Vec<Op>,
    /// Line and number of what the process said it had been promised.
    acknowledged: Vec<(usize, u64)>,
    /// Lines at which what a cut leaves changes.
    pub(super) moments: Vec<usize>,
}

impl Recording {
    /// Reads the output of `strace -f -xx`. Only what lies below `base` counts; `ack N` on standard output is a promise.
    pub(super) fn read(trace: &str, base: &Path) -> Self {
        strace::read(trace, base)
    }

    /// The last promise made before `moment`.
    pub(super) fn acknowledged(&self, moment: usize) -> Option<u64> {
        let before = self
            .acknowledged
            .iter()
            .take_while(|(line, _)| *line < moment);
        before.last().map(|(_, number)| *number)
    }

    /// Writes what a power cut just before line `moment` leaves into the empty folder `into`.
    pub(super) fn image(&self, moment: usize, loss: Loss, into: &Path) {
        let mut random = StdRng::seed_from_u64(match loss {
            Loss::Some { seed } => seed ^ moment as u64,
            _ => 0,
        });
        let begun = || self.ops.iter().filter(|op| op.begin < moment);
        let durable = |op: &Op| match loss {
            Loss::Strict => op.durable_strictly < moment,
            _ => op.durable < moment,
        };
        let is_write = |op: &Op| matches!(op.change, Change::Write { .. });
        let pending_names = begun().filter(|op| !durable(op) && !is_write(op)).count();
        let newest_write = begun()
            .filter(|op| is_write(op))
            .map(|op| op.begin)
            .next_back();
        let mut names_left = match loss {
            Loss::Everything | Loss::Strict => 0,
            Loss::Nothing | Loss::Data | Loss::Tail | Loss::Head => pending_names,
            Loss::Some { .. } => random.random_range(0..=pending_names),
        };
        let mut names: BTreeMap<PathBuf, FileId> = BTreeMap::new();
        let mut contents: HashMap<FileId, (Vec<u8>, u64)> = HashMap::new();
        fs::create_dir_all(into).unwrap();
        for op in begun() {
            if let Change::Write {
                file,
                offset,
                bytes,
            } = &op.change
            {
                let half = bytes.len() / 2;
                let is_newest = newest_write == Some(op.begin);
                let mut keep = |at: usize| {
                    durable(op)
                        || match loss {
                            Loss::Nothing => true,
                            Loss::Everything | Loss::Strict | Loss::Data => false,
                            Loss::Tail => !is_newest || at < half,
                            Loss::Head => !is_newest || at >= half,
                            Loss::Some { .. } => random.random_bool(0.5),
                        }
                };
                let (content, length) = contents.entry(*file).or_default();
                let mut at = 0;
                while at < bytes.len() {
                    let from = *offset as usize + at;
                    let part = (SECTOR - from % SECTOR).min(bytes.len() - at);
                    if keep(at) {
                        content.resize(content.len().max(from + part), 0);
                        content[from..from + part].copy_from_slice(&bytes[at..at + part]);
                        *length = (*length).max((from + part) as u64);
                    }
                    at += part;
                }
                continue;
            }
            if !durable(op) {
                if names_left == 0 {
                    continue;
                }
                names_left -= 1;
            }
            match &op.change {
                Change::Folder(path) => fs::create_dir_all(self.moved(path, into)).unwrap(),
                Change::Link { path, file } => drop(names.insert(path.clone(), *file)),
                Change::Rename { from, to } => {
                    rename(&mut names, from, to, || self.rename_folder(from, to, into))
                }
                Change::Unlink(path) => {
                    names.remove(path);
                    // A folder, if it is one; it is empty of what is in `names` by then.
                    let _ = fs::remove_dir_all(self.moved(path, into));
                }
                Change::Length { file, bytes } => {
                    let (content, length) = contents.entry(*file).or_default();
                    content.truncate(*bytes as usize);
                    *length = *bytes;
                }
                Change::Write { .. } => unreachable!("handled above"),
            }
        }
        for (path, file) in names {
            let path = self.moved(&path, into);
            // Its folder's creation was lost, and so is the file.
            if path.parent().is_some_and(Path::is_dir) {
                let (content, length) = contents.remove(&file).unwrap_or_default();
                fs::write(&path, content).unwrap();
                File::options()
                    .write(true)
                    .open(&path)
                    .unwrap()
                    .set_len(length)
                    .unwrap();
            }
        }
    }

    fn moved(&self, path: &Path, into: &Path) -> PathBuf {
        into.join(
            path.strip_prefix(&self.base)
                .expect("only what is below it was recorded"),
        )
    }

    fn rename_folder(&self, from: &Path, to: &Path, into: &Path) {
        let (from, to) = (self.moved(from, into), self.moved(to, into));
        if from.is_dir() {
            fs::rename(from, to).unwrap();
        }
    }
}

/// Renames a file, or all files of a folder.
fn rename(names: &mut BTreeMap<PathBuf, FileId>, from: &Path, to: &Path, folder: impl FnOnce()) {
    if let Some(file) = names.remove(from) {
        names.insert(to.to_owned(), file);
        return;
    }
    let below: Vec<_> = names
        .keys()
        .filter(|path| path.starts_with(from))
        .cloned()
        .collect();
    for path in below {
        let file = names.remove(&path).expect("it was just there");
        names.insert(
            to.join(path.strip_prefix(from).expect("it starts so")),
            file,
        );
    }
    folder();
}
