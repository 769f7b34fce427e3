package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// transformChunk is how many records a transaction may take.
const transformChunk = 40

// transform consumes, transforms and produces in transactions until standard
// input ends: compat's txn_clients.go says what the arguments are and what is printed.
func (d *driver) transform(args []string) error {
	if len(args) != 6 {
		return fmt.Errorf("transform has %d arguments", len(args))
	}
	in, out, group, id := args[0], args[1], args[2], args[3]
	seed, err1 := strconv.ParseUint(args[4], 10, 64)
	hold, err2 := strconv.Atoi(args[5])
	if err1 != nil || err2 != nil {
		return fmt.Errorf("numbers: %v, %v", err1, err2)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	session, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(d.bootstrap), kgo.ConsumeTopics(in), kgo.ConsumerGroup(group),
		kgo.TransactionalID(id), kgo.TransactionTimeout(20*time.Second), kgo.DefaultProduceTopic(out),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(200*time.Millisecond),
		kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(time.Second), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer session.Close()
	random := rand.New(rand.NewPCG(seed, 0))
	for number := 1; ; number++ {
		fetches := session.PollRecords(ctx, transformChunk)
		if ctx.Err() != nil {
			return nil
		}
		for _, e := range fetches.Errors() {
			fmt.Fprintln(os.Stderr, id, e.Err)
		}
		if fetches.NumRecords() == 0 {
			number--
			continue
		}
		committed, err := once(session, fetches, number == hold, random.IntN(5) != 0)
		if err != nil {
			return err
		}
		if committed {
			fmt.Println("commit", number)
		} else {
			fmt.Println("abort", number)
		}
	}
}

func once(session *kgo.GroupTransactSession, fetches kgo.Fetches, hold, commit bool) (bool, error) {
	ctx := context.Background()
	if err := session.Begin(); err != nil {
		return false, err
	}
	var out []*kgo.Record
	fetches.EachRecord(func(r *kgo.Record) {
		out = append(out, &kgo.Record{Partition: r.Partition, Key: r.Key, Value: r.Value})
	})
	if err := session.ProduceSync(ctx, out...).FirstErr(); err != nil {
		fmt.Fprintln(os.Stderr, "aborts:", err)
		commit = false
	}
	if hold {
		fmt.Println("holding")
		select {}
	}
	return session.End(ctx, kgo.TransactionEndTry(commit))
}

// read prints the records of a topic up to the record "end" of each partition.
func (d *driver) read(topic, partitions string) error {
	n, err := strconv.Atoi(partitions)
	if err != nil {
		return err
	}
	for _, isolation := range []string{"read_committed", "read_uncommitted"} {
		if err := d.readAs(topic, n, isolation); err != nil {
			return err
		}
	}
	return nil
}

func (d *driver) readAs(topic string, partitions int, isolation string) error {
	level := kgo.ReadUncommitted()
	if isolation == "read_committed" {
		level = kgo.ReadCommitted()
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(d.bootstrap), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(level),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(200*time.Millisecond))
	if err != nil {
		return err
	}
	defer cl.Close()
	for ended := 0; ended < partitions; {
		fetches := cl.PollFetches(context.Background())
		for _, e := range fetches.Errors() {
			return e.Err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if string(r.Value) == "end" {
				ended++
				return
			}
			fmt.Println(isolation, r.Partition, r.Offset, string(r.Value))
		})
	}
	return nil
}
