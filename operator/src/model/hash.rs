//! Hashes by which objects are compared: as they are wanted, and as the API server answered them.

use serde::Serialize;

/// A hash of an object as it was answered: of all but its status and what the API server counts.
///
/// Two hashes are compared that this process made, so that it may change with any version.
pub fn content_hash(object: &impl Serialize) -> String {
    let mut value = serde_json::to_value(object).expect("plain data always serialises");
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
    }
    if let Some(metadata) = value.get_mut("metadata").and_then(|m| m.as_object_mut()) {
        for counted in ["resourceVersion", "generation", "managedFields", "uid"] {
            metadata.remove(counted);
        }
    }
    format!("{:016x}", fnv1a(value.to_string().as_bytes()))
}

/// A hash of an object that is about to be sent, or of what a template is made from.
pub fn wanted_hash(object: &impl Serialize) -> String {
    let bytes = serde_json::to_vec(object).expect("plain data always serialises");
    format!("{:016x}", fnv1a(&bytes))
}

/// FNV-1a, 64 bits: stable for ever, unlike the standard library's hasher. It tells templates apart, nothing else.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
