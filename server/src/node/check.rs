//! `coord-server check`: whether a data directory holds all that its member was told is on disk, without changing it.
//!
//! The readers are those of a start. The log's is given a directory that cannot be written
//! ([`ReadOnly`](crate::wal::ReadOnly)), the state's a copy ([`disk::copy`](crate::disk::copy)), because opening it writes.
//! Then the log is applied to an empty state, or to that copy where the log no longer begins at the beginning, which says
//! whether the state is what its own log comes to.
//! Read [`run`], then `findings` for the words.

mod dump;
mod findings;
mod log;
mod replay;
mod scratch;
mod state;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use self::findings::Findings;
use super::directory;

/// A check, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The data directory.
    pub data_dir: PathBuf,
    /// The result as one JSON object.
    pub json: bool,
    /// Prints the committed entries, a JSON object each; the result goes to the other stream then.
    pub dump_log: bool,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is there.
    Whole,
    /// Something is not what was written.
    Damaged,
    /// It could not be checked: there is no member's data, a member has it open, or a newer version wrote it.
    Unchecked,
}

impl Verdict {
    /// The exit status.
    #[must_use]
    pub fn status(self) -> u8 {
        match self {
            Self::Whole => 0,
            Self::Damaged => 1,
            Self::Unchecked => 2,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Damaged => "damaged",
            Self::Unchecked => "unchecked",
        }
    }
}

/// Checks a data directory, and changes not a byte of it. Entries go to `out`, the result there or, with entries, to `err`.
///
/// Blocks, and takes room for the state's journals and for as much as the log comes to below the folder for temporary files.
/// Errors: `out` or `err` cannot be written.
pub fn run(check: &Check, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Verdict> {
    let mut findings = Findings::default();
    if let Err(why) = look(check, &mut findings, out) {
        findings.unchecked(why);
    }
    match check.dump_log {
        true => say(check, &findings, err),
        false => say(check, &findings, out),
    }
}

/// The result of a check in which a reader panicked, as fjall does over some damage: told at once, because the process ends.
///
/// Errors: `told` cannot be written.
pub fn panicked(check: &Check, why: &str, told: &mut dyn Write) -> io::Result<Verdict> {
    scratch::remove_all();
    let mut findings = Findings::default();
    let state = directory::state(&check.data_dir).display().to_string();
    let remedy = "start the member: it notes the same, and the start after that sets the state aside and rebuilds it";
    findings.damage(
        "state",
        &state,
        format!("its reader gave up: {why}"),
        remedy,
    );
    say(check, &findings, told)
}

fn say(check: &Check, findings: &Findings, told: &mut dyn Write) -> io::Result<Verdict> {
    let verdict = findings.verdict();
    if check.json {
        writeln!(told, "{}", findings.json(&check.data_dir, verdict.word()))?;
    } else {
        write!(told, "{}", findings.text(&check.data_dir, verdict.word()))?;
    }
    Ok(verdict)
}

/// Errors: why it cannot be checked.
fn look(check: &Check, findings: &mut Findings, out: &mut dyn Write) -> Result<(), String> {
    let data_dir = &check.data_dir;
    let _held = hold(data_dir)?;
    match directory::has_data(data_dir) {
        Ok(true) => {}
        Ok(false) => {
            return Err("no member has lived here: there is neither a log nor a state".to_owned());
        }
        Err(fault) => {
            findings.fault("log", fault);
            return Ok(());
        }
    }
    let scratch = scratch::Scratch::make().map_err(|error| {
        let place = std::env::temp_dir();
        format!(
            "no room for a copy in {} (TMPDIR names another place): {error}",
            place.display()
        )
    })?;
    let log = log::look(&directory::wal(data_dir), findings)?;
    let state = state::look(
        &directory::state(data_dir),
        &scratch,
        log.as_ref(),
        findings,
    )?;
    let Some(log) = log else {
        return Ok(());
    };
    replay::replay(&log, state, &scratch, findings, |entry| {
        match check.dump_log {
            true => dump::line(entry, out),
            false => Ok(()),
        }
    })
}

/// Keeps members away for as long as the file is open. Nothing is made that is not there.
///
/// Errors: there is no such directory, it is etcd's, or a member has it open.
fn hold(data_dir: &Path) -> Result<Option<File>, String> {
    if !data_dir.is_dir() {
        return Err("there is no such directory".to_owned());
    }
    if data_dir.join("member").exists() {
        return Err("it holds an etcd member, whose files etcdutl reads".to_owned());
    }
    let file = match File::open(data_dir.join(directory::LOCK)) {
        Ok(file) => file,
        // A copy may have been made without it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", directory::LOCK)),
    };
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Err(
            "a member has it open: stop that one, or check a copy of the directory".to_owned(),
        );
    }
    Ok(Some(file))
}
