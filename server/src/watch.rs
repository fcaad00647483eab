//! Delivery of changes to watchers, in order.
//!
//! In: one [`Hub::publish`] per applied batch, in revision order. Out: per client stream one [`Pump`] with bounded memory,
//! which says turn by turn what its watchers are to be told; a door only converts. The lock inside the hub is what orders
//! everything: a watcher that registers sees either a change in history or its publish, never both and never neither.
//!
//! A watcher is *live* (the hub queues events for it) or *lagging* (the pump reads history until it has caught up). A
//! client that reads too slowly falls behind with all its watchers, and reads history likewise; applying is never held
//! up. A revision that is too large to be held is read part by part, once to measure it and once for each watcher that
//! wants any of it. This room knows no wire and reads no state: history is passed in ([`Past`]). Read [`hub`] first, then
//! [`pump`].

mod bell;
mod catch_up;
mod hub;
mod index;
mod intervals;
mod large;
mod outlet;
mod piece;
mod pump;
#[cfg(test)]
mod tests;

pub use bell::Bell;
pub use hub::{Hub, HubCounts};
pub use outlet::{Wanted, WatcherId};
pub use pump::{Changes, Extent, Needs, Part, Past, Pump, Told, Turn};
