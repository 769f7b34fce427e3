package main

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// checkerTrimmed is the partition of a history that stands for the topic whose first records are deleted again and again.
const checkerTrimmed = checkerPartitions

func (r *checkerRound) trimmedTopic() string { return r.name + "-trimmed" }

// trims writes to a topic, deletes its first records, and holds the log start against what was acknowledged, until ctx ends.
func (r *checkerRound) trims(ctx context.Context) error {
	rng := r.random("trims")
	cl, err := kgo.NewClient(r.options("trims", kgo.DefaultProduceTopic(r.trimmedTopic()))...)
	if err != nil {
		return err
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	for ctx.Err() == nil {
		if err := r.trimOnce(ctx, cl, admin, 1+rng.Int64N(5)); err != nil && ctx.Err() == nil {
			r.note("trims: %v", err)
		}
		pause(ctx, 100*time.Millisecond)
	}
	return nil
}

// trimOnce asks for the log start, before anything moves it, writes, and deletes what is before the last few records.
func (r *checkerRound) trimOnce(ctx context.Context, cl *kgo.Client, admin *kadm.Client, stay int64) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r.mu.Lock()
	floor := r.h.Floor(checkerTrimmed).Start
	r.mu.Unlock()
	started, err := admin.ListStartOffsets(ctx, r.trimmedTopic())
	if err != nil {
		return err
	}
	at, ok := started.Lookup(r.trimmedTopic(), 0)
	if !ok || at.Err != nil {
		return fmt.Errorf("the log start is not told: %v", at.Err)
	}
	r.tellf("start %d %d %d", checkerTrimmed, floor, at.Offset)
	last, err := cl.ProduceSync(ctx, &kgo.Record{Value: make([]byte, 3000)}, &kgo.Record{Value: make([]byte, 3000)}).First()
	if err != nil {
		return err
	}
	offsets := kadm.Offsets{}
	offsets.AddOffset(r.trimmedTopic(), 0, max(0, last.Offset-stay), -1)
	deleted, err := admin.DeleteRecords(ctx, offsets)
	if err != nil {
		return err
	}
	if d, ok := deleted.Lookup(r.trimmedTopic(), 0); ok && d.Err == nil {
		r.tellf("trimmed %d %d", checkerTrimmed, d.LowWatermark)
	}
	return nil
}
