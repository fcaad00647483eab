//! Clients that mean harm, and what they must not bring about: a member that grows, or others that wait.
//!
//! [`raw`] speaks HTTP/2 frame by frame and keeps to no rule, [`any_bytes`] makes proper calls of any bytes; [`bystander`]
//! is the other client; [`memory`] reads what a member holds, [`backlog`] what it has not accepted yet.

pub mod any_bytes;
pub mod backlog;
pub mod bystander;
pub mod memory;
pub mod raw;
