//! A machine: a runtime of its own, which has a turn when something is due on it.
//!
//! To crash it is to drop its runtime, to pause it is to give it no turns: what a machine's programs hold needs no say.

use std::cell::RefCell;
use std::task::Waker;

use tokio::runtime::{Builder, Runtime};

use crate::interpose::{self, Turn};
use crate::network::HostId;

thread_local! {
    static RUNNING: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The name of the host that has its turn, for log lines.
pub fn running() -> String {
    RUNNING.with_borrow(Clone::clone)
}

/// A machine that has power.
pub struct Host {
    /// Where it is on the network.
    pub id: HostId,
    name: String,
    runtime: Runtime,
    /// When it wants its next turn.
    due: u64,
    /// Those that are to be woken with it.
    wakers: Vec<Waker>,
    /// Whether it gets no turns.
    pub is_paused: bool,
    /// How far its wall clock is off, in nanoseconds.
    pub skew: i64,
}

impl Host {
    /// Switches one on.
    pub fn new(id: HostId, name: &str) -> Self {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("the runtime needs epoll");
        Self {
            id,
            name: name.to_owned(),
            runtime,
            due: interpose::now(),
            wakers: Vec::new(),
            is_paused: false,
            skew: 0,
        }
    }

    /// Starts something on it; it runs from the next turn on.
    pub fn spawn(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
        self.due = interpose::now();
    }

    /// Has it woken at its next turn, which is due now.
    pub fn wake(&mut self, waker: Waker) {
        self.wakers.push(waker);
        self.due = interpose::now();
    }

    /// When it wants its next turn; `u64::MAX` is never.
    pub fn due(&self) -> u64 {
        if self.is_paused { u64::MAX } else { self.due }
    }

    /// Lets it do everything that it can do now.
    pub fn turn(&mut self) {
        RUNNING.with_borrow_mut(|running| running.clone_from(&self.name));
        interpose::skew(self.skew);
        self.due = self
            .runtime
            .block_on(Turn::new(std::mem::take(&mut self.wakers)));
        interpose::skew(0);
        RUNNING.with_borrow_mut(String::clear);
    }
}
