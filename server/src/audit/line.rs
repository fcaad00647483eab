//! The form of a line: one JSON object.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::kind::Kind;

/// Why text can always be written.
const IN_MEMORY: &str = "text is JSON, and memory takes it";

/// The keys from `key` to before `range_end`, as etcd has them on the wire: one key if the end is empty, all keys from there
/// on if it is one zero byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span<'a> {
    /// The first key.
    pub key: &'a [u8],
    /// The end.
    pub range_end: &'a [u8],
}

/// A detail of an operation, or of its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact<'a> {
    /// A name or a word.
    Text(&'a str),
    /// Several.
    Texts(&'a [String]),
    /// The id of a lease or a member: in hexadecimal, as etcdctl prints it.
    Id(u64),
    /// A number.
    Number(i64),
    /// Yes or no.
    Is(bool),
    /// A key.
    Key(&'a [u8]),
}

/// One operation of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its name, such as `put`.
    pub name: &'static str,
    /// Its keys, if it is about keys.
    pub keys: Option<Span<'a>>,
    /// Its details, each with its name.
    pub facts: &'a [(&'static str, Fact<'a>)],
    /// Where in a transaction it stands; empty where it stands in none.
    pub branch: &'a str,
}

impl Operation<'_> {
    /// One without keys and details.
    pub const fn new(kind: Kind, name: &'static str) -> Self {
        Self {
            kind,
            name,
            keys: None,
            facts: &[],
            branch: "",
        }
    }
}

/// A call that has ended, but for its operations.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The address it came from; a socket of the file system has none.
    pub remote: Option<SocketAddr>,
    /// The user it was made as; none while authentication is off, or if its token means nobody.
    pub user: Option<&'a str>,
    /// The common name of the certificate that its connection was opened with.
    pub common_name: Option<&'a str>,
    /// `/package.Service/Method`.
    pub method: &'a str,
    /// `opened` and `ended` of a call whose answer is a stream.
    pub stream: Option<&'static str>,
    /// gRPC's code, by its name.
    pub code: &'a str,
    /// The words that a refused client reads; empty where all went well.
    pub message: &'a str,
    /// Details of the outcome.
    pub facts: &'a [(&'static str, Fact<'a>)],
}

impl Entry<'_> {
    /// Writes the line, without its end. `operations` hands over each operation in turn.
    pub(super) fn write(
        &self,
        member: &str,
        operations: impl FnOnce(&mut dyn FnMut(Operation<'_>)),
        out: &mut Vec<u8>,
    ) {
        begin(member, out);
        match self.remote {
            Some(address) => text(out, "remote", &address.to_string()),
            None => text(out, "remote", "unix"),
        }
        match self.user {
            Some(user) => text(out, "user", user),
            None => out.extend_from_slice(b",\"user\":null"),
        }
        if let Some(common_name) = self.common_name {
            text(out, "common_name", common_name);
        }
        text(out, "method", self.method);
        if let Some(stream) = self.stream {
            text(out, "stream", stream);
        }
        out.extend_from_slice(b",\"operations\":[");
        let mut is_first = true;
        operations(&mut |operation| {
            if !std::mem::take(&mut is_first) {
                out.push(b',');
            }
            write_operation(out, &operation);
        });
        out.push(b']');
        text(out, "code", self.code);
        if !self.message.is_empty() {
            text(out, "message", self.message);
        }
        write_facts(out, self.facts);
        out.push(b'}');
    }
}

/// The line that says how many are missing.
pub(super) fn write_lost(member: &str, lost: u64, out: &mut Vec<u8>) {
    begin(member, out);
    out.extend_from_slice(format!(",\"lost\":{lost}}}\n").as_bytes());
}

fn begin(member: &str, out: &mut Vec<u8>) {
    let mut time = String::with_capacity(32);
    // Writing to a string does not fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(time.as_bytes());
    out.extend_from_slice(b"\",\"member\":\"");
    out.extend_from_slice(member.as_bytes());
    out.push(b'"');
}

fn write_operation(out: &mut Vec<u8>, operation: &Operation<'_>) {
    let Operation {
        kind,
        name,
        keys,
        facts,
        branch,
    } = operation;
    out.extend_from_slice(b"{\"kind\":\"");
    out.extend_from_slice(kind.name().as_bytes());
    out.extend_from_slice(b"\",\"op\":\"");
    out.extend_from_slice(name.as_bytes());
    out.push(b'"');
    if let Some(Span { key, range_end }) = keys {
        write_key(out, "key", key);
        match *range_end {
            b"" => {}
            b"\0" => out.extend_from_slice(b",\"from_key\":true"),
            end => write_key(out, "range_end", end),
        }
    }
    write_facts(out, facts);
    if !branch.is_empty() {
        text(out, "branch", branch);
    }
    out.push(b'}');
}

fn write_facts(out: &mut Vec<u8>, facts: &[(&'static str, Fact<'_>)]) {
    for (name, fact) in facts {
        match fact {
            Fact::Text(words) => text(out, name, words),
            Fact::Texts(list) => {
                begin_field(out, name);
                serde_json::to_writer(&mut *out, list).expect(IN_MEMORY);
            }
            Fact::Id(id) => text(out, name, &format!("{id:x}")),
            Fact::Number(number) => {
                begin_field(out, name);
                out.extend_from_slice(number.to_string().as_bytes());
            }
            Fact::Is(is) => {
                begin_field(out, name);
                out.extend_from_slice(if *is { b"true" } else { b"false" });
            }
            Fact::Key(key) => write_key(out, name, key),
        }
    }
}

/// A key that is readable text stands as it is, any other in base64, its name says so.
fn write_key(out: &mut Vec<u8>, name: &str, key: &[u8]) {
    match str::from_utf8(key) {
        Ok(readable) if !readable.contains(char::is_control) => text(out, name, readable),
        Ok(_) | Err(_) => text(out, &format!("{name}_base64"), &STANDARD.encode(key)),
    }
}

fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    begin_field(out, name);
    serde_json::to_writer(out, value).expect(IN_MEMORY);
}

/// Names are ours: nothing in them needs a quotation mark of its own.
fn begin_field(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(
        operations: &[Operation<'_>],
        facts: &[(&'static str, Fact<'_>)],
    ) -> serde_json::Value {
        let entry = Entry {
            remote: Some("[::1]:7".parse().unwrap()),
            user: Some("a\"nn"),
            common_name: None,
            method: "/etcdserverpb.KV/Txn",
            stream: None,
            code: "OK",
            message: "",
            facts,
        };
        let mut out = Vec::new();
        let all = |each: &mut dyn FnMut(Operation<'_>)| {
            operations.iter().for_each(|operation| each(*operation));
        };
        entry.write("8e9e05c52164694d", all, &mut out);
        assert!(!out.contains(&b'\n'), "it is one line");
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_line_holds_each_operation_in_order() {
        let keys = |key, range_end| Some(Span { key, range_end });
        let facts = [("lease", Fact::Id(0x70e8)), ("prev_kv", Fact::Is(true))];
        let line = written(
            &[
                Operation {
                    keys: keys(b"a", b""),
                    facts: &facts,
                    branch: "success",
                    ..Operation::new(Kind::Write, "put")
                },
                Operation {
                    keys: keys(b"a", b"\0"),
                    ..Operation::new(Kind::Read, "range")
                },
                Operation {
                    keys: keys(b"\n", b"\xff"),
                    ..Operation::new(Kind::Read, "range")
                },
            ],
            &[("succeeded", Fact::Is(true)), ("deleted", Fact::Number(-1))],
        );
        assert_eq!(line["user"], "a\"nn");
        assert_eq!(line["remote"], "[::1]:7");
        assert_eq!(
            (&line["succeeded"], &line["deleted"]),
            (&true.into(), &(-1).into())
        );
        let expected = serde_json::json!([
            {"kind": "write", "op": "put", "key": "a", "lease": "70e8", "prev_kv": true, "branch": "success"},
            {"kind": "read", "op": "range", "key": "a", "from_key": true},
            {"kind": "read", "op": "range", "key_base64": "Cg==", "range_end_base64": "/w=="},
        ]);
        assert_eq!(line["operations"], expected);
    }
}
