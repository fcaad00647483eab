//! The thread that carries layers to fjall. It is the only one that writes there, so only it ever waits for fjall.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::background;
use super::layers::{LAYER_BYTES_SOON, Layer, Shared, Space};
use super::marks::Mark;
use super::store::Store;
use super::sweep::Sweeper;
use crate::command::Fault;
use crate::metrics::metrics;

/// How long a layer forms: rows that are written again in this time reach fjall once. After a crash the log replays it.
const FORM: Duration = Duration::from_millis(100);
/// Rest between two steps of a sweep, so that it takes a share of a core and not all of it.
const SWEEP_REST: Duration = Duration::from_millis(4);
/// After so many bytes all memtables are written out: bounds the batch numbers kept and the replay at open. Tests must
/// get there.
const CHECKPOINT_BYTES: usize = if cfg!(test) { 8 << 10 } else { 32 << 20 };

/// [`FORM`], but in a build for fault runs a kill may have to be a power cut: then rows leave only to be synced.
fn form() -> Duration {
    #[cfg(feature = "planted-bugs")]
    if crate::planted::seams::is_power_cut() {
        return Duration::from_secs(3600);
    }
    FORM
}

pub(super) fn spawn(shared: Arc<Shared>, store: Arc<Store>) -> JoinHandle<()> {
    std::thread::Builder::new()
        .name("state-writer".to_owned())
        .spawn(move || {
            background::give_way();
            let mut writer = Writer {
                mark: store.mark,
                store,
                shared: shared.clone(),
                sweeper: Sweeper::default(),
                bytes_since_checkpoint: 0,
                rotating: None,
                batches: 0,
            };
            if let Err(fault) = writer.run() {
                tracing::error!(%fault, "the state can no longer be written");
                let why = fault.to_string();
                let mut layers = shared.lock();
                layers.fault = Some(why.clone());
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
    /// The batch that was newest when the memtables were last told to go to tables.
    rotating: Option<u64>,
    batches: u64,
}

impl Writer {
    fn run(&mut self) -> Result<(), Fault> {
        loop {
            let mut layers = self.shared.lock();
            let is_wanted = |layers: &super::layers::Layers| {
                layers.is_closing
                    || layers.fault.is_some()
                    || !layers.persist.is_empty()
                    || layers.forming.bytes >= LAYER_BYTES_SOON
            };
            if !self.sweeper.has_work() && self.rotating.is_none() {
                while layers.forming.is_empty() && !is_wanted(&layers) {
                    layers.is_idle = true;
                    layers = self
                        .shared
                        .wake
                        .wait(layers)
                        .expect("a thread that panics with the rows in hand ends the process");
                }
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
                .expect("a thread that panics with the rows in hand ends the process");
            if let Some(why) = &layers.fault {
                return Err(Fault::Store(why.clone()));
            }
            let sealed = Arc::new(std::mem::take(&mut layers.forming));
            layers.sealed = Some(sealed.clone());
            let waiting = std::mem::take(&mut layers.persist);
            let is_closing = layers.is_closing;
            drop(layers);

            // On failure `sealed` stays in front of fjall, so that reads go on as if nothing had happened.
            let committed = self.commit(&sealed);
            if committed.is_ok() {
                self.shared.lock().sealed = None;
                drop(sealed);
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
        }
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
            for space in Space::ALL {
                for (key, value) in &layer.spaces[space.index()] {
                    batch.set(space, key, value.as_deref());
                }
            }
            let timer = metrics().backend_commit_seconds.start_timer();
            batch.commit()?;
            timer.observe_duration();
            self.bytes_since_checkpoint += layer.bytes;
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
        let garbage = self.sweeper.step(&self.store, self.shared.sweep())?;
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
