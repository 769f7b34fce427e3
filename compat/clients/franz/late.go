package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// late writes transactions over a network that delays requests: compat's
// txn_delayed.go says what the arguments are and what is printed. With the last
// argument "old" it speaks the protocol of before KIP-890.
func (d *driver) late(args []string) error {
	if len(args) < 6 {
		return fmt.Errorf("late has %d arguments", len(args))
	}
	var numbers [4]int
	for i, at := range []int{1, 3, 4, 5} {
		n, err := strconv.Atoi(args[at])
		if err != nil {
			return err
		}
		numbers[i] = n
	}
	partitions, producers, rounds, seed := numbers[0], numbers[1], numbers[2], numbers[3]
	var wg sync.WaitGroup
	for i := range producers {
		w := lateWriter{topic: args[0], id: fmt.Sprintf("%s-%d", args[2], i), partitions: partitions, random: rand.New(rand.NewPCG(uint64(seed), uint64(i)))}
		wg.Go(func() {
			if n, err := w.run(d.bootstrap, rounds, slices.Contains(args, "old")); err != nil {
				fmt.Println("failed", w.id, n, err)
			}
		})
	}
	wg.Wait()
	return nil
}

// lateWriter is one producer.
type lateWriter struct {
	topic, id  string
	partitions int
	random     *rand.Rand
}

// run writes the transactions; it answers the number of the one that failed.
func (w *lateWriter) run(bootstrap string, rounds int, old bool) (number int, err error) {
	opts := []kgo.Opt{kgo.SeedBrokers(bootstrap), kgo.TransactionalID(w.id), kgo.DefaultProduceTopic(w.topic), kgo.ProducerLinger(0),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RetryBackoffFn(func(int) time.Duration { return 2 * time.Millisecond })}
	if old {
		v := kversion.Stable()
		v.SetMaxKeyVersion(int16(kmsg.Produce), 11)
		v.SetMaxKeyVersion(int16(kmsg.AddPartitionsToTxn), 3)
		v.SetMaxKeyVersion(int16(kmsg.EndTxn), 4)
		opts = append(opts, kgo.MaxVersions(v))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	for n := range rounds {
		if err := w.once(cl, n); err != nil {
			return n, err
		}
	}
	return 0, nil
}

func (w *lateWriter) once(cl *kgo.Client, number int) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	for _, p := range w.random.Perm(w.partitions) {
		r := &kgo.Record{Partition: int32(p), Value: fmt.Appendf(nil, "%s %d", w.id, number)}
		if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
			return err
		}
	}
	commit := w.random.IntN(2) == 0
	if err := cl.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
		return err
	}
	if commit {
		fmt.Println("commit", w.id, number)
	} else {
		fmt.Println("abort", w.id, number)
	}
	return nil
}
