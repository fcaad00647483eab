//! Reads `strace -f -xx`: which call of which thread did what to which file.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::{Change, FileId, NEVER, Op, Recording, rename};

pub(super) fn read(trace: &str, base: &Path) -> Recording {
    let mut reader = Reader {
        this: Recording {
            base: base.to_owned(),
            ops: Vec::new(),
            acknowledged: Vec::new(),
            moments: Vec::new(),
        },
        open: HashMap::new(),
        begun: HashMap::new(),
        names: BTreeMap::new(),
        files: 0,
    };
    for (line, text) in trace.lines().enumerate() {
        reader.line(line, text);
    }
    reader.this
}

/// An open file or folder.
#[derive(Clone)]
struct Open {
    path: PathBuf,
    file: Option<FileId>,
    position: u64,
    appends: bool,
    is_durable: bool,
}

struct Reader {
    this: Recording,
    open: HashMap<i64, Open>,
    /// Calls that have begun on a thread: line and text.
    begun: HashMap<String, (usize, String)>,
    /// Names as the process sees them, with the length of each file.
    names: BTreeMap<PathBuf, FileId>,
    files: usize,
}

impl Reader {
    fn line(&mut self, line: usize, text: &str) {
        let Some((thread, text)) = text.split_once(' ') else {
            return;
        };
        let text = text.trim_start();
        if let Some(rest) = text.strip_prefix("<... ") {
            let Some((begin, start)) = self.begun.remove(thread) else {
                return;
            };
            let rest = rest.split_once("resumed>").map_or("", |(_, rest)| rest);
            self.call(begin, line, &format!("{start}{rest}"));
        } else if let Some(start) = text.strip_suffix("<unfinished ...>") {
            if let Some(fd) = start.strip_prefix("close(") {
                // It takes effect at once: another thread may be given the number before the call is seen to end.
                self.open.remove(&fd.trim().parse().unwrap_or(-1));
                return;
            }
            self.begun
                .insert(thread.to_owned(), (line, start.trim_end().to_owned()));
        } else {
            self.call(line, line, text);
        }
    }

    fn call(&mut self, begin: usize, end: usize, text: &str) {
        let Some((name, rest)) = text.split_once('(') else {
            return;
        };
        let Some((arguments, result)) = rest.rsplit_once(") ") else {
            return;
        };
        let result = result.trim_start().trim_start_matches("= ");
        let Ok(result) = result.split(' ').next().unwrap_or_default().parse::<i64>() else {
            return;
        };
        if result < 0 {
            return;
        }
        let arguments: Vec<&str> = arguments.split(", ").collect();
        self.succeeded((begin, end), name, &arguments, result);
    }

    fn succeeded(&mut self, lines: (usize, usize), name: &str, arguments: &[&str], result: i64) {
        let fd = || arguments[0].parse::<i64>().unwrap_or(-1);
        match name {
            "open" => self.opened(
                lines,
                self.path("AT_FDCWD", arguments[0]),
                arguments[1],
                result,
            ),
            "openat" => self.opened(
                lines,
                self.path(arguments[0], arguments[1]),
                arguments[2],
                result,
            ),
            "close" => drop(self.open.remove(&fd())),
            "dup" => self.duplicated(fd(), result),
            "fcntl" if arguments[1].starts_with("F_DUPFD") => self.duplicated(fd(), result),
            "lseek" => {
                if let Some(open) = self.open.get_mut(&fd()) {
                    open.position = result as u64;
                }
            }
            "write" if fd() == 1 => {
                let text = String::from_utf8(bytes_of(arguments[1])).unwrap_or_default();
                let number = text
                    .strip_prefix("ack ")
                    .and_then(|rest| rest.trim_end().parse().ok());
                if let Some(number) = number {
                    self.this.acknowledged.push((lines.0, number));
                    self.this.moments.push(lines.0 + 1);
                }
            }
            "write" => self.written(
                lines,
                fd(),
                None,
                &bytes_of(arguments[1])[..result as usize],
            ),
            "pwrite64" => {
                let offset = arguments[3].parse().unwrap();
                self.written(
                    lines,
                    fd(),
                    Some(offset),
                    &bytes_of(arguments[1])[..result as usize],
                );
            }
            "ftruncate" => {
                if let Some(file) = self.open.get(&fd()).and_then(|open| open.file) {
                    let bytes = arguments[1].parse().unwrap();
                    self.change(lines, Change::Length { file, bytes });
                }
            }
            "fsync" => self.synced(lines, fd(), true),
            "fdatasync" => self.synced(lines, fd(), false),
            "mkdir" => self.folder(lines, self.path("AT_FDCWD", arguments[0])),
            "mkdirat" => self.folder(lines, self.path(arguments[0], arguments[1])),
            "rename" => self.renamed(
                lines,
                self.path("AT_FDCWD", arguments[0]),
                self.path("AT_FDCWD", arguments[1]),
            ),
            "renameat" | "renameat2" => {
                self.renamed(
                    lines,
                    self.path(arguments[0], arguments[1]),
                    self.path(arguments[2], arguments[3]),
                );
            }
            "unlink" | "rmdir" => self.unlinked(lines, self.path("AT_FDCWD", arguments[0])),
            "unlinkat" => self.unlinked(lines, self.path(arguments[0], arguments[1])),
            // Had they been used, what follows would be wrong.
            "writev" | "pwritev" | "pwritev2" | "fallocate" | "truncate" | "copy_file_range"
            | "link" | "linkat" => {
                let touches = self.open.contains_key(&fd()) || arguments[0].starts_with('"');
                assert!(!touches, "{name} is not understood");
            }
            _ => {}
        }
    }

    /// The path of an argument, if it lies below the base.
    fn path(&self, folder: &str, name: &str) -> Option<PathBuf> {
        let name = PathBuf::from(String::from_utf8(bytes_of(name)).ok()?);
        let path = match folder.parse::<i64>() {
            Ok(fd) if name.is_relative() => self.open.get(&fd)?.path.join(name),
            _ => name,
        };
        path.starts_with(&self.this.base).then_some(path)
    }

    fn opened(&mut self, lines: (usize, usize), path: Option<PathBuf>, flags: &str, fd: i64) {
        // The number may have been another file's, whose closing was not seen.
        self.open.remove(&fd);
        let Some(path) = path else {
            return;
        };
        let has = |flag: &str| flags.split('|').any(|found| found == flag);
        let known = self.names.get(&path).copied();
        let file = if has("O_DIRECTORY") {
            None
        } else if known.is_none() && has("O_CREAT") {
            let file = self.files;
            self.files += 1;
            self.names.insert(path.clone(), file);
            self.change(
                lines,
                Change::Link {
                    path: path.clone(),
                    file,
                },
            );
            Some(file)
        } else {
            if let Some(file) = known.filter(|_| has("O_TRUNC")) {
                self.change(lines, Change::Length { file, bytes: 0 });
            }
            known
        };
        let is_durable = has("O_DSYNC") || has("O_SYNC");
        self.open.insert(
            fd,
            Open {
                path,
                file,
                position: 0,
                appends: has("O_APPEND"),
                is_durable,
            },
        );
    }

    fn duplicated(&mut self, fd: i64, copy: i64) {
        if let Some(open) = self.open.get(&fd).cloned() {
            // The position is shared; nobody here moves it through one and writes through the other.
            self.open.insert(copy, open);
        }
    }

    fn written(&mut self, lines: (usize, usize), fd: i64, offset: Option<u64>, bytes: &[u8]) {
        let Some(open) = self.open.get(&fd).cloned() else {
            return;
        };
        let Some(file) = open.file else {
            return;
        };
        let at = match offset {
            Some(offset) => offset,
            None if open.appends => self.length(file),
            None => open.position,
        };
        if offset.is_none() {
            self.open.get_mut(&fd).expect("it is open").position = at + bytes.len() as u64;
        }
        self.change(
            lines,
            Change::Write {
                file,
                offset: at,
                bytes: bytes.to_vec(),
            },
        );
        if open.is_durable {
            let op = self.this.ops.last_mut().expect("it was just made");
            (op.durable, op.durable_strictly) = (lines.1, lines.1);
            self.this.moments.push(lines.1 + 1);
        }
    }

    fn length(&self, wanted: FileId) -> u64 {
        let mut length = 0;
        for op in &self.this.ops {
            match &op.change {
                Change::Length { file, bytes } if *file == wanted => length = *bytes,
                Change::Write {
                    file,
                    offset,
                    bytes,
                } if *file == wanted => {
                    length = length.max(offset + bytes.len() as u64);
                }
                _ => {}
            }
        }
        length
    }

    fn synced(&mut self, (begin, end): (usize, usize), fd: i64, with_names: bool) {
        let Some(Open {
            path, file: synced, ..
        }) = self.open.get(&fd)
        else {
            return;
        };
        for op in self.this.ops.iter_mut().filter(|op| op.end < begin) {
            let is_in_folder = |of: &Path| synced.is_none() && of.parent() == Some(path);
            let (ordered, strict) = match &op.change {
                Change::Write { file, .. } | Change::Length { file, .. } => {
                    let own = Some(*file) == *synced;
                    let is_length = matches!(op.change, Change::Length { .. });
                    (own || (with_names && is_length), own)
                }
                Change::Folder(of) | Change::Unlink(of) | Change::Link { path: of, .. } => {
                    (with_names, is_in_folder(of))
                }
                Change::Rename { from, to } => (with_names, is_in_folder(to) || is_in_folder(from)),
            };
            if ordered {
                op.durable = op.durable.min(end);
            }
            if strict {
                op.durable_strictly = op.durable_strictly.min(end);
            }
        }
        self.this.moments.push(end + 1);
    }

    fn folder(&mut self, lines: (usize, usize), path: Option<PathBuf>) {
        if let Some(path) = path {
            self.change(lines, Change::Folder(path));
        }
    }

    fn renamed(&mut self, lines: (usize, usize), from: Option<PathBuf>, to: Option<PathBuf>) {
        if let (Some(from), Some(to)) = (from, to) {
            rename(&mut self.names, &from, &to, || {});
            self.change(lines, Change::Rename { from, to });
        }
    }

    fn unlinked(&mut self, lines: (usize, usize), path: Option<PathBuf>) {
        if let Some(path) = path {
            self.names.remove(&path);
            self.change(lines, Change::Unlink(path));
        }
    }

    fn change(&mut self, (begin, end): (usize, usize), change: Change) {
        self.this.ops.push(Op {
            begin,
            end,
            durable: NEVER,
            durable_strictly: NEVER,
            change,
        });
        self.this.moments.push(begin + 1);
    }
}

/// The bytes of an argument as strace writes it: `"\x61\x62"`.
fn bytes_of(argument: &str) -> Vec<u8> {
    let inner = argument.trim_start_matches('"').trim_end_matches('"');
    assert!(!argument.ends_with("..."), "strace cut an argument short");
    inner
        .split("\\x")
        .filter(|digits| !digits.is_empty())
        .map(|digits| u8::from_str_radix(digits, 16).expect("two hexadecimal digits"))
        .collect()
}
