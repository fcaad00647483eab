import io.etcd.jetcd.Auth;
import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.ClientBuilder;
import io.etcd.jetcd.Election;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.KeyValue;
import io.etcd.jetcd.Lease;
import io.etcd.jetcd.Watch;
import io.etcd.jetcd.auth.Permission;
import io.etcd.jetcd.election.LeaderResponse;
import io.etcd.jetcd.common.exception.CompactedException;
import io.etcd.jetcd.common.exception.EtcdException;
import io.etcd.jetcd.kv.GetResponse;
import io.etcd.jetcd.kv.TxnResponse;
import io.etcd.jetcd.lease.LeaseKeepAliveResponse;
import io.etcd.jetcd.lease.LeaseTimeToLiveResponse;
import io.etcd.jetcd.op.Cmp;
import io.etcd.jetcd.op.CmpTarget;
import io.etcd.jetcd.op.Op;
import io.etcd.jetcd.options.DeleteOption;
import io.etcd.jetcd.options.GetOption;
import io.etcd.jetcd.options.LeaseOption;
import io.etcd.jetcd.options.PutOption;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.watch.WatchEvent;
import io.etcd.jetcd.watch.WatchResponse;
import io.grpc.stub.StreamObserver;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;

/**
 * Uses a member as jetcd is used, and prints what it saw.
 *
 * <p>Usage: java Session.java HOST:PORT HOST:TLS_PORT CA_FILE. Each etcd is expected to bring about the same lines: only ids
 * and tokens, which a server chooses, are left out. After the line "restart" the member is to be killed and started again,
 * and a line of input says that it was.
 */
class Session {
  static final long PATIENCE = 30;

  public static void main(String[] arguments) {
    try {
      run(arguments[0], arguments[1], arguments[2]);
      System.exit(0);
    } catch (Throwable failure) {
      failure.printStackTrace();
      System.exit(1);
    }
  }

  static void run(String plain, String secure, String authority) throws Throwable {
    Client client = at(plain).build();
    keysAndValues(client.getKVClient());
    deletes(client.getKVClient());
    transactions(client.getKVClient());
    watches(client);
    restarts(client);
    leases(client);
    locks(client);
    elections(client);
    compaction(client);
    maintenance(client, "http://" + plain);
    authentication(client, plain);
    ClientBuilder builder = Client.builder().endpoints("https://" + secure);
    builder.sslContext(context -> context.trustManager(new File(authority)));
    say("over TLS", shown(wait(builder.build().getKVClient().get(text("a")))));
    say("the end");
  }

  static ClientBuilder at(String address) {
    // Not the retries of its own: a refusal is shown as it comes.
    return Client.builder().endpoints("http://" + address).retryMaxAttempts(1);
  }

  static void say(String about, Object... seen) {
    String rest = Arrays.stream(seen).map(String::valueOf).collect(Collectors.joining("\t"));
    System.out.println(about + "\t" + rest);
  }

  static ByteSequence text(String text) {
    return ByteSequence.from(text.getBytes());
  }

  static <T> T wait(CompletableFuture<T> answer) throws Exception {
    return answer.get(PATIENCE, TimeUnit.SECONDS);
  }

  static String refusal(Throwable error) {
    while (!(error instanceof EtcdException) && error.getCause() != null) {
      error = error.getCause();
    }
    String compacted =
        error instanceof CompactedException why ? " " + why.getCompactedRevision() : "";
    String code = error instanceof EtcdException why ? " " + why.getErrorCode() : "";
    return error.getClass().getSimpleName() + code + compacted + " " + error.getMessage();
  }

  interface Call {
    CompletableFuture<?> make() throws Exception;
  }

  static void refused(String about, Call call) throws Exception {
    try {
      say(about, "was answered", wait(call.make()).getClass().getSimpleName());
    } catch (ExecutionException error) {
      say(about, refusal(error));
    }
  }

  static String shown(KeyValue kv) {
    List<Object> parts =
        List.of(
            kv.getKey(),
            kv.getValue(),
            kv.getCreateRevision(),
            kv.getModRevision(),
            kv.getVersion(),
            kv.getLease() != 0);
    return parts.toString();
  }

  static String shown(List<KeyValue> kvs) {
    return kvs.stream().map(Session::shown).toList().toString();
  }

  static String shown(GetResponse answer) {
    return shown(answer.getKvs()) + " " + answer.isMore() + " " + answer.getCount();
  }

  static void put(KV kv, String key, String value) throws Exception {
    wait(kv.put(text(key), text(value)));
  }

  static void keysAndValues(KV kv) throws Exception {
    say("put", wait(kv.put(text("a"), text("1"))).getHeader().getRevision());
    PutOption withPrevious = PutOption.builder().withPrevKV().build();
    say("put with the value before", shown(wait(kv.put(text("a"), text("2"), withPrevious)).getPrevKv()));
    for (int number = 0; number < 5; number++) {
      put(kv, "list/" + number, String.valueOf(number * 7 % 5));
    }
    put(kv, "list/2", "again");
    say("get", shown(wait(kv.get(text("a")))));
    say("get, serializable", shown(wait(kv.get(text("a"), GetOption.builder().withSerializable(true).build()))));
    say("get of none", shown(wait(kv.get(text("none")))));
    ByteSequence list = text("list/");
    say("prefix", shown(wait(kv.get(list, prefix().build()))));
    for (GetOption.SortTarget target : GetOption.SortTarget.values()) {
      for (GetOption.SortOrder order : GetOption.SortOrder.values()) {
        if (order != GetOption.SortOrder.NONE) {
          GetOption sorted = prefix().withSortField(target).withSortOrder(order).withLimit(3).build();
          say("prefix, three, " + order + " by " + target, shown(wait(kv.get(list, sorted))));
        }
      }
    }
    say("prefix, keys only", shown(wait(kv.get(list, prefix().withKeysOnly(true).build()))));
    say("prefix, count", shown(wait(kv.get(list, prefix().withCountOnly(true).build()))));
    say("prefix, of some revisions", shown(wait(kv.get(list, prefix().withMinModRevision(6).withMaxCreateRevision(6).build()))));
    say("range", shown(wait(kv.get(text("list/1"), GetOption.builder().withRange(text("list/3")).build()))));
    say("past", shown(wait(kv.get(list, prefix().withRevision(6).build()))));
    refused("get of what is to come", () -> kv.get(list, GetOption.builder().withRevision(1000).build()));
    refused("put of no key", () -> kv.put(text(""), text("v")));
    PutOption noLease = PutOption.builder().withLeaseId(4242).build();
    refused("put with no lease", () -> kv.put(text("a"), text("v"), noLease));
  }

  static GetOption.Builder prefix() {
    return GetOption.builder().isPrefix(true);
  }

  static void deletes(KV kv) throws Exception {
    say("delete", wait(kv.delete(text("list/0"))).getDeleted(), wait(kv.delete(text("list/0"))).getDeleted());
    DeleteOption withPrevious = DeleteOption.builder().withPrevKV(true).isPrefix(true).build();
    say("delete of a prefix", shown(wait(kv.delete(text("list/"), withPrevious)).getPrevKvs()));
  }

  static String shown(TxnResponse answer) {
    List<Object> parts =
        List.of(
            answer.isSucceeded(),
            answer.getHeader().getRevision(),
            answer.getGetResponses().stream().map(Session::shown).toList(),
            answer.getPutResponses().size(),
            answer.getDeleteResponses().stream().map(one -> one.getDeleted()).toList(),
            answer.getTxnResponses().stream().map(Session::shown).toList());
    return parts.toString();
  }

  static void transactions(KV kv) throws Exception {
    put(kv, "t", "1");
    put(kv, "t", "2");
    Op get = Op.get(text("t"), GetOption.DEFAULT);
    Op put = Op.put(text("u"), text("v"), PutOption.DEFAULT);
    Op delete = Op.delete(text("t/none"), DeleteOption.DEFAULT);
    for (CmpTarget<?> target :
        List.of(CmpTarget.value(text("2")), CmpTarget.version(2), CmpTarget.createRevision(1), CmpTarget.modRevision(50))) {
      for (Cmp.Op is : Cmp.Op.values()) {
        Cmp compare = new Cmp(text("t"), is, target);
        String about = "txn, " + is + " " + target.getClass().getSimpleName();
        say(about, shown(wait(kv.txn().If(compare).Then(get).Else(put, delete).commit())));
      }
    }
    Cmp none = new Cmp(text("none"), Cmp.Op.EQUAL, CmpTarget.version(0));
    Op inner = Op.txn(new Cmp[] {none}, new Op[] {get, put}, new Op[] {});
    say("txn in a txn", shown(wait(kv.txn().If(none).Then(inner, delete).commit())));
    refused("txn that puts twice", () -> kv.txn().Then(put, put).commit());
  }

  /** A watcher that keeps what it was told. */
  static class Watching implements Watch.Listener {
    final LinkedBlockingQueue<String> told = new LinkedBlockingQueue<>();
    final Watch.Watcher watcher;

    Watching(Client client, String key, WatchOption option) {
      watcher = client.getWatchClient().watch(text(key), option, this);
    }

    @Override
    public void onNext(WatchResponse news) {
      if (news.isCreatedNotify()) {
        told.add("created");
      }
      for (WatchEvent event : news.getEvents()) {
        String before = event.getPrevKV().getVersion() == 0 ? "" : shown(event.getPrevKV());
        told.add(event.getEventType() + " " + shown(event.getKeyValue()) + before);
      }
    }

    @Override
    public void onError(Throwable error) {
      told.add(refusal(error));
    }

    @Override
    public void onCompleted() {
      told.add("the end");
    }

    List<String> take(int count) throws Exception {
      List<String> taken = new ArrayList<>();
      for (int number = 0; number < count; number++) {
        taken.add(told.poll(PATIENCE, TimeUnit.SECONDS));
      }
      return taken;
    }
  }

  static WatchOption.Builder watching() {
    return WatchOption.builder().isPrefix(true).withCreateNotify(true);
  }

  static void watches(Client client) throws Exception {
    KV kv = client.getKVClient();
    long start = wait(kv.put(text("w/1"), text("1"))).getHeader().getRevision();
    put(kv, "w/1", "2");
    wait(kv.delete(text("w/1")));
    Watching past = new Watching(client, "w/", watching().withRevision(start).withPrevKV(true).build());
    say("watch of the past", past.take(4));
    Watching deletes = new Watching(client, "w/", watching().withNoPut(true).build());
    Watching puts = new Watching(client, "w/", watching().withNoDelete(true).build());
    say("watches", deletes.take(1), puts.take(1));
    put(kv, "w/2", "1");
    wait(kv.delete(text("w/2")));
    say("watch", past.take(2));
    say("watch of deletes", deletes.take(1));
    say("watch of puts", puts.take(1));
    deletes.watcher.close();
    put(kv, "w/3", "1");
    wait(kv.delete(text("w/3")));
    say("watch beside one that was closed", past.take(2), deletes.take(1));
    past.watcher.close();
    puts.watcher.close();
  }

  static void restarts(Client client) throws Exception {
    KV kv = client.getKVClient();
    Watching watching = new Watching(client, "r", WatchOption.builder().withCreateNotify(true).build());
    say("watch before", watching.take(1));
    long last = wait(kv.put(text("r"), text("1"))).getHeader().getRevision();
    say("watch", watching.take(1));
    System.out.println("restart");
    System.in.read();
    for (int left = 300; ; left--) {
      try {
        wait(kv.get(text("r")));
        break;
      } catch (ExecutionException error) {
        if (left == 0) {
          throw error;
        }
        Thread.sleep(100);
      }
    }
    // How the connection ended is the system's word.
    say("watch at the end of its connection", watching.take(1).get(0).contains("UNAVAILABLE"));
    put(kv, "r", "2");
    Watching again = new Watching(client, "r", WatchOption.builder().withRevision(last + 1).build());
    put(kv, "r", "3");
    say("watch from where it was", again.take(2));
    again.watcher.close();
  }

  static void leases(Client client) throws Exception {
    KV kv = client.getKVClient();
    Lease leases = client.getLeaseClient();
    long lease = wait(leases.grant(60)).getID();
    PutOption onLease = PutOption.builder().withLeaseId(lease).build();
    wait(kv.put(text("l/1"), text("1"), onLease));
    wait(kv.put(text("l/2"), text("1"), onLease));
    say("key of a lease", shown(wait(kv.get(text("l/1")))));
    say("renewal", wait(leases.keepAliveOnce(lease)).getTTL());
    LeaseOption withKeys = LeaseOption.builder().withAttachedKeys().build();
    LeaseTimeToLiveResponse live = wait(leases.timeToLive(lease, withKeys));
    List<String> keys = live.getKeys().stream().map(ByteSequence::toString).sorted().toList();
    say("keys of a lease", keys, live.getGrantedTTL(), live.getTTL() > 57 && live.getTTL() <= 60);
    Watching watching = new Watching(client, "l/", watching().build());
    watching.take(1);
    wait(leases.revoke(lease));
    say("revoked", watching.take(2).stream().sorted().toList());
    refused("revoked again", () -> leases.revoke(lease));
    refused("renewal of none", () -> leases.keepAliveOnce(lease));
    say("time of none", wait(leases.timeToLive(lease, LeaseOption.DEFAULT)).getTTL());
    long kept = wait(leases.grant(2)).getID();
    LinkedBlockingQueue<Long> renewed = new LinkedBlockingQueue<>();
    CompletableFuture<String> lost = new CompletableFuture<>();
    leases.keepAlive(
        kept,
        new StreamObserver<LeaseKeepAliveResponse>() {
          @Override
          public void onNext(LeaseKeepAliveResponse answer) {
            renewed.add(answer.getTTL());
          }

          @Override
          public void onError(Throwable error) {
            lost.complete(refusal(error));
          }

          @Override
          public void onCompleted() {
            lost.complete("the end");
          }
        });
    wait(kv.put(text("l/3"), text("1"), PutOption.builder().withLeaseId(kept).build()));
    for (int number = 0; number < 6; number++) {
      if (renewed.poll(PATIENCE, TimeUnit.SECONDS) != 2) {
        throw new IllegalStateException("a renewal of less");
      }
    }
    say("lease that is kept", watching.take(1), shown(wait(kv.get(text("l/3")))));
    wait(leases.revoke(kept));
    say("lease that is lost", watching.take(1), wait(lost));
    long brief = wait(leases.grant(1)).getID();
    wait(kv.put(text("l/4"), text("1"), PutOption.builder().withLeaseId(brief).build()));
    say("lease that ends", watching.take(2));
    refused("lease of too long", () -> leases.grant(9_000_000_001L));
    watching.watcher.close();
  }

  static void locks(Client client) throws Exception {
    Lease leases = client.getLeaseClient();
    ByteSequence name = text("lock");
    long one = wait(leases.grant(60)).getID();
    long two = wait(leases.grant(60)).getID();
    ByteSequence key = wait(client.getLockClient().lock(name, one)).getKey();
    say("lock", key.toString().equals("lock/" + Long.toHexString(one)));
    say("lock again", wait(client.getLockClient().lock(name, one)).getKey().equals(key));
    var waits = client.getLockClient().lock(name, two);
    boolean isHeld = false;
    try {
      waits.get(500, TimeUnit.MILLISECONDS);
    } catch (java.util.concurrent.TimeoutException held) {
      isHeld = true;
    }
    wait(client.getLockClient().unlock(key));
    say("lock that was held", isHeld, wait(waits).getHeader().getRevision());
    refused("lock with no lease", () -> client.getLockClient().lock(name, 4242));
    wait(leases.revoke(two));
    wait(client.getLockClient().lock(name, one));
    say("lock whose lease was revoked", "is free");
  }

  static void elections(Client client) throws Exception {
    Election election = client.getElectionClient();
    ByteSequence name = text("election");
    long lease = wait(client.getLeaseClient().grant(60)).getID();
    long other = wait(client.getLeaseClient().grant(60)).getID();
    refused("leader of none", () -> election.leader(name));
    LinkedBlockingQueue<String> leaders = new LinkedBlockingQueue<>();
    var first = wait(election.campaign(name, lease, text("one"))).getLeader();
    say("leader", first.getName(), first.getRevision(), wait(election.leader(name)).getKv().getValue());
    election.observe(
        name,
        new Election.Listener() {
          @Override
          public void onNext(LeaderResponse answer) {
            leaders.add(answer.getKv().getValue().toString());
          }

          @Override
          public void onError(Throwable error) {
            leaders.add(refusal(error));
          }

          @Override
          public void onCompleted() {
            leaders.add("the end");
          }
        });
    say("observed", leaders.poll(PATIENCE, TimeUnit.SECONDS));
    wait(election.proclaim(first, text("still one")));
    say("proclaimed", leaders.poll(PATIENCE, TimeUnit.SECONDS));
    var waits = election.campaign(name, other, text("two"));
    wait(election.resign(first));
    say("after it resigned", wait(waits).getLeader().getName(), leaders.poll(PATIENCE, TimeUnit.SECONDS));
    refused("proclaimed by one who resigned", () -> election.proclaim(first, text("three")));
  }

  static void compaction(Client client) throws Exception {
    KV kv = client.getKVClient();
    long revision = wait(kv.put(text("c"), text("1"))).getHeader().getRevision();
    put(kv, "c", "2");
    wait(kv.compact(revision));
    refused("compaction again", () -> kv.compact(revision));
    refused("compaction of what is to come", () -> kv.compact(1000));
    GetOption gone = GetOption.builder().withRevision(revision - 1).build();
    refused("get of what is compacted", () -> kv.get(text("c"), gone));
    say("get of the past", shown(wait(kv.get(text("c"), GetOption.builder().withRevision(revision).build()))));
    Watching watching = new Watching(client, "c", WatchOption.builder().withRevision(1).build());
    say("watch of what is compacted", watching.take(1));
  }

  static void maintenance(Client client, String endpoint) throws Exception {
    var maintenance = client.getMaintenanceClient();
    var status = wait(maintenance.statusMember(endpoint));
    say("status", status.getVersion(), status.getDbSize() > 0, status.getLeader() != 0, status.isLearner());
    var hash = wait(maintenance.hashKV(endpoint, 0));
    say("hash of keys and values", hash.getHash() != 0, hash.getCompacted());
    say("alarms", wait(maintenance.listAlarms()).getAlarms().size());
    wait(maintenance.defragmentMember(endpoint));
    ByteArrayOutputStream copy = new ByteArrayOutputStream();
    wait(maintenance.snapshot(copy));
    // A page is a whole number of sectors, and a checksum stands behind the last one.
    say("snapshot", copy.size() % 512);
    for (var member : wait(client.getClusterClient().listMember()).getMembers()) {
      say("member", member.getName(), member.getPeerURIs().size(), member.isLearner());
    }
    refused("member without an address", () -> client.getClusterClient().removeMember(42));
  }

  static void authentication(Client client, String address) throws Exception {
    Auth auth = client.getAuthClient();
    wait(auth.userAdd(text("root"), text("secret")));
    wait(auth.roleAdd(text("root")));
    wait(auth.userGrantRole(text("root"), text("root")));
    wait(auth.userAdd(text("ann"), text("her own")));
    wait(auth.roleAdd(text("reader")));
    wait(auth.roleGrantPermission(text("reader"), text("a"), text("b"), Permission.Type.READ));
    wait(auth.userGrantRole(text("ann"), text("reader")));
    refused("user that is there", () -> auth.userAdd(text("ann"), text("x")));
    say("roles of a user", wait(auth.userGet(text("ann"))).getRoles());
    for (Permission one : wait(auth.roleGet(text("reader"))).getPermissions()) {
      say("permission", one.getPermType(), one.getKey(), one.getRangeEnd());
    }
    wait(auth.authEnable());
    refused("get of nobody", () -> client.getKVClient().get(text("a")));
    Client ann = at(address).user(text("ann")).password(text("her own")).build();
    Client root = at(address).user(text("root")).password(text("secret")).build();
    Client wrong = at(address).user(text("ann")).password(text("another")).build();
    refused("wrong password", () -> wrong.getKVClient().get(text("a")));
    say("get of what may be read", shown(wait(ann.getKVClient().get(text("a")))));
    refused("get of what may not", () -> ann.getKVClient().get(text("c")));
    refused("put of what may only be read", () -> ann.getKVClient().put(text("a"), text("1")));
    Watching watching = new Watching(ann, "a", WatchOption.builder().withCreateNotify(true).build());
    watching.take(1);
    put(root.getKVClient(), "a", "by root");
    say("watch of what may be read", watching.take(1));
    Watching hidden = new Watching(ann, "c", WatchOption.DEFAULT);
    say("watch of what may not", hidden.take(1));
    refused("users listed by a user", () -> ann.getAuthClient().userList());
    say("users", wait(root.getAuthClient().userList()).getUsers(), wait(root.getAuthClient().roleList()).getRoles());
    wait(root.getAuthClient().authDisable());
    say("get of nobody again", shown(wait(client.getKVClient().get(text("a")))));
  }
}
