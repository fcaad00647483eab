// Uses a member as the library etcd3 is used, and prints what it saw.
//
// Usage: node session.js HOST:PORT HOST:TLS_PORT CA_FILE
// Each etcd is expected to bring about the same lines: only ids and tokens, which a server chooses, are left out. After
// the line `restart` the member is to be killed and started again, and a line of input says that it was.
"use strict";

const { Etcd3 } = require("etcd3");
const fs = require("fs");
const readline = require("readline");

function say(about, ...seen) {
  console.log([about, ...seen.map((one) => JSON.stringify(one))].join("\t"));
}

// As the library shows it, without ids.
const refusal = (error) => `${error.constructor.name}: ${error.message.replace(/\d{10,}/, "ID")}`;

async function refused(about, call) {
  try {
    say(about, "was answered", await call());
  } catch (error) {
    say(about, refusal(error));
  }
}

const shown = (kv) => [
  kv.key.toString(),
  kv.value.toString(),
  kv.create_revision,
  kv.mod_revision,
  kv.version,
  kv.lease !== "0",
];

async function keysAndValues(client) {
  say("put", (await client.put("a").value("1").exec()).header.revision);
  const before = await client.put("a").value("2").getPrevious();
  say("put with the value before", before.value.toString(), before.version);
  for (let number = 0; number < 5; number++) await client.put(`list/${number}`).value((number * 7) % 5);
  await client.put("list/2").value("again");
  say("get", (await client.get("a").exec()).kvs.map(shown));
  say("get, serializable", await client.get("a").serializable(true).string());
  say("get of none", await client.get("none").string(), await client.get("none").exists());
  say("get of a number", await client.get("list/1").number());
  const list = () => client.getAll().prefix("list/");
  say("prefix", (await list().exec()).kvs.map(shown));
  for (const target of ["Key", "Version", "Create", "Mod", "Value"]) {
    for (const order of ["Ascend", "Descend"]) {
      say(`prefix, ${order} by ${target}`, Object.keys(await list().sort(target, order).strings()));
      const first = await list().sort(target, order).limit(2).exec();
      say("the first two", first.kvs.map(shown), first.more, first.count);
    }
  }
  say("prefix, keys only", await list().keys());
  say("prefix, count", await list().count());
  say("prefix, of some revisions", (await list().minModRevision(6).maxCreateRevision(6).exec()).kvs.map(shown));
  say("range", await client.getAll().inRange({ start: "list/1", end: "list/3" }).strings());
  say("past", await client.get("list/2").revision(6).string());
  say("touch", (await client.put("a").touch()).header.revision, await client.get("a").string());
  await refused("get of what is to come", () => client.get("a").revision(1000));
  await refused("put of no key", () => client.put("").value("v").exec());
  await refused("touch of none", () => client.put("none").touch());
}

async function deletes(client) {
  say("delete", (await client.delete().key("list/0")).deleted, (await client.delete().key("list/0")).deleted);
  say("delete with the value before", (await client.delete().key("list/1").getPrevious()).map(shown));
  say("delete of a prefix", (await client.delete().prefix("list/")).deleted);
}

async function transactions(client) {
  await client.put("t").value("1");
  await client.put("t").value("2");
  const seen = (answer) =>
    answer.responses.map((one) => [one.response, one.response_range?.kvs.map(shown), one.response_delete_range?.deleted]);
  for (const [about, compared] of [
    ["value", client.if("t", "Value", "==", "2")],
    ["version", client.if("t", "Version", ">", 2)],
    ["create", client.if("none", "Create", "==", 0)],
    ["mod", client.if("t", "Mod", "<", 5)],
    ["not", client.if("t", "Value", "!=", "2")],
    ["two", client.if("t", "Value", "==", "2").and("none", "Version", "==", 0)],
  ]) {
    const answer = await compared.then(client.get("t")).else(client.put("u").value(about), client.delete().key("t/none")).commit();
    say(`txn, ${about}`, answer.succeeded, seen(answer), answer.header.revision);
  }
  const twice = client.if("t", "Version", ">", 0).then(client.put("t").value("1"), client.put("t").value("2"));
  await refused("txn that puts twice", () => twice.commit());
  await client.put("n").value(1);
  const add = async (tx) => tx.put("n").value((await tx.get("n").number()) + 1);
  await Promise.all([1, 2, 3, 4].map(() => client.stm({ retries: 50 }).transact(add)));
  say("software transactions at once", await client.get("n").number());
}

// A watcher that keeps what it was told.
class Watching {
  static async begin(builder) {
    const watching = new Watching();
    watching.told = [];
    watching.watcher = await builder.create();
    for (const kind of ["put", "delete"]) {
      watching.watcher.on(kind, (kv, before) => watching.hear([kind, ...shown(kv), before?.value.toString()]));
    }
    watching.watcher.on("error", (error) => watching.hear(refusal(error)));
    return watching;
  }

  hear(news) {
    this.told.push(news);
    this.heard?.();
  }

  async take(count) {
    while (this.told.length < count) await new Promise((heard) => (this.heard = heard));
    return this.told.splice(0, count);
  }
}

async function watches(client) {
  const start = (await client.put("w/1").value("1").exec()).header.revision;
  const all = () => client.watch().prefix("w/");
  await client.put("w/1").value("2");
  await client.delete().key("w/1");
  const past = await Watching.begin(all().startRevision(start).withPreviousKV());
  say("watch of the past", await past.take(3));
  const deletes = await Watching.begin(all().only("delete"));
  const one = await Watching.begin(client.watch().key("w/3").ignore("delete"));
  for (const key of ["w/2", "w/3"]) {
    await client.put(key).value("1");
    await client.delete().key(key);
  }
  say("watch", await past.take(4));
  say("watch of deletes", await deletes.take(2));
  say("watch of one key, filtered", await one.take(1));
  await deletes.watcher.cancel();
  await client.put("w/4").value("1");
  await client.delete().key("w/4");
  say("watch beside one that was cancelled", await past.take(2), deletes.told.length);
}

async function restarts(client) {
  const watching = await Watching.begin(client.watch().key("r"));
  await client.put("r").value("1");
  say("watch before", await watching.take(1));
  let wasCut = false;
  watching.watcher.on("disconnected", () => (wasCut = true));
  console.log("restart");
  const input = readline.createInterface({ input: process.stdin });
  await new Promise((line) => input.once("line", line));
  input.close();
  for (let left = 300; ; left--) {
    try {
      await client.get("r");
      break;
    } catch (error) {
      if (left === 0) throw error;
      await new Promise((slept) => setTimeout(slept, 100));
    }
  }
  await client.put("r").value("2");
  say("watch that connects again by itself", await watching.take(1), wasCut);
}

async function leases(client) {
  const lease = client.lease(60, { autoKeepAlive: false });
  say("lease", (await lease.grant()) !== "0", lease.state);
  await lease.put("l/1").value("1");
  await lease.put("l/2").value("1");
  say("key of a lease", (await client.get("l/1").exec()).kvs.map(shown));
  say("renewal", (await lease.keepaliveOnce()).TTL);
  const ID = await lease.grant();
  const live = await client.leaseClient.leaseTimeToLive({ ID, keys: true });
  say("keys of a lease", live.keys.map(String).sort(), live.grantedTTL, live.TTL > 57 && live.TTL <= 60);
  const watching = await Watching.begin(client.watch().prefix("l/"));
  await lease.revoke();
  say("revoked", (await watching.take(2)).sort(), lease.revoked());
  await refused("revoked again", () => client.leaseClient.leaseRevoke({ ID }));
  await refused("put with no lease", () => client.put("l/1").value("1").lease(ID));
  say("time of none", (await client.leaseClient.leaseTimeToLive({ ID })).TTL);
  const kept = client.lease(2);
  await kept.put("l/3").value("1");
  await watching.take(1);
  await new Promise((slept) => setTimeout(slept, 4000));
  say("lease that is kept", await client.get("l/3").string());
  const lost = new Promise((told) => kept.on("lost", told));
  await client.leaseClient.leaseRevoke({ ID: await kept.grant() });
  say("lease that is lost", refusal(await lost), await watching.take(1));
  const short = client.lease(1, { autoKeepAlive: false });
  await short.put("l/4").value("1");
  say("lease that ends", await watching.take(2));
  await refused("lease of too long", () => client.leaseClient.leaseGrant({ TTL: 9000000001 }));
}

async function locks(client) {
  const lock = await client.lock("one").ttl(20).acquire();
  await refused("lock that is held", () => client.lock("one").ttl(20).acquire());
  await lock.release();
  say("lock", await client.lock("one").do(() => "was held"));
}

async function elections(client) {
  const election = client.election("first", 5);
  const one = election.campaign("one");
  await one.wait();
  say("leader", await election.leader());
  const observer = await election.observe();
  const changes = [];
  let heard = () => {};
  observer.on("change", (leader) => {
    changes.push(leader);
    heard();
  });
  const until = async (leader) => {
    while (changes.at(-1) !== leader) await new Promise((told) => (heard = told));
  };
  const two = election.campaign("two");
  const elected = two.wait();
  await one.proclaim("still one");
  await until("still one");
  say("proclaimed", await election.leader(), observer.leader());
  await one.resign();
  await elected;
  await until("two");
  say("after it resigned", await election.leader());
  await two.resign();
  await observer.cancel();
  await refused("leader of none", () => election.leader());
}

async function compaction(client) {
  const revision = (await client.put("c").value("1").exec()).header.revision;
  await client.put("c").value("2");
  await client.kv.compact({ revision, physical: true });
  await refused("compaction again", () => client.kv.compact({ revision }));
  await refused("compaction of what is to come", () => client.kv.compact({ revision: 1000 }));
  await refused("get of what is compacted", () => client.get("c").revision(revision - 1));
  say("get of the past", await client.get("c").revision(revision).string());
  await refused("watch of what is compacted", async () => {
    const watching = await Watching.begin(client.watch().key("c").startRevision("1"));
    return watching.take(1);
  });
}

async function maintenance(client, host) {
  const status = await client.maintenance.status();
  say("status", status.version, status.dbSize > 0, status.leader !== "0");
  const { members } = await client.cluster.memberList({});
  say("members", members.map((member) => [member.name, member.peerURLs.length, member.clientURLs.length]));
  say("namespace", await client.namespace("list").getAll().strings(), await client.namespace("t").get("").string());
  const alarm = { memberID: members[0].ID, alarm: "Nospace" };
  const list = async () => (await client.maintenance.alarm({ action: "Get" })).alarms.map((one) => one.alarm);
  await client.maintenance.alarm({ action: "Activate", ...alarm });
  // A client of its own: for some seconds it makes no call after this one.
  const full = new Etcd3({ hosts: `http://${host}` });
  await refused("put under an alarm", () => full.put("m").value("1").exec());
  say("alarms", await list());
  await client.maintenance.alarm({ action: "Deactivate", ...alarm });
  say("no alarms", await list());
}

async function authentication(client, host) {
  const root = await client.role("root").create();
  await (await client.user("root").create("secret")).addRole(root);
  const reader = await client.role("reader").create();
  await reader.grant({ permission: "Read", range: client.range({ prefix: "a" }) });
  const user = await client.user("ann").create("her own");
  await user.addRole(reader);
  await refused("user that is there", () => client.user("ann").create("x"));
  await refused("role that is there", () => client.role("reader").create());
  say("roles of a user", (await user.roles()).map((role) => role.name));
  say("permissions", (await reader.permissions()).map((one) => [one.permission, String(one.range.start), String(one.range.end)]));
  await client.auth.authEnable();
  await refused("get of nobody", () => client.get("a").string());
  const as = (username, password) => new Etcd3({ hosts: `http://${host}`, auth: { username, password } });
  await refused("wrong password", () => as("ann", "another").get("a").string());
  const [ann, admin] = [as("ann", "her own"), as("root", "secret")];
  say("get of what may be read", await ann.get("a").string());
  await refused("get of what may not", () => ann.get("c").string());
  await refused("put of what may only be read", () => ann.put("a").value("1").exec());
  const watching = await Watching.begin(ann.watch().key("a"));
  await admin.put("a").value("by root");
  say("watch of what may be read", await watching.take(1));
  await refused("compaction by a user", () => ann.kv.compact({ revision: 1 }));
  await refused("users listed by a user", () => ann.getUsers());
  say("users", (await admin.getUsers()).map((one) => one.name), (await admin.getRoles()).map((one) => one.name));
  await admin.auth.authDisable();
  say("get of nobody again", await client.get("a").string());
}

async function main([host, secure, authority]) {
  const client = new Etcd3({ hosts: `http://${host}` });
  await keysAndValues(client);
  await deletes(client);
  await transactions(client);
  await watches(client);
  await restarts(client);
  await leases(client);
  await locks(client);
  await elections(client);
  await compaction(client);
  await maintenance(client, host);
  await authentication(client, host);
  const credentials = { rootCertificate: fs.readFileSync(authority) };
  say("over TLS", await new Etcd3({ hosts: `https://${secure}`, credentials }).get("a").string());
  say("the end");
  process.exit(0);
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
