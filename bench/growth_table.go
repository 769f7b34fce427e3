package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rotpeter/rotpeter/bench/raw"
)

// growthTable is all assertions, in order.
func growthTable() []*growth {
	const perRequest, perRecord = "us of CPU a request", "us of CPU a record"
	return []*growth{
		{id: "GP", name: "produce to 10 partitions", base: "10 in the broker", grown: "10,000", unit: perRecord, most: 1.15, prepare: besidePartitions},
		{id: "GR", name: "produce to partitions of one request", base: "1", grown: "100, franz-go", unit: perRecord, most: 1.5, prepare: toPartitions},
		{id: "GL", name: "produce", base: "to an empty log", grown: "behind GiBs in segments of 64 MiB", unit: perRequest, most: 1.1, prepare: behindLog},
		{id: "GI", name: "fetch 4 KiB from anywhere in 1 GiB", base: "1 segment", grown: "1,000", unit: perRequest, most: 1.5, prepare: amongSegments},
		{id: "GS", name: "incremental fetch of one partition", base: "10 idle ones in the session", grown: "1,000", unit: perRequest, most: 1.2, prepare: besideIdle},
		{id: "GW", name: "produce to a partition with a waiting consumer", base: "no others wait", grown: "5,000 wait elsewhere", unit: perRequest, most: 1.1, prepare: besideWaiters},
		{id: "GF", name: "deliver 1,000 records/s", base: "to 1 consumer", grown: "to 50", unit: perRecord, most: 1.2, prepare: toConsumers},
		{id: "GG", name: "rebalance of a classic group", base: "10 members", grown: "100", unit: "ms", most: 12, prepare: ofMembers(classicJoin)},
		{id: "GH", name: "join by the newer protocol", base: "10 members", grown: "100", unit: "ms", most: 12, prepare: ofMembers(consumerJoin)},
		{id: "GC", name: "live memory", base: "1,000 connections", grown: "5,000", unit: "bytes a connection", most: 1.1, prepare: liveMemory(1000, 5000, heldByConnections)},
		{id: "GT", name: "live memory", base: "1,000 partitions", grown: "10,000", unit: "bytes a partition", most: 1.1, prepare: liveMemory(1000, 10_000, heldByPartitions)},
		{id: "GM", name: "live memory", base: "1,000 members of a group with their connections", grown: "3,000", unit: "bytes a member", most: 1.1, prepare: liveMemory(1000, 3000, heldByMembers)},
		{id: "GB", name: "start after a clean stop", base: "0.2 GiB", grown: "2 GiB", unit: "ms", most: 1.1, prepare: startBehind(gib/5, 2*gib)},
	}
}

// growthMost is the most that one figure of an assertion is measured: many short runs in turn say more than few long ones.
const growthMost = 4 * time.Second

// side is a run of its own on a broker of ours that was just started. The caller stops the broker.
func (b *bench) side(ctx context.Context, settings ...string) (*env, error) {
	t, err := targets([]string{ours})
	if err != nil {
		return nil, err
	}
	k, err := b.start(t[0], wishes{settings: settings})
	if err != nil {
		return nil, err
	}
	b.topics++
	e := &env{ctx: ctx, bench: b, broker: k, topic: "growth", warm: min(b.warm, time.Second), seconds: min(b.seconds, growthMost), run: b.topics, backlog: b.backlog}
	if b.tools.profile {
		e.profile = filepath.Join(b.out, b.growing)
	}
	return e, nil
}

// sides are two brokers of ours; end stops both.
func (b *bench) sides(ctx context.Context, settings ...string) (small, large *env, end func(), err error) {
	if small, err = b.side(ctx, settings...); err != nil {
		return nil, nil, nil, err
	}
	if large, err = b.side(ctx, settings...); err != nil {
		small.broker.stop()
		return nil, nil, nil, err
	}
	return small, large, func() { small.broker.stop(); large.broker.stop() }, nil
}

// cpuPer makes a figure of a run: the broker's CPU for each request or record, in microseconds.
func cpuPer(of func(r *run) int64, do func() (run, error)) func() (float64, error) {
	return func() (float64, error) {
		r, err := do()
		if err != nil {
			return 0, err
		}
		if of(&r) == 0 {
			return 0, errors.New("a run without work")
		}
		return r.BrokerCPU * 1e6 / float64(of(&r)), nil
	}
}

func requestsOf(r *run) int64 { return r.Requests }
func recordsOf(r *run) int64  { return r.Records }

// smallBatches produces batches of one record of about 1 KiB to the first partitions of the run's topic.
func (e *env) smallBatches(partitions, connections, inFlight int) func() (run, error) {
	return func() (run, error) {
		return e.ofRaw(raw.Produce{Load: e.rawLoad(connections, inFlight), Topic: e.topic, Partitions: partitions, Batch: 1000, Record: 1000, Acks: -1}.Run(e.ctx))
	}
}

func besidePartitions(b *bench, ctx context.Context) (small, large func() (float64, error), end func(), err error) {
	few, many, end, err := b.sides(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	idle := *many
	idle.topic = "idle"
	if err := errors.Join(few.create(10), many.create(10), idle.filledTopic(9_990, true)); err != nil {
		return nil, nil, end, err
	}
	return cpuPer(recordsOf, few.smallBatches(10, 1, 5)), cpuPer(recordsOf, many.smallBatches(10, 1, 5)), end, nil
}

// next is the run with a topic of its own.
func (e *env) next() *env {
	e.bench.topics++
	one := *e
	one.topic = fmt.Sprintf("growth-%d", e.bench.topics)
	return &one
}

// again runs a scenario in a topic of its own each time.
func (e *env) again(s func(*env) (run, error)) func() (run, error) {
	return func() (run, error) {
		one := e.next()
		defer one.clean()
		return s(one)
	}
}

func toPartitions(b *bench, ctx context.Context) (small, large func() (float64, error), end func(), err error) {
	e, err := b.side(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	// Page by page, memory that the host has to find would weigh more than the broker.
	produce := func(partitions int) func() (run, error) {
		do := e.again(franzProduce(1024, partitions, kgo.NoCompression()))
		return func() (run, error) {
			if err := touch(min(6*gib, available()/2)); err != nil {
				return run{}, err
			}
			return do()
		}
	}
	return cpuPer(recordsOf, produce(1)), cpuPer(recordsOf, produce(100)), e.broker.stop, nil
}

func behindLog(b *bench, ctx context.Context) (small, large func() (float64, error), end func(), err error) {
	e, err := b.side(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	long := *e
	want := e.backlog
	if want == 0 {
		want = 4 * gib
	}
	long.topic = "long"
	if _, err = long.shared(long.topic, 1, "segment.bytes", "67108864"); err == nil {
		_, _, err = long.fill(1, 64<<10, want)
	}
	short := e.again(func(one *env) (run, error) {
		if err := one.create(1); err != nil {
			return run{}, err
		}
		return one.smallBatches(1, 1, 5)()
	})
	return cpuPer(requestsOf, short), cpuPer(requestsOf, long.smallBatches(1, 1, 5)), e.broker.stop, err
}

func amongSegments(b *bench, ctx context.Context) (small, large func() (float64, error), end func(), err error) {
	e, err := b.side(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	lookups := func(topic, segmentBytes string) (func() (run, error), error) {
		one := *e
		if _, err := one.shared(topic, 1, "segment.bytes", segmentBytes); err != nil {
			return nil, err
		}
		if _, _, err := one.fill(1, 4<<10, 1000<<20); err != nil {
			return nil, err
		}
		ends, err := one.ends(1)
		return func() (run, error) {
			return one.ofRaw(raw.Lookup{Load: one.rawLoad(1, 1), Topic: topic, End: ends[0]}.Run(ctx))
		}, err
	}
	one, err1 := lookups("one", "2147483647")
	thousand, err2 := lookups("thousand", "1048576")
	if err := errors.Join(err1, err2); err != nil {
		return nil, nil, e.broker.stop, err
	}
	return cpuPer(requestsOf, one), cpuPer(requestsOf, thousand), e.broker.stop, nil
}

func besideIdle(b *bench, ctx context.Context) (small, large func() (float64, error), end func(), err error) {
	e, err := b.side(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	if _, err = e.shared("session", 1001); err == nil {
		_, _, err = e.fill(1, 16<<10, gib/16)
	}
	fetches := func(idle int) func() (run, error) {
		return func() (run, error) {
			return e.ofRaw(raw.Session{Load: e.rawLoad(1, 1), Topic: e.topic, Active: 1, Idle: idle, MaxBytes: 16 << 10}.Run(ctx))
		}
	}
	return cpuPer(requestsOf, fetches(10)), cpuPer(requestsOf, fetches(1000)), e.broker.stop, err
}

func besideWaiters(b *bench, ctx context.Context) (small, large func() (float64, error), end func(), err error) {
	alone, crowded, stop, err := b.sides(ctx, "max.incremental.fetch.session.cache.slots=10000")
	if err != nil {
		return nil, nil, nil, err
	}
	var all []*raw.Polling
	end = func() {
		for _, p := range all {
			_ = p.Stop() // a wait that failed shows as a produce without its reader
		}
		stop()
	}
	poll := func(e *env, topic string, consumers int, wait time.Duration) error {
		one := *e
		ends, err := one.shared(topic, consumers)
		if err != nil {
			return err
		}
		p, err := raw.Poll{Addr: e.broker.addr, Topic: topic, Consumers: consumers, Each: 1, MaxWait: wait}.Start(ctx, ends)
		if err == nil {
			all = append(all, p)
		}
		return err
	}
	// The others ask again so rarely that it does not count.
	err = errors.Join(poll(alone, alone.topic, 1, time.Second), poll(crowded, crowded.topic, 1, time.Second), poll(crowded, "others", 5000, 100*time.Second))
	return cpuPer(requestsOf, alone.smallBatches(1, 1, 1)), cpuPer(requestsOf, crowded.smallBatches(1, 1, 1)), end, err
}

func toConsumers(b *bench, ctx context.Context) (small, large func() (float64, error), end func(), err error) {
	e, err := b.side(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	return cpuPer(recordsOf, e.again(delivered(1000, 1))), cpuPer(recordsOf, e.again(delivered(1000, 50))), e.broker.stop, nil
}

// ofMembers compares a join of 10 members with one of 100, by the median of each run.
func ofMembers(join func(members int) func(*env) (run, error)) func(*bench, context.Context) (small, large func() (float64, error), end func(), err error) {
	return func(b *bench, ctx context.Context) (small, large func() (float64, error), end func(), err error) {
		e, err := b.side(ctx, "group.initial.rebalance.delay.ms=300", "group.consumer.assignment.interval.ms=0")
		if err != nil {
			return nil, nil, nil, err
		}
		joined := func(members int) func() (float64, error) {
			return func() (float64, error) {
				r, err := join(members)(e)
				return r.Value, err
			}
		}
		return joined(10), joined(100), e.broker.stop, nil
	}
}

// live is the broker's memory in use: its heap after a garbage collection, and its stacks.
func (e *env) live() (float64, error) {
	for range 2 { // the second also takes what finalizers and pools let go
		req, err := http.NewRequestWithContext(e.ctx, http.MethodGet, "http://"+e.broker.http+"/debug/pprof/heap?gc=1", nil)
		if err != nil {
			return 0, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return 0, err
		}
		if resp.StatusCode != http.StatusOK {
			return 0, fmt.Errorf("heap profile: %s", resp.Status)
		}
	}
	heap, err1 := e.broker.metric(e.ctx, "go_memstats_heap_alloc_bytes")
	stacks, err2 := e.broker.metric(e.ctx, "go_memstats_stack_inuse_bytes")
	return heap + stacks, errors.Join(err1, err2)
}

// liveMemory compares what few and many of something take each, on brokers that were just started. A tenth of them is there before, so
// that what is made only once does not count.
func liveMemory(few, many int, hold func(e *env, n int) (more func(n int) error, release func(), err error)) func(*bench, context.Context) (small, large func() (float64, error), end func(), err error) {
	return func(b *bench, ctx context.Context) (small, large func() (float64, error), end func(), err error) {
		each := func(n int) func() (float64, error) {
			return func() (float64, error) {
				e, err := b.side(ctx, "rotpeter.http.profiles=true")
				if err != nil {
					return 0, err
				}
				defer e.broker.stop()
				more, release, err := hold(e, n)
				if err != nil {
					return 0, err
				}
				defer release()
				err1 := more(n / 10)
				before, err2 := e.live()
				err3 := more(n - n/10)
				after, err4 := e.live()
				return (after - before) / float64(n-n/10), errors.Join(err1, err2, err3, err4)
			}
		}
		return each(few), each(many), nil, nil
	}
}

func heldByConnections(e *env, _ int) (more func(n int) error, release func(), err error) {
	var all []func()
	return func(n int) error {
			hangUp, err := e.connect(n)
			if err == nil {
				all = append(all, hangUp)
			}
			return err
		}, func() {
			for _, hangUp := range all {
				hangUp()
			}
		}, nil
}

func heldByPartitions(e *env, _ int) (more func(n int) error, release func(), err error) {
	return func(n int) error { return e.next().filledTopic(n, true) }, func() {}, nil
}

// heldByMembers: each member has one partition in the end, and a connection.
func heldByMembers(e *env, n int) (more func(n int) error, release func(), err error) {
	if err := e.create(n); err != nil {
		return nil, nil, err
	}
	g := &raw.Group{Addr: e.broker.addr, Name: "members", Topic: e.topic, Partitions: n}
	return func(n int) error {
		if err := g.Connect(e.ctx, n); err != nil {
			return err
		}
		_, err := g.Consumer()
		return err
	}, g.Close, nil
}

// startBehind compares the time of a start after a clean stop with little and with much in the logs.
func startBehind(little, much int64) func(*bench, context.Context) (small, large func() (float64, error), end func(), err error) {
	const partitions, starts = 10, 7
	return func(b *bench, ctx context.Context) (small, large func() (float64, error), end func(), err error) {
		few, many, end, err := b.sides(ctx)
		if err != nil {
			return nil, nil, nil, err
		}
		filled := func(e *env, bytes int64) error {
			// The last segment of a log may grow: its index is read at the first append. It is to be of the same size in both.
			if _, err := e.shared(e.topic, partitions, "segment.bytes", "16777216"); err != nil {
				return err
			}
			_, _, err := e.fill(partitions, 64<<10, bytes)
			return errors.Join(err, e.broker.halt(false))
		}
		start := func(e *env) func() (float64, error) {
			return func() (float64, error) {
				var all []float64
				for range starts {
					took, err := e.launched(partitions, false)
					if err := errors.Join(err, e.broker.halt(false)); err != nil {
						return 0, err
					}
					all = append(all, took)
				}
				return middle(all), nil
			}
		}
		return start(few), start(many), end, errors.Join(filled(few, little), filled(many, much))
	}
}
