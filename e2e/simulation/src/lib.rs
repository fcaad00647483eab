//! A whole cluster in one process from one seed, at virtual time: the server as it ships, on a simulated network and
//! simulated disks, with faults, judged by the checkers of the end-to-end tests.
//!
//! Read [`interpose`] for how time and chance are replaced, [`world`] for a run, [`network`], [`disk`] and [`host`] for
//! what members stand on, [`faults`] for what goes wrong, [`clients`] and [`judge`] for what is seen and said of it.
//! `docs/simulation.md` says what is simulated and what is not.

mod calendar;
pub mod clients;
pub mod disk;
pub mod faults;
pub mod host;
pub mod interpose;
pub mod judge;
pub mod member;
pub mod network;
pub mod seeds;
pub mod trace;
pub mod world;
pub mod wrong;
