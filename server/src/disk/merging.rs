//! Merging fjall's tables, on one thread of low priority.
//!
//! fjall can do it itself, on workers that also write memtables out. With one worker a long merge holds up memtables,
//! and with them the writer. With more, the one that is kept free for memtables asks for other work in a loop for as
//! long as a merge takes (fjall 3.1.13, `worker_pool.rs`): a tenth of the processor time of a put. So fjall gets one
//! worker and a strategy that leaves tables alone, and they are merged here.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use fjall::compaction::Leveled;
use fjall::{AbstractTree, Keyspace, SeqNo};

use super::{background, panics};

/// Tables that may overlap before a round of merges begins. fjall slows writers down from 20 on.
const TABLES: usize = 8;
/// Merged tables are about this large. While one is written, fjall's index of it holds the last key of each block as a part
/// of the block that it was read from, so that a merge holds as many bytes in memory as a table has.
const TABLE_BYTES: u64 = 8 << 20;
/// Between two merges.
const REST: Duration = Duration::from_millis(1);

const POISONED: &str = "nothing that holds this lock panics";

/// The strategy of fjall's own worker: move a table where that is all there is to do, and never merge any.
pub(super) fn by_fjall() -> Leveled {
    Leveled::default().with_l0_threshold(u8::MAX)
}

/// Merges the tables of some keyspaces when asked to, until it is dropped; a merge that has begun is ended first.
pub(super) struct Merging {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    asked: Mutex<Asked>,
    wake: Condvar,
}

#[derive(Default)]
struct Asked {
    is_wanted: bool,
    is_closing: bool,
    failed: Option<fjall::Error>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().expect(POISONED)
    }

    fn update(&self, change: impl FnOnce(&mut Asked)) {
        change(&mut self.lock());
        self.wake.notify_one();
    }
}

impl Merging {
    /// Starts the thread. Versions below the sequence number `floor` are needed by no open reader and may be merged away.
    /// A panic over a damaged table is noted in `store`.
    pub(super) fn start(
        store: PathBuf,
        keyspaces: Vec<Keyspace>,
        floor: impl Fn() -> SeqNo + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let asked = shared.clone();
        let thread = std::thread::Builder::new()
            .name("state-merger".to_owned())
            .spawn(move || {
                background::give_way();
                let _watched = panics::note_in(store);
                if let Err(error) = run(&asked, &keyspaces, floor) {
                    asked.update(|asked| asked.failed = Some(error));
                }
            })
            .expect("the operating system starts a thread where it started others");
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// Has the tables of `keyspaces` merged if that is worth it. Fails once with what ended the merging.
    pub(super) fn ask(&self, keyspaces: &[Keyspace]) -> Result<(), fjall::Error> {
        let has_ended = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        if has_ended {
            let failed = self.shared.lock().failed.take();
            return Err(failed.unwrap_or(fjall::Error::Poisoned));
        }
        if keyspaces
            .iter()
            .any(|keyspace| keyspace.l0_table_count() >= TABLES)
        {
            self.shared.update(|asked| asked.is_wanted = true);
        }
        Ok(())
    }
}

impl Drop for Merging {
    fn drop(&mut self) {
        self.shared.update(|asked| asked.is_closing = true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(
    shared: &Shared,
    keyspaces: &[Keyspace],
    floor: impl Fn() -> SeqNo,
) -> Result<(), fjall::Error> {
    loop {
        let is_idle = |asked: &mut Asked| !asked.is_wanted && !asked.is_closing;
        let mut asked = shared
            .wake
            .wait_while(shared.lock(), is_idle)
            .expect(POISONED);
        asked.is_wanted = false;
        drop(asked);
        let mut has_work = true;
        while std::mem::take(&mut has_work) {
            for keyspace in keyspaces {
                if shared.lock().is_closing {
                    return Ok(());
                }
                has_work |= merge(keyspace, floor())?;
            }
        }
    }
}

/// Does what is most worth doing; says whether tables changed meanwhile, by that or by what was written.
fn merge(keyspace: &Keyspace, floor: SeqNo) -> Result<bool, fjall::Error> {
    let tables = || keyspace.tree.current_version().id();
    let before = tables();
    let strategy = Leveled::default().with_table_target_size(TABLE_BYTES);
    keyspace.tree.compact(Arc::new(strategy), floor)?;
    let has_changed = tables() != before;
    if has_changed {
        std::thread::sleep(REST);
    }
    Ok(has_changed)
}

#[cfg(test)]
mod tests {
    use fjall::{Database, KeyspaceCreateOptions};

    use super::*;

    fn open(dir: &std::path::Path) -> (Database, Vec<Keyspace>) {
        let db = Database::builder(dir).worker_threads(1).open().unwrap();
        let options = || KeyspaceCreateOptions::default().compaction_strategy(Arc::new(by_fjall()));
        let keyspaces = ["a", "b", "c", "d"]
            .map(|name| db.keyspace(name, options).unwrap())
            .to_vec();
        (db, keyspaces)
    }

    /// Writes tables that overlap until `loose` are loose in each keyspace; `rounds` counts them. fjall's worker
    /// moves the first, which overlaps none, out of the way.
    fn write(keyspaces: &[Keyspace], loose: usize, rounds: &mut u8) {
        let is_there = |keyspace: &Keyspace| keyspace.l0_table_count() >= loose;
        while !keyspaces.iter().all(is_there) {
            for keyspace in keyspaces {
                keyspace.insert([0], [*rounds]).unwrap();
                keyspace.insert([1, *rounds], [*rounds]).unwrap();
                keyspace.insert([2], [*rounds]).unwrap();
                keyspace.rotate_memtable_and_wait().unwrap();
            }
            *rounds += 1;
        }
    }

    fn until(mut is_done: impl FnMut() -> bool) {
        for _ in 0..4000 {
            if is_done() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("it takes too long");
    }

    fn check(keyspaces: &[Keyspace], rounds: u8) {
        let mut expected = vec![(vec![0], vec![rounds - 1])];
        expected.extend((0..rounds).map(|round| (vec![1, round], vec![round])));
        expected.push((vec![2], vec![rounds - 1]));
        for keyspace in keyspaces {
            let rows = keyspace.iter().map(|row| {
                let (key, value) = row.into_inner().unwrap();
                (key.to_vec(), value.to_vec())
            });
            assert_eq!(rows.collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn tables_are_merged_here_and_not_by_fjall() {
        let dir = tempfile::tempdir().unwrap();
        let mut rounds = 0;
        for _ in 0..2 {
            let (db, keyspaces) = open(dir.path());
            let supervisor = db.supervisor.clone();
            let floor = move || supervisor.snapshot_tracker.get_seqno_safe_to_gc();
            let merging = Merging::start(dir.path().to_owned(), keyspaces.clone(), floor);
            write(&keyspaces, TABLES - 1, &mut rounds);
            merging.ask(&keyspaces).unwrap();
            // Time in which either of them would.
            std::thread::sleep(Duration::from_millis(100));
            let loose = |keyspace: &Keyspace| keyspace.l0_table_count();
            assert!(keyspaces.iter().all(|all| loose(all) >= TABLES - 1));
            write(&keyspaces, TABLES, &mut rounds);
            // While it merges, rows can be read.
            merging.ask(&keyspaces).unwrap();
            until(|| {
                check(&keyspaces, rounds);
                keyspaces.iter().all(|all| loose(all) == 0)
            });
            check(&keyspaces, rounds);
        }
    }

    #[test]
    fn merged_tables_are_small_because_a_merge_holds_one_in_memory() {
        const ROWS: u32 = 3_000;
        let dir = tempfile::tempdir().unwrap();
        let (_db, mut keyspaces) = open(dir.path());
        keyspaces.truncate(1);
        let merging = Merging::start(dir.path().to_owned(), keyspaces.clone(), || 0);
        let mut value = [0; 1024];
        let mut round = 0;
        while keyspaces[0].l0_table_count() < TABLES {
            for row in 0..ROWS {
                rand::fill(&mut value);
                let key = row.to_be_bytes().into_iter().chain([round]);
                keyspaces[0]
                    .insert(key.collect::<Vec<u8>>(), value)
                    .unwrap();
            }
            keyspaces[0].rotate_memtable_and_wait().unwrap();
            round += 1;
        }
        merging.ask(&keyspaces).unwrap();
        until(|| keyspaces[0].l0_table_count() == 0);
        drop(merging);
        let tables = keyspaces[0].path().join("tables");
        let tables = std::fs::read_dir(tables).unwrap();
        let sizes = tables.map(|table| table.unwrap().metadata().unwrap().len());
        let sizes: Vec<u64> = sizes.collect();
        assert!(
            sizes.iter().all(|size| *size < 2 * TABLE_BYTES),
            "{sizes:?}"
        );
    }

    #[test]
    fn who_asks_hears_of_what_ended_it() {
        let dir = tempfile::tempdir().unwrap();
        let (_db, keyspaces) = open(dir.path());
        let merging = Merging::start(dir.path().to_owned(), keyspaces.clone(), || 0);
        write(&keyspaces, TABLES, &mut 0);
        for folder in std::fs::read_dir(dir.path().join("keyspaces")).unwrap() {
            let Ok(tables) = std::fs::read_dir(folder.unwrap().path().join("tables")) else {
                continue;
            };
            for table in tables {
                let table = table.unwrap().path();
                let bytes = vec![0; std::fs::metadata(&table).unwrap().len() as usize];
                std::fs::write(&table, bytes).unwrap();
            }
        }
        until(|| merging.ask(&keyspaces).is_err());
    }
}
