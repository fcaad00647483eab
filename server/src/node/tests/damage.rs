//! Every byte: a small member's data directory, damaged in one place at a time. It comes up with the same contents, or
//! refuses with words that say how to replace it; never with less.
//!
//! `make damage` tries each byte (`COORD_DAMAGE=every`); a plain run tries a sample. docs/damage.md has the last result.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::member::{Contents, Member, contents, delete, files, put};
use crate::command::{Command, Fault, KvCommand, LeaseCommand, LeaseId, Revision};
use crate::node::check::{self, Check, Verdict};

/// The text that a refusal must have.
const REMEDY: &str = "add it again as a new member; of a cluster of one, restore a backup";

/// One damage in so many is looked at by a check first, which opens two states where a start opens one.
const CHECKED: u32 = 24;

/// Rounds of writing; enough for tables in every space.
const ROUNDS: u8 = 14;

/// A file of the pristine directory, and how much of it was ever written: journals are preallocated with holes.
struct Original {
    name: PathBuf,
    bytes: Vec<u8>,
    length: u64,
}

struct Pristine {
    files: Vec<Original>,
    folders: Vec<PathBuf>,
    contents: Contents,
}

/// One thing that goes wrong with one file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip { at: usize, mask: u8 },
    Zeroed { from: usize, upto: usize },
    CutTo { length: u64 },
    Missing,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Everything is there.
    Same,
    /// The first start failed over the damage, the next one has everything.
    SameAtTheNextStart,
    /// Refused, with what to do.
    Refused,
}

/// A member with history: keys written again and again, deleted, attached to leases, compacted; its state partly in
/// tables, partly in the journal.
fn history(dir: &Path, is_cut: bool) {
    let mut member = Member::create(dir);
    member.run(Command::Lease(LeaseCommand::Grant {
        id: LeaseId(7),
        ttl_seconds: 60,
    }));
    for round in 0..ROUNDS {
        member.run(put("same", &[round; 12], None));
        member.run(put(
            &format!("key-{round}"),
            &[round; 90],
            Some(LeaseId(7)).filter(|_| round % 3 == 0),
        ));
        if round % 5 == 4 {
            member.run(delete(&format!("key-{}", round - 2)));
        }
        let durable = member.persist();
        if round == ROUNDS / 2 {
            member.run(Command::Kv(KvCommand::Compact {
                revision: Revision(7),
            }));
        }
        if is_cut && round == ROUNDS - 2 {
            member.purge(durable);
        }
    }
    // fjall writes tables in its own time.
    while !(1..=4).all(|space| has_tables(dir, space)) {
        member.persist();
    }
}

fn has_tables(dir: &Path, space: u32) -> bool {
    let tables = dir.join(format!("state/1/keyspaces/{space}/tables"));
    fs::read_dir(tables).is_ok_and(|mut tables| tables.next().is_some())
}

impl Pristine {
    fn new(is_cut: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        history(dir.path(), is_cut);
        let names = files(dir.path());
        let read = |name: PathBuf| {
            let bytes = fs::read(dir.path().join(&name)).unwrap();
            let length = bytes.len() as u64;
            let written = bytes
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |last| last + 1);
            // A little of what was never written belongs to the places that are tried.
            let bytes = bytes[..bytes.len().min(written + 64)].to_vec();
            Original {
                name,
                bytes,
                length,
            }
        };
        let files: Vec<_> = names.into_iter().map(read).collect();
        let folders = files
            .iter()
            .map(|file| file.name.parent().unwrap().to_owned())
            .collect();
        let mut this = Self {
            files,
            folders,
            contents: contents(dir.path()).unwrap(),
        };
        this.folders.dedup();
        let again = this.copy(None);
        assert_eq!(checked(again.path()), Ok(Verdict::Whole));
        assert!(
            contents(again.path()).unwrap() == this.contents,
            "an undamaged copy has the same contents"
        );
        this
    }

    /// The directory again, with one file damaged.
    fn copy(&self, damaged: Option<(&Original, Damage)>) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for folder in &self.folders {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        for file in &self.files {
            let damage = damaged
                .filter(|(which, _)| which.name == file.name)
                .map(|(_, damage)| damage);
            let (mut bytes, mut length) = (file.bytes.clone(), file.length);
            match damage {
                None => {}
                Some(Damage::Flip { at, mask }) => bytes[at] ^= mask,
                Some(Damage::Zeroed { from, upto }) => bytes[from..upto].fill(0),
                Some(Damage::CutTo { length: to }) => {
                    bytes.truncate(to as usize);
                    length = to;
                }
                Some(Damage::Missing) => continue,
            }
            let path = dir.path().join(&file.name);
            fs::write(&path, bytes).unwrap();
            File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_len(length)
                .unwrap();
        }
        dir
    }

    /// The outcome of one damage; an error is what must never be.
    fn outcome(
        &self,
        file: &Original,
        damage: Damage,
        is_checked: bool,
    ) -> Result<Outcome, String> {
        let dir = self.copy(Some((file, damage)));
        if !is_checked {
            return self.start(dir.path());
        }
        let verdict = checked(dir.path())?;
        match (self.start(dir.path())?, verdict) {
            (outcome @ Outcome::Same, Verdict::Whole) | (outcome, Verdict::Damaged) => Ok(outcome),
            (outcome, verdict) => Err(format!("{outcome:?}, but a check says {verdict:?}")),
        }
    }

    /// The outcome of a start, or of a few.
    fn start(&self, dir: &Path) -> Result<Outcome, String> {
        let mut starts = 0;
        loop {
            starts += 1;
            let opened = catch_unwind(AssertUnwindSafe(|| contents(dir)));
            match opened {
                Ok(Ok(found)) if found == self.contents => {
                    return Ok(if starts == 1 {
                        Outcome::Same
                    } else {
                        Outcome::SameAtTheNextStart
                    });
                }
                Ok(Ok(found)) => {
                    return Err(format!(
                        "other contents at start {starts}; last entry {:?}",
                        found.last()
                    ));
                }
                Ok(Err(fault)) if fault.to_string().contains(REMEDY) => {
                    return Ok(Outcome::Refused);
                }
                // Met in use or by a panic of fjall's: the process ends, and the next start must know.
                Ok(Err(Fault::Corrupt { .. })) | Err(_) if starts < 3 => {}
                Ok(Err(fault)) => return Err(format!("start {starts} ends with: {fault}")),
                Err(_) => return Err(format!("start {starts} panics")),
            }
        }
    }

    /// Every `stride`-th damage of a kind, of the files that `wanted` names.
    fn sweep(
        &self,
        stride: usize,
        wanted: impl Fn(&Path) -> bool,
    ) -> BTreeMap<(String, Outcome), u32> {
        let mut outcomes = BTreeMap::new();
        let mut wrong = Vec::new();
        let mut tried = 0;
        for file in self.files.iter().filter(|file| wanted(&file.name)) {
            for damage in damages(file, stride) {
                tried += 1;
                match self.outcome(file, damage, tried % CHECKED == 1) {
                    Ok(outcome) => *outcomes.entry((kind(&file.name), outcome)).or_default() += 1,
                    Err(what) => wrong.push(format!("{} {damage:?}: {what}", file.name.display())),
                }
            }
        }
        println!("{tried} damages: {outcomes:#?}");
        assert!(
            wrong.is_empty(),
            "{} of {tried}:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
        outcomes
    }
}

/// Every file below `dir`, with its bytes.
fn bytes_of(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let read = |name: PathBuf| {
        let bytes = fs::read(dir.join(&name)).unwrap();
        (name, bytes)
    };
    files(dir).into_iter().map(read).collect()
}

/// The verdict of a check, which changes nothing. A panic of fjall's is damage, as in the program.
fn checked(dir: &Path) -> Result<Verdict, String> {
    let before = bytes_of(dir);
    let check = Check {
        data_dir: dir.to_owned(),
        json: false,
        dump_log: false,
    };
    let mut told = Vec::new();
    let verdict = catch_unwind(AssertUnwindSafe(|| {
        check::run(&check, &mut told, &mut Vec::new()).unwrap()
    }));
    if bytes_of(dir) != before {
        return Err("a check has changed the directory".to_owned());
    }
    match verdict.unwrap_or(Verdict::Damaged) {
        Verdict::Unchecked => Err(String::from_utf8_lossy(&told).into_owned()),
        verdict => Ok(verdict),
    }
}

/// Damages tried with one file: bytes flipped, in one bit and in all; pages zeroed; cut short; missing.
fn damages(file: &Original, stride: usize) -> Vec<Damage> {
    let written = file.bytes.len();
    // Small files are lists and pointers, where one byte decides over much.
    let stride = if written < 1024 {
        stride.min(7)
    } else {
        stride
    };
    let mut damages = vec![Damage::Missing];
    for at in (0..written).step_by(stride) {
        damages.push(Damage::Flip {
            at,
            mask: 1 << (at / stride % 8),
        });
    }
    for page in [512, 4096] {
        for from in (0..written).step_by(page) {
            damages.push(Damage::Zeroed {
                from,
                upto: written.min(from + page),
            });
        }
    }
    let step = if stride == 1 {
        64
    } else {
        (written / 8).max(1)
    };
    let lengths = (0..written).step_by(step);
    damages.extend(lengths.map(|length| Damage::CutTo {
        length: length as u64,
    }));
    damages
}

/// Files of a kind are counted together.
fn kind(name: &Path) -> String {
    let name = name.to_string_lossy();
    let kinds = [
        (".wal", "log segment"),
        ("identity", "identity"),
        (".jnl", "journal"),
        ("/tables/", "table"),
    ];
    let known = kinds.iter().find(|(part, _)| name.contains(part));
    known.map_or_else(
        || name.rsplit('/').next().unwrap_or_default().to_owned(),
        |(_, kind)| (*kind).to_owned(),
    )
}

/// Every place, or a sample: of some 100,000 places about one in `sample`.
pub(super) fn stride(sample: usize) -> usize {
    match std::env::var("COORD_DAMAGE").as_deref() {
        Ok("every") => 1,
        _ => sample,
    }
}

#[test]
fn a_damaged_state_is_rebuilt_from_a_log_that_has_everything() {
    let pristine = Pristine::new(false);
    let outcomes = pristine.sweep(stride(97), |name| name.starts_with("state"));
    // Only the pointer to the generation in use cannot be guessed.
    let refused = outcomes
        .keys()
        .filter(|(_, outcome)| *outcome == Outcome::Refused);
    for (kind, _) in refused {
        assert_eq!(kind, "current");
    }
}

#[test]
fn a_damaged_state_above_a_cut_log_is_the_same_or_refused() {
    let pristine = Pristine::new(true);
    let outcomes = pristine.sweep(stride(97), |name| name.starts_with("state"));
    assert!(
        outcomes
            .keys()
            .any(|(_, outcome)| *outcome == Outcome::Refused)
    );
}

#[test]
fn a_damaged_log_is_the_same_or_refused() {
    let pristine = Pristine::new(true);
    let outcomes = pristine.sweep(stride(149), |name| !name.starts_with("state"));
    assert!(outcomes[&("log segment".to_owned(), Outcome::Refused)] > 0);
}

#[test]
fn folders_that_are_gone_are_no_new_member() {
    for is_cut in [false, true] {
        let pristine = Pristine::new(is_cut);
        for folder in [
            "wal",
            "state",
            "state/1",
            "state/1/keyspaces",
            "state/1/keyspaces/0",
            "state/1/keyspaces/2",
        ] {
            let dir = pristine.copy(None);
            fs::remove_dir_all(dir.path().join(folder)).unwrap();
            match contents(dir.path()) {
                Ok(found) => assert!(found == pristine.contents && !is_cut, "{folder}"),
                Err(fault) => {
                    assert!(fault.to_string().contains(REMEDY), "{folder}: {fault}");
                    assert!(is_cut || folder == "wal", "{folder}: {fault}");
                }
            }
        }
    }
}
