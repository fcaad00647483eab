//! Where lines go: a file, standard output or standard error.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The mode of a file that is made; one that is there keeps its own.
const MODE: u32 = 0o600;

/// Where the audit log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Appended to this file.
    File(PathBuf),
    /// Standard output.
    Stdout,
    /// Standard error, between the lines of the program's own log.
    Stderr,
}

/// An open destination.
pub struct Output(Open);

enum Open {
    File(Followed),
    Stdout,
    Stderr,
}

/// A file that is made anew where it was moved away or removed, which is how logs are rotated.
struct Followed {
    path: PathBuf,
    file: File,
    /// Device and number.
    id: (u64, u64),
    /// Whether the last line written has no end.
    is_torn: bool,
}

/// Lines that were not written.
#[derive(Debug)]
pub(super) struct Unwritten {
    pub(super) lines: u64,
    pub(super) error: io::Error,
}

impl Output {
    /// Opens it, and makes a file that is not there.
    ///
    /// Errors: the operating system's, or it is no file.
    pub fn open(destination: &Destination) -> io::Result<Self> {
        Ok(Self(match destination {
            Destination::File(path) => Open::File(Followed::open(path.clone())?),
            Destination::Stdout => Open::Stdout,
            Destination::Stderr => Open::Stderr,
        }))
    }

    /// Writes whole lines. Blocks for as long as the destination does.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Unwritten> {
        let written = match &mut self.0 {
            Open::File(file) => return file.write(lines),
            Open::Stdout => all(&mut io::stdout().lock(), lines),
            Open::Stderr => all(&mut io::stderr().lock(), lines),
        };
        written.map_err(|(_, unwritten)| unwritten)
    }
}

impl Followed {
    fn open(path: PathBuf) -> io::Result<Self> {
        let (file, found) = open(&path)?;
        Ok(Self {
            id: id(&found),
            is_torn: ends_torn(&path, &found),
            path,
            file,
        })
    }

    fn write(&mut self, lines: &[u8]) -> Result<(), Unwritten> {
        self.follow().map_err(|error| Unwritten {
            lines: count(lines),
            error,
        })?;
        if self.is_torn {
            all(&mut self.file, b"\n").map_err(|(_, unwritten)| Unwritten {
                lines: count(lines),
                ..unwritten
            })?;
            self.is_torn = false;
        }
        all(&mut self.file, lines).map_err(|(written, unwritten)| {
            self.is_torn = lines[..written].last().is_some_and(|last| *last != b'\n');
            unwritten
        })
    }

    /// Opens the file anew if another one, or none, is at its place.
    fn follow(&mut self) -> io::Result<()> {
        let is_there = std::fs::metadata(&self.path).is_ok_and(|found| id(&found) == self.id);
        if !is_there {
            *self = Self::open(self.path.clone())?;
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let mut options = OpenOptions::new();
    // A pipe that nobody reads must not hold up the start.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    options
        .create(true)
        .append(true)
        .mode(MODE)
        .custom_flags(flags);
    let file = options.open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        let why = "it is no regular file";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    Ok((file, found))
}

/// Whether the file that is there was cut off inside of a line: by a crash, or a disk that was full.
fn ends_torn(path: &Path, found: &Metadata) -> bool {
    use std::os::unix::fs::FileExt;
    let Some(last) = found.len().checked_sub(1) else {
        return false;
    };
    let mut byte = [0];
    // One that may be written and not read is taken as it is.
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut byte, last));
    read.is_ok() && byte != [b'\n']
}

fn id(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// Writes all. Errors: how many bytes were written, and what was not.
fn all(out: &mut impl Write, lines: &[u8]) -> Result<(), (usize, Unwritten)> {
    let mut written = 0;
    let mut write = || -> io::Result<()> {
        while written < lines.len() {
            match out.write(&lines[written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        out.flush()
    };
    write().map_err(|error| {
        let lines = count(&lines[written..]);
        (written, Unwritten { lines, error })
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn opened(path: &Path) -> Output {
        Output::open(&Destination::File(path.to_owned())).unwrap()
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("audit.log"), dir.path().join("audit.log.1"));
        let mut output = opened(&path);
        output.write(b"1\n").unwrap();
        std::fs::rename(&path, &moved).unwrap();
        output.write(b"2\n").unwrap();
        std::fs::remove_file(&path).unwrap();
        output.write(b"3\n").unwrap();
        assert_eq!(std::fs::read(&moved).unwrap(), b"1\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"3\n");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE);
    }

    #[test]
    fn what_is_there_is_kept_and_a_line_without_an_end_gets_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        std::fs::write(&path, "whole\nto").unwrap();
        opened(&path).write(b"2\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole\nto\n2\n");
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for path in [
            dir.path(),
            Path::new("/dev/null"),
            Path::new("/no/such/folder/f"),
        ] {
            let opened = Output::open(&Destination::File(path.to_owned()));
            assert!(opened.is_err(), "{}", path.display());
        }
    }

    #[test]
    fn a_full_disk_loses_the_lines_that_were_not_written_whole() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                match self.0.min(bytes.len()) {
                    0 => Err(io::ErrorKind::StorageFull.into()),
                    taken => {
                        self.0 -= taken;
                        Ok(taken)
                    }
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (written, unwritten) = all(&mut Full(4), b"1\n22\n333\n").unwrap_err();
        assert_eq!((written, unwritten.lines), (4, 2));
    }
}
