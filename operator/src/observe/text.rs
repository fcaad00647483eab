//! Values of this operator's own in the texts of Kubernetes' objects.

use std::collections::BTreeMap;

/// A number that is written in hexadecimal.
pub(super) fn id(hexadecimal: &str) -> Option<u64> {
    u64::from_str_radix(hexadecimal, 16).ok()
}

/// The annotation of that key.
pub(super) fn annotation<'a>(
    annotations: &'a BTreeMap<String, String>,
    key: &str,
) -> Option<&'a str> {
    annotations.get(key).map(String::as_str)
}
