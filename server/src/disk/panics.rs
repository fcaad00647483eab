//! A note for the next start when fjall panics over damaged files, which it does in places while it opens.
//!
//! Without it a process that ends by the panic would end there again at every start.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Once;

use super::note;

thread_local! {
    static STORE: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Until dropped, a panic of this thread is noted beside `store`.
pub(super) fn note_in(store: PathBuf) -> Watched {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            match STORE.with_borrow_mut(Option::take) {
                Some(store) => {
                    note::damaged(&store, &panic.to_string());
                    tracing::error!(
                        path = %store.display(),
                        %panic,
                        "the state is damaged; the next start sets it aside and rebuilds it",
                    );
                }
                None => before(panic),
            }
        }));
    });
    STORE.set(Some(store));
    Watched
}

pub(super) struct Watched;

impl Drop for Watched {
    fn drop(&mut self) {
        STORE.set(None);
    }
}
