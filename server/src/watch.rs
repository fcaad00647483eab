//! Who is told of which change, in which order.
//!
//! In: one [`Hub::publish`] per applied batch, in revision order. Out: per client stream one [`Outlet`] with bounded
//! memory, from which its owner takes [`Piece`]s: events kept once, and the watchers that want them. The lock inside the hub is what orders everything: a watcher that
//! registers sees either a change in history or its publish, never both and never neither.
//!
//! A watcher is *live* (the hub queues events for it) or *lagging* (its owner reads history until it has caught up). A
//! client that reads too slowly falls behind with all its watchers, and reads history likewise; applying is never held
//! up. This room knows no wire and reads
//! no state: whoever owns an outlet passes history in. Read [`hub`] first.

mod catch_up;
mod hub;
mod index;
mod intervals;
mod outlet;
mod piece;
#[cfg(test)]
mod tests;

pub use catch_up::Gap;
pub use hub::{Hub, HubCounts};
pub use outlet::{Outlet, Wanted, WatcherId};
pub use piece::{Piece, Reader};
