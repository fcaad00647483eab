//! Threads of low priority: fjall's work can wait for a core, a client's call should not.
//!
//! The log is what makes a write durable; tables only follow it. The thread that carries rows to fjall is not among them: what
//! it does not carry fills the memory.

/// How far below the rest, as `nice` counts: a third of a core where two threads want it.
const NICE: i32 = 5;

/// Lowers the priority of this thread, for good, and of those that it will start.
pub(super) fn give_way() {
    // Nothing depends on it.
    let _ = rustix::process::nice(NICE);
}

/// Does `work` on a thread of low priority and waits for it: threads that it starts inherit that.
pub(super) fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            give_way();
            work()
        });
        match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
