//! A power cut at every write: the member comes up from all that a disk may have kept with every acknowledged entry.
//!
//! A member runs in a process of its own under `strace`, which records every change to its files, the log's and fjall's
//! alike. Then the directory is built as a cut would have left it, before and after each change and with different
//! parts of what was not synced lost, and a start is made of it. A plain run tries a sample, `make damage` all.

use std::path::Path;
use std::process::Command as Process;
use std::sync::OnceLock;

use super::damage::stride;
use super::member::{Contents, Member, contents, delete, put};
use super::recording::{Loss, Recording};
use crate::command::{Command, KvCommand, LeaseCommand, LeaseId, Revision};

/// Tells a copy of this test's process that it is the one that is recorded, and where its data goes.
const RECORDED: &str = "COORD_RECORDED_MEMBER";
/// This test, as the process is told to run it.
const NAME: &str =
    "node::tests::power_cut::a_power_cut_anywhere_loses_nothing_that_was_acknowledged";
/// All calls that change files, and those that say which file is meant.
const CALLS: &str = "trace=open,openat,close,dup,fcntl,lseek,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate,\
                     fallocate,copy_file_range,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,\
                     mkdirat,link,linkat";

const LOSSES: [Loss; 9] = [
    Loss::Nothing,
    Loss::Everything,
    Loss::Strict,
    Loss::Data,
    Loss::Tail,
    Loss::Head,
    Loss::Some { seed: 1 },
    Loss::Some { seed: 2 },
    Loss::Some { seed: 3 },
];

/// One step of the history; the place is its entry's, less the two that begin the log.
fn step(place: u64) -> Command {
    let bytes = [place as u8; 150];
    match place {
        0 => Command::Lease(LeaseCommand::Grant {
            id: LeaseId(7),
            ttl_seconds: 60,
        }),
        40 => Command::Kv(KvCommand::Compact {
            revision: Revision(20),
        }),
        90 => Command::Kv(KvCommand::Compact {
            revision: Revision(70),
        }),
        place if place % 7 == 6 => delete(&format!("key-{}", place % 11)),
        place if place % 5 == 4 => put("leased", &bytes, Some(LeaseId(7))),
        place => put(&format!("key-{}", place % 11), &bytes, None),
    }
}

const STEPS: u64 = 140;

/// The process that is recorded.
fn run(dir: &Path) {
    let mut member = Member::create(dir);
    for place in 0..STEPS {
        member.run(step(place));
        println!("ack {}", member.last());
        // The log is cut below what is durable in the state, as often as a busy member does in days.
        if place % 9 == 8 {
            let durable = member.persist();
            if place % 18 == 17 {
                member.purge(durable);
            }
        }
        if place == 70 {
            member.install_own_snapshot(dir);
        }
    }
    member.persist();
}

/// The contents of a member after each entry.
fn expected() -> &'static [Contents] {
    static EXPECTED: OnceLock<Vec<Contents>> = OnceLock::new();
    EXPECTED.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let mut member = Member::create(dir.path());
        let mut all = vec![member.contents()];
        for place in 0..STEPS {
            member.run(step(place));
            all.push(member.contents());
        }
        all
    })
}

fn record(dir: &Path) -> Recording {
    let trace = dir.join("trace");
    let base = dir.join("data");
    let strace = Process::new("strace")
        .args(["-f", "-qq", "-xx", "-s", "100000000", "-e", CALLS, "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args([NAME, "--exact", "--nocapture", "--test-threads=1"])
        .env(RECORDED, &base)
        .output()
        .expect("this test needs strace: apt-get install strace");
    assert!(
        strace.status.success(),
        "{}",
        String::from_utf8_lossy(&strace.stderr)
    );
    Recording::read(&std::fs::read_to_string(trace).unwrap(), &base)
}

#[test]
fn a_power_cut_anywhere_loses_nothing_that_was_acknowledged() {
    if let Some(dir) = std::env::var_os(RECORDED) {
        return run(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let recording = record(dir.path());
    let mut moments = recording.moments.clone();
    moments.sort_unstable();
    moments.dedup();
    assert_eq!(recording.acknowledged(usize::MAX), Some(STEPS + 1));
    // Before the first promise there may be no member yet, and nothing to lose.
    moments.retain(|moment| recording.acknowledged(*moment).is_some());
    let mut wrong = Vec::new();
    let mut tried = 0;
    let places = moments
        .iter()
        .flat_map(|moment| LOSSES.map(|loss| (*moment, loss)));
    for (moment, loss) in places.step_by(stride(23)) {
        tried += 1;
        if let Err(what) = check(&recording, moment, loss) {
            wrong.push(format!("line {moment} {loss:?}: {what}"));
        }
    }
    println!("{tried} images of {} moments", moments.len());
    assert!(
        wrong.is_empty(),
        "{} of {tried}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Starts on what a cut left, and again on what that start left.
fn check(recording: &Recording, moment: usize, loss: Loss) -> Result<(), String> {
    let acknowledged = recording
        .acknowledged(moment)
        .expect("only such moments are tried");
    let dir = tempfile::tempdir().unwrap();
    recording.image(moment, loss, dir.path());
    let mut before = None;
    let mut panic = String::new();
    for start in 1..=2 {
        let found = std::panic::catch_unwind(|| contents(dir.path()));
        let found = match found {
            Ok(found) => found.map_err(|fault| format!("start {start}: {fault}{panic}"))?,
            Err(said) if start == 1 => {
                let said = said
                    .downcast::<String>()
                    .map_or_else(|_| "?".to_owned(), |said| *said);
                panic = format!("; start 1 had panicked: {said}");
                continue;
            }
            Err(_) => return Err("it panics again".to_owned()),
        };
        let last = found.last().ok_or("the log is empty")?;
        if last < acknowledged {
            return Err(format!(
                "start {start} ends at entry {last}, {acknowledged} was acknowledged"
            ));
        }
        // The first two entries are there from the beginning.
        if !found.is_same_state(&expected()[last as usize - 1]) {
            return Err(format!(
                "start {start} has another state after entry {last}"
            ));
        }
        if *before.get_or_insert(last) != last {
            return Err(format!(
                "start {start} ends at another entry than the one before"
            ));
        }
    }
    Ok(())
}
