//! Ways in which a server could differ: each is done to what Coord says, and must be found.

use serde_json::{Value, json};

/// A way to differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alteration {
    /// A revision is one too high.
    Revision,
    /// A key that was found is left out.
    KeyLeftOut,
    /// A version is one too high.
    Version,
    /// The lease of a key is not told.
    LeaseNotTold,
    /// The value before is not told.
    NoPrevious,
    /// One more was deleted than said.
    Deleted,
    /// The other branch of a transaction.
    OtherBranch,
    /// A refusal has another code.
    Code,
    /// A refusal has other words.
    Words,
    /// A hash differs in one bit.
    Hash,
    /// A lease lives three seconds longer.
    LongerLease,
    /// An event is lost.
    EventLost,
    /// An event is told twice.
    EventTwice,
    /// Two events change places.
    EventsSwapped,
    /// A permission is not listed.
    PermissionNotListed,
}

impl Alteration {
    pub(crate) const ALL: [Self; 15] = [
        Self::Revision,
        Self::KeyLeftOut,
        Self::Version,
        Self::LeaseNotTold,
        Self::NoPrevious,
        Self::Deleted,
        Self::OtherBranch,
        Self::Code,
        Self::Words,
        Self::Hash,
        Self::LongerLease,
        Self::EventLost,
        Self::EventTwice,
        Self::EventsSwapped,
        Self::PermissionNotListed,
    ];

    /// Alters an answer, if it is of its kind.
    pub(crate) fn reply(self, path: &str, answer: &mut Value) {
        match self {
            Self::Revision => more(answer.pointer_mut("/header/revision")),
            Self::KeyLeftOut => drop(kvs(answer).and_then(Vec::pop)),
            Self::Version => more(answer.pointer_mut("/kvs/0/version")),
            Self::LeaseNotTold => {
                for kv in kvs(answer).into_iter().flatten() {
                    remove(kv, "lease");
                }
            }
            Self::NoPrevious => {
                remove(answer, "prev_kv");
                remove(answer, "prev_kvs");
            }
            Self::Deleted => more(answer.get_mut("deleted")),
            Self::OtherBranch => remove(answer, "succeeded"),
            Self::Code => {
                if answer["code"] == "OutOfRange" {
                    answer["code"] = json!("InvalidArgument");
                }
            }
            Self::Words => {
                if let Some(Value::String(words)) = answer.get_mut("message") {
                    words.push('.');
                }
            }
            Self::Hash => {
                if let Some(hash) = answer["hash"].as_u64() {
                    answer["hash"] = json!(hash ^ 1);
                }
            }
            Self::LongerLease => {
                let ttl = answer.get("TTL").and_then(Value::as_str);
                let ttl = ttl.and_then(|ttl| ttl.parse::<i64>().ok());
                if let Some(ttl) = ttl.filter(|_| path.ends_with("/LeaseTimeToLive")) {
                    answer["TTL"] = json!((ttl + 3).to_string());
                }
            }
            Self::PermissionNotListed => {
                if let Some(Value::Array(permissions)) = answer.get_mut("perm") {
                    permissions.pop();
                }
            }
            Self::EventLost | Self::EventTwice | Self::EventsSwapped => {}
        }
    }

    /// Alters what a watcher was told.
    pub(crate) fn events(self, told: &mut Vec<Value>) {
        let is_event = |line: &Value| line.get("kv").is_some();
        let Some(last) = told.iter().rposition(is_event) else {
            return;
        };
        match self {
            Self::EventLost => drop(told.remove(last)),
            Self::EventTwice => told.push(told[last].clone()),
            Self::EventsSwapped if last > 0 && is_event(&told[last - 1]) => {
                told.swap(last - 1, last);
            }
            _ => {}
        }
    }
}

fn kvs(answer: &mut Value) -> Option<&mut Vec<Value>> {
    answer.get_mut("kvs").and_then(Value::as_array_mut)
}

fn remove(value: &mut Value, field: &str) {
    if let Value::Object(fields) = value {
        fields.remove(field);
    }
}

/// A number in a text becomes one larger.
fn more(value: Option<&mut Value>) {
    if let Some(Value::String(text)) = value
        && let Ok(number) = text.parse::<i64>()
    {
        *text = (number + 1).to_string();
    }
}
