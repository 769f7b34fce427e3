package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/compat/checker"
)

// marksKinds are the questions of ListOffsets: the word of a history, timestamp and isolation level.
func marksKinds() []checkerMark {
	return []checkerMark{{"start", -2, 0}, {"stable", -1, 1}, {"high", -1, 0}}
}

type checkerMark struct {
	word      string
	timestamp int64
	isolation int8
}

// floor is what a history says an answer must not be below.
func (m checkerMark) floor(f checker.Marks) int64 {
	switch m.word {
	case "start":
		return f.Start
	case "stable":
		return f.Stable
	}
	return f.High
}

// marks samples log start, last stable offset and high watermark until ctx ends.
func (r *checkerRound) marks(ctx context.Context) error {
	cl, err := kgo.NewClient(r.options("samples-offsets")...)
	if err != nil {
		return err
	}
	defer cl.Close()
	for ctx.Err() == nil {
		for _, m := range marksKinds() {
			r.sampleMark(ctx, cl, m)
		}
		pause(ctx, 50*time.Millisecond)
	}
	return nil
}

// sampleMark asks once, and answers the offsets by partition; whatever is no answer is left out.
func (r *checkerRound) sampleMark(ctx context.Context, cl *kgo.Client, m checkerMark) map[int32]int64 {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID, req.IsolationLevel = -1, m.isolation
	t := kmsg.NewListOffsetsRequestTopic()
	t.Topic = r.name
	floors := make([]int64, checkerPartitions)
	for p := range int32(checkerPartitions) {
		tp := kmsg.NewListOffsetsRequestTopicPartition()
		tp.Partition, tp.Timestamp = p, m.timestamp
		t.Partitions = append(t.Partitions, tp)
	}
	req.Topics = append(req.Topics, t)
	r.mu.Lock()
	for p := range floors {
		floors[p] = m.floor(r.h.Floor(int32(p)))
	}
	r.mu.Unlock()
	resp, err := req.RequestWith(ctx, cl)
	if err != nil || len(resp.Topics) != 1 {
		return nil
	}
	at := map[int32]int64{}
	for _, p := range resp.Topics[0].Partitions {
		if p.ErrorCode == 0 {
			at[p.Partition] = p.Offset
			r.tellf("%s %d %d %d", m.word, p.Partition, floors[p.Partition], p.Offset)
		}
	}
	return at
}

// settle waits until the transactions that were left alone are over, and answers the ends of the partitions.
func (r *checkerRound) settle(ctx context.Context) (map[int32]int64, error) {
	cl, err := kgo.NewClient(r.options("waits-for-the-end")...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	deadline := time.Now().Add(checkerTxnTimeout + 20*time.Second)
	kinds := marksKinds()
	for {
		stable, high := r.sampleMark(ctx, cl, kinds[1]), r.sampleMark(ctx, cl, kinds[2])
		whole, same := len(high) == checkerPartitions && len(stable) == checkerPartitions, true
		for p := range high {
			same = same && stable[p] == high[p]
		}
		if over := time.Now().After(deadline); whole && (same || over) {
			for p := range int32(checkerPartitions) {
				r.tellf("settled %d %d %d", p, stable[p], high[p])
			}
			return high, nil
		} else if over || ctx.Err() != nil {
			return nil, fmt.Errorf("the broker does not tell the ends of the %d partitions: %v", checkerPartitions, high)
		}
		pause(ctx, 100*time.Millisecond)
	}
}
