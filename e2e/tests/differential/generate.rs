//! Random operations: all options, and all that can be wrong with them. Deliberate differences of
//! `docs/compatibility.md` are left out, each with its line.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::operation::{Operation, Who};

/// Twelve: of more than that etcd sorts equal ones in any order (docs/compatibility.md, keys that are equal in what they are
/// sorted by).
const KEYS: [&str; 12] = [
    "a", "a/1", "a/2", "a/3", "b", "b/1", "b/2", "c", "c/", "d", "\u{0}", "zz",
];
pub(crate) const USERS: [&str; 4] = ["root", "ann", "bob", "cid"];
const ROLES: [&str; 4] = ["root", "reader", "writer", "other"];
const PASSWORDS: [&str; 3] = ["one", "two", ""];
const STREAMS: usize = 3;
/// Operations inside one transaction, and transactions inside one another.
const OPS_MAX: usize = 4;
const DEPTH_MAX: usize = 3;

/// The servers as far as they were seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    /// The compaction before that one.
    pub(crate) compacted_before: i64,
    /// Leases whose ids the servers chose.
    pub(crate) leases: usize,
    pub(crate) has_auth: bool,
}

/// Makes operations out of a seed.
pub(crate) struct Generator {
    random: StdRng,
    /// The first ones make users, and open streams.
    begin: Vec<Operation>,
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        let auth = |name: &str, request: Value| call(&format!("Auth/{name}"), request);
        let mut begin = Vec::new();
        for stream in 0..STREAMS {
            begin.push(Operation::Open {
                stream,
                who: Who::Nobody,
            });
        }
        for user in ["root", "ann", "bob"] {
            begin.push(auth("UserAdd", json!({"name": user, "password": "one"})));
        }
        for role in ["root", "reader", "writer"] {
            begin.push(auth("RoleAdd", json!({"name": role})));
        }
        for (user, role) in [("root", "root"), ("ann", "reader"), ("bob", "writer")] {
            begin.push(auth("UserGrantRole", json!({"user": user, "role": role})));
        }
        begin.push(auth("RoleGrantPermission", json!({"name": "reader", "perm": {"permType": "READ", "key": base64("a"), "range_end": base64("b")}})));
        begin.push(auth("RoleGrantPermission", json!({"name": "writer", "perm": {"permType": "READWRITE", "key": base64("a"), "range_end": base64("c")}})));
        begin.reverse();
        Self {
            random: StdRng::seed_from_u64(seed),
            begin,
        }
    }

    /// The next operation.
    pub(crate) fn next(&mut self, seen: Seen) -> Operation {
        if let Some(operation) = self.begin.pop() {
            return operation;
        }
        let mut operation = match self.below(100) {
            0..30 => call("KV/Put", self.put()),
            30..48 => call("KV/Range", self.range(seen, false)),
            48..56 => call("KV/DeleteRange", self.delete()),
            56..72 => call("KV/Txn", self.txn(seen, 0)),
            72..73 => call("KV/Compact", self.compact(seen)),
            73..82 => self.lease(seen),
            82..89 => self.watch(seen),
            89..90 => Operation::Settle,
            90..92 => call("Maintenance/HashKV", self.hash(seen)),
            _ => self.auth(seen),
        };
        let who = self.who(seen);
        match &mut operation {
            Operation::Call {
                who: asks, request, ..
            } => {
                *asks = who;
                if seen.has_auth {
                    not_backwards(request);
                }
            }
            Operation::Watch { create, .. } if seen.has_auth => not_backwards(create),
            _ => {}
        }
        operation
    }

    fn below(&mut self, max: usize) -> usize {
        self.random.random_range(0..max)
    }

    fn one_in(&mut self, number: usize) -> bool {
        self.below(number) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn who(&mut self, seen: Seen) -> Who {
        if !seen.has_auth {
            return if self.one_in(20) {
                Who::Stranger
            } else {
                Who::Nobody
            };
        }
        match self.below(20) {
            0 => Who::Nobody,
            1 => Who::Stranger,
            2..10 => Who::User("root"),
            _ => Who::User(self.of(&USERS)),
        }
    }

    /// Mostly one that is there; sometimes none.
    fn key(&mut self) -> Value {
        match self.one_in(60) {
            true => json!(""),
            false => json!(base64(self.of(&KEYS))),
        }
    }

    fn range_end(&mut self) -> Value {
        match self.below(6) {
            0 => json!(base64([0])),
            1..3 => json!(base64(self.of(&KEYS))),
            3 => json!(base64("zzz")),
            _ => json!(""),
        }
    }

    fn value(&mut self) -> Value {
        match self.below(8) {
            0 => json!(""),
            1 => json!(base64(vec![b'x'; self.random.random_range(100..600)])),
            _ => json!(base64(self.below(20).to_string())),
        }
    }

    /// One of the few that are granted by number, one whose id the servers chose, or one that is not there.
    fn lease_id(&mut self, seen: Seen) -> Value {
        match self.below(5) {
            0 if seen.leases > 0 => json!(format!("lease#{}", self.below(seen.leases))),
            1 => json!("999"),
            _ => json!((self.below(6) + 1).to_string()),
        }
    }

    /// Around what is there; now and then what is compacted, or to come.
    fn revision(&mut self, seen: Seen) -> Value {
        let now = seen.revision;
        let revision = match self.below(12) {
            0 => now + 5,
            1 => seen.compacted,
            2 => seen.compacted - 1,
            3 => 1,
            4..7 => now,
            _ => now - i64::try_from(self.below(30)).unwrap_or(0),
        };
        // Below it, inside of a transaction: docs/compatibility.md, "a range at revision -1".
        json!(revision.max(0).to_string())
    }

    fn put(&mut self) -> Value {
        let mut put = json!({"key": self.key(), "value": self.value(), "prev_kv": self.one_in(3)});
        if self.one_in(4) {
            // None whose id the servers chose: hashes cover the ids of leases.
            let leases = self.below(7);
            put["lease"] = json!(if leases == 0 { 999 } else { leases }.to_string());
        }
        if self.one_in(15) {
            put["ignore_value"] = json!(true);
            if !self.one_in(4) {
                put["value"] = json!("");
            }
        }
        if self.one_in(15) {
            put["ignore_lease"] = json!(true);
            if !self.one_in(4) {
                put["lease"] = json!("0");
            }
        }
        put
    }

    fn range(&mut self, seen: Seen, is_inside: bool) -> Value {
        let mut range = json!({"key": self.key(), "range_end": self.range_end()});
        if self.one_in(3) {
            range["limit"] = json!(self.below(6).to_string());
        }
        if self.one_in(3) {
            range["revision"] = self.revision(seen);
        }
        if self.one_in(3) {
            range["sort_order"] = json!(self.of(&["NONE", "ASCEND", "DESCEND"]));
            range["sort_target"] = json!(self.of(&["KEY", "VERSION", "CREATE", "MOD", "VALUE"]));
            // docs/compatibility.md: by another field than the key, with a limit and order NONE.
            if range["sort_order"] == "NONE" && range["sort_target"] != "KEY" {
                range["limit"] = json!("0");
            }
        }
        if self.one_in(60) {
            range[self.of(&["sort_order", "sort_target"])] = json!(9);
        }
        for flag in ["keys_only", "count_only"] {
            range[flag] = json!(self.one_in(8));
        }
        range["serializable"] = json!(!is_inside && self.one_in(4));
        if self.one_in(6) {
            let bound = self.of(&[
                "min_mod_revision",
                "max_mod_revision",
                "min_create_revision",
                "max_create_revision",
            ]);
            range[bound] = self.revision(seen);
        }
        range
    }

    fn delete(&mut self) -> Value {
        let end = if self.one_in(3) {
            self.range_end()
        } else {
            json!("")
        };
        // Everything is deleted rarely, or little would ever be there.
        let end = match end == base64([0]) && !self.one_in(20) {
            true => json!(""),
            false => end,
        };
        json!({"key": self.key(), "range_end": end, "prev_kv": self.one_in(2)})
    }

    fn txn(&mut self, seen: Seen, depth: usize) -> Value {
        let compare: Vec<Value> = (0..self.below(3)).map(|_| self.compare(seen)).collect();
        json!({
            "compare": compare,
            "success": self.ops(seen, depth),
            "failure": self.ops(seen, depth),
        })
    }

    fn ops(&mut self, seen: Seen, depth: usize) -> Vec<Value> {
        // docs/compatibility.md: a put in one transaction inside, and a delete in a later one beside it.
        let mut has_inner = false;
        let count = self.below(OPS_MAX);
        let mut ops = Vec::new();
        for _ in 0..count {
            let op = match self.below(10) {
                0..4 => json!({"request_put": self.put()}),
                4..7 => json!({"request_range": self.range(seen, true)}),
                7..9 => {
                    let mut delete = self.delete();
                    // docs/compatibility.md: a put, and a delete of all keys from one on.
                    if delete["range_end"] == base64([0]) {
                        delete["range_end"] = json!(base64("zzz"));
                    }
                    json!({"request_delete_range": delete})
                }
                _ if depth < DEPTH_MAX && !has_inner => {
                    has_inner = true;
                    json!({"request_txn": self.txn(seen, depth + 1)})
                }
                _ if self.one_in(10) => json!({}),
                _ => json!({"request_range": self.range(seen, true)}),
            };
            ops.push(op);
        }
        ops
    }

    fn compare(&mut self, seen: Seen) -> Value {
        let mut compare = json!({
            "result": self.of(&["EQUAL", "GREATER", "LESS", "NOT_EQUAL"]),
            "key": self.key(),
        });
        if self.one_in(4) {
            compare["range_end"] = self.range_end();
        }
        let target = self.of(&["VERSION", "CREATE", "MOD", "VALUE", "LEASE"]);
        compare["target"] = json!(target);
        match target {
            _ if self.one_in(15) => {}
            "VERSION" => compare["version"] = json!(self.below(4).to_string()),
            "CREATE" => compare["create_revision"] = self.revision(seen),
            "MOD" => compare["mod_revision"] = self.revision(seen),
            "VALUE" => compare["value"] = self.value(),
            _ => compare["lease"] = self.lease_id(seen),
        }
        compare
    }

    /// Not at revision 0: docs/compatibility.md, `HashKV` after a compaction at revision 0.
    fn compact(&mut self, seen: Seen) -> Value {
        let revision = self.revision(seen);
        let revision = if revision == "0" {
            json!("1")
        } else {
            revision
        };
        json!({"revision": revision, "physical": self.one_in(2)})
    }

    /// Not at a revision that was once compacted: docs/compatibility.md, `HashKV`.
    fn hash(&mut self, seen: Seen) -> Value {
        let revision = match self.below(4) {
            0 if seen.revision > seen.compacted => seen.revision,
            1 => seen.revision + 3,
            2 if seen.compacted > 1 && seen.compacted - 1 != seen.compacted_before => {
                seen.compacted - 1
            }
            _ => 0,
        };
        json!({"revision": revision.to_string()})
    }

    fn lease(&mut self, seen: Seen) -> Operation {
        let id = self.lease_id(seen);
        match self.below(12) {
            0..5 => {
                let id = match self.one_in(5) {
                    true => json!("0"),
                    false => json!((self.below(6) + 1).to_string()),
                };
                let ttl = match self.one_in(12) {
                    true => self.of(&["9000000001", "9223372036854775807"]),
                    false => "5000",
                };
                call("Lease/LeaseGrant", json!({"ID": id, "TTL": ttl}))
            }
            5..7 => call("Lease/LeaseRevoke", json!({"ID": id})),
            7..9 => call(
                "Lease/LeaseTimeToLive",
                json!({"ID": id, "keys": self.one_in(2)}),
            ),
            9..11 => call("Lease/LeaseKeepAlive", json!({"ID": id})),
            _ => call("Lease/LeaseLeases", json!({})),
        }
    }

    fn watch(&mut self, seen: Seen) -> Operation {
        let stream = self.below(STREAMS);
        match self.below(12) {
            0 => Operation::Open {
                stream,
                who: self.who(seen),
            },
            1..4 => Operation::Cancel {
                stream,
                id: i64::try_from(self.below(8)).unwrap_or(0),
            },
            _ => {
                let mut create = json!({
                    "key": self.key(),
                    "range_end": self.range_end(),
                    "prev_kv": self.one_in(2),
                });
                if self.one_in(2) {
                    // None that is still to come: etcd tells of no progress before it.
                    let revision = match self.below(4) {
                        0 => seen.compacted,
                        1 => seen.compacted - 1,
                        _ => seen.revision - i64::try_from(self.below(20)).unwrap_or(0),
                    };
                    create["start_revision"] = json!(revision.max(0).to_string());
                }
                if self.one_in(4) {
                    create["watch_id"] = json!((self.below(6) + 1).to_string());
                }
                if self.one_in(4) {
                    create["filters"] = json!([self.of(&["NOPUT", "NODELETE"])]);
                }
                Operation::Watch { stream, create }
            }
        }
    }

    fn auth(&mut self, seen: Seen) -> Operation {
        let (user, role) = (self.of(&USERS), self.of(&ROLES));
        let password = self.of(&PASSWORDS);
        // Root's own stay, or nobody could turn authentication off again.
        let mortal = self.of(&USERS[1..]);
        let perm = json!({
            "permType": self.of(&["READ", "WRITE", "READWRITE"]),
            "key": self.key(),
            "range_end": self.range_end(),
        });
        let (name, request) = match self.below(40) {
            0..2 if !seen.has_auth => ("AuthEnable", json!({})),
            0..4 if seen.has_auth => ("AuthDisable", json!({})),
            4 => ("AuthStatus", json!({})),
            5..15 => {
                let password = if self.one_in(6) { password } else { "one" };
                ("Authenticate", json!({"name": user, "password": password}))
            }
            15 => ("UserAdd", json!({"name": mortal, "password": password})),
            16 => (
                "UserAdd",
                json!({"name": mortal, "options": {"no_password": true}}),
            ),
            17 => ("UserGet", json!({"name": user})),
            18 => ("UserList", json!({})),
            19 if self.one_in(3) => ("UserDelete", json!({"name": mortal})),
            20 => (
                "UserChangePassword",
                json!({"name": mortal, "password": "one"}),
            ),
            21..24 => ("UserGrantRole", json!({"user": mortal, "role": role})),
            24 => ("UserRevokeRole", json!({"name": mortal, "role": role})),
            25 => ("RoleAdd", json!({"name": role})),
            26 | 39 => ("RoleGet", json!({"role": role})),
            27 => ("RoleList", json!({})),
            28 if self.one_in(3) => ("RoleDelete", json!({"role": self.of(&ROLES[1..])})),
            29..34 => ("RoleGrantPermission", json!({"name": role, "perm": perm})),
            34..36 => (
                "RoleRevokePermission",
                json!({"role": role, "key": perm["key"], "range_end": perm["range_end"]}),
            ),
            36 => ("UserAdd", json!({"name": "", "password": "x"})),
            37 => ("RoleAdd", json!({"name": ""})),
            38 => ("RoleGrantPermission", json!({"name": role})),
            _ => ("AuthStatus", json!({})),
        };
        call(&format!("Auth/{name}"), request)
    }
}

/// Makes ranges that end before they begin into single keys: docs/compatibility.md, "a range that ends before it begins".
fn not_backwards(value: &mut Value) {
    let text = |value: &Value| value.as_str().map(|text| STANDARD.decode(text));
    match value {
        Value::Object(fields) => {
            let (key, end) = (fields.get("key"), fields.get("range_end"));
            if let (Some(Some(Ok(key))), Some(Some(Ok(end)))) = (key.map(text), end.map(text))
                && end != [0]
                && end <= key
            {
                fields.insert("range_end".to_owned(), json!(""));
            }
            fields.values_mut().for_each(not_backwards);
        }
        Value::Array(values) => values.iter_mut().for_each(not_backwards),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A call of a method of etcd's, by whoever is set later.
fn call(name: &str, request: Value) -> Operation {
    let path = format!("/etcdserverpb.{name}");
    let known = coord_proto::methods::METHODS;
    let method = known.iter().find(|method| method.path == path);
    Operation::Call {
        who: Who::Nobody,
        path: method.expect("the method is in the definitions").path,
        request,
    }
}
