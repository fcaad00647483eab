//! The seam to the disk: few operations, so that tests can fail them and a simulation can keep it all in memory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::sector::{self, BLOCK};

/// A directory that holds segments and small files.
pub trait Disk: Send + Sync {
    /// The names in it, in any order.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Makes a segment of `bytes`, filled with blank sectors, durably.
    fn create_segment(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn SegmentFile>>;
    /// Opens a segment.
    fn open_segment(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>>;
    /// Renames, durably when it returns.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Reads a small file whole; `None` if there is none.
    fn read_small(&self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// Writes a small file whole, durably.
    fn write_small(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Where it is, for messages.
    fn place(&self) -> PathBuf;
}

/// A segment that is open. Offsets and lengths are multiples of 4096.
pub trait SegmentFile: Send + Sync {
    /// Its length.
    fn bytes(&self) -> io::Result<u64>;
    /// Reads exactly `bytes`.
    fn read(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>>;
    /// Writes, and returns when the bytes are durable. An error means that nothing is known about them.
    fn write_durably(&self, offset: u64, bytes: &Aligned) -> io::Result<()>;
}

/// A buffer whose start is aligned as direct I/O needs it.
#[derive(Default)]
pub struct Aligned {
    store: Vec<u8>,
    start: usize,
    length: usize,
}

impl Aligned {
    /// Gives it a length; its contents are lost.
    pub fn resize(&mut self, length: usize) {
        if self.store.len() < length + BLOCK {
            self.store.resize(length + BLOCK, 0);
            self.start = self.store.as_ptr().align_offset(BLOCK);
        }
        self.length = length;
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.store[self.start..self.start + self.length]
    }

    /// The bytes, to change.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.store[self.start..self.start + self.length]
    }
}

/// A directory of the file system.
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// One that exists.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Direct I/O where the file system has it. Through the page cache a small write after a large fill can become a
    /// large one: ext4 keeps large folios and writes a dirty one whole.
    fn open(&self, name: &str, create: bool) -> io::Result<File> {
        let open = |flags: libc::c_int| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(create)
                .mode(0o600)
                .custom_flags(flags)
                .open(self.path.join(name))
        };
        // libc's: rustix 1.1's DSYNC is O_SYNC, which writes the time of the change as well, a block elsewhere.
        match open(libc::O_DSYNC | libc::O_DIRECT) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                if create {
                    // The failed attempt may have left the name behind.
                    let _ = fs::remove_file(self.path.join(name));
                }
                open(libc::O_DSYNC)
            }
            done => done,
        }
    }
}

impl Disk for Directory {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    fn create_segment(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn SegmentFile>> {
        // A write to the segment before this one waits behind no more than that.
        const CHUNK: u64 = 256 << 10;
        let temporary = format!("{name}.tmp");
        match fs::remove_file(self.path.join(&temporary)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = Segment(self.open(&temporary, true)?);
        let mut buffer = Aligned::default();
        let mut offset = 0;
        while offset < bytes {
            let part = CHUNK.min(bytes - offset);
            buffer.resize(part as usize);
            let block = u32::try_from(offset / BLOCK as u64).expect("segments are far smaller");
            sector::blank(buffer.bytes_mut(), block);
            file.write_durably(offset, &buffer)?;
            offset += part;
        }
        file.0.sync_all()?;
        self.rename(&temporary, name)?;
        Ok(Arc::new(file))
    }

    fn open_segment(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        Ok(Arc::new(Segment(self.open(name, false)?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))?;
        self.sync()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn read_small(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write_small(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = format!("{name}.tmp");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.path.join(&temporary))?;
        file.write_all_at(bytes, 0)?;
        file.sync_all()?;
        self.rename(&temporary, name)
    }

    fn place(&self) -> PathBuf {
        self.path.clone()
    }
}

struct Segment(File);

impl SegmentFile for Segment {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut buffer = Aligned::default();
        buffer.resize(bytes);
        self.0.read_exact_at(buffer.bytes_mut(), offset)?;
        let Aligned {
            mut store,
            start,
            length,
        } = buffer;
        store.truncate(start + length);
        store.drain(..start);
        Ok(store)
    }

    fn write_durably(&self, offset: u64, bytes: &Aligned) -> io::Result<()> {
        // The file is open with O_DSYNC: one system call writes and waits for the disk.
        self.0.write_all_at(bytes.bytes(), offset)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_write_waits_for_its_bytes_and_for_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::new(dir.path());
        for create in [true, false] {
            let file = directory.open("segment", create).unwrap();
            let about = fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()));
            let about = about.unwrap();
            let flags = about.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = libc::c_int::from_str_radix(flags.unwrap().trim(), 8).unwrap();
            assert_eq!(flags & libc::O_SYNC, libc::O_DSYNC, "{about}");
        }
    }
}
