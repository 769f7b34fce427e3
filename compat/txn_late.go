package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// lateRounds is how many transactions meet the end of the one before.
	lateRounds = 300
	// lateTopic is where they write, on latePartitions partitions.
	lateTopic      = "late-ends"
	latePartitions = 2
)

// lateEnd is an EndTxn of a transaction that ended, as it was sent first.
type lateEnd struct {
	producer int64
	epoch    int16
	commit   bool
}

// txnLateEnds has EndTxn of a transaction come again, by another connection,
// somewhere in the producer's next transaction, as after a lost connection
// (KAFKA-17754). With today's protocol each transaction stays whole: committed
// or aborted on all partitions as its own end said.
func (b *bench) txnLateEnds(ctx context.Context, ref *reference) error {
	if !b.wants("transactions", "raw", "late ends") {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	began := time.Now()
	err := ref.create(ctx, lateTopic, latePartitions)
	var want [latePartitions][]string
	if err == nil {
		want, err = lateEnds(ctx, ref.bootstrap, rand.New(rand.NewPCG(b.seed, 0)))
	}
	if err == nil {
		err = seenCommitted(ctx, ref, want)
	}
	b.report.note("transactions", "raw", "late ends", time.Since(began), fmt.Sprintf("%d transactions", lateRounds), err)
	return nil
}

// lateEnds runs the transactions and answers the values that are committed.
func lateEnds(ctx context.Context, bootstrap string, random *rand.Rand) (committed [latePartitions][]string, err error) {
	t, err := newRawTxn(bootstrap, "ends-late", false)
	if err != nil {
		return committed, err
	}
	defer t.close()
	other, err := newRawTxn(bootstrap, t.id, false)
	if err != nil {
		return committed, err
	}
	defer other.close()
	if err := t.init(ctx); err != nil {
		return committed, err
	}
	var last *lateEnd
	for round := range lateRounds {
		var late sync.WaitGroup
		var lateErr error
		// The late one comes before or beside the requests of a step: those of a partition's writing, or the end.
		step, beside := random.IntN(latePartitions+2), random.IntN(2) == 0
		strike := func(at int) {
			if at != step || last == nil {
				return
			}
			end := *last
			late.Go(func() { lateErr = other.late(ctx, end, t.epoch) })
			if !beside {
				late.Wait()
			}
		}
		var values [latePartitions]string
		for i, p := range random.Perm(latePartitions) {
			strike(i)
			values[p] = fmt.Sprintf("%d on %d", round, p)
			if err := t.produce(ctx, lateTopic, int32(p), time.Now(), values[p]); err != nil {
				return committed, fmt.Errorf("round %d: produce: %w", round, err)
			}
		}
		strike(latePartitions)
		end := lateEnd{t.producer, t.epoch, random.IntN(2) == 0}
		if err := t.end(ctx, end.commit); err != nil {
			return committed, fmt.Errorf("round %d: end: %w", round, err)
		}
		late.Wait()
		if lateErr != nil {
			return committed, fmt.Errorf("round %d: %w", round, lateErr)
		}
		if end.commit {
			for p, v := range values {
				committed[p] = append(committed[p], v)
			}
		}
		last = &end
	}
	return committed, nil
}

// late sends an end again. It may be told that the transaction ended so, with
// the epoch that came after it, or be refused.
func (t *rawTxn) late(ctx context.Context, end lateEnd, next int16) error {
	resp, err := endTxn(ctx, t.cl, t.id, end.producer, end.epoch, end.commit)
	if err != nil {
		return fmt.Errorf("a late end: %w", err)
	}
	switch err := kerr.ErrorForCode(resp.ErrorCode); {
	case err == nil && resp.ProducerEpoch == next:
		return nil
	case err == nil:
		return fmt.Errorf("a late end with epoch %d is told to go on with epoch %d, it is %d", end.epoch, resp.ProducerEpoch, next)
	case errors.Is(err, kerr.ProducerFenced), errors.Is(err, kerr.InvalidProducerEpoch), errors.Is(err, kerr.ConcurrentTransactions),
		errors.Is(err, kerr.InvalidTxnState):
		return nil
	default:
		return fmt.Errorf("a late end: %w", err)
	}
}

// seenCommitted reads the topic with read_committed: it shall have these values and no others, in order.
func seenCommitted(ctx context.Context, ref *reference, want [latePartitions][]string) error {
	var ends []record
	for p := range int32(latePartitions) {
		ends = append(ends, record{Partition: p, Value: []byte("end")})
	}
	if err := ref.produce(ctx, lateTopic, "none", true, ends); err != nil {
		return err
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(ref.bootstrap), kgo.ConsumeTopics(lateTopic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return err
	}
	defer cl.Close()
	var got [latePartitions][]string
	for ended := 0; ended < latePartitions; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("%d of %d partitions were read: %w", ended, latePartitions, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if string(r.Value) == "end" {
				ended++
				return
			}
			got[r.Partition] = append(got[r.Partition], string(r.Value))
		})
	}
	for p := range want {
		if !slices.Equal(got[p], want[p]) {
			return fmt.Errorf("partition %d: committed is\n%s\nand not\n%s", p, strings.Join(got[p], ", "), strings.Join(want[p], ", "))
		}
	}
	return nil
}
