//! A log file that is set aside when it is full, under the names that lumberjack gives, so that tools find them:
//! `etcd.log`, `etcd-2026-12-01T05-00-25.123.log`, `etcd-2026-12-01T05-00-25.123.log.gz`.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// When a file is set aside, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes of a file at most.
    pub bytes_max: u64,
    /// Days that one set aside is kept; 0 is for ever.
    pub days_max: u64,
    /// Files set aside that are kept; 0 is all.
    pub files_max: usize,
    /// Whether they are compressed with gzip.
    pub compresses: bool,
}

/// Files of a log have this mode unless the one before had another.
const MODE: u32 = 0o600;

/// The file that is written to.
pub(super) struct Rotating {
    aside: Aside,
    rotation: Rotation,
    file: File,
    bytes: u64,
    /// Held while files that were set aside are seen to.
    seen_to: Arc<Mutex<()>>,
}

impl Rotating {
    /// Goes on with the file that is there, or makes it, and its folder.
    pub(super) fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(MODE).open(path)?;
        let mut rotating = Self {
            bytes: file.metadata()?.len(),
            aside: Aside::of(path),
            rotation,
            file,
            seen_to: Arc::default(),
        };
        if rotating.bytes >= rotation.bytes_max {
            rotating.rotate()?;
        } else {
            rotating.see_to_old();
        }
        Ok(rotating)
    }

    /// Appends a line; first sets the file aside if it would be too long. A line that is longer than a file is written to one
    /// of its own.
    pub(super) fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        let more = line.len() as u64;
        if self.bytes > 0 && self.bytes + more > self.rotation.bytes_max {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.bytes += more;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let path = &self.aside.path;
        let mode = self
            .file
            .metadata()
            .map_or(MODE, |about| about.permissions().mode());
        let mut name = self.aside.name(&now());
        // Two in one millisecond: neither may take the place of the other.
        while name.exists() {
            std::thread::sleep(Duration::from_millis(1));
            name = self.aside.name(&now());
        }
        match fs::rename(path, name) {
            // Somebody else has moved it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed?,
        }
        let mut options = OpenOptions::new();
        self.file = options.append(true).create(true).mode(mode).open(path)?;
        self.file.set_permissions(Permissions::from_mode(mode))?;
        self.bytes = self.file.metadata()?.len();
        self.see_to_old();
        Ok(())
    }

    /// Compresses and removes on a thread of its own: no line waits for it.
    fn see_to_old(&self) {
        let (aside, rotation) = (self.aside.clone(), self.rotation);
        if (rotation.days_max, rotation.files_max, rotation.compresses) == (0, 0, false) {
            return;
        }
        let seen_to = self.seen_to.clone();
        std::thread::spawn(move || {
            let _one = seen_to.lock();
            // It is tried again when the next file is set aside.
            let _ = aside.see_to(rotation);
        });
    }
}

/// The present, as names of files have it.
fn now() -> String {
    let mut text = String::new();
    // Writing to a string never fails.
    let _ = tracing_subscriber::fmt::time::SystemTime.format_time(&mut Writer::new(&mut text));
    text.get(..23).unwrap_or_default().replace(':', "-")
}

/// The names of files that are set aside.
#[derive(Clone)]
struct Aside {
    path: PathBuf,
    prefix: String,
    extension: String,
}

impl Aside {
    fn of(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (prefix, extension) = match name.rfind('.') {
            Some(dot) => name.split_at(dot),
            None => (&*name, ""),
        };
        Self {
            path: path.to_owned(),
            prefix: format!("{prefix}-"),
            extension: extension.to_owned(),
        }
    }

    fn name(&self, moment: &str) -> PathBuf {
        let name = format!("{}{moment}{}", self.prefix, self.extension);
        self.path.with_file_name(name)
    }

    /// The moment in the name of a file of ours, and whether it is compressed.
    fn moment<'n>(&self, name: &'n str) -> Option<(&'n str, bool)> {
        let (plain, is_compressed) = match name.strip_suffix(".gz") {
            Some(plain) => (plain, true),
            None => (name, false),
        };
        let moment = plain.strip_prefix(self.prefix.as_str())?;
        let moment = moment.strip_suffix(self.extension.as_str())?;
        let shape = |byte: u8| if byte.is_ascii_digit() { b'0' } else { byte };
        let is_moment = moment.bytes().map(shape).eq(*b"0000-00-00T00-00-00.000");
        is_moment.then_some((moment, is_compressed))
    }

    /// Removes what is too old or too many, and compresses the rest.
    fn see_to(&self, rotation: Rotation) -> io::Result<()> {
        let folder = self.path.parent().filter(|folder| *folder != Path::new(""));
        let mut found = Vec::new();
        for file in fs::read_dir(folder.unwrap_or(Path::new(".")))? {
            let file = file?;
            let name = file.file_name().to_string_lossy().into_owned();
            if let Some((moment, is_compressed)) = self.moment(&name) {
                let age = file.metadata()?.modified()?.elapsed().unwrap_or_default();
                found.push((moment.to_owned(), is_compressed, age, file.path()));
            }
        }
        found.sort();
        let mut moments: Vec<String> = found.iter().map(|(moment, ..)| moment.clone()).collect();
        moments.dedup();
        let kept = match rotation.files_max {
            0 => moments.len(),
            most => most.min(moments.len()),
        };
        let first_kept = moments.get(moments.len() - kept);
        let age_max = Duration::from_secs(rotation.days_max.saturating_mul(24 * 60 * 60));
        for (moment, is_compressed, age, path) in &found {
            let is_too_old = rotation.days_max > 0 && *age > age_max;
            if is_too_old || first_kept.is_none_or(|first| moment < first) {
                fs::remove_file(path)?;
            } else if rotation.compresses && !is_compressed {
                compress(path)?;
            }
        }
        Ok(())
    }
}

/// Replaces a file by its compressed form. One that was cut short by the end of the process is written anew.
fn compress(path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    let mut from = File::open(path)?;
    let mode = from.metadata()?.permissions().mode();
    let mut options = OpenOptions::new();
    let to = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&name)?;
    let mut packed = GzEncoder::new(to, Compression::default());
    io::copy(&mut from, &mut packed)?;
    packed.finish()?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const SMALL: Rotation = Rotation {
        bytes_max: 100,
        days_max: 0,
        files_max: 0,
        compresses: false,
    };

    fn names(dir: &Path) -> Vec<String> {
        let files = fs::read_dir(dir).unwrap();
        let name =
            |file: io::Result<fs::DirEntry>| file.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<_> = files.map(name).collect();
        names.sort();
        names
    }

    fn line(number: usize) -> Vec<u8> {
        format!("{number:059}\n").into_bytes()
    }

    #[test]
    fn a_full_file_is_set_aside_and_none_grows_beyond_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/etcd.log");
        let mut log = Rotating::open(&path, SMALL).unwrap();
        for number in 0..4 {
            log.write_line(&line(number)).unwrap();
        }
        drop(log);
        // Goes on where it was.
        let mut log = Rotating::open(&path, SMALL).unwrap();
        log.write_line(&line(4)).unwrap();
        let longest = vec![b'x'; 300];
        log.write_line(&longest).unwrap();
        log.write_line(&line(5)).unwrap();
        let folder = path.parent().unwrap();
        let found = names(folder);
        assert_eq!(found.len(), 7, "{found:?}");
        assert_eq!(found.last().unwrap(), "etcd.log");
        let contents: Vec<_> = found
            .iter()
            .map(|name| fs::read(folder.join(name)).unwrap())
            .collect();
        let expected = [
            line(0),
            line(1),
            line(2),
            line(3),
            line(4),
            longest,
            line(5),
        ];
        assert_eq!(contents, expected);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE);
    }

    #[test]
    fn files_that_are_too_many_or_too_old_go_and_others_are_compressed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etcd.log");
        let aside = Aside::of(&path);
        for second in 10..14 {
            let name = aside.name(&format!("2026-12-01T05-00-{second}.123"));
            fs::write(name, format!("{second}")).unwrap();
        }
        let foreign = [
            "etcd-notes.log",
            "etcd-2026-12-01.log",
            "other-2026-12-01T05-00-10.123.log",
        ];
        for name in foreign {
            fs::write(dir.path().join(name), "kept").unwrap();
        }
        let rotation = Rotation {
            files_max: 2,
            compresses: true,
            ..SMALL
        };
        aside.see_to(rotation).unwrap();
        // A second look changes nothing.
        aside.see_to(rotation).unwrap();
        let mut expected: Vec<_> = foreign.map(str::to_owned).to_vec();
        expected
            .extend([12, 13].map(|second| format!("etcd-2026-12-01T05-00-{second}.123.log.gz")));
        expected.sort();
        assert_eq!(names(dir.path()), expected);
        let packed = File::open(dir.path().join("etcd-2026-12-01T05-00-13.123.log.gz")).unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(packed)
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "13");

        let oldest = File::options()
            .write(true)
            .open(dir.path().join(&expected[1]))
            .unwrap();
        let modified = oldest.metadata().unwrap().modified().unwrap();
        let three_days = Duration::from_secs(3 * 24 * 60 * 60);
        oldest.set_modified(modified - three_days).unwrap();
        let two_days = Rotation {
            days_max: 2,
            ..SMALL
        };
        assert!(expected[1].ends_with("12.123.log.gz"), "{expected:?}");
        aside.see_to(two_days).unwrap();
        expected.remove(1);
        assert_eq!(names(dir.path()), expected);
    }

    #[test]
    fn a_name_says_the_moment_to_the_millisecond() {
        let aside = Aside::of(Path::new("/var/log/etcd.log"));
        let name = aside.name(&now());
        let name = name.file_name().unwrap().to_str().unwrap();
        assert!(aside.moment(name).is_some(), "{name}");
        assert_eq!(aside.moment("etcd.log"), None);
    }
}
