// Command speed asks one member as much as gRPC for Go can, over one connection that also carries a watch.
//
// Usage: speed ENDPOINT SECONDS
// It ends with 0 and a line per claim when every call was answered, and with 1 and the reason otherwise.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	callers  = 64
	watches  = 20_000
	renewals = 16_000
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	seconds, err := strconv.ParseFloat(os.Args[2], 64)
	if err != nil {
		return err
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{os.Args[1]},
		DialTimeout: 10 * time.Second,
		Logger:      zap.NewNop(),
	})
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer client.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	watch, err := pb.NewWatchClient(client.ActiveConnection()).Watch(ctx)
	if err != nil {
		return err
	}
	if err := watch.Send(create("watched")); err != nil {
		return err
	}
	if _, err := watch.Recv(); err != nil {
		return fmt.Errorf("watch: %w", err)
	}

	// The calls without clientv3's retries: each must be answered the first time.
	kv := pb.NewKVClient(client.ActiveConnection())
	key := func(number int) []byte { return []byte(fmt.Sprintf("key-%d", number)) }
	done, err := atOnce(seconds, func(number int) error {
		_, err := kv.Put(ctx, &pb.PutRequest{Key: key(number), Value: []byte("v")})
		return err
	})
	if err != nil {
		return fmt.Errorf("put: %w", err)
	}
	fmt.Printf("ok %d puts were answered\n", done)
	done, err = atOnce(seconds, func(number int) error {
		_, err := kv.Range(ctx, &pb.RangeRequest{Key: key(number)})
		return err
	})
	if err != nil {
		return fmt.Errorf("get: %w", err)
	}
	fmt.Printf("ok %d gets were answered\n", done)

	err = burst(watches,
		func(number int) error { return watch.Send(create(string(key(number)))) },
		func() error { _, err := watch.Recv(); return err })
	if err != nil {
		return fmt.Errorf("watches at once: %w", err)
	}
	fmt.Printf("ok %d watches were created at once\n", watches)

	lease, err := client.Grant(ctx, 600)
	if err != nil {
		return err
	}
	alive, err := pb.NewLeaseClient(client.ActiveConnection()).LeaseKeepAlive(ctx)
	if err != nil {
		return err
	}
	err = burst(renewals,
		func(int) error { return alive.Send(&pb.LeaseKeepAliveRequest{ID: int64(lease.ID)}) },
		func() error { _, err := alive.Recv(); return err })
	if err != nil {
		return fmt.Errorf("renewals at once: %w", err)
	}
	fmt.Printf("ok %d renewals were answered at once\n", renewals)

	if _, err := client.Put(ctx, "watched", "v"); err != nil {
		return err
	}
	if _, err := watch.Recv(); err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	fmt.Println("ok the watch lived through all of it")
	return nil
}

func create(key string) *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
		CreateRequest: &pb.WatchCreateRequest{Key: []byte(key)},
	}}
}

// atOnce repeats a call from many goroutines, and returns how many were answered.
func atOnce(seconds float64, call func(int) error) (int64, error) {
	until := time.Now().Add(time.Duration(seconds * float64(time.Second)))
	var (
		done    atomic.Int64
		failure atomic.Pointer[error]
		all     sync.WaitGroup
	)
	for number := range callers {
		all.Go(func() {
			for time.Now().Before(until) && failure.Load() == nil {
				if err := call(number); err != nil {
					failure.CompareAndSwap(nil, &err)
					return
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	if err := failure.Load(); err != nil {
		return 0, *err
	}
	return done.Load(), nil
}

// burst sends so many messages without waiting, while another goroutine receives as many answers.
func burst(count int, send func(int) error, receive func() error) error {
	sent := make(chan error, 1)
	go func() {
		for number := range count {
			if err := send(number); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	for range count {
		if err := receive(); err != nil {
			return err
		}
	}
	return <-sent
}
