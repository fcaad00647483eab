//! The JSON gateway: the calls of a door, over plain HTTP with JSON, as grpc-gateway has them for etcd.
//!
//! A request becomes the very call that gRPC would have brought ([`request`]) and goes its way, with its limits, its part of
//! the budget and its checks; what comes back is written as JSON while it is sent ([`answer`], [`json`]). Its
//! paths are those of the definitions ([`place`]). It knows no message and no service. Source: google.api.http, protobuf's JSON mapping,
//! grpc-gateway's runtime; decision 0014.

mod answer;
mod json;
mod place;
mod request;

pub(super) use answer::{Answers, answered, answered_at_once};
pub(super) use place::{Found, Place, find, is_below};
pub(super) use request::{Source, metadata, requests};
