package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// checkerKeys is how many keys are written again and again to a compacted topic. The oldest is left for a new one at
	// every checkerKeyTurn: what is left must survive one compaction after the other.
	checkerKeys, checkerKeyTurn = 40, 10
	// checkerKeyPartitions is how many partitions it has.
	checkerKeyPartitions = 2
)

func (r *checkerRound) keysTopic() string { return r.name + "-keys" }

// keys writes values of keys, one of a key at a time, until ctx ends.
func (r *checkerRound) keys(ctx context.Context) error {
	rng := r.random("keys")
	cl, err := kgo.NewClient(r.options("keys", kgo.DefaultProduceTopic(r.keysTopic()))...)
	if err != nil {
		return err
	}
	defer cl.Close()
	numbers := map[int]int{}
	for turn := 0; ctx.Err() == nil; turn++ {
		for _, k := range rng.Perm(checkerKeys)[:10] {
			k += turn / checkerKeyTurn
			numbers[k]++
			number, word := numbers[k], "value"
			record := &kgo.Record{Partition: int32(k % checkerKeyPartitions), Key: []byte(strconv.Itoa(k))}
			if rng.IntN(8) == 0 {
				word = "tombstone"
			} else {
				record.Value = fmt.Appendf(nil, "%d.%s", number, strings.Repeat("x", 100+rng.IntN(400)))
			}
			r.tellf("put %d %s", k, word)
			cl.Produce(context.Background(), record, func(_ *kgo.Record, err error) {
				if err == nil {
					r.tellf("putdone %d %d ok", k, number)
				} else {
					r.tellf("putdone %d %d unknown", k, number)
				}
			})
		}
		long, cancel := context.WithTimeout(context.Background(), checkerEnd)
		err := cl.Flush(long)
		cancel()
		if err != nil {
			return fmt.Errorf("the keys could not be written: %w", err)
		}
		pause(ctx, 20*time.Millisecond)
	}
	return nil
}

// keptKeys reads the compacted topic from its beginning to its end.
func (r *checkerRound) keptKeys(ctx context.Context, ref *reference) error {
	var wrong error
	err := ref.each(ctx, r.keysTopic(), func(k *kgo.Record) {
		number := 0
		if k.Value != nil {
			text, _, _ := bytes.Cut(k.Value, []byte{'.'})
			n, err := strconv.Atoi(string(text))
			if err != nil {
				wrong = err
			}
			number = n
		}
		r.tellf("kept %s %d", k.Key, number)
	})
	if err == nil {
		err = wrong
	}
	return err
}
