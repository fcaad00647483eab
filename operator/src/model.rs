//! The words that every other room uses: a member's number, the quorum, names and URLs, labels, hashes of what runs.
//!
//! In: a spec, a name, a number. Out: text and numbers. It knows the resource's types (`crd`) and nothing that was seen,
//! planned or sent. Read `names` first: it is how a member is told from another.

/// Hashes by which objects are compared.
pub mod hash;
/// Labels, annotations and selectors.
pub mod labels;
/// Names and URLs, and the way back from them to a member.
pub mod names;
/// The fields that a pod is made from.
pub mod template;
/// Versions of Coord's server.
pub mod version;

/// The number of a member, `n` in `<cluster>-<n>`.
pub type Ordinal = u32;

/// The smallest majority of `voters`.
pub fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}
