//! PEM: a name, and the bytes between its two lines.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The first block of `text`: its name, such as `PUBLIC KEY`, and its bytes.
pub(super) fn first_block(text: &str) -> Option<(&str, Vec<u8>)> {
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (name, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once("-----END ")?;
    let body: String = body.split_whitespace().collect();
    Some((name, STANDARD.decode(body).ok()?))
}
