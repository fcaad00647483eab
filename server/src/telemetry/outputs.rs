//! The places that log lines go to.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use super::rotating::{Rotating, Rotation};

/// A place for log lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// A file, which is made if it is not there, and set aside as this says.
    File(PathBuf, Option<Rotation>),
}

enum Sink {
    Stderr,
    Stdout,
    File(File),
    Rotating(Rotating),
}

/// Places for log lines, open. A line goes to each of them; one that cannot be written to misses it, and nobody waits for
/// it or ends by it.
pub struct Outputs(Vec<Sink>);

impl Outputs {
    /// Opens them.
    ///
    /// Errors: a file that cannot be made or written to, with its path.
    pub fn open(outputs: &[Output]) -> io::Result<Self> {
        let sinks = outputs.iter().map(|output| match output {
            Output::Stderr => Ok(Sink::Stderr),
            Output::Stdout => Ok(Sink::Stdout),
            Output::File(path, None) => {
                let mut options = OpenOptions::new();
                let file = options.append(true).create(true).open(path);
                file.map(Sink::File).map_err(|error| named(path, &error))
            }
            Output::File(path, Some(rotation)) => {
                let file = Rotating::open(path, *rotation);
                file.map(Sink::Rotating)
                    .map_err(|error| named(path, &error))
            }
        });
        Ok(Self(sinks.collect::<io::Result<_>>()?))
    }
}

fn named(path: &std::path::Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

impl Write for Outputs {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        for sink in &mut self.0 {
            // A full disk must not end the member, and there is nobody left to tell.
            let _ = match sink {
                Sink::Stderr => io::stderr().write_all(line),
                Sink::Stdout => {
                    let mut out = io::stdout();
                    out.write_all(line).and_then(|()| out.flush())
                }
                Sink::File(file) => file.write_all(line),
                Sink::Rotating(file) => file.write_line(line),
            };
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_to_each_file_behind_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a.log", "b.log"].map(|name| dir.path().join(name));
        std::fs::write(&a, "before\n").unwrap();
        let outputs = [&a, &b].map(|path| Output::File(path.clone(), None));
        let mut outputs = Outputs::open(&outputs).unwrap();
        outputs.write_all(b"line\n").unwrap();
        assert_eq!(std::fs::read_to_string(&a).unwrap(), "before\nline\n");
        assert_eq!(std::fs::read_to_string(&b).unwrap(), "line\n");
        let nowhere = Output::File(dir.path().join("none/c.log"), None);
        let why = Outputs::open(&[nowhere]).err().unwrap().to_string();
        assert!(why.contains("none/c.log"), "{why}");
    }
}
