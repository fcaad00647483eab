//! The front room: the path from a socket to a call, which all doors share.
//!
//! Owns the accept loop and its limits ([`serve`], [`Limits`]), the time and the frames that the other side has
//! (`guard`), the bytes of requests and answers (`bodies`, `gunzip`), the way of calls with one message (`unary`), calls
//! that are made with JSON (`gateway`), who may ask over plain HTTP ([`Access`]), which door answers what ([`Router`]) and
//! the TLS handshake (`endpoint`). In: a listener and what answers. Out: calls, each with its part of the budget. It must
//! not know what a call means, nor any door: a door hands in its services ([`Calls`]), its pages ([`Pages`]) and its words
//! for a refusal ([`Words`]). Read `listener` first.

mod access;
mod bodies;
mod endpoint;
mod gateway;
mod guard;
mod gunzip;
mod incoming;
mod limits;
mod listener;
mod page;
mod prefix;
mod remote;
mod router;
mod unary;
mod words;

pub use crate::tls::ClientCertificate;
pub use access::Access;
pub use endpoint::Endpoint;
pub use incoming::{Came, come};
pub use limits::Limits;
pub use listener::{serve, serve_until_dropped};
pub use page::Page;
pub use remote::Remote;
pub use router::{Answering, Call, Calls, Connection, GrpcRequest, Pages, Reply, Router};
pub use words::{Words, received};
