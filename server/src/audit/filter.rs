//! The choice of operations that are recorded: by their kind, and by the keys they are about.

use super::kind::Kind;
use super::line::{Operation, Span};

/// The operations that are recorded. The default takes all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Kinds that are taken.
    pub kinds: Vec<Kind>,
    /// An operation on keys is taken if one of its keys may begin with one of these; any, if there are none. Operations
    /// that are not about keys are taken by their kind alone.
    pub prefixes: Vec<String>,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            kinds: Kind::ALL.to_vec(),
            prefixes: Vec::new(),
        }
    }
}

impl Filter {
    /// Whether this operation is a reason to record the call that it is a part of.
    pub fn takes(&self, operation: &Operation<'_>) -> bool {
        if !self.kinds.contains(&operation.kind) {
            return false;
        }
        let Some(span) = operation.keys else {
            return true;
        };
        self.prefixes.is_empty() || self.prefixes.iter().any(|prefix| meets(span, prefix))
    }
}

/// Whether some key of the span may begin with `prefix`.
fn meets(span: Span<'_>, prefix: &str) -> bool {
    let Span { key, range_end } = span;
    let prefix = prefix.as_bytes();
    match range_end {
        b"" => key.starts_with(prefix),
        // It begins before the last key with the prefix, and ends behind the first.
        b"\0" => key <= prefix || key.starts_with(prefix),
        end => (key <= prefix || key.starts_with(prefix)) && end > prefix,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation<'a>(kind: Kind, key: &'a str, range_end: &'a str) -> Operation<'a> {
        let keys = Span {
            key: key.as_bytes(),
            range_end: range_end.as_bytes(),
        };
        Operation {
            keys: Some(keys),
            ..Operation::new(kind, "op")
        }
    }

    #[test]
    fn a_range_is_taken_if_it_may_hold_a_key_with_the_prefix() {
        let filter = Filter {
            prefixes: vec!["/b/".to_owned()],
            ..Filter::default()
        };
        for (key, range_end, is_taken) in [
            ("/b/1", "", true),
            ("/b/", "", true),
            ("/b", "", false),
            ("/c", "", false),
            ("/a", "/c", true),
            ("/a", "/b/1", true),
            ("/a", "/b/", false),
            ("/b/5", "/b/6", true),
            ("/b0", "/c", false),
            ("/a", "\0", true),
            ("/b/9", "\0", true),
            ("/b0", "\0", false),
            ("\0", "\0", true),
        ] {
            let taken = filter.takes(&operation(Kind::Read, key, range_end));
            assert_eq!(taken, is_taken, "{key:?} {range_end:?}");
        }
    }

    #[test]
    fn an_operation_without_keys_is_taken_by_its_kind_alone() {
        let filter = Filter {
            kinds: vec![Kind::Lease],
            prefixes: vec!["/b/".to_owned()],
        };
        assert!(filter.takes(&Operation::new(Kind::Lease, "lease_grant")));
        assert!(!filter.takes(&Operation::new(Kind::Auth, "authenticate")));
        assert!(!filter.takes(&operation(Kind::Write, "/b/1", "")));
    }
}
