//! TLS: this member's identity on the wire, and the certificates it believes.
//!
//! In: the flags' values ([`Settings`]), and the files it names. Out: a [`Server`] for each side that accepts, a
//! [`Client`] for the connections to peers, and whose certificate a connection has ([`ClientCertificate`]). The files are
//! looked at again at every handshake, so that a certificate, a key, an authority or a revocation list that was replaced
//! counts from the next connection on (`reload`). It must not know what is said over a connection, nor where it came
//! from. rustls and aws-lc-rs do the work and are named nowhere else but in `network`.

mod certificate;
mod generate;
mod load;
mod reload;
mod settings;
mod sides;
mod suites;
#[cfg(test)]
mod tests;
mod verify;

pub use certificate::ClientCertificate;
pub use generate::self_signed;
pub use settings::{Allowed, Flags, Settings, Unfit, Versions};
pub use sides::{Client, Server};
pub use suites::is_cipher_suite;
