package raw

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Poll is consumers that wait: each has a connection and a fetch session with some partitions of its own (the i-th has those
// from First + i*Each on), at whose end it asks again and again.
type Poll struct {
	Addr      string
	Topic     string
	Consumers int
	First     int // partition
	Each      int // partitions of a consumer
	MaxWait   time.Duration
	// Arrived is told when records of a partition were read, by many goroutines.
	Arrived func(partition int32, records int64, at time.Time)
}

// Polling is a Poll that runs.
type Polling struct {
	conns []*Conn
	wg    sync.WaitGroup

	mu   sync.Mutex
	err  error
	over bool
}

// Start connects all consumers and opens their sessions. When it returns, each waits, or is about to.
// Offsets are the ends of partitions that are not empty.
func (p Poll) Start(ctx context.Context, offsets map[int32]int64) (*Polling, error) {
	run := &Polling{}
	for i := range p.Consumers {
		c, err := Dial(ctx, p.Addr)
		if err != nil {
			return nil, errors.Join(err, run.Stop())
		}
		run.conns = append(run.conns, c)
		w := &waiter{p: &p, c: c, next: map[int32]int64{}}
		for j := range p.Each {
			part := int32(p.First + i*p.Each + j)
			w.partitions = append(w.partitions, part)
			w.next[part] = offsets[part]
		}
		if err := w.open(); err != nil {
			return nil, errors.Join(err, run.Stop())
		}
		run.wg.Go(func() { run.ended(w.loop()) })
	}
	return run, nil
}

// Stop ends all consumers, and answers what went wrong before.
func (r *Polling) Stop() error {
	r.mu.Lock()
	r.over = true
	r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.Close() // the loops end by it
	}
	r.wg.Wait()
	return r.err
}

func (r *Polling) ended(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over && r.err == nil {
		r.err = err
	}
}

// waiter is one consumer.
type waiter struct {
	p          *Poll
	c          *Conn
	partitions []int32
	next       map[int32]int64
	id, epoch  int32
}

// open makes the session.
func (w *waiter) open() error {
	_, err := w.ask(w.partitions, 0)
	if err == nil && w.id == 0 {
		err = errors.New("the broker gave no fetch session")
	}
	return err
}

// loop waits for records until the connection is closed. A request names only partitions that have moved.
func (w *waiter) loop() error {
	var moved []int32
	for {
		var err error
		if moved, err = w.ask(moved, int32(w.p.MaxWait/time.Millisecond)); err != nil {
			return err
		}
	}
}

func (w *waiter) ask(partitions []int32, maxWait int32) (moved []int32, err error) {
	req := fetchOf(w.p.Topic, partitions, w.next, 1<<20, maxWait)
	req.SessionID, req.SessionEpoch = w.id, w.epoch
	got, err := w.c.Do(req)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	resp := got.(*kmsg.FetchResponse)
	if resp.ErrorCode != 0 {
		return nil, fmt.Errorf("fetch in a session: %w", kerr.ErrorForCode(resp.ErrorCode))
	}
	w.id = resp.SessionID
	w.epoch++
	for i := range resp.Topics {
		for _, p := range resp.Topics[i].Partitions {
			if p.ErrorCode != 0 {
				return nil, fmt.Errorf("fetch partition %d: %w", p.Partition, kerr.ErrorForCode(p.ErrorCode))
			}
			next, n := walk(p.RecordBatches, w.next[p.Partition])
			if n == 0 {
				continue
			}
			w.next[p.Partition] = next
			moved = append(moved, p.Partition)
			if w.p.Arrived != nil {
				w.p.Arrived(p.Partition, n, now)
			}
		}
	}
	return moved, nil
}
