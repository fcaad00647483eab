// Command claims drives a cluster through etcd's own Go client and prints a line per claim that held.
//
// Usage: claims ENDPOINT[,ENDPOINT...]
// It ends with 0 when every claim holds, and with 1 and the reason at the first that does not. The cluster must be
// fresh: claims about revisions and counts take the store as theirs.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"
)

// claim is a sentence about the cluster and the code that shows it.
type claim struct {
	says  string
	shown func(context.Context, *clientv3.Client) error
}

var claims = []claim{
	{"a put is read back", putAndGet},
	{"a prefix is listed, limited, sorted and counted", list},
	{"a delete returns what it removed", deleteKeys},
	{"a transaction takes the branch its compares choose", transaction},
	{"errors are those that the client knows by type", typedErrors},
	{"a watch replays history and goes on live", watch},
	{"a watch reports compaction by its type", watchCompacted},
	{"a watch with progress is answered on request", watchProgress},
	{"a lease is kept alive, and ends when it is not", lease},
	{"a lease that is revoked takes its keys along", revoke},
	{"a mutex admits one at a time", mutex},
	{"an election has one leader, and the next when it resigns", election},
	{"software transactional memory loses no update", memory},
	{"keys that two clients keep under leases are never read stale", leased},
	{"the members are listed and their status is told", members},
	{"compressed requests are taken, and bounded by what they become", compressed},
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: claims ENDPOINT[,ENDPOINT...]")
		os.Exit(2)
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   strings.Split(os.Args[1], ","),
		DialTimeout: 10 * time.Second,
		Logger:      zap.NewNop(),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "connect:", err)
		os.Exit(1)
	}
	defer client.Close()
	for _, claim := range claims {
		ctx, cancel := context.WithTimeout(context.Background(), 45*time.Second)
		err := claim.shown(ctx, client)
		cancel()
		if err != nil {
			fmt.Printf("FAILED %s: %v\n", claim.says, err)
			os.Exit(1)
		}
		fmt.Println("ok", claim.says)
	}
}

func putAndGet(ctx context.Context, client *clientv3.Client) error {
	put, err := client.Put(ctx, "kv/a", "1")
	if err != nil {
		return err
	}
	if _, err := client.Put(ctx, "kv/a", "2"); err != nil {
		return err
	}
	now, err := client.Get(ctx, "kv/a")
	if err != nil {
		return err
	}
	before, err := client.Get(ctx, "kv/a", clientv3.WithRev(put.Header.Revision))
	if err != nil {
		return err
	}
	return errors.Join(
		equal("value", string(now.Kvs[0].Value), "2"),
		equal("version", now.Kvs[0].Version, 2),
		equal("create revision", now.Kvs[0].CreateRevision, put.Header.Revision),
		equal("old value", string(before.Kvs[0].Value), "1"),
	)
}

func list(ctx context.Context, client *clientv3.Client) error {
	for _, name := range []string{"c", "a", "d", "b"} {
		if _, err := client.Put(ctx, "list/"+name, name); err != nil {
			return err
		}
	}
	all, err := client.Get(ctx, "list/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	descending := clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend)
	two, err := client.Get(ctx, "list/", clientv3.WithPrefix(), clientv3.WithLimit(2), descending)
	if err != nil {
		return err
	}
	count, err := client.Get(ctx, "list/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	last, err := client.Get(ctx, "list/", clientv3.WithLastRev()...)
	if err != nil {
		return err
	}
	return errors.Join(
		equal("keys", len(all.Kvs), 4),
		equal("first of the descending", string(two.Kvs[0].Key), "list/d"),
		equal("limited", len(two.Kvs), 2),
		equal("more", two.More, true),
		equal("count", count.Count, 4),
		equal("last changed", string(last.Kvs[0].Key), "list/b"),
	)
}

func deleteKeys(ctx context.Context, client *clientv3.Client) error {
	removed, err := client.Delete(ctx, "list/", clientv3.WithPrefix(), clientv3.WithPrevKV())
	if err != nil {
		return err
	}
	again, err := client.Delete(ctx, "list/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	return errors.Join(
		equal("deleted", removed.Deleted, 4),
		equal("previous values", len(removed.PrevKvs), 4),
		equal("deleted again", again.Deleted, 0),
		equal("revision of nothing deleted", again.Header.Revision, removed.Header.Revision),
	)
}

func transaction(ctx context.Context, client *clientv3.Client) error {
	create := func(value string) (*clientv3.TxnResponse, error) {
		return client.Txn(ctx).
			If(clientv3.Compare(clientv3.CreateRevision("txn/a"), "=", 0)).
			Then(clientv3.OpPut("txn/a", value), clientv3.OpPut("txn/b", value)).
			Else(clientv3.OpGet("txn/a")).
			Commit()
	}
	first, err := create("first")
	if err != nil {
		return err
	}
	second, err := create("second")
	if err != nil {
		return err
	}
	if second.Succeeded {
		return errors.New("the key was created twice")
	}
	return errors.Join(
		equal("first", first.Succeeded, true),
		equal("found", string(second.Responses[0].GetResponseRange().Kvs[0].Value), "first"),
	)
}

func typedErrors(ctx context.Context, client *clientv3.Client) error {
	_, empty := client.Put(ctx, "", "x")
	_, future := client.Get(ctx, "a", clientv3.WithRev(1<<40))
	_, lease := client.Put(ctx, "a", "x", clientv3.WithLease(12345))
	_, revoked := client.Revoke(ctx, 12345)
	_, renewed := client.KeepAliveOnce(ctx, 12345)
	_, member := client.MemberRemove(ctx, 12345)
	_, twice := client.Txn(ctx).Then(clientv3.OpPut("a", "1"), clientv3.OpPut("a", "2")).Commit()
	return errors.Join(
		is(empty, rpctypes.ErrEmptyKey),
		is(future, rpctypes.ErrFutureRev),
		is(lease, rpctypes.ErrLeaseNotFound),
		is(revoked, rpctypes.ErrLeaseNotFound),
		is(renewed, rpctypes.ErrLeaseNotFound),
		is(member, rpctypes.ErrMemberNotFound),
		is(twice, rpctypes.ErrDuplicateKey),
	)
}

func watch(ctx context.Context, client *clientv3.Client) error {
	first, err := client.Put(ctx, "watch/a", "0")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := client.Watch(ctx, "watch/", clientv3.WithPrefix(), clientv3.WithRev(first.Header.Revision), clientv3.WithPrevKV())
	for number := 1; number < 20; number++ {
		if _, err := client.Put(ctx, "watch/a", fmt.Sprint(number)); err != nil {
			return err
		}
	}
	if _, err := client.Delete(ctx, "watch/a"); err != nil {
		return err
	}
	next := 0
	for response := range events {
		if err := response.Err(); err != nil {
			return err
		}
		for _, event := range response.Events {
			if next == 20 {
				return errors.Join(
					equal("last event is a delete", event.Type, clientv3.EventTypeDelete),
					equal("value before the delete", string(event.PrevKv.Value), "19"),
				)
			}
			if got := string(event.Kv.Value); got != fmt.Sprint(next) {
				return fmt.Errorf("event %d has value %q", next, got)
			}
			next++
		}
	}
	return fmt.Errorf("the watch ended after %d events", next)
}

func watchCompacted(ctx context.Context, client *clientv3.Client) error {
	put, err := client.Put(ctx, "compact/a", "1")
	if err != nil {
		return err
	}
	if _, err := client.Compact(ctx, put.Header.Revision); err != nil {
		return err
	}
	_, twice := client.Compact(ctx, put.Header.Revision)
	_, old := client.Get(ctx, "compact/a", clientv3.WithRev(put.Header.Revision-1))
	response, open := <-client.Watch(ctx, "compact/", clientv3.WithPrefix(), clientv3.WithRev(2))
	if !open {
		return errors.New("the watch ended without a response")
	}
	return errors.Join(
		is(twice, rpctypes.ErrCompacted),
		is(old, rpctypes.ErrCompacted),
		is(response.Err(), rpctypes.ErrCompacted),
		equal("floor", response.CompactRevision, put.Header.Revision),
	)
}

func watchProgress(ctx context.Context, client *clientv3.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	responses := client.Watch(ctx, "progress/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	if _, open := <-responses; !open {
		return errors.New("the watch was not created")
	}
	put, err := client.Put(ctx, "progress/a", "1")
	if err != nil {
		return err
	}
	hasEvent := false
	for {
		if err := client.RequestProgress(ctx); err != nil {
			return err
		}
		select {
		case response := <-responses:
			hasEvent = hasEvent || len(response.Events) > 0
			if response.IsProgressNotify() && response.Header.Revision >= put.Header.Revision {
				return equal("the event came before the progress", hasEvent, true)
			}
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func lease(ctx context.Context, client *clientv3.Client) error {
	granted, err := client.Grant(ctx, 2)
	if err != nil {
		return err
	}
	if _, err := client.Put(ctx, "lease/a", "x", clientv3.WithLease(granted.ID)); err != nil {
		return err
	}
	kept, stop := context.WithCancel(ctx)
	defer stop()
	renewals, err := client.KeepAlive(kept, granted.ID)
	if err != nil {
		return err
	}
	// Renewed for twice its time to live, the lease still holds its key.
	start := time.Now()
	for time.Since(start) < 4*time.Second {
		select {
		case renewal, open := <-renewals:
			if !open || renewal == nil {
				return errors.New("the renewals ended")
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	found, err := client.Get(ctx, "lease/a")
	if err != nil {
		return err
	}
	if err := equal("keys while renewed", found.Count, 1); err != nil {
		return err
	}
	stop()
	gone := client.Watch(ctx, "lease/a", clientv3.WithRev(found.Header.Revision+1))
	response := <-gone
	if err := response.Err(); err != nil {
		return err
	}
	left, err := client.TimeToLive(ctx, granted.ID)
	if err != nil {
		return err
	}
	return errors.Join(
		equal("event", response.Events[0].Type, clientv3.EventTypeDelete),
		equal("time to live after the end", left.TTL, -1),
	)
}

func revoke(ctx context.Context, client *clientv3.Client) error {
	granted, err := client.Grant(ctx, 600)
	if err != nil {
		return err
	}
	for _, key := range []string{"revoke/a", "revoke/b"} {
		if _, err := client.Put(ctx, key, "x", clientv3.WithLease(granted.ID)); err != nil {
			return err
		}
	}
	left, err := client.TimeToLive(ctx, granted.ID, clientv3.WithAttachedKeys())
	if err != nil {
		return err
	}
	if err := equal("attached keys", len(left.Keys), 2); err != nil {
		return err
	}
	if _, err := client.Revoke(ctx, granted.ID); err != nil {
		return err
	}
	found, err := client.Get(ctx, "revoke/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	return equal("keys after the revoke", found.Count, 0)
}

func mutex(ctx context.Context, client *clientv3.Client) error {
	const holders, rounds = 5, 4
	var (
		group  sync.WaitGroup
		inside = make(chan struct{}, 1)
		total  int
		failed = make(chan error, holders)
	)
	for range holders {
		group.Add(1)
		go func() {
			defer group.Done()
			session, err := concurrency.NewSession(client, concurrency.WithTTL(10))
			if err != nil {
				failed <- err
				return
			}
			defer session.Close()
			lock := concurrency.NewMutex(session, "mutex/")
			for range rounds {
				if err := lock.Lock(ctx); err != nil {
					failed <- err
					return
				}
				select {
				case inside <- struct{}{}:
				default:
					failed <- errors.New("two hold the lock")
					return
				}
				total++
				<-inside
				if err := lock.Unlock(ctx); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	group.Wait()
	close(failed)
	for err := range failed {
		return err
	}
	return equal("times locked", total, holders*rounds)
}

func election(ctx context.Context, client *clientv3.Client) error {
	var candidates [2]*concurrency.Election
	for number := range candidates {
		session, err := concurrency.NewSession(client, concurrency.WithTTL(10))
		if err != nil {
			return err
		}
		defer session.Close()
		candidates[number] = concurrency.NewElection(session, "election/")
	}
	if err := candidates[0].Campaign(ctx, "first"); err != nil {
		return err
	}
	won := make(chan error, 1)
	go func() { won <- candidates[1].Campaign(ctx, "second") }()
	leader, err := candidates[1].Leader(ctx)
	if err != nil {
		return err
	}
	if err := equal("leader", string(leader.Kvs[0].Value), "first"); err != nil {
		return err
	}
	if err := candidates[0].Proclaim(ctx, "still first"); err != nil {
		return err
	}
	select {
	case <-won:
		return errors.New("two lead")
	default:
	}
	observed := candidates[1].Observe(ctx)
	if err := candidates[0].Resign(ctx); err != nil {
		return err
	}
	if err := <-won; err != nil {
		return err
	}
	for response := range observed {
		if string(response.Kvs[0].Value) == "second" {
			return candidates[1].Resign(ctx)
		}
	}
	return errors.New("the second leader was never observed")
}

func memory(ctx context.Context, client *clientv3.Client) error {
	const writers, rounds = 4, 10
	failed := make(chan error, writers)
	for range writers {
		go func() {
			for range rounds {
				_, err := concurrency.NewSTM(client, func(memory concurrency.STM) error {
					var count int
					if text := memory.Get("stm/count"); text != "" {
						if _, err := fmt.Sscan(text, &count); err != nil {
							return err
						}
					}
					memory.Put("stm/count", fmt.Sprint(count+1))
					return nil
				}, concurrency.WithAbortContext(ctx))
				if err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
	}
	for range writers {
		if err := <-failed; err != nil {
			return err
		}
	}
	found, err := client.Get(ctx, "stm/count")
	if err != nil {
		return err
	}
	return equal("count", string(found.Kvs[0].Value), fmt.Sprint(writers*rounds))
}

// leased has two clients that keep what they read, and a third that knows nothing of it. Their transactions compare ranges of
// keys to see whether somebody else keeps one of them.
func leased(ctx context.Context, client *clientv3.Client) error {
	var keepers []clientv3.KV
	for range 2 {
		kv, stop, err := leasing.NewKV(client, "leasing/")
		if err != nil {
			return err
		}
		defer stop()
		keepers = append(keepers, kv)
	}
	one, other := keepers[0], keepers[1]
	for round := range 5 {
		value := fmt.Sprint("value ", round)
		if _, err := one.Put(ctx, "leased/a", value); err != nil {
			return err
		}
		for number, kv := range []clientv3.KV{one, other, client} {
			// The second time a keeper answers out of what it kept.
			for range 2 {
				got, err := kv.Get(ctx, "leased/a")
				if err != nil {
					return err
				}
				if len(got.Kvs) != 1 || string(got.Kvs[0].Value) != value {
					return fmt.Errorf("client %d reads %v in round %d", number, got.Kvs, round)
				}
			}
		}
		put := clientv3.OpPut("leased/b", value)
		some := clientv3.Compare(clientv3.CreateRevision("leased/"), ">", 0).WithPrefix()
		none := clientv3.Compare(clientv3.CreateRevision("leased/x"), "=", 0).WithRange("leased/y")
		done, err := other.Txn(ctx).If(none).Then(put, clientv3.OpDelete("leased/a")).Commit()
		if err != nil {
			return err
		}
		gone, err := one.Get(ctx, "leased/a")
		if err != nil {
			return err
		}
		still, err := one.Txn(ctx).If(some).Then(clientv3.OpGet("leased/b")).Commit()
		if err != nil {
			return err
		}
		if !done.Succeeded || len(gone.Kvs) != 0 || !still.Succeeded {
			return fmt.Errorf("round %d: %v %v %v", round, done.Succeeded, gone.Kvs, still.Succeeded)
		}
	}
	return nil
}

func members(ctx context.Context, client *clientv3.Client) error {
	list, err := client.MemberList(ctx)
	if err != nil {
		return err
	}
	leaders := map[uint64]bool{}
	for _, member := range list.Members {
		if len(member.ClientURLs) == 0 {
			return fmt.Errorf("member %x has no client URLs", member.ID)
		}
		status, err := client.Status(ctx, member.ClientURLs[0])
		if err != nil {
			return err
		}
		if status.Header.MemberId != member.ID {
			return fmt.Errorf("member %x answers as %x", member.ID, status.Header.MemberId)
		}
		leaders[status.Leader] = true
	}
	if err := client.Sync(ctx); err != nil {
		return err
	}
	return errors.Join(
		equal("leaders", len(leaders), 1),
		equal("endpoints after sync", len(client.Endpoints()), len(list.Members)),
	)
}

// equal says what differs, if anything.
func equal[T comparable](what string, got, want T) error {
	if got != want {
		return fmt.Errorf("%s is %v, not %v", what, got, want)
	}
	return nil
}

// is tells whether the client knows the error by the type that programs compare with.
func is(got, want error) error {
	if !errors.Is(got, want) && (got == nil || got.Error() != want.Error()) {
		return fmt.Errorf("error is %v, not %v", got, want)
	}
	return nil
}

func compressed(ctx context.Context, client *clientv3.Client) error {
	kv := pb.NewKVClient(client.ActiveConnection())
	packed := grpc.UseCompressor(gzip.Name)
	key, value := []byte("compressed"), bytes.Repeat([]byte("v"), 1_000_000)
	if _, err := kv.Put(ctx, &pb.PutRequest{Key: key, Value: value}, packed); err != nil {
		return err
	}
	read, err := kv.Range(ctx, &pb.RangeRequest{Key: key}, packed)
	if err != nil {
		return err
	}
	if len(read.Kvs) != 1 || !bytes.Equal(read.Kvs[0].Value, value) {
		return fmt.Errorf("read %d keys, or another value", len(read.Kvs))
	}
	large := bytes.Repeat([]byte("v"), 3_000_000)
	_, err = kv.Put(ctx, &pb.PutRequest{Key: key, Value: large}, packed)
	if status.Code(err) != codes.ResourceExhausted {
		return fmt.Errorf("three megabytes in a small message: %v", err)
	}
	return nil
}
