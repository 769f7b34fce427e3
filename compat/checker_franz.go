package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rotpeter/rotpeter/compat/checker"
)

// checkerTooLarge is more than the topic's max.message.bytes: such a send fails for good.
const checkerTooLarge, checkerMaxMessage = 100_000, 64 << 10

// checkerProducer is a franz-go producer whose sends are told.
type checkerProducer struct {
	r      *checkerRound
	cl     *kgo.Client
	writer uint32
	sent   uint32
	wait   sync.WaitGroup // sends that have not ended

	mu     sync.Mutex
	failed error // the first send that did not succeed
}

// producer starts a producer; txnID is empty for one without transactions.
func (r *checkerRound) producer(name, txnID string) (*checkerProducer, error) {
	opts := r.options(name, kgo.MaxBufferedRecords(500))
	if txnID != "" {
		opts = append(opts, kgo.TransactionalID(txnID), kgo.TransactionTimeout(checkerTxnTimeout))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, err
	}
	p := &checkerProducer{r: r, cl: cl, writer: r.next()}
	r.tellf("writer %d %s", p.writer, name)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	id, _, err := cl.ProducerID(ctx)
	if err != nil {
		cl.Close()
		return nil, fmt.Errorf("producer id of %s: %w", name, err)
	}
	owner := txnID // which is the same in the next round
	if owner == "" {
		owner = fmt.Sprintf("%s/%s-%d", r.name, name, p.writer)
	}
	r.tellf("producer %d %s", id, owner)
	return p, nil
}

// send begins a send.
func (p *checkerProducer) send(ctx context.Context, partition int32, txn uint32, pad func(checker.Value) []byte) {
	p.sent++
	v := checker.NewValue(p.writer, p.sent)
	p.r.tellf("send %v %d %d", v, partition, txn)
	p.wait.Add(1)
	p.cl.Produce(ctx, &kgo.Record{Partition: partition, Value: pad(v)}, func(k *kgo.Record, err error) {
		defer p.wait.Done()
		switch {
		case err == nil:
			p.r.tellf("sent %v ok %d", v, k.Offset)
			return
		case errors.Is(err, kerr.MessageTooLarge):
			p.r.tellf("sent %v failed -1", v)
		default:
			p.r.note("sent %v: %v", v, err)
			p.r.tellf("sent %v unknown -1", v)
		}
		p.mu.Lock()
		p.failed = errors.Join(p.failed, err)
		p.mu.Unlock()
	})
}

// failure answers what went wrong with sends since the last call.
func (p *checkerProducer) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.failed
	p.failed = nil
	return err
}

// flush waits for all sends, but not for long.
func (p *checkerProducer) flush() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return p.cl.Flush(ctx)
}

// close ends the producer; sends that did not end are of unknown end.
func (p *checkerProducer) close() {
	p.cl.Close()
	p.wait.Wait()
}

// plain sends without transactions; a producer sends for a while, then comes another.
func (r *checkerRound) plain(ctx context.Context, name string) {
	rng := r.random(name)
	pad := func(v checker.Value) []byte { return checkerValue(rng, v) }
	for ctx.Err() == nil {
		p, err := r.producer(name, "")
		if err != nil {
			r.note("%v", err)
			pause(ctx, 100*time.Millisecond)
			continue
		}
		for range 150 + rng.IntN(150) {
			for range 1 + rng.IntN(16) {
				p.send(context.Background(), rng.Int32N(checkerPartitions), 0, pad)
			}
			if pause(ctx, time.Duration(10+rng.IntN(20))*time.Millisecond); ctx.Err() != nil {
				break
			}
		}
		if p.flush() == nil {
			p.send(context.Background(), rng.Int32N(checkerPartitions), 0, func(v checker.Value) []byte {
				return append([]byte(v.String()+"."), strings.Repeat("x", checkerTooLarge)...)
			})
			p.flush()
		}
		p.close()
	}
}

// checkerConsumer reads all partitions, from the beginning and without a group.
type checkerConsumer struct {
	r         *checkerRound
	name      string
	committed bool
	control   bool
	next      [checkerPartitions]int64
	cl        *kgo.Client
	polls     int
}

// consumer starts one; flags are those of the line "consumer".
func (r *checkerRound) consumer(name, flags string) *checkerConsumer {
	r.tellf("consumer %s assigned %s", name, flags)
	return &checkerConsumer{r: r, name: name, committed: strings.Contains(flags, "committed"), control: strings.Contains(flags, "control")}
}

// poll polls once, and answers how many records came. Now and then it goes on with another client.
func (c *checkerConsumer) poll(ctx context.Context, most int, txn uint32) (int, error) {
	if c.cl == nil {
		from := map[int32]kgo.Offset{}
		for p, o := range c.next {
			from[int32(p)] = kgo.NewOffset().At(o)
		}
		opts := c.r.options(c.name, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{c.r.name: from}), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
		if c.committed {
			opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
		}
		if c.control {
			opts = append(opts, kgo.KeepControlRecords())
		}
		var err error
		if c.cl, err = kgo.NewClient(opts...); err != nil {
			return 0, err
		}
	}
	fetches := c.cl.PollRecords(ctx, most)
	words, n := checkerReads(fetches)
	if n > 0 {
		c.r.tellf("poll %s %d %d%s", c.name, txn, monotonic(), words)
		fetches.EachRecord(func(k *kgo.Record) { c.next[k.Partition] = k.Offset + 1 })
	}
	for _, e := range fetches.Errors() {
		if !errors.Is(e.Err, context.Canceled) && !errors.Is(e.Err, context.DeadlineExceeded) {
			c.r.note("%s: partition %d: %v", c.name, e.Partition, e.Err)
			c.close()
			return n, nil
		}
	}
	if c.polls++; c.polls%200 == 0 && !c.control {
		c.close()
	}
	return n, nil
}

func (c *checkerConsumer) close() {
	if c.cl != nil {
		c.cl.Close()
		c.cl = nil
	}
}

// checkerStall is how long a final reader may get nothing before it is taken for the end.
const checkerStall = 15 * time.Second

// readTo polls until ends are reached, or nothing more comes.
func (c *checkerConsumer) readTo(ctx context.Context, ends map[int32]int64) error {
	defer c.close()
	for last := time.Now(); ; {
		behind := ""
		for p, end := range ends {
			if c.next[p] < end {
				behind = fmt.Sprintf("partition %d at %d of %d", p, c.next[p], end)
			}
		}
		if behind == "" {
			return nil
		}
		if ctx.Err() != nil || time.Since(last) > checkerStall {
			return fmt.Errorf("%s did not come to the end: %s", c.name, behind)
		}
		short, cancel := context.WithTimeout(ctx, checkerStall/5)
		n, err := c.poll(short, 2000, 0)
		cancel()
		if err != nil {
			return err
		}
		if n > 0 {
			last = time.Now()
		}
	}
}

// assigned reads until ctx ends.
func (r *checkerRound) assigned(ctx context.Context, c *checkerConsumer) error {
	defer c.close()
	rng := r.random(c.name)
	for ctx.Err() == nil {
		if _, err := c.poll(ctx, 1+rng.IntN(1000), 0); err != nil {
			return err
		}
	}
	return nil
}
