"""Uses a member as the library etcd3 is used, and prints what it saw.

Usage: session.py HOST:PORT HOST:TLS_PORT CA_FILE
Each etcd is expected to bring about the same lines: only ids and tokens, which a server chooses, are left out. After
the line `restart` the member is to be killed and started again, and a line of input says that it was.
"""

import os

# The library's generated code is older than the C++ of protobuf.
os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"

import queue
import sys
import tempfile
import time

import etcd3
import etcd3.etcdrpc as rpc
import grpc

PATIENCE = 30

def say(about, *seen):
    print(about, *seen, sep="\t", flush=True)

def refusal(error):
    """The error as the library shows it, without addresses and times."""
    if isinstance(error, grpc.RpcError):
        return f"{error.code().name}: {error.details()}"
    compacted = getattr(error, "compacted_revision", "")
    return f"{type(error).__name__} {compacted}"

def refused(about, call, *arguments, **options):
    try:
        say(about, "was answered:", call(*arguments, **options))
    except (grpc.RpcError, etcd3.exceptions.Etcd3Exception) as error:
        say(about, refusal(error))

def shown(found):
    """A value and what is known of its key."""
    value, meta = found
    if meta is None:
        return value
    return (meta.key, value, meta.create_revision, meta.mod_revision, meta.version, meta.lease_id != 0)

def told(event):
    """An event, with the value before it if it was asked for."""
    return (type(event).__name__, event.key, event.value, event.mod_revision, event.version, event.prev_value)

def keys_and_values(client):
    say("put", client.put("a", "1").header.revision)
    replaced = client.put("a", "2", prev_kv=True)
    say("put with the value before", replaced.prev_kv.value, replaced.prev_kv.version)
    for number in range(5):
        client.put(f"list/{number}", str(number * 7 % 5))
    client.put("list/2", "again")
    say("get", shown(client.get("a")))
    say("get, serializable", shown(client.get("a", serializable=True)))
    say("get of none", shown(client.get("none")))
    say("prefix", [shown(found) for found in client.get_prefix("list/")])
    for target in ("key", "version", "create", "mod", "value"):
        for order in ("ascend", "descend"):
            found = client.get_prefix("list/", sort_order=order, sort_target=target)
            say(f"prefix, {order} by {target}", [meta.key for _, meta in found])
    say("prefix, keys only", [shown(found) for found in client.get_prefix("list/", keys_only=True)])
    say("range", [shown(found) for found in client.get_range("list/1", "list/3")])
    say("all", client.get_all_response().count)
    refused("put of no key", client.put, "", "v")
    refused("get of no key", client.get, "")

def deletes(client):
    say("delete", client.delete("list/0"))
    say("delete of none", client.delete("list/0"))
    gone = client.delete("list/1", prev_kv=True, return_response=True)
    say("delete with the value before", gone.deleted, [kv.value for kv in gone.prev_kvs])
    say("delete of a prefix", client.delete_prefix("list/").deleted)

def transactions(client):
    t = client.transactions
    say("put if not there", client.put_if_not_exists("t", "1"), client.put_if_not_exists("t", "2"))
    say("replace", client.replace("t", "1", "2"), client.replace("t", "1", "3"))
    for about, compare in [
        ("value", t.value("t") == "2"),
        ("version", t.version("t") > 2),
        ("create", t.create("none") == 0),
        ("mod", t.mod("t") < 5),
        ("not", t.value("t") != "2"),
    ]:
        done, answers = client.transaction([compare], [t.get("t")], [t.put("u", about)])
        say(f"txn, {about}", done, [shown(found[0]) if isinstance(found, list) else "put" for found in answers])
    inner = t.txn([t.version("t") == 2], [t.delete("t"), t.get("t")], [])
    done, answers = client.transaction([t.version("t") > 0], [inner, t.put("v", "1")], [])
    say("txn in a txn", done, answers[0].response_txn.succeeded, len(answers[0].response_txn.responses))
    refused("txn that puts twice", client.transaction, [], [t.put("t", "1"), t.put("t", "2")], [])

class Watching:
    """Watches, and keeps what it is told."""

    def __init__(self, client, key, **options):
        self.news = queue.Queue()
        self.client = client
        self.id = client.add_watch_callback(key, self.news.put, **options)

    def take(self, count):
        events = []
        while len(events) < count:
            news = self.news.get(timeout=PATIENCE)
            if isinstance(news, Exception):
                return [refusal(news)]
            events += [told(event) for event in news.events]
        return events

def watches(client):
    start = client.put("w/1", "1").header.revision
    client.put("w/1", "2")
    client.delete("w/1")
    past = Watching(client, "w/", range_end="w0", start_revision=start, prev_kv=True)
    say("watch of the past", past.take(3))
    beside = Watching(client, "w/2")
    client.put("w/2", "1")
    client.delete("w/2")
    say("watch", past.take(2))
    say("watch of one key", beside.take(2))
    client.cancel_watch(beside.id)
    client.put("w/3", "1")
    client.delete("w/3")
    say("watch beside one that was cancelled", past.take(2), beside.news.qsize())
    refused("watch of no answer", client.watch_once, "w/4", timeout=0.2)

def restarts(client):
    watching = Watching(client, "r")
    last = client.put("r", "1").header.revision
    say("watch before", watching.take(1))
    say("restart")
    sys.stdin.readline()
    say("watch at the end of its connection", watching.take(1)[0].partition(":")[0])
    until_served(lambda: client.get("r"))
    client.put("r", "2")
    again = until_served(lambda: Watching(client, "r", start_revision=last + 1))
    client.put("r", "3")
    say("watch from where it was", again.take(2))

def until_served(call):
    """The answer: the library does not call again by itself."""
    for _ in range(PATIENCE * 10):
        try:
            return call()
        except etcd3.exceptions.ConnectionFailedError:
            time.sleep(0.1)
    raise TimeoutError("it is not served any more")

def leases(client):
    lease = client.lease(60)
    say("lease", lease.ttl, lease.id != 0)
    client.put("l/1", "1", lease=lease)
    client.put("l/2", "1", lease=lease)
    say("keys of a lease", sorted(lease.keys), lease.granted_ttl, 57 <= lease.remaining_ttl <= 60)
    say("key of a lease", shown(client.get("l/1")))
    say("renewal", [answer.TTL for answer in lease.refresh()])
    watching = Watching(client, "l/", range_end="l0")
    lease.revoke()
    say("revoked", sorted(watching.take(2)))
    refused("revoked again", lease.revoke)
    say("renewal of none", [answer.TTL for answer in lease.refresh()], lease.remaining_ttl)
    refused("put with no lease", client.put, "l/1", "1", lease=lease)
    say("lease with an id", client.lease(30, 77).id)
    refused("lease with an id that is there", client.lease, 30, 77)
    refused("lease of too long", client.lease, 9_000_000_001)
    short = client.lease(1)
    client.put("l/3", "1", lease=short)
    say("lease that ends", short.ttl, watching.take(2))

def locks(client):
    with client.lock("one", ttl=20) as lock:
        say("lock", lock.is_acquired(), [answer.TTL for answer in lock.refresh()])
        other = client.lock("one", ttl=20)
        say("lock that is held", other.acquire(timeout=1), other.is_acquired())
    say("lock that was held", other.acquire(timeout=10), other.is_acquired(), lock.is_acquired())
    say("lock that was given back", other.release(), lock.release())

def compaction(client):
    now = client.put("c", "1").header.revision
    client.put("c", "2")
    client.compact(now)
    refused("compaction again", client.compact, now)
    refused("compaction of what is to come", client.compact, now + 100)
    say("watch of what is compacted", Watching(client, "c", start_revision=1).take(1))
    request = rpc.RangeRequest(key=b"c", revision=now - 1)
    refused("get of what is compacted", client.kvstub.Range, request)
    request.revision = now
    say("get of the past", [kv.value for kv in client.kvstub.Range(request).kvs])

def maintenance(client):
    status = client.status()
    say("status", status.version, status.db_size > 0, status.leader is not None)
    say("members", [(member.name, len(member.peer_urls), len(member.client_urls)) for member in client.members])
    say("hash", client.hash() != 0)
    say("defragment", client.defragment())
    with tempfile.NamedTemporaryFile() as copy:
        client.snapshot(copy)
        copy.flush()
        # A page is a whole number of sectors, and a checksum stands behind the last one.
        say("snapshot", os.path.getsize(copy.name) % 512)
    say("alarm", [alarm.alarm_type for alarm in client.create_alarm()])
    refused("put under an alarm", client.put, "m", "1")
    say("alarms", [alarm.alarm_type for alarm in client.list_alarms()])
    say("disarm", len(client.disarm_alarm()), len(list(client.list_alarms())))

def authentication(client, secure):
    auth = rpc.AuthStub(client.channel)
    auth.UserAdd(rpc.AuthUserAddRequest(name="root", password="secret"))
    auth.UserGrantRole(rpc.AuthUserGrantRoleRequest(user="root", role="root"))
    auth.UserAdd(rpc.AuthUserAddRequest(name="ann", password="her own"))
    auth.RoleAdd(rpc.AuthRoleAddRequest(name="reader"))
    request = rpc.AuthRoleGrantPermissionRequest(name="reader")
    request.perm.key, request.perm.range_end, request.perm.permType = b"a", b"b", 0
    auth.RoleGrantPermission(request)
    auth.UserGrantRole(rpc.AuthUserGrantRoleRequest(user="ann", role="reader"))
    refused("user that is there", auth.UserAdd, rpc.AuthUserAddRequest(name="ann", password="x"))
    auth.AuthEnable(rpc.AuthEnableRequest())
    refused("get of nobody", client.get, "a")
    # Without TLS the library's own way to send a token is refused by gRPC.
    as_user = lambda user, password: etcd3.client(**secure, user=user, password=password)
    refused("wrong password", as_user, "ann", "another")
    ann, root = as_user("ann", "her own"), as_user("root", "secret")
    say("get of what may be read", shown(ann.get("a")))
    refused("get of what may not", ann.get, "c")
    refused("put of what may only be read", ann.put, "a", "1")
    watching = Watching(ann, "a")
    root.put("a", "by root")
    say("watch of what may be read", watching.take(1))
    refused("compaction by a user", ann.compact, 1)
    refused("user added by a user", rpc.AuthStub(ann.channel).UserAdd, rpc.AuthUserAddRequest(name="bob", password="x"), metadata=ann.metadata)
    say("roles", list(rpc.AuthStub(root.channel).RoleList(rpc.AuthRoleListRequest(), metadata=root.metadata).roles))
    rpc.AuthStub(root.channel).AuthDisable(rpc.AuthDisableRequest(), metadata=root.metadata)
    say("get of nobody again", shown(client.get("a")))

def main(address, secure, authority):
    place = lambda text: dict(zip(("host", "port"), text.split(":")), timeout=PATIENCE)
    client = etcd3.client(**place(address))
    secure = place(secure) | {"ca_cert": authority}
    keys_and_values(client)
    deletes(client)
    transactions(client)
    watches(client)
    restarts(client)
    leases(client)
    locks(client)
    compaction(client)
    maintenance(client)
    say("over TLS", shown(etcd3.client(**secure).get("a")))
    authentication(client, secure)
    say("the end")

main(*sys.argv[1:])
# Threads of gRPC that wait for the open streams would keep the program.
os._exit(0)
