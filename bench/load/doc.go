// Package load loads a broker through franz-go as an application does: as fast as it
// can, or at a fixed rate with each record's time counted from when it was due, so
// that a broker that stalls cannot hide it (no coordinated omission).
package load

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"

	"github.com/rotpeter/rotpeter/bench/hist"
)

// Load says what is sent where, and for how long.
type Load struct {
	Addr        string
	Topic       string
	Partitions  int
	Record      int           // bytes of a value, at least 16
	Warm        time.Duration // before the measured time
	Measure     time.Duration
	Window      func(begin bool)     // if not nil: called when the measured time begins (true) and ends (false)
	Linger      time.Duration        // of the producer
	Compression kgo.CompressionCodec // the zero value is none
	Options     []kgo.Opt            // of all clients
}

// Result is what was acknowledged, or delivered, within the measured time.
type Result struct {
	Records int64
	Bytes   int64 // of values
	Took    time.Duration
	Latency hist.Histogram // at a fixed rate only: from when a record was due
}

// values are semi-compressible and distinct: a value that repeats would hide the broker behind compression.
func values(n, size int) [][]byte {
	random := rand.New(rand.NewPCG(7, 7))
	all := make([][]byte, n)
	for i := range all {
		all[i] = make([]byte, size)
		for j := range all[i] {
			all[i][j] = "abcdefghijklmnop"[random.IntN(16)]
		}
	}
	return all
}

const distinct = 10_000

func (l Load) producer() (*kgo.Client, error) {
	opts := append([]kgo.Opt{
		kgo.SeedBrokers(l.Addr), kgo.DefaultProduceTopic(l.Topic), kgo.ProducerLinger(l.Linger), kgo.ProducerBatchCompression(l.Compression),
		kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.DisableClientMetrics(), kgo.MaxBufferedRecords(200_000), kgo.MaxBufferedBytes(128 << 20),
	}, l.Options...)
	return kgo.NewClient(opts...)
}

// span is the measured time.
type span struct{ begin, end time.Time }

func (l Load) span() span {
	begin := time.Now().Add(l.Warm)
	return span{begin, begin.Add(l.Measure)}
}

func (s span) holds(t time.Time) bool { return !t.Before(s.begin) && t.Before(s.end) }

// watch tells when the measured time begins and ends. What it answers waits until it has.
func (l Load) watch(ctx context.Context, s span) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.tell(ctx, s)
	}()
	return func() { <-done }
}

func (l Load) tell(ctx context.Context, s span) {
	for _, at := range []time.Time{s.begin, s.end} {
		select {
		case <-time.After(time.Until(at)):
			if l.Window != nil {
				l.Window(at.Equal(s.begin))
			}
		case <-ctx.Done():
			return
		}
	}
}

// failure keeps the first error of many callbacks.
type failure struct {
	once sync.Once
	err  error
	stop context.CancelFunc
}

func (f *failure) set(err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		f.once.Do(func() { f.err = err; f.stop() })
	}
}

// Produce sends as fast as it can.
func (l Load) Produce(ctx context.Context) (*Result, error) {
	cl, err := l.producer()
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := failure{stop: cancel}
	all := values(distinct, l.Record)
	var records atomic.Int64
	s := l.span()
	told := l.watch(ctx, s)
	done := func(_ *kgo.Record, err error) {
		if failed.set(err); err == nil && s.holds(time.Now()) {
			records.Add(1)
		}
	}
	for i := 0; ctx.Err() == nil && (i%64 != 0 || time.Now().Before(s.end)); i++ {
		cl.Produce(ctx, &kgo.Record{Value: all[i%distinct]}, done)
	}
	if err := cl.Flush(ctx); err != nil && failed.err == nil {
		return nil, err
	}
	if failed.err != nil {
		return nil, fmt.Errorf("produce: %w", failed.err)
	}
	told()
	return &Result{Records: records.Load(), Bytes: records.Load() * int64(l.Record), Took: l.Measure}, nil
}

// pace calls f for each number from 0 on when it is due at a rate, in a second's parts, until the end. It sleeps in
// the kernel on a thread of its own: Go's timers would come a millisecond late.
func pace(ctx context.Context, begin, end time.Time, perSecond float64, f func(i int, due time.Time)) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	step := time.Duration(float64(time.Second) / perSecond)
	for i := 0; ctx.Err() == nil; i++ {
		due := begin.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))
		if !due.Before(end) {
			return
		}
		if wait := time.Until(due); wait > 0 {
			t := unix.NsecToTimespec(int64(max(wait, min(step, 50*time.Microsecond))))
			_ = unix.Nanosleep(&t, nil) // a signal may end it early: the next is due all the same
		}
		f(i, due)
	}
}

// Rate sends at a fixed rate and counts the time from when each record was due to its acknowledgement.
func (l Load) Rate(ctx context.Context, perSecond float64) (*Result, error) {
	cl, err := l.producer()
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := failure{stop: cancel}
	all := values(distinct, l.Record)
	r := &Result{Took: l.Measure}
	var mu sync.Mutex
	s := l.span()
	told := l.watch(ctx, s)
	pace(ctx, s.begin.Add(-l.Warm), s.end, perSecond, func(i int, due time.Time) {
		cl.Produce(ctx, &kgo.Record{Value: all[i%distinct]}, func(_ *kgo.Record, err error) {
			failed.set(err)
			if now := time.Now(); err == nil && s.holds(due) {
				mu.Lock()
				r.Records++
				r.Latency.Record(now.Sub(due))
				mu.Unlock()
			}
		})
	})
	if err := cl.Flush(ctx); err != nil && failed.err == nil {
		return nil, err
	}
	told()
	r.Bytes = r.Records * int64(l.Record)
	return r, failed.err
}

// consumer reads all partitions of the topic from its end on, or from its start.
func (l Load) consumer(at kgo.Offset) (*kgo.Client, error) {
	partitions := map[int32]kgo.Offset{}
	for p := range l.Partitions {
		partitions[int32(p)] = at
	}
	opts := append([]kgo.Opt{
		kgo.SeedBrokers(l.Addr), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.Topic: partitions}), kgo.DisableClientMetrics(),
		kgo.FetchMaxWait(500 * time.Millisecond),
	}, l.Options...)
	return kgo.NewClient(opts...)
}

// Delivered sends at a fixed rate to some consumers, and counts the time from when each record was due until each of them has it.
func (l Load) Delivered(ctx context.Context, perSecond float64, consumers int) (*Result, error) {
	cl, err := l.producer()
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := failure{stop: cancel}
	results := make([]Result, consumers)
	var wg sync.WaitGroup
	var s span
	start := make(chan struct{})
	for i := range results {
		c, err := l.consumer(kgo.NewOffset().AtEnd())
		if err != nil {
			return nil, err
		}
		defer c.Close()
		// It looks up the ends before anything is sent.
		short, stop := context.WithTimeout(ctx, 300*time.Millisecond)
		failed.set(pollErr(c.PollFetches(short)))
		stop()
		wg.Go(func() {
			<-start
			failed.set(results[i].receive(ctx, c, &s))
		})
	}
	s = l.span()
	close(start)
	told := l.watch(ctx, s)
	all := values(distinct, l.Record)
	pace(ctx, s.begin.Add(-l.Warm), s.end.Add(200*time.Millisecond), perSecond, func(i int, due time.Time) {
		v := make([]byte, l.Record)
		copy(v[8:], all[i%distinct])
		binary.BigEndian.PutUint64(v, uint64(due.UnixNano()))
		cl.Produce(ctx, &kgo.Record{Value: v}, func(_ *kgo.Record, err error) { failed.set(err) })
	})
	if err := cl.Flush(ctx); err != nil && failed.err == nil {
		return nil, err
	}
	time.AfterFunc(5*time.Second, cancel) // for consumers that miss the record that ends them
	wg.Wait()
	told()
	r := &Result{Took: l.Measure}
	for i := range results {
		r.Records += results[i].Records
		r.Latency.Add(&results[i].Latency)
	}
	r.Bytes = r.Records * int64(l.Record)
	return r, failed.err
}

// pollErr is what went wrong with a poll, but that its time was over.
func pollErr(f kgo.Fetches) error {
	if err := f.Err(); err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// receive counts records of the measured time until one comes that was due after it.
func (r *Result) receive(ctx context.Context, c *kgo.Client, s *span) error {
	for after := false; !after && ctx.Err() == nil; {
		fetches := c.PollFetches(ctx)
		if err := pollErr(fetches); err != nil {
			return err
		}
		now := time.Now()
		fetches.EachRecord(func(k *kgo.Record) {
			due := time.Unix(0, int64(binary.BigEndian.Uint64(k.Value)))
			if s.holds(due) {
				r.Records++
				r.Latency.Record(now.Sub(due))
			}
			after = after || !due.Before(s.end)
		})
	}
	return nil
}

// Consume reads the topic from its start, and again when it comes to the end, as fast as it can.
func (l Load) Consume(ctx context.Context) (*Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := l.span()
	told := l.watch(ctx, s)
	r := &Result{Took: l.Measure}
	for time.Now().Before(s.end) && ctx.Err() == nil {
		if err := l.round(ctx, s, r); err != nil {
			return nil, err
		}
	}
	told()
	return r, ctx.Err()
}

// round reads the topic once, until a poll brings nothing.
func (l Load) round(ctx context.Context, s span, r *Result) error {
	c, err := l.consumer(kgo.NewOffset().AtStart())
	if err != nil {
		return err
	}
	defer c.Close()
	for time.Now().Before(s.end) {
		short, stop := context.WithTimeout(ctx, 200*time.Millisecond)
		fetches := c.PollFetches(short)
		stop()
		if err := pollErr(fetches); err != nil {
			return err
		}
		if fetches.NumRecords() == 0 {
			return nil
		}
		if s.holds(time.Now()) {
			fetches.EachRecord(func(k *kgo.Record) {
				r.Records++
				r.Bytes += int64(len(k.Value))
			})
		}
	}
	return nil
}
