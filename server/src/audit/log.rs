//! The lines that wait to be written, and the thread that writes them.
//!
//! The caller never waits: a line that finds no room is counted and lost. The thread takes all that waits at once, some
//! moments after the first has come, so that a busy member wakes it rarely.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{io, thread};

use super::filter::Filter;
use super::line::{Entry, Operation, write_lost};
use super::output::Output;
use crate::metrics::metrics;

/// Bytes of lines that wait; some ten thousand puts. While they are being written, as many more may wait.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// How long the first line waits for others.
const GATHER: Duration = Duration::from_millis(20);
/// How long the thread rests after a failure, if nothing new comes.
const RETRY: Duration = Duration::from_secs(1);
/// The time that what waits has to be written when the process ends.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// The audit log of this member. Cheap to clone; the last handle ends its thread.
#[derive(Clone)]
pub struct Log(Arc<Handle>);

struct Handle {
    filter: Filter,
    member: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// There is something to write, or no more to come.
    written_to: Condvar,
    /// The thread has ended.
    ended: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    /// How many lines those are.
    count: u64,
    /// Lines that found no room since the thread looked last.
    lost: u64,
    /// Whether the thread must be told that there is something.
    sleeps: bool,
    is_closing: bool,
    has_ended: bool,
}

impl Log {
    /// Starts the log of the member with this id, in hexadecimal.
    ///
    /// Errors: the operating system has no thread for it.
    pub fn start(output: Output, filter: Filter, member: String) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (of_thread, name) = (shared.clone(), member.clone());
        thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || of_thread.run(output, &name))?;
        Ok(Self(Arc::new(Handle {
            filter,
            member,
            shared,
        })))
    }

    /// Whether a call with this operation is recorded.
    pub fn takes(&self, operation: &Operation<'_>) -> bool {
        self.0.filter.takes(operation)
    }

    /// Records a call. Does not block; if too much waits, the line is lost and counted.
    pub fn record(
        &self,
        entry: &Entry<'_>,
        operations: impl FnOnce(&mut dyn FnMut(Operation<'_>)),
    ) {
        let Handle { member, shared, .. } = &*self.0;
        shared.add(|out| entry.write(member, operations, out));
    }

    /// Ends the log once what waits is written, or takes too long. Blocks for a second at most.
    pub fn close(&self) {
        let mut waiting = self.0.shared.waiting();
        waiting.is_closing = true;
        self.0.shared.written_to.notify_one();
        let in_time = self
            .0
            .shared
            .ended
            .wait_timeout_while(waiting, CLOSE_MAX, |waiting| !waiting.has_ended);
        drop(in_time);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.waiting().is_closing = true;
        self.shared.written_to.notify_one();
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut waiting = self.waiting();
        let before = waiting.lines.len();
        if before < WAITING_BYTES_MAX {
            write(&mut waiting.lines);
            waiting.lines.push(b'\n');
        }
        // One that is longer than all there is room for has it alone.
        let is_lost = before > 0 && waiting.lines.len() > WAITING_BYTES_MAX;
        if is_lost || before >= WAITING_BYTES_MAX {
            waiting.lines.truncate(before);
            waiting.lost += 1;
            metrics().audit_lines_lost.inc();
        } else {
            waiting.count += 1;
        }
        if std::mem::take(&mut waiting.sleeps) {
            self.written_to.notify_one();
        }
    }

    fn run(&self, mut output: Output, member: &str) {
        // Lines that are missing behind what was written last, and of which no line says so yet.
        let mut lost = 0;
        loop {
            let (lines, count, lost_now, is_closing) = self.next(lost > 0);
            let was_lost = lost;
            if lost > 0 {
                lost = told(&mut output, member, lost);
            }
            if lost > 0 {
                // Nothing is written before the line that says what is missing.
                lost += count;
                metrics().audit_lines_lost.inc_by(count);
            } else if count > 0 {
                let unwritten = written(&mut output, &lines);
                metrics().audit_lines.inc_by(count - unwritten);
                metrics().audit_lines_lost.inc_by(unwritten);
                lost += unwritten;
            }
            lost += lost_now;
            if lost > 0 && was_lost == 0 {
                tracing::warn!(lost, "lines of the audit log are lost");
                lost = told(&mut output, member, lost);
            }
            if is_closing {
                break;
            }
        }
        self.waiting().has_ended = true;
        self.ended.notify_all();
    }

    /// Waits for lines, and a moment for more of them: the lines, their number, how many found no room behind them, and
    /// whether these are the last.
    fn next(&self, has_failed: bool) -> (Vec<u8>, u64, u64, bool) {
        let mut waiting = self.waiting();
        let is_idle = |waiting: &mut Waiting| {
            waiting.sleeps = waiting.count == 0 && waiting.lost == 0 && !waiting.is_closing;
            waiting.sleeps
        };
        let pause = if has_failed { RETRY } else { Duration::MAX };
        waiting = wait(&self.written_to, waiting, pause, is_idle);
        waiting.sleeps = false;
        let gathers = |waiting: &mut Waiting| !waiting.is_closing;
        waiting = wait(&self.written_to, waiting, GATHER, gathers);
        let Waiting {
            lines, count, lost, ..
        } = &mut *waiting;
        (
            std::mem::take(lines),
            std::mem::take(count),
            std::mem::take(lost),
            waiting.is_closing,
        )
    }
}

fn wait<'a>(
    bell: &Condvar,
    waiting: MutexGuard<'a, Waiting>,
    pause: Duration,
    goes_on: impl FnMut(&mut Waiting) -> bool,
) -> MutexGuard<'a, Waiting> {
    let waited = bell.wait_timeout_while(waiting, pause, goes_on);
    waited.unwrap_or_else(PoisonError::into_inner).0
}

/// Writes lines; answers how many are missing.
fn written(output: &mut Output, lines: &[u8]) -> u64 {
    match output.write(lines) {
        Ok(()) => 0,
        Err(unwritten) => {
            tracing::error!(error = %unwritten.error, "the audit log cannot be written");
            unwritten.lines
        }
    }
}

/// Writes the line that says how many are missing; answers how many are still to be told of.
fn told(output: &mut Output, member: &str, lost: u64) -> u64 {
    let mut line = Vec::new();
    write_lost(member, lost, &mut line);
    match output.write(&line) {
        Ok(()) => 0,
        Err(_) => lost,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::audit::Destination;

    fn entry(method: &str) -> Entry<'_> {
        Entry {
            remote: None,
            user: None,
            common_name: None,
            method,
            stream: None,
            code: "OK",
            message: "",
            facts: &[],
        }
    }

    fn start(path: &Path) -> Log {
        let output = Output::open(&Destination::File(path.to_owned())).unwrap();
        Log::start(output, Filter::default(), "1".to_owned()).unwrap()
    }

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn all_that_was_recorded_is_written_when_the_log_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let log = start(&path);
        for _ in 0..1000 {
            log.record(&entry("/a.B/C"), |_| {});
        }
        log.close();
        let lines = lines(&path);
        assert_eq!(lines.len(), 1000);
        assert_eq!(lines[999]["method"], "/a.B/C");
    }

    #[test]
    fn lines_that_find_no_room_are_counted_in_a_line_behind_those_that_did() {
        let shared = Shared::default();
        let long = vec![b'x'; WAITING_BYTES_MAX / 2];
        for _ in 0..3 {
            shared.add(|out| out.extend_from_slice(&long));
        }
        let (lines, count, lost, _) = shared.next(false);
        assert_eq!((lines.len(), count, lost), (long.len() + 1, 1, 2));
        // A line that is longer than the room is taken where nothing else waits.
        shared.add(|out| out.extend_from_slice(&[long.clone(), long.clone()].concat()));
        let (lines, count, lost, _) = shared.next(false);
        assert_eq!((lines.len(), count, lost), (long.len() * 2 + 1, 1, 0));
    }

    #[test]
    fn a_file_that_cannot_be_written_loses_lines_and_says_so_once_it_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("audit.log");
        let log = start(&path);
        // Moved away with its folder: there is nowhere to make it again.
        let away = dir.path().join("away");
        std::fs::rename(&folder, &away).unwrap();
        log.record(&entry("/a.B/Lost"), |_| {});
        // Until the thread has tried, and waits for more.
        while !log.0.shared.waiting().sleeps {
            thread::sleep(Duration::from_millis(1));
        }
        std::fs::rename(&away, &folder).unwrap();
        log.record(&entry("/a.B/Kept"), |_| {});
        log.close();
        let lines = lines(&path);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(
            (&lines[0]["lost"], &lines[1]["method"]),
            (&1.into(), &"/a.B/Kept".into())
        );
    }
}
