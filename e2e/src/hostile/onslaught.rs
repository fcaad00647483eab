//! All that the door accepts, the largest and the oddest, against three members with little memory.
//!
//! A member may answer anything, but not end; it must be able to start again, and must hold the same as the others.

mod answers;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use coord_proto::etcd::etcdserverpb as pb;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream;
use pb::alarm_request::AlarmAction;
use pb::range_request::{SortOrder, SortTarget};
use pb::watch_request::RequestUnion;
use prost::Message;
use tokio::time::{Instant, timeout};
use tonic::Code;

use super::any_bytes;
use super::extremes::{self, Extreme};
use super::small_machine::SmallMachines;
use crate::clients::etcd::Client;
use crate::clients::etcd::request::{
    delete_to, everything, op, put, range_to, txn, watch_everything,
};
use crate::cluster::process::server_program;
use crate::cluster::{Cluster, Kind, within};
use answers::{ask, code_of, contents, deletions};

/// Keys in one transaction while the store is filled.
const FILLED_AT_ONCE: usize = 100;
/// Fields of a value while the store is filled.
const VALUE: &str = "some sixty bytes, as much as a small record of a service has...";
/// Calls in flight at once.
const AT_ONCE: usize = 24;
/// A call that takes longer is given up; that too is something a server must bear.
const PATIENCE: Duration = Duration::from_secs(20);
/// A member replays what it was told, on a machine that is busy.
const START: Duration = Duration::from_secs(120);
/// All of the keys with which a store is filled.
const ALL: (&str, &str) = ("many/", "many0");

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Keys in the store.
    pub keys: usize,
    /// Memory of each member's machine.
    pub memory_bytes: u64,
    /// For what is chosen at random.
    pub seed: u64,
}

impl Size {
    /// The longest that the members may take over all keys, or one watcher over being told of them.
    fn patience(&self) -> Duration {
        START + Duration::from_millis(self.keys as u64 / 2)
    }
}

/// Three members, and what was seen of them.
struct Field {
    cluster: Cluster,
    machines: SmallMachines,
    processes: Vec<u32>,
    size: Size,
    /// Answers by what was done, and code.
    answers: BTreeMap<(String, String), usize>,
}

/// Does it all. Errors: the attack that a member did not bear.
pub async fn run(size: Size) -> Result<()> {
    let mut field = Field::begin(size).await?;
    let lease = field.fill(0).await?;
    field.check("filled").await?;
    field.large_reads().await?;
    field.check("large reads").await?;
    field.extremes(|path| !changes(path)).await?;
    field.check("odd reads").await?;
    field.watched_delete().await?;
    field.check("all deleted under watchers").await?;
    let _ = field.end_lease(lease).await;
    let lease = field.fill(1).await?;
    field.check("filled again").await?;
    field.end_lease(lease).await?;
    field.check("a lease with all keys ended").await?;
    field.fill(2).await?;
    field.large_changes().await?;
    field.check("large changes").await?;
    field.extremes(changes).await?;
    field.disarm().await?;
    field.check("odd changes").await?;
    field.start_again().await?;
    field.check("started again").await?;
    field.report();
    Ok(())
}

/// Whether a method may change anything.
fn changes(path: &str) -> bool {
    let reads = [
        "/Range",
        "/RangeStream",
        "/Watch",
        "/LeaseTimeToLive",
        "/LeaseLeases",
        "/MemberList",
        "/Status",
        "/Hash",
        "/HashKV",
        "/Snapshot",
        "/AuthStatus",
        "/UserGet",
        "/UserList",
        "/RoleGet",
        "/RoleList",
    ];
    !reads.iter().any(|method| path.ends_with(method))
}

impl Field {
    async fn begin(size: Size) -> Result<Self> {
        let mut cluster = Cluster::new(Kind::Processes(3), &[])?;
        let server = server_program()?;
        let machines = SmallMachines::new(cluster.directory(), &server, size.memory_bytes)?;
        cluster.set_program(machines.program());
        for index in 0..cluster.len() {
            cluster.spawn(index)?;
        }
        let mut processes = Vec::new();
        for index in 0..cluster.len() {
            cluster.ready(index).await?;
            processes.push(cluster.process_id(index)?);
        }
        Ok(Self {
            cluster,
            machines,
            processes,
            size,
            answers: BTreeMap::new(),
        })
    }

    fn clients(&self) -> Result<Vec<Client>> {
        (0..self.cluster.len())
            .map(|index| self.cluster.client_of(index))
            .collect()
    }

    fn note(&mut self, what: &str, code: Code) {
        let key = (what.to_owned(), format!("{code:?}"));
        *self.answers.entry(key).or_default() += 1;
    }

    /// Fills the store, all keys attached to one lease.
    async fn fill(&mut self, round: usize) -> Result<i64> {
        let begun = Instant::now();
        let clients = self.clients()?;
        let grant = pb::LeaseGrantRequest {
            ttl: 100_000,
            id: 0,
        };
        let lease = clients[0].lease_grant(grant).await?.id;
        let firsts = (0..self.size.keys).step_by(FILLED_AT_ONCE);
        let puts = stream::iter(firsts.map(|first| {
            let client = clients[first / FILLED_AT_ONCE % clients.len()].clone();
            let keys = first..(first + FILLED_AT_ONCE).min(self.size.keys);
            async move {
                let puts = keys.map(|key| {
                    op(pb::PutRequest {
                        lease,
                        ..put(&format!("many/{round}/{key:07}"), VALUE)
                    })
                });
                let puts: Vec<_> = puts.collect();
                // A member may be short of time or room for a moment.
                within(START, "a write is served", || async {
                    Ok(client.txn(txn([], puts.clone(), [])).await?)
                })
                .await
            }
        }));
        let mut puts = puts.buffer_unordered(32);
        while let Some(put) = puts.next().await {
            put?;
        }
        println!(
            "filled with {} keys in {:?}",
            self.size.keys,
            begun.elapsed()
        );
        Ok(lease)
    }

    /// Everything, 128 times; sorted, filtered, counted, at an old revision; some from each member at once.
    async fn large_reads(&mut self) -> Result<()> {
        let all = || range_to(ALL.0, ALL.1);
        let mut reads: Vec<(&str, &str, Bytes)> = Vec::new();
        let range = "/etcdserverpb.KV/Range";
        let old = self.clients()?[0].revision().await? / 2;
        let sorted = |target: SortTarget, order: SortOrder, limit| pb::RangeRequest {
            sort_order: order.into(),
            sort_target: target.into(),
            limit,
            ..all()
        };
        for (what, request) in [
            ("everything", all()),
            (
                "everything here",
                pb::RangeRequest {
                    serializable: true,
                    ..all()
                },
            ),
            (
                "keys only",
                pb::RangeRequest {
                    keys_only: true,
                    ..all()
                },
            ),
            (
                "counted",
                pb::RangeRequest {
                    count_only: true,
                    ..all()
                },
            ),
            (
                "sorted by value",
                sorted(SortTarget::Value, SortOrder::Descend, 0),
            ),
            (
                "sorted by version",
                sorted(SortTarget::Version, SortOrder::Ascend, 100_000),
            ),
            (
                "at an old revision",
                pb::RangeRequest {
                    revision: old,
                    ..all()
                },
            ),
            (
                "filtered",
                pb::RangeRequest {
                    min_mod_revision: old,
                    max_create_revision: old,
                    ..all()
                },
            ),
        ] {
            reads.push((what, range, request.encode_to_vec().into()));
        }
        let path = "/etcdserverpb.KV/Txn";
        for (what, request) in [
            ("everything 128 times", all()),
            (
                "keys only 128 times",
                pb::RangeRequest {
                    keys_only: true,
                    serializable: true,
                    ..all()
                },
            ),
            (
                "sorted 128 times",
                pb::RangeRequest {
                    serializable: true,
                    ..sorted(SortTarget::Value, SortOrder::Ascend, 1)
                },
            ),
            ("everything behind a put 127 times", all()),
        ] {
            let mut ops: Vec<_> = (0..128).map(|_| op(request.clone())).collect();
            if what.contains("put") {
                ops[0] = op(put("beside", VALUE));
            }
            reads.push((what, path, txn([], ops, []).encode_to_vec().into()));
        }
        let clients = self.clients()?;
        let calls = reads.iter().flat_map(|(what, path, request)| {
            clients.iter().map(move |client| {
                let call = any_bytes::call(client.channel(), path, request.clone());
                async move { (*what, timeout(PATIENCE, call).await) }
            })
        });
        for (what, answer) in stream::iter(calls)
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<_>>()
            .await
        {
            self.note(what, code_of(&answer));
        }
        Ok(())
    }

    /// Deletes everything while watchers of each kind follow from now and from the beginning, some of which read nothing.
    async fn watched_delete(&mut self) -> Result<()> {
        let begun = Instant::now();
        let clients = self.clients()?;
        let from = clients[0].revision().await? + 1;
        let kinds = [(false, false), (false, true), (true, false), (true, true)];
        let mut told = Vec::new();
        let mut idle = Vec::new();
        // A message that is not read keeps the rest of its connection waiting, so those that fall behind at once come last.
        for (client, other) in clients.iter().zip(self.clients()?) {
            let mut behind = Vec::new();
            for (fragment, prev_kv) in kinds {
                let request = pb::WatchCreateRequest {
                    fragment,
                    prev_kv,
                    start_revision: from,
                    ..watch_everything()
                };
                let watch = client.watching(request.clone()).await?;
                told.push(tokio::spawn(deletions(watch, self.size, prev_kv)));
                idle.push(other.watching(request).await?);
                behind.push(pb::WatchCreateRequest {
                    start_revision: 2,
                    fragment,
                    prev_kv,
                    ..watch_everything()
                });
            }
            for request in behind {
                let watch = other.watch();
                for _ in 0..20 {
                    watch.send(RequestUnion::CreateRequest(request.clone()));
                }
                idle.push(watch);
            }
        }
        let delete = pb::DeleteRangeRequest {
            prev_kv: true,
            ..delete_to(ALL.0, ALL.1)
        };
        // Its answer may be larger than the machine has room for; it is done all the same.
        let answer = timeout(PATIENCE, clients[1].delete(delete)).await;
        self.note("all deleted, with what was there", code_of(&answer));
        let count = pb::RangeRequest {
            count_only: true,
            ..range_to(ALL.0, ALL.1)
        };
        within(self.size.patience(), "everything is deleted", || async {
            let left = clients[2].range(count.clone()).await?.count;
            ensure!(left == 0, "{left} are left");
            Ok(())
        })
        .await?;
        for told in told {
            told.await??;
        }
        println!(
            "watchers were told {} deletions each in {:?}",
            self.size.keys,
            begun.elapsed()
        );
        Ok(())
    }

    async fn end_lease(&mut self, id: i64) -> Result<()> {
        let clients = self.clients()?;
        let asked = pb::LeaseTimeToLiveRequest { id, keys: true };
        let answer = timeout(PATIENCE, clients[0].lease_time_to_live(asked)).await;
        self.note("the keys of a lease", code_of(&answer));
        let answer = timeout(
            PATIENCE,
            clients[1].lease_revoke(pb::LeaseRevokeRequest { id }),
        )
        .await;
        self.note("a lease with all keys ended", code_of(&answer));
        let count = pb::RangeRequest {
            count_only: true,
            ..everything()
        };
        within(self.size.patience(), "its keys are gone", || async {
            let left = clients[2].range(count.clone()).await?.count;
            ensure!(left < 10, "{left} are left");
            Ok(())
        })
        .await
    }

    /// Transactions that delete everything in many ranges, replace large values, read all they changed; and a compaction.
    async fn large_changes(&mut self) -> Result<()> {
        let clients = self.clients()?;
        let large = "v".repeat(11_000);
        let puts = |with_prev: bool| {
            let puts = (0..128).map(|key| {
                op(pb::PutRequest {
                    prev_kv: with_prev,
                    ..put(&format!("large/{key}"), &large)
                })
            });
            txn([], puts.collect::<Vec<_>>(), [])
        };
        let deletes = (0..128).map(|part| {
            let place = |part: usize| format!("many/2/{:07}", part * self.size.keys / 128);
            op(pb::DeleteRangeRequest {
                prev_kv: true,
                ..delete_to(&place(part), &place(part + 1))
            })
        });
        let deletes = txn([], deletes.collect::<Vec<_>>(), []);
        let mut changes = vec![("128 large puts", puts(true)); 8];
        changes.push(("all deleted in 128 ranges", deletes.clone()));
        changes.push(("all deleted in 128 ranges", deletes));
        changes.extend(vec![("128 large puts", puts(false)); 8]);
        let calls = changes
            .into_iter()
            .enumerate()
            .map(|(number, (what, request))| {
                let client = clients[number % clients.len()].clone();
                async move { (what, timeout(PATIENCE, client.txn(request)).await) }
            });
        for (what, answer) in stream::iter(calls)
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<_>>()
            .await
        {
            self.note(what, code_of(&answer));
        }
        let now = within(START, "a read is served again", || async {
            Ok(clients[0].revision().await?)
        })
        .await?;
        let compact = pb::CompactionRequest {
            revision: now,
            physical: true,
        };
        let answer = timeout(PATIENCE, clients[0].compact_with(compact)).await;
        self.note("compacted", code_of(&answer));
        Ok(())
    }

    /// Extreme requests that the API's descriptors allow, of those methods.
    async fn extremes(&mut self, is_meant: impl Fn(&str) -> bool) -> Result<()> {
        let keys = ["\0", "many/", "many0", "many/0/0000007"]
            .map(|key| Bytes::from_static(key.as_bytes()));
        let all = extremes::requests(coord_proto::DESCRIPTORS, &keys, self.size.seed)?;
        let meant: Vec<Extreme> = all.into_iter().filter(|one| is_meant(&one.path)).collect();
        println!("{} requests of the API's descriptors", meant.len());
        let clients = self.clients()?;
        let calls = meant.iter().enumerate().map(|(number, extreme)| {
            let client = clients[number % clients.len()].clone();
            async move { (extreme.path.clone(), ask(&client, extreme).await) }
        });
        let mut calls = stream::iter(calls).buffer_unordered(AT_ONCE);
        let mut codes = Vec::new();
        while let Some((path, code)) = calls.next().await {
            codes.push((path, code));
        }
        drop(calls);
        for (path, code) in codes {
            self.note(&path, code);
        }
        Ok(())
    }

    /// Takes back the alarms that odd requests raised: a store that is full or corrupt rightly refuses writes.
    async fn disarm(&self) -> Result<()> {
        let client = &self.clients()?[0];
        let raised = client.alarm(pb::AlarmRequest::default()).await?.alarms;
        for pb::AlarmMember { member_id, alarm } in raised {
            println!("an odd request raised alarm {alarm} of member {member_id}");
            let disarm = pb::AlarmRequest {
                action: AlarmAction::Deactivate.into(),
                member_id,
                alarm,
            };
            client.alarm(disarm).await?;
        }
        Ok(())
    }

    /// Kills all members, and starts them.
    async fn start_again(&mut self) -> Result<()> {
        self.cluster.kill_all(&[0, 1, 2]).await?;
        for index in 0..self.cluster.len() {
            self.cluster.spawn(index)?;
        }
        self.processes.clear();
        for index in 0..self.cluster.len() {
            self.cluster.ready(index).await?;
            self.processes.push(self.cluster.process_id(index)?);
        }
        Ok(())
    }

    /// Fails if a member ended, or holds something else than the others.
    async fn check(&mut self, after: &str) -> Result<()> {
        self.machines.check().context(after.to_owned())?;
        for (index, process) in self.processes.iter().enumerate() {
            let lines = || self.cluster.lines(index).join("\n");
            ensure!(
                self.cluster.runs(index),
                "{after}: member {index} ended:\n{}",
                lines()
            );
            let used = self.machines.used_bytes_max(*process)?;
            let resident = super::memory::resident_bytes_max(*process)?;
            println!(
                "{after}: member {index} had {} MiB resident, its machine {} in use",
                resident >> 20,
                used >> 20
            );
        }
        let clients = self.clients()?;
        let revision = within(START, "the cluster serves", || async {
            Ok(clients[0].put(put("check", after)).await?)
        })
        .await?
        .header
        .context("an answer has a header")?
        .revision;
        let contents = join_all(clients.iter().map(|client| contents(client, revision))).await;
        let contents = contents.into_iter().collect::<Result<Vec<_>>>()?;
        ensure!(
            contents.windows(2).all(|pair| pair[0] == pair[1]),
            "{after}: members differ at revision {revision}: {contents:?}"
        );
        println!(
            "{after}: all hold {} keys at revision {revision}",
            contents[0].0
        );
        Ok(())
    }

    fn report(&self) {
        for ((what, code), count) in &self.answers {
            println!("{what}: {code} {count} times");
        }
    }
}
