//! The thread that carries layers to fjall. It is the only one that writes there, so only it ever waits for fjall.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::layers::{LAYER_BYTES_SOON, Layer, Shared};
use super::marks::Mark;
use super::store::Store;
use super::sweep::Sweeper;
use crate::command::Fault;
use crate::metrics::metrics;

const POISONED: &str = "a thread that panics with the rows in hand ends the process";

/// How long a layer forms: rows that are written again in this time reach fjall once. After a crash the log replays it.
const FORM: Duration = Duration::from_millis(100);
/// Rest between two steps of a sweep, so that it takes a share of a core and not all of it.
const SWEEP_REST: Duration = Duration::from_millis(4);
/// All memtables are written out after this many bytes, which bounds the batch numbers kept and the replay at open.
/// Small in tests, so that they reach it.
const CHECKPOINT_BYTES: usize = if cfg!(test) { 8 << 10 } else { 32 << 20 };

/// The journal is synced after this many bytes, though nothing waits for it. fjall syncs the journal before it writes a
/// memtable out; unsynced megabytes would then delay a write to the log.
const SYNC_BYTES: usize = 1 << 20;

/// Between two looks at the room for memtables, and how many of them: two seconds in all.
const ROOM_PAUSE: Duration = Duration::from_millis(2);
const ROOM_LOOKS_MAX: usize = 1000;

/// The first of [`TIDY_ROUNDS`] rotations of an idle store's memtables, counted from its last rows; each later one waits
/// twice as long. fjall deletes merged tables only when it rotates a memtable, so an idle store would keep them for ever.
const TIDY_AFTER: Duration = Duration::from_secs(2);
const TIDY_ROUNDS: u32 = 4;
/// Less than this is not worth it.
const TIDY_BYTES: usize = 1 << 20;

/// [`FORM`], but in a build for fault runs a kill may have to be a power cut: then rows leave only to be synced.
fn form() -> Duration {
    #[cfg(feature = "failpoints")]
    if crate::failpoints::disk::is_power_cut() {
        return Duration::from_secs(3600);
    }
    FORM
}

pub(super) fn spawn(shared: Arc<Shared>, store: Arc<Store>) -> JoinHandle<()> {
    std::thread::Builder::new()
        .name("state-writer".to_owned())
        .spawn(move || {
            let mut writer = Writer::new(shared.clone(), store);
            if let Err(fault) = writer.run() {
                tracing::error!(%fault, "the state can no longer be written");
                let why = fault.to_string();
                let mut layers = shared.lock();
                layers.fault = Some(why.clone());
                layers.views.clear();
                for waiting in layers.persist.drain(..) {
                    waiting.answer(Err(why.clone()));
                }
                drop(layers);
                shared
                    .flushed
                    .send_modify(|flushed| flushed.fault = Some(why));
            }
        })
        .expect("the operating system starts a thread while the process starts")
}

struct Writer {
    shared: Arc<Shared>,
    store: Arc<Store>,
    mark: Mark,
    sweeper: Sweeper,
    bytes_since_checkpoint: usize,
    bytes_since_sync: usize,
    /// The batch that was newest when the memtables were last told to go to tables.
    rotating: Option<u64>,
    tidying: Tidying,
    batches: u64,
}

/// Work that is left to do when no more rows come.
#[derive(Default)]
struct Tidying {
    bytes: usize,
    rounds: u32,
    is_due: bool,
}

impl Tidying {
    fn written(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.bytes >= TIDY_BYTES {
            *self = Self {
                rounds: TIDY_ROUNDS,
                ..Self::default()
            };
        }
    }

    /// How long to wait for rows before a round; `None` is for ever.
    fn patience(&self) -> Option<Duration> {
        let round = TIDY_ROUNDS - self.rounds;
        (self.rounds > 0).then(|| TIDY_AFTER * (1 << round))
    }

    fn begin_round(&mut self) {
        self.rounds -= 1;
        self.is_due = true;
    }
}

impl Writer {
    fn new(shared: Arc<Shared>, store: Arc<Store>) -> Self {
        Self {
            mark: store.mark,
            store,
            shared,
            sweeper: Sweeper::default(),
            bytes_since_checkpoint: 0,
            bytes_since_sync: 0,
            rotating: None,
            tidying: Tidying::default(),
            batches: 0,
        }
    }

    fn run(&mut self) -> Result<(), Fault> {
        loop {
            let mut layers = self.shared.lock();
            let is_wanted = |layers: &super::layers::Layers| {
                layers.is_closing
                    || layers.fault.is_some()
                    || !layers.persist.is_empty()
                    || !layers.views.is_empty()
                    || layers.forming.bytes >= LAYER_BYTES_SOON
            };
            if !self.sweeper.has_work() && self.rotating.is_none() {
                let is_idle = |layers: &mut super::layers::Layers| {
                    layers.forming.is_empty() && !is_wanted(layers)
                };
                layers.is_idle = true;
                let wake = &self.shared.wake;
                layers = match self.tidying.patience() {
                    None => wake.wait_while(layers, is_idle).expect(POISONED),
                    Some(patience) => {
                        let (layers, waited) = wake
                            .wait_timeout_while(layers, patience, is_idle)
                            .expect(POISONED);
                        if waited.timed_out() {
                            self.tidying.begin_round();
                        }
                        layers
                    }
                };
                layers.is_idle = false;
            }
            let rest = if self.sweeper.has_work() {
                SWEEP_REST
            } else {
                form()
            };
            let (mut layers, _) = self
                .shared
                .wake
                .wait_timeout_while(layers, rest, |layers| !is_wanted(layers))
                .expect(POISONED);
            if let Some(why) = &layers.fault {
                return Err(Fault::Store(why.clone()));
            }
            let sealed = Arc::new(std::mem::replace(
                &mut layers.forming,
                Layer::empty(self.shared.layout()),
            ));
            layers.sealed = Some(sealed.clone());
            let waiting = std::mem::take(&mut layers.persist);
            let views = std::mem::take(&mut layers.views);
            let is_closing = layers.is_closing;
            drop(layers);

            self.await_room();
            // On failure `sealed` stays in front of fjall, so that reads go on as if nothing had happened.
            let committed = self.commit(&sealed);
            if committed.is_ok() {
                self.shared.lock().sealed = None;
                drop(sealed);
                for view in views {
                    // The caller may have lost interest.
                    let _ = view.send(self.store.snapshot());
                }
            }
            let durable = committed.and_then(|()| {
                if waiting.is_empty() {
                    Ok(())
                } else {
                    self.store.sync()
                }
            });
            for waiting in waiting {
                waiting.answer(
                    durable
                        .as_ref()
                        .map_or_else(|fault| Err(fault.to_string()), |()| Ok(())),
                );
            }
            durable?;
            self.batches += 1;
            let batches = self.batches;
            self.shared
                .flushed
                .send_modify(|flushed| flushed.batches = batches);
            if is_closing {
                return Ok(());
            }
            self.sweep()?;
            self.checkpoint()?;
            self.store.merge()?;
            if std::mem::take(&mut self.tidying.is_due) {
                self.tidy()?;
            }
        }
    }

    /// Waits while memtables take more memory than they should and some are being written out. fjall by itself waits for the
    /// fifth of one space, for 100 ms at a time. One that is never written out fails the commit that follows.
    fn await_room(&self) {
        let bytes_max = self.shared.memtable_bytes_max();
        for _ in 0..ROOM_LOOKS_MAX {
            if self.store.memtable_bytes() <= bytes_max || self.store.is_rotated() {
                return;
            }
            std::thread::sleep(ROOM_PAUSE);
        }
    }

    /// Turns over the smallest memtable there is: one with nothing but a mark.
    fn tidy(&mut self) -> Result<(), Fault> {
        self.mark.last += 1;
        self.store.batch(self.mark, 0).commit()?;
        self.store.rotate_small()
    }

    fn commit(&mut self, layer: &Layer) -> Result<(), Fault> {
        if layer.bytes > 0 {
            let rows = layer
                .spaces
                .iter()
                .map(std::collections::BTreeMap::len)
                .sum();
            self.mark.last += 1;
            let mut batch = self.store.batch(self.mark, rows);
            for space in self.shared.layout().spaces() {
                for (key, value) in &layer.spaces[space.index()] {
                    batch.set(space, key, value.as_deref());
                }
            }
            let timer = metrics().backend_commit_seconds.start_timer();
            batch.commit()?;
            timer.observe_duration();
            self.bytes_since_checkpoint += layer.bytes;
            self.bytes_since_sync += layer.bytes;
            if self.bytes_since_sync >= SYNC_BYTES {
                self.bytes_since_sync = 0;
                self.store.sync()?;
            }
            self.tidying.written(layer.bytes);
        }
        if let Some(floor) = layer.sweep_below {
            self.sweeper.raise(floor);
        }
        Ok(())
    }

    fn sweep(&mut self) -> Result<(), Fault> {
        if !self.sweeper.has_work() {
            return Ok(());
        }
        let garbage = self.sweeper.step(&self.store, self.shared.layout())?;
        if garbage.is_empty() {
            return Ok(());
        }
        self.mark.last += 1;
        let mut batch = self.store.batch(self.mark, garbage.len());
        for (space, key) in &garbage {
            batch.set(*space, key, None);
            self.bytes_since_checkpoint += key.len() + 32;
        }
        batch.commit()
    }

    fn checkpoint(&mut self) -> Result<(), Fault> {
        match self.rotating {
            None if self.bytes_since_checkpoint >= CHECKPOINT_BYTES => {
                self.rotating = Some(self.mark.last);
                self.bytes_since_checkpoint = 0;
                self.store.rotate()
            }
            Some(checkpoint) if self.store.is_rotated() => {
                self.rotating = None;
                let done = self.mark.numbers();
                self.mark.last += 1;
                self.mark.checkpoint = checkpoint;
                let mut batch = self.store.batch(self.mark, 0);
                for number in *done.start()..=checkpoint {
                    batch.forget(number);
                }
                batch.commit()
            }
            None | Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::error::OpenError;
    use super::super::tests::{CURRENT, LAYOUT};
    use super::*;

    #[test]
    fn tidying_follows_many_rows_in_longer_and_longer_pauses_and_ends() {
        let mut tidying = Tidying::default();
        assert_eq!(tidying.patience(), None, "nothing was written");
        tidying.written(TIDY_BYTES - 1);
        assert_eq!(tidying.patience(), None, "too little was");
        tidying.written(1);
        let mut pauses = Vec::new();
        while let Some(pause) = tidying.patience() {
            pauses.push(pause.as_secs());
            tidying.begin_round();
            assert!(std::mem::take(&mut tidying.is_due));
        }
        assert_eq!(pauses, [2, 4, 8, 16]);
    }

    #[test]
    fn a_store_that_is_tidied_has_the_same_rows() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &LAYOUT).map_err(OpenError::into_fault);
        let mut writer = Writer::new(Arc::new(Shared::new(&LAYOUT)), Arc::new(store.unwrap()));
        for round in 0..12u8 {
            let mut layer = Layer::empty(&LAYOUT);
            layer.bytes = TIDY_BYTES;
            let key = bytes::Bytes::copy_from_slice(&[round]);
            layer.spaces[CURRENT.index()].insert(key.clone(), Some(key));
            writer.commit(&layer).unwrap();
            writer.tidy().unwrap();
        }
        drop(writer);
        let store = Store::open(dir.path(), &LAYOUT).map_err(OpenError::into_fault);
        let store = store.unwrap();
        for round in 0..12u8 {
            let found = store.get(CURRENT, &[round]).unwrap();
            assert_eq!(found.as_deref(), Some(&[round][..]));
        }
    }
}
