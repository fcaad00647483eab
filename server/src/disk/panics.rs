//! A note for the next start when fjall panics over damaged files, which it does in places while it opens.
//!
//! Without it a process that ends by the panic would end there again at every start.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Once;

thread_local! {
    static NOTE: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// Until dropped, a panic of this thread is written to `note`.
pub(super) fn note_in(note: PathBuf) -> Watched {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let note = NOTE.with_borrow_mut(Option::take);
            if let Some(note) = note {
                // If this fails too, the next start ends at the same place, with the same message.
                let _ = std::fs::write(note, panic.to_string());
            }
            before(panic);
        }));
    });
    NOTE.set(Some(note));
    Watched
}

pub(super) struct Watched;

impl Drop for Watched {
    fn drop(&mut self) {
        NOTE.set(None);
    }
}
