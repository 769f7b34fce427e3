package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rotpeter/rotpeter/bench/raw"
)

// catchUp is a consumer that reads a backlog from disk as fast as it can, while a producer goes on at a fixed rate. The headline is the
// producer's p99 meanwhile. Before, and all the time, the kernel is asked to forget the backlog's files.
func catchUp(perSecond float64) func(*env) (run, error) {
	return func(e *env) (run, error) {
		const partitions = 10
		backlog := *e
		backlog.topic += "-backlog"
		if err := backlog.create(partitions); err != nil {
			return run{}, err
		}
		defer backlog.clean()
		want := e.backlog
		if want == 0 {
			want = 2 * gib
		}
		if _, _, err := backlog.fill(partitions, 64<<10, want); err != nil {
			return run{}, err
		}
		if err := e.create(partitions); err != nil {
			return run{}, err
		}
		alone := e.load(partitions, 1000, 0)
		alone.Window = nil
		before, err := alone.Rate(e.ctx, perSecond)
		if err != nil {
			return run{}, err
		}
		if err := cool(e.broker.data, true); err != nil {
			return run{}, err
		}
		return e.catchingUp(&backlog, perSecond, micros(before.Latency.Quantile(0.99)))
	}
}

func (e *env) catchingUp(backlog *env, perSecond, alone float64) (run, error) {
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	var fetched *raw.Result
	done := make(chan error, 2)
	go func() {
		f := raw.Fetch{Load: e.rawLoad(1, 1), Topic: backlog.topic, Partitions: 10, PartitionBytes: 1 << 20, MaxBytes: 8 << 20}
		f.Window = nil
		var err error
		fetched, err = f.Run(ctx)
		done <- err
	}()
	go func() {
		for ctx.Err() == nil {
			_ = cool(e.broker.data, false) // what cannot be forgotten is read from memory, and told below
			select {
			case <-time.After(200 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		done <- nil
	}()
	from, err1 := readOf(e.broker.pid())
	r, err2 := e.ofLoad(e.load(10, 1000, 0).Rate(ctx, perSecond))
	to, err3 := readOf(e.broker.pid())
	time.AfterFunc(5*time.Second, cancel)
	err4 := <-done
	cancel()
	if err := errors.Join(err1, err2, err3, err4, <-done); err != nil {
		return r, err
	}
	r.also("MB/s caught up", float64(fetched.Bytes)/1e6/e.seconds.Seconds())
	r.also("MB/s read from disk", float64(to-from)/1e6/(e.warm+e.seconds).Seconds())
	r.also("us p99 alone", alone)
	r.also("times the p99 alone", r.P99/alone)
	return r, nil
}

// longWrite is a producer at full speed for many GiB, against a file that is written in sequence.
func longWrite() func(*env) (run, error) {
	return func(e *env) (run, error) {
		want := e.backlog
		if want == 0 {
			want = 20 * gib
		}
		plain, err := writeFile(filepath.Join(e.broker.dir, "plain"), min(want, 4*gib))
		if err != nil {
			return run{}, err
		}
		if err := e.create(1); err != nil {
			return run{}, err
		}
		e.window(true)
		began := time.Now()
		var r run
		for r.Bytes < want {
			l := raw.Load{Addr: e.broker.addr, Connections: 1, InFlight: 5, Measure: time.Second}
			res, err := (raw.Produce{Load: l, Topic: e.topic, Partitions: 1, Batch: 64 << 10, Record: 1000, Acks: -1}).Run(e.ctx)
			if err != nil {
				return run{}, err
			}
			r.Bytes, r.Records, r.Requests = r.Bytes+res.Bytes, r.Records+res.Records, r.Requests+res.Requests
		}
		took := time.Since(began)
		e.window(false)
		r.also("of a plain file's speed", float64(r.Bytes)/took.Seconds()/plain)
		return e.filled(r)
	}
}

// writeFile writes and syncs a file, and answers the bytes a second.
func writeFile(name string, size int64) (float64, error) {
	f, err := os.Create(name)
	if err != nil {
		return 0, err
	}
	defer os.Remove(name)
	defer f.Close()
	piece := make([]byte, 1<<20)
	began := time.Now()
	for n := int64(0); n < size; n += int64(len(piece)) {
		if _, err := f.Write(piece); err != nil {
			return 0, fmt.Errorf("write %s: %w", name, err)
		}
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	return float64(size) / time.Since(began).Seconds(), nil
}
