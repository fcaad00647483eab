//! Operations about rights that chance rarely brings together: every call by a user that may not make it, and what becomes of
//! tokens and watchers while rights go.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::operation::{Operation, Who};

const ROOT: Who = Who::User("root");
/// May read `[a, b)`.
const ANN: Who = Who::User("ann");

fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

/// A call of a method, named without its package where that is etcd's own.
fn call(who: Who, name: &str, request: Value) -> Operation {
    let path = match name.contains('.') {
        true => format!("/{name}"),
        false => format!("/etcdserverpb.{name}"),
    };
    let known = coord_proto::methods::METHODS;
    let method = known.iter().find(|method| method.path == path);
    Operation::Call {
        who,
        path: method.expect("the method is in the definitions").path,
        request,
    }
}

fn login(name: &str) -> Operation {
    let request = json!({"name": name, "password": "one"});
    call(Who::Nobody, "Auth/Authenticate", request)
}

/// Users and roles, keys that ann may read and others, and a lease of both kinds.
fn with_users() -> Vec<Operation> {
    let auth = |name: &str, request| call(Who::Nobody, &format!("Auth/{name}"), request);
    let permission = json!({"permType": "READ", "key": base64("a"), "range_end": base64("b")});
    let put = |key: &str| {
        let request = json!({"key": base64(key), "value": base64("secret"), "lease": "7"});
        call(Who::Nobody, "KV/Put", request)
    };
    vec![
        auth("UserAdd", json!({"name": "root", "password": "one"})),
        auth("UserGrantRole", json!({"user": "root", "role": "root"})),
        auth("UserAdd", json!({"name": "ann", "password": "one"})),
        auth("RoleAdd", json!({"name": "reader"})),
        auth(
            "RoleGrantPermission",
            json!({"name": "reader", "perm": permission}),
        ),
        auth("UserGrantRole", json!({"user": "ann", "role": "reader"})),
        call(
            Who::Nobody,
            "Lease/LeaseGrant",
            json!({"ID": "7", "TTL": "5000"}),
        ),
        put("a"),
        put("c"),
        auth("AuthEnable", json!({})),
        login("root"),
        login("ann"),
    ]
}

/// All that ann may not do, beside some things that she may.
pub(crate) fn without_rights() -> Vec<Operation> {
    let (a, c, z) = (base64("a"), base64("c"), base64("z"));
    let get = |key: &str| json!({"request_range": {"key": key}});
    let put = |key: &str| json!({"request_put": {"key": key, "value": base64("mine")}});
    let txn = |compare: Value, success: Value, failure: Value| json!({"compare": compare, "success": success, "failure": failure});
    let compare =
        |key: &str| json!({"target": "VERSION", "result": "EQUAL", "key": key, "version": "1"});
    let range_compare =
        json!({"target": "VALUE", "result": "EQUAL", "key": a, "range_end": z, "value": ""});
    let permission = json!({"permType": "READWRITE", "key": a, "range_end": z});
    let mut operations = with_users();
    for (name, request) in [
        ("KV/Range", json!({"key": a})),
        ("KV/Range", json!({"key": c})),
        ("KV/Range", json!({"key": a, "range_end": z})),
        ("KV/Range", json!({"key": c, "count_only": true})),
        (
            "KV/Range",
            json!({"key": c, "keys_only": true, "serializable": true}),
        ),
        ("KV/Range", json!({"key": c, "revision": "1000"})),
        ("KV/Put", json!({"key": a})),
        ("KV/Put", json!({"key": c, "prev_kv": true})),
        ("KV/Put", json!({"key": c, "lease": "999"})),
        ("KV/Put", json!({"key": "", "value": c})),
        ("KV/DeleteRange", json!({"key": a})),
        ("KV/DeleteRange", json!({"key": c, "prev_kv": true})),
        ("KV/DeleteRange", json!({"key": a, "range_end": z})),
        (
            "KV/Txn",
            txn(json!([compare(&a)]), json!([get(&a)]), json!([])),
        ),
        (
            "KV/Txn",
            txn(json!([compare(&c)]), json!([get(&a)]), json!([])),
        ),
        ("KV/Txn", txn(json!([range_compare]), json!([]), json!([]))),
        (
            "KV/Txn",
            txn(json!([compare(&a)]), json!([get(&a)]), json!([get(&c)])),
        ),
        ("KV/Txn", txn(json!([]), json!([]), json!([put(&c)]))),
        (
            "KV/Txn",
            txn(
                json!([]),
                json!([{"request_txn": txn(json!([]), json!([]), json!([put(&c)]))}]),
                json!([]),
            ),
        ),
        (
            "KV/Txn",
            txn(
                json!([]),
                json!([{"request_txn": txn(json!([compare(&c)]), json!([]), json!([]))}]),
                json!([]),
            ),
        ),
        ("KV/Compact", json!({"revision": "2"})),
        ("Lease/LeaseGrant", json!({"ID": "8", "TTL": "5000"})),
        ("Lease/LeaseTimeToLive", json!({"ID": "7"})),
        ("Lease/LeaseTimeToLive", json!({"ID": "7", "keys": true})),
        ("Lease/LeaseKeepAlive", json!({"ID": "7"})),
        ("Lease/LeaseLeases", json!({})),
        ("Lease/LeaseRevoke", json!({"ID": "7"})),
        ("Lease/LeaseRevoke", json!({"ID": "8"})),
        (
            "Maintenance/Alarm",
            json!({"action": "ACTIVATE", "alarm": "NOSPACE"}),
        ),
        ("Maintenance/Alarm", json!({"action": "GET"})),
        ("Maintenance/Defragment", json!({})),
        ("Maintenance/Hash", json!({})),
        ("Maintenance/HashKV", json!({})),
        ("Maintenance/Snapshot", json!({})),
        ("Maintenance/MoveLeader", json!({"targetID": "1"})),
        (
            "Maintenance/Downgrade",
            json!({"action": "VALIDATE", "version": "3.6.0"}),
        ),
        (
            "Cluster/MemberAdd",
            json!({"peerURLs": ["http://127.0.0.1:1"]}),
        ),
        ("Cluster/MemberRemove", json!({"ID": "1"})),
        (
            "Cluster/MemberUpdate",
            json!({"ID": "1", "peerURLs": ["http://127.0.0.1:1"]}),
        ),
        ("Cluster/MemberPromote", json!({"ID": "1"})),
        ("Auth/UserAdd", json!({"name": "eve", "password": "x"})),
        ("Auth/UserGet", json!({"name": "ann"})),
        ("Auth/UserGet", json!({"name": "root"})),
        ("Auth/UserGet", json!({"name": "nobody"})),
        ("Auth/UserList", json!({})),
        ("Auth/UserDelete", json!({"name": "root"})),
        (
            "Auth/UserChangePassword",
            json!({"name": "ann", "password": "two"}),
        ),
        ("Auth/UserGrantRole", json!({"user": "ann", "role": "root"})),
        (
            "Auth/UserRevokeRole",
            json!({"name": "root", "role": "root"}),
        ),
        ("Auth/RoleAdd", json!({"name": "mine"})),
        ("Auth/RoleGet", json!({"role": "reader"})),
        ("Auth/RoleGet", json!({"role": "root"})),
        ("Auth/RoleList", json!({})),
        ("Auth/RoleDelete", json!({"role": "reader"})),
        (
            "Auth/RoleGrantPermission",
            json!({"name": "reader", "perm": permission}),
        ),
        (
            "Auth/RoleRevokePermission",
            json!({"role": "reader", "key": a, "range_end": base64("b")}),
        ),
        ("Auth/AuthEnable", json!({})),
        ("Auth/AuthDisable", json!({})),
        ("v3lockpb.Lock/Lock", json!({"name": c, "lease": "7"})),
        ("v3lockpb.Lock/Unlock", json!({"key": c})),
        (
            "v3electionpb.Election/Campaign",
            json!({"name": c, "lease": "7", "value": c}),
        ),
        ("v3electionpb.Election/Leader", json!({"name": c})),
    ] {
        for who in [ANN, Who::Nobody, Who::Stranger] {
            operations.push(call(who, name, request.clone()));
        }
    }
    // Nothing of it was done.
    operations.push(call(
        ROOT,
        "KV/Range",
        json!({"key": base64("\0"), "range_end": base64("\0")}),
    ));
    operations.push(call(ROOT, "Auth/UserList", json!({})));
    operations.push(call(ROOT, "Auth/RoleGet", json!({"role": "reader"})));
    operations.push(call(ROOT, "Lease/LeaseLeases", json!({})));
    operations.push(call(ROOT, "Maintenance/HashKV", json!({})));
    operations
}

/// The worth of ann's token and watcher while her rights, her password and she herself go.
pub(crate) fn rights_that_go() -> Vec<Operation> {
    let (a, b) = (base64("a"), base64("b"));
    let get = || call(ANN, "KV/Range", json!({"key": a, "range_end": b}));
    let put = || call(ROOT, "KV/Put", json!({"key": a, "value": b}));
    let auth = |name: &str, request| call(ROOT, &format!("Auth/{name}"), request);
    let watch = || Operation::Watch {
        stream: 0,
        create: json!({"key": a, "range_end": b}),
    };
    let grant = || auth("UserGrantRole", json!({"user": "ann", "role": "reader"}));
    let mut operations = with_users();
    operations.push(Operation::Open {
        stream: 0,
        who: ANN,
    });
    operations.push(watch());
    for change in [
        vec![auth(
            "UserRevokeRole",
            json!({"name": "ann", "role": "reader"}),
        )],
        vec![grant()],
        vec![auth(
            "RoleRevokePermission",
            json!({"role": "reader", "key": a, "range_end": b}),
        )],
        vec![auth(
            "RoleGrantPermission",
            json!({"name": "reader", "perm": {"permType": "READWRITE", "key": a, "range_end": b}}),
        )],
        vec![auth("RoleDelete", json!({"role": "reader"}))],
        vec![auth(
            "UserChangePassword",
            json!({"name": "ann", "password": "two"}),
        )],
        vec![
            auth(
                "UserChangePassword",
                json!({"name": "ann", "password": "one"}),
            ),
            login("ann"),
        ],
        vec![auth("AuthDisable", json!({}))],
        vec![auth("AuthEnable", json!({}))],
        vec![login("root"), login("ann")],
        vec![auth("UserDelete", json!({"name": "ann"}))],
        vec![login("ann")],
        vec![auth("UserAdd", json!({"name": "ann", "password": "one"}))],
        vec![login("ann")],
    ] {
        operations.extend(change);
        operations.extend([
            get(),
            put(),
            Operation::Settle,
            watch(),
            put(),
            Operation::Settle,
        ]);
    }
    operations
}
