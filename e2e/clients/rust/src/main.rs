//! Uses a member as the library etcd-client is used, and prints what it saw.
//!
//! Usage: etcd-client-session HOST:PORT HOST:TLS_PORT CA_FILE
//! Each etcd is expected to bring about the same lines: only ids and tokens, which a server chooses, are left out. After
//! the line `restart` the member is to be killed and started again, and a line of input says that it was.

use std::fmt::Debug;
use std::time::Duration;

use etcd_client::{
    AlarmAction, AlarmType, Certificate, Client, Compare, CompareOp, ConnectOptions, DeleteOptions,
    Error, Event, GetOptions, KeyValue, LeaseGrantOptions, LeaseTimeToLiveOptions, LockOptions,
    Permission, ProclaimOptions, PutOptions, ResignOptions, SortOrder, SortTarget, TlsOptions, Txn,
    TxnOp, TxnOpResponse, TxnResponse, WatchFilterType, WatchOptions, WatchStream,
};

type Done = Result<(), Box<dyn std::error::Error>>;

const PATIENCE: Duration = Duration::from_secs(30);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn shown(kv: &KeyValue) -> String {
    let (key, value) = (text(kv.key()), text(kv.value()));
    let (create, modified, version) = (kv.create_revision(), kv.mod_revision(), kv.version());
    let has_lease = kv.lease() != 0;
    format!("{key}={value} {create} {modified} {version} {has_lease}")
}

fn all(kvs: &[KeyValue]) -> Vec<String> {
    kvs.iter().map(shown).collect()
}

fn refusal(error: &Error) -> String {
    match error {
        Error::GRpcStatus(status) => format!("{:?}: {}", status.code(), status.message()),
        other => other.to_string(),
    }
}

fn refused<T: Debug>(about: &str, answer: Result<T, Error>) {
    match answer {
        Ok(answer) => println!("{about}: was answered {answer:?}"),
        Err(error) => println!("{about}: {}", refusal(&error)),
    }
}

fn prefix() -> Option<GetOptions> {
    Some(GetOptions::new().with_prefix())
}

async fn keys_and_values(client: &mut Client) -> Done {
    let put = client.put("a", "1", None).await?;
    println!("put: {:?}", put.header().map(|header| header.revision()));
    let previous = Some(PutOptions::new().with_prev_key());
    let put = client.put("a", "2", previous).await?;
    println!("put with the value before: {:?}", put.prev_key().map(shown));
    for number in 0..5 {
        let value = (number * 7 % 5).to_string();
        client.put(format!("list/{number}"), value, None).await?;
    }
    client.put("list/2", "again", None).await?;
    for (about, key, options) in [
        ("get", "a", None),
        (
            "get, serializable",
            "a",
            Some(GetOptions::new().with_serializable()),
        ),
        ("get of none", "none", None),
        ("prefix", "list/", prefix()),
        (
            "prefix, keys only",
            "list/",
            prefix().map(GetOptions::with_keys_only),
        ),
        (
            "prefix, count",
            "list/",
            prefix().map(GetOptions::with_count_only),
        ),
        (
            "prefix, new ones",
            "list/",
            prefix().map(|some| some.with_min_mod_revision(7)),
        ),
        (
            "prefix, old ones",
            "list/",
            prefix().map(|some| some.with_max_create_revision(6)),
        ),
        (
            "range",
            "list/1",
            Some(GetOptions::new().with_range("list/3")),
        ),
        (
            "from a key on",
            "list/3",
            Some(GetOptions::new().with_from_key()),
        ),
        ("past", "list/", prefix().map(|some| some.with_revision(6))),
        ("all", "", Some(GetOptions::new().with_all_keys())),
    ] {
        let found = client.get(key, options).await?;
        println!(
            "{about}: {:?} {} {}",
            all(found.kvs()),
            found.more(),
            found.count()
        );
    }
    for target in [
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ] {
        for order in [SortOrder::Ascend, SortOrder::Descend] {
            let options = prefix().map(|some| some.with_sort(target, order).with_limit(3));
            let found = client.get("list/", options).await?;
            let (kvs, more, count) = (all(found.kvs()), found.more(), found.count());
            println!("three, {order:?} by {target:?}: {kvs:?} {more} {count}");
        }
    }
    let mut streamed = Vec::new();
    let mut stream = client.kv_client().get_stream("list/", prefix()).await?;
    while let Some(part) = stream.message().await? {
        streamed.extend(all(part.kvs()));
    }
    println!("stream: {streamed:?}");
    let to_come = Some(GetOptions::new().with_revision(1000));
    refused("get of what is to come", client.get("a", to_come).await);
    refused("put of no key", client.put("", "v", None).await);
    let no_lease = Some(PutOptions::new().with_lease(4242));
    refused("put with no lease", client.put("a", "v", no_lease).await);
    let same = Some(PutOptions::new().with_ignore_value());
    refused(
        "put of the same value to none",
        client.put("none", "", same.clone()).await,
    );
    client.put("a", "", same).await?;
    println!(
        "put of the same value: {:?}",
        all(client.get("a", None).await?.kvs())
    );
    Ok(())
}

async fn deletes(client: &mut Client) -> Done {
    for _ in 0..2 {
        println!("delete: {}", client.delete("list/0", None).await?.deleted());
    }
    let options = Some(DeleteOptions::new().with_prefix().with_prev_key());
    let gone = client.delete("list/", options).await?;
    println!(
        "delete of a prefix: {} {:?}",
        gone.deleted(),
        all(gone.prev_kvs())
    );
    Ok(())
}

fn answers(answer: &TxnResponse) -> String {
    let each = answer.op_responses();
    let each: Vec<_> = each
        .iter()
        .map(|one| match one {
            TxnOpResponse::Put(_) => "put".to_owned(),
            TxnOpResponse::Get(found) => format!("{:?}", all(found.kvs())),
            TxnOpResponse::Delete(gone) => format!("deleted {}", gone.deleted()),
            TxnOpResponse::Txn(inner) => answers(inner),
        })
        .collect();
    format!("({} {each:?})", answer.succeeded())
}

async fn transactions(client: &mut Client) -> Done {
    client.put("t", "1", None).await?;
    client.put("t", "2", None).await?;
    let get = || TxnOp::get("t", None);
    let put = || TxnOp::put("u", "v", None);
    let delete = || TxnOp::delete("t/none", None);
    for is in [
        CompareOp::Equal,
        CompareOp::Greater,
        CompareOp::Less,
        CompareOp::NotEqual,
    ] {
        for (about, compare) in [
            ("value", Compare::value("t", is, "2")),
            ("version", Compare::version("t", is, 2)),
            ("create", Compare::create_revision("t", is, 1)),
            ("mod", Compare::mod_revision("t", is, 50)),
            ("lease", Compare::lease("t", is, 0)),
            ("a prefix", Compare::version("t", is, 1).with_prefix()),
        ] {
            let txn = Txn::new()
                .when([compare])
                .and_then([get()])
                .or_else([put(), delete()]);
            let answer = client.txn(txn).await?;
            let revision = answer.header().map(|header| header.revision());
            println!("txn, {is:?} {about}: {} {revision:?}", answers(&answer));
        }
    }
    let none = || Compare::version("none", CompareOp::Equal, 0);
    let inner = Txn::new().when([none()]).and_then([get(), put()]);
    let outer = Txn::new()
        .when([none()])
        .and_then([TxnOp::txn(inner), delete()]);
    println!("txn in a txn: {}", answers(&client.txn(outer).await?));
    let twice = Txn::new().and_then([put(), put()]);
    refused("txn that puts twice", client.txn(twice).await);
    Ok(())
}

/// A stream of watchers, and what it told.
struct Watching {
    stream: WatchStream,
    told: Vec<String>,
}

fn told(event: &Event) -> String {
    let kv = event.kv().map(shown);
    format!(
        "{:?} {kv:?} {:?}",
        event.event_type(),
        event.prev_kv().map(shown)
    )
}

impl Watching {
    async fn begin(client: &mut Client, key: &str, options: WatchOptions) -> Result<Self, Error> {
        let stream = client.watch(key, Some(options)).await?;
        Ok(Self {
            stream,
            told: Vec::new(),
        })
    }

    /// The next so many things it tells; an error is the last one.
    async fn take(&mut self, count: usize) -> Result<Vec<String>, Box<dyn std::error::Error>> {
        while self.told.len() < count {
            let news = match tokio::time::timeout(PATIENCE, self.stream.message()).await? {
                Ok(Some(news)) => news,
                Ok(None) => return Ok(vec!["the end".to_owned()]),
                Err(error) => return Ok(vec![refusal(&error)]),
            };
            if news.created() {
                self.told.push(format!("created {}", news.watch_id()));
            }
            if news.canceled() {
                let (why, compacted) = (news.cancel_reason(), news.compact_revision());
                self.told
                    .push(format!("cancelled {} {why} {compacted}", news.watch_id()));
            }
            for event in news.events() {
                self.told
                    .push(format!("{} {}", news.watch_id(), told(event)));
            }
        }
        Ok(self.told.drain(..count).collect())
    }
}

async fn watches(client: &mut Client) -> Done {
    let put = client.put("w/1", "1", None).await?;
    let start = put.header().map_or(0, |header| header.revision());
    client.put("w/1", "2", None).await?;
    client.delete("w/1", None).await?;
    let options = WatchOptions::new().with_prefix().with_prev_key();
    let mut past = Watching::begin(client, "w/", options.with_start_revision(start)).await?;
    println!("watch of the past: {:?}", past.take(4).await?);
    let deletes = WatchOptions::new()
        .with_prefix()
        .with_filters([WatchFilterType::NoPut]);
    let mut many = Watching::begin(client, "w/", deletes.with_watch_id(7)).await?;
    let puts = WatchOptions::new().with_filters([WatchFilterType::NoDelete]);
    many.stream.watch("w/2", Some(puts)).await?;
    println!("watches of one stream: {:?}", many.take(2).await?);
    let again = WatchOptions::new().with_watch_id(7);
    many.stream.watch("w/2", Some(again)).await?;
    println!("watch with an id that is there: {:?}", many.take(2).await?);
    client.put("w/2", "1", None).await?;
    client.delete("w/2", None).await?;
    println!("watch: {:?}", past.take(2).await?);
    let mut news = many.take(2).await?;
    news.sort();
    println!("watches with filters: {news:?}");
    many.stream.cancel(7).await?;
    println!("watch that is given up: {:?}", many.take(1).await?);
    Ok(())
}

async fn restarts(client: &mut Client) -> Done {
    let mut watching = Watching::begin(client, "r", WatchOptions::new()).await?;
    let put = client.put("r", "1", None).await?;
    let last = put.header().map_or(0, |header| header.revision());
    println!("watch before: {:?}", watching.take(2).await?);
    println!("restart");
    std::io::stdin().read_line(&mut String::new())?;
    // How the connection ended is the system's word.
    println!(
        "watch at the end of its connection: {}",
        watching.take(1).await?.len()
    );
    let mut left = 300;
    while let Err(error) = client.get("r", None).await {
        left -= 1;
        if left == 0 {
            return Err(error.into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    client.put("r", "2", None).await?;
    let options = WatchOptions::new().with_start_revision(last + 1);
    let mut again = Watching::begin(client, "r", options).await?;
    client.put("r", "3", None).await?;
    println!("watch from where it was: {:?}", again.take(3).await?);
    Ok(())
}

async fn leases(client: &mut Client) -> Done {
    let lease = client.lease_grant(60, None).await?;
    println!("lease: {} {}", lease.ttl(), lease.error());
    let on = |id| Some(PutOptions::new().with_lease(id));
    client.put("l/1", "1", on(lease.id())).await?;
    client.put("l/2", "1", on(lease.id())).await?;
    println!(
        "key of a lease: {:?}",
        all(client.get("l/1", None).await?.kvs())
    );
    let (mut keeper, mut renewals) = client.lease_keep_alive(lease.id()).await?;
    keeper.keep_alive().await?;
    println!(
        "renewal: {:?}",
        renewals.message().await?.map(|one| one.ttl())
    );
    let with_keys = Some(LeaseTimeToLiveOptions::new().with_keys());
    let live = client.lease_time_to_live(lease.id(), with_keys).await?;
    let mut keys: Vec<_> = live.keys().iter().map(|key| text(key)).collect();
    keys.sort();
    let is_young = (57..=60).contains(&live.ttl());
    println!(
        "keys of a lease: {keys:?} {} {is_young}",
        live.granted_ttl()
    );
    let options = WatchOptions::new().with_prefix();
    let mut watching = Watching::begin(client, "l/", options).await?;
    watching.take(1).await?;
    client.lease_revoke(lease.id()).await?;
    let mut gone = watching.take(2).await?;
    gone.sort();
    println!("revoked: {gone:?}");
    keeper.keep_alive().await?;
    println!(
        "renewal of none: {:?}",
        renewals.message().await?.map(|one| one.ttl())
    );
    refused("revoked again", client.lease_revoke(lease.id()).await);
    let late = client.lease_keep_alive(lease.id()).await;
    refused("stream of renewals of none", late.map(drop));
    let left = client.lease_time_to_live(lease.id(), None).await?;
    println!("time of none: {}", left.ttl());
    let with_id = || Some(LeaseGrantOptions::new().with_id(77));
    println!(
        "lease with an id: {}",
        client.lease_grant(30, with_id()).await?.id()
    );
    refused(
        "lease with an id that is there",
        client.lease_grant(30, with_id()).await,
    );
    refused(
        "lease of too long",
        client.lease_grant(9_000_000_001, None).await,
    );
    println!("leases: {}", client.leases().await?.leases().len());
    let brief = client.lease_grant(1, None).await?;
    client.put("l/3", "1", on(brief.id())).await?;
    println!(
        "lease that ends: {} {:?}",
        brief.ttl(),
        watching.take(2).await?
    );
    Ok(())
}

async fn locks(client: &mut Client) -> Done {
    let mut leases = Vec::new();
    for _ in 0..2 {
        leases.push(client.lease_grant(60, None).await?.id());
    }
    let with = |lease| Some(LockOptions::new().with_lease(lease));
    let lock = client.lock("lock", with(leases[0])).await?;
    let is_named = text(lock.key()) == format!("lock/{:x}", leases[0]);
    println!("lock: {is_named}");
    let mut other = client.clone();
    let options = with(leases[1]);
    let waits = tokio::spawn(async move { other.lock("lock", options).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    println!("lock that is held: {}", !waits.is_finished());
    client.unlock(lock.key()).await?;
    let lock = waits.await??;
    println!(
        "lock that was held: {:?}",
        lock.header().map(|header| header.revision())
    );
    refused("lock with no lease", client.lock("lock", with(4242)).await);
    client.lease_revoke(leases[1]).await?;
    client.lock("lock", with(leases[0])).await?;
    println!("lock whose lease was revoked: is free");
    Ok(())
}

async fn elections(client: &mut Client) -> Done {
    let lease = client.lease_grant(60, None).await?.id();
    let second = client.lease_grant(60, None).await?.id();
    refused("leader of none", client.leader("first").await);
    let campaign = client.campaign("first", "one", lease).await?;
    let first = campaign.leader().ok_or("it leads")?.clone();
    println!("leader: {} {}", text(first.name()), first.rev());
    let mut observed = client.observe("first").await?;
    let mut other = client.clone();
    let waits = tokio::spawn(async move { other.campaign("first", "two", second).await });
    let leads = |found: Option<etcd_client::LeaderResponse>| {
        found.and_then(|found| found.kv().map(|kv| text(kv.value())))
    };
    println!("observed: {:?}", leads(observed.message().await?));
    let options = ProclaimOptions::new().with_leader(first.clone());
    client.proclaim("still one", Some(options)).await?;
    println!("proclaimed: {:?}", leads(observed.message().await?));
    println!("leader: {:?}", leads(Some(client.leader("first").await?)));
    client
        .resign(Some(ResignOptions::new().with_leader(first.clone())))
        .await?;
    waits.await??;
    println!("after it resigned: {:?}", leads(observed.message().await?));
    let options = ProclaimOptions::new().with_leader(first);
    refused(
        "proclaimed by one who resigned",
        client.proclaim("three", Some(options)).await,
    );
    Ok(())
}

async fn compaction(client: &mut Client) -> Done {
    let put = client.put("c", "1", None).await?;
    let revision = put.header().map_or(0, |header| header.revision());
    client.put("c", "2", None).await?;
    client.compact(revision, None).await?;
    refused("compaction again", client.compact(revision, None).await);
    refused(
        "compaction of what is to come",
        client.compact(1000, None).await,
    );
    let at = |revision| Some(GetOptions::new().with_revision(revision));
    refused(
        "get of what is compacted",
        client.get("c", at(revision - 1)).await,
    );
    println!(
        "get of the past: {:?}",
        all(client.get("c", at(revision)).await?.kvs())
    );
    let options = WatchOptions::new().with_start_revision(1);
    let mut watching = Watching::begin(client, "c", options).await?;
    println!("watch of what is compacted: {:?}", watching.take(2).await?);
    Ok(())
}

async fn maintenance(client: &mut Client) -> Done {
    let status = client.status().await?;
    let (version, storage) = (status.version(), status.storage_version());
    let (has_size, has_leader) = (status.db_size() > 0, status.leader() != 0);
    println!(
        "status: {version} {storage} {has_size} {has_leader} {:?}",
        status.errors()
    );
    println!(
        "hash of keys and values: {}",
        client.hash_kv(0).await?.compact_version()
    );
    println!("hash: {}", client.hash().await?.hash() != 0);
    client.defragment().await?;
    let mut copy = client.snapshot().await?;
    let mut bytes = 0;
    while let Some(part) = copy.message().await? {
        bytes += part.blob().len();
    }
    // A page is a whole number of sectors, and a checksum stands behind the last one.
    println!("snapshot: {}", bytes % 512);
    for member in client.member_list().await?.members() {
        println!("member: {} {}", member.name(), member.peer_urls().len());
    }
    refused("member that is not there", client.member_remove(42).await);
    let space = AlarmType::Nospace;
    client.alarm(AlarmAction::Activate, space, None).await?;
    refused("put under an alarm", client.put("m", "1", None).await);
    for action in [AlarmAction::Get, AlarmAction::Deactivate, AlarmAction::Get] {
        let alarms = client.alarm(action, space, None).await?;
        let kinds: Vec<_> = alarms.alarms().iter().map(|one| one.alarm()).collect();
        println!("alarms, {action:?}: {kinds:?}");
    }
    Ok(())
}

async fn authentication(client: &mut Client, address: &str) -> Done {
    client.user_add("root", "secret", None).await?;
    client.user_grant_role("root", "root").await?;
    client.user_add("ann", "her own", None).await?;
    client.role_add("reader").await?;
    client
        .role_grant_permission("reader", Permission::read("a").with_range_end("b"))
        .await?;
    client.user_grant_role("ann", "reader").await?;
    refused(
        "user that is there",
        client.user_add("ann", "x", None).await,
    );
    println!(
        "roles of a user: {:?}",
        client.user_get("ann").await?.roles()
    );
    for one in client.role_get("reader").await?.permissions() {
        println!(
            "permission: {} {} {}",
            one.get_type(),
            text(one.key()),
            text(one.range_end())
        );
    }
    client.auth_enable().await?;
    refused("get of nobody", client.get("a", None).await);
    let at = [address.to_owned()];
    let with = |user: &str, password: &str| Some(ConnectOptions::new().with_user(user, password));
    let wrong = Client::connect(&at, with("ann", "another")).await;
    refused("wrong password", wrong.map(drop));
    let mut ann = Client::connect(&at, with("ann", "her own")).await?;
    let mut root = Client::connect(&at, with("root", "secret")).await?;
    println!(
        "get of what may be read: {:?}",
        all(ann.get("a", None).await?.kvs())
    );
    refused("get of what may not", ann.get("c", None).await);
    refused(
        "put of what may only be read",
        ann.put("a", "1", None).await,
    );
    let mut watching = Watching::begin(&mut ann, "a", WatchOptions::new()).await?;
    watching.take(1).await?;
    root.put("a", "by root", None).await?;
    println!("watch of what may be read: {:?}", watching.take(1).await?);
    watching.stream.watch("c", None).await?;
    println!("watch of what may not: {:?}", watching.take(2).await?);
    refused("compaction by a user", ann.compact(1, None).await);
    refused("users listed by a user", ann.user_list().await);
    println!(
        "users: {:?} {:?}",
        root.user_list().await?.users(),
        root.role_list().await?.roles()
    );
    root.auth_disable().await?;
    println!(
        "get of nobody again: {:?}",
        all(client.get("a", None).await?.kvs())
    );
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Done {
    let arguments: Vec<_> = std::env::args().collect();
    let [_, address, secure, authority] = arguments.as_slice() else {
        return Err("usage: etcd-client-session HOST:PORT HOST:TLS_PORT CA_FILE".into());
    };
    let mut client = Client::connect([address], None).await?;
    keys_and_values(&mut client).await?;
    deletes(&mut client).await?;
    transactions(&mut client).await?;
    watches(&mut client).await?;
    restarts(&mut client).await?;
    leases(&mut client).await?;
    locks(&mut client).await?;
    elections(&mut client).await?;
    compaction(&mut client).await?;
    maintenance(&mut client).await?;
    authentication(&mut client, address).await?;
    let authority = Certificate::from_pem(std::fs::read(authority)?);
    let tls = TlsOptions::new().ca_certificate(authority);
    let options = Some(ConnectOptions::new().with_tls(tls));
    let mut client = Client::connect([format!("https://{secure}")], options).await?;
    println!("over TLS: {:?}", all(client.get("a", None).await?.kvs()));
    println!("the end");
    Ok(())
}
