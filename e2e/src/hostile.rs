//! Clients that mean harm, and what they must not bring about: a member that grows, or others that wait.
//!
//! [`raw`] speaks HTTP/2 frame by frame and keeps to no rule, [`any_bytes`] makes proper calls of any bytes, [`extremes`]
//! makes requests of the API's descriptors; [`bystander`] is the other client; [`memory`] reads what a member holds,
//! [`backlog`] what it has not accepted yet. [`small_machine`] bounds what members may hold, and [`onslaught`] is all of it
//! at once.

pub mod any_bytes;
pub mod backlog;
pub mod bystander;
pub mod extremes;
pub mod memory;
pub mod onslaught;
pub mod raw;
pub mod small_machine;
