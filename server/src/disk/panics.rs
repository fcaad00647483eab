//! A note for the next start when fjall panics over damaged files, which it does in places, mostly while it opens.
//!
//! Without it a process that ends by the panic would end there again at every start.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::{Mutex, Once, OnceLock};

use super::note;

thread_local! {
    static STORE: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Stores that are open, whose threads of fjall's own may panic.
static OPEN: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
/// The name that fjall gives its threads.
const WORKER: &str = "fjall:worker";

/// Until dropped, a panic of this thread is noted beside `store`.
pub(super) fn note_in(store: PathBuf) -> Watched {
    hook();
    STORE.set(Some(store));
    Watched
}

/// Until dropped, a panic of a thread of fjall's own has the next open of `store` read every row. The thread does not
/// name the store it worked on, so all that are open are noted; there is more than one only while a received state
/// takes over.
pub(super) fn watch_workers(store: PathBuf) -> WatchedWorkers {
    hook();
    open_stores().push(store.clone());
    WatchedWorkers(store)
}

fn open_stores() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    OPEN.lock().expect("nothing panics while it holds the lock")
}

/// Hears the words of a panic.
type Tell = Box<dyn Fn(&str) + Send + Sync>;

/// Told of every panic first, in a process that only looks at a store.
static TELL: OnceLock<Tell> = OnceLock::new();

/// From now on `tell` is told of panics while a store is open, and may end the process.
pub fn tell_panics(tell: impl Fn(&str) + Send + Sync + 'static) {
    // The first one stays: there is one in a process.
    let _ = TELL.set(Box::new(tell));
}

fn hook() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if let Some(tell) = TELL.get() {
                tell(&panic.to_string());
            }
            if let Some(store) = STORE.with_borrow_mut(Option::take) {
                note::damaged(&store, &panic.to_string());
                tracing::error!(
                    path = %store.display(),
                    %panic,
                    "the state is damaged; the next start sets it aside and rebuilds it",
                );
                return;
            }
            if std::thread::current().name() == Some(WORKER) {
                for store in open_stores().iter() {
                    note::unsure(store, &panic.to_string());
                }
            }
            before(panic);
        }));
    });
}

pub(super) struct Watched;

impl Drop for Watched {
    fn drop(&mut self) {
        STORE.set(None);
    }
}

pub(super) struct WatchedWorkers(PathBuf);

impl Drop for WatchedWorkers {
    fn drop(&mut self) {
        let mut open = open_stores();
        if let Some(at) = open.iter().position(|store| *store == self.0) {
            open.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_a_worker_has_every_row_of_an_open_store_read() {
        let dir = tempfile::tempdir().unwrap();
        let (open, closed) = (dir.path().join("1"), dir.path().join("2"));
        let _watched = watch_workers(open.clone());
        drop(watch_workers(closed.clone()));
        let worker = std::thread::Builder::new().name(WORKER.to_owned());
        let panicked = worker.spawn(|| panic!("a table is odd")).unwrap().join();
        assert!(panicked.is_err());
        assert!(matches!(note::read(&open), Some(note::Note::Unsure)));
        assert!(note::read(&closed).is_none());
    }
}
