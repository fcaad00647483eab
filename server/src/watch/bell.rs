//! For those who only need to know that something changed, and read for themselves what is there now.

use std::sync::Arc;

use super::hub::Hub;
use super::outlet::{Outlet, Wanted, WatcherId};

/// Bytes taken from the queue at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// Rings when keys change. Dropping it ends it.
#[derive(Debug)]
pub struct Bell(Outlet);

impl Bell {
    /// Rings for every change from now on that is wanted.
    pub fn new(hub: &Arc<Hub>, wanted: Wanted) -> Self {
        let mut outlet = hub.open();
        outlet.watch(WatcherId(0), Arc::new(wanted));
        Self(outlet)
    }

    /// Returns once something changed since it was last called, or may have.
    pub async fn rung(&mut self) {
        self.0.woken().await;
        while self.0.take(PIECE_BYTES).is_some() {}
        // The changes themselves stand in the state. A watcher that stayed behind because a revision was large would
        // not be woken again.
        if let Some(gap) = self.0.gap() {
            self.0.fill(gap, Vec::new(), gap.upto);
        }
    }
}
