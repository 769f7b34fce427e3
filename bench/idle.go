package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/bench/hist"
	"github.com/rotpeter/rotpeter/bench/raw"
)

// notKafka are the targets that are no Kafka to administer: they keep nothing over a restart, or know no groups.
func notKafka(target string) bool { return target == "null" || target == "kfake" || isAddress(target) }

// onlyOurs skips all but ours.
func onlyOurs(target string) bool { return target != ours }

// shared is a topic of all runs on this broker: some are costly to make. It answers the ends of its partitions.
func (e *env) shared(name string, partitions int, settings ...string) (map[int32]int64, error) {
	e.topic, e.made = name, false
	err := e.createTopic(partitions, settings...)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return nil, err
	}
	return e.ends(partitions)
}

// ends waits until all partitions of the run's topic answer, and tells where they end.
func (e *env) ends(partitions int) (map[int32]int64, error) {
	c, err := raw.Dial(e.ctx, e.broker.addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	deadline := time.Now().Add(10 * startWithin) // Kafka makes the files of each partition first
	for e.ctx.Err() == nil {
		resp, err := c.Do(raw.Offsets(e.topic, partitions))
		if err != nil {
			return nil, err
		}
		code := raw.FirstError(resp)
		if code == 0 {
			all := map[int32]int64{}
			for _, p := range resp.(*kmsg.ListOffsetsResponse).Topics[0].Partitions {
				all[p.Partition] = p.Offset
			}
			return all, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("ends of %s: %w", e.topic, kerr.ErrorForCode(code))
		}
		time.Sleep(2 * time.Millisecond)
	}
	return nil, e.ctx.Err()
}

// wait lets time go by.
func (e *env) wait(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-e.ctx.Done():
		return e.ctx.Err()
	}
}

// measured is the time that a scenario without a load of its own is measured.
func (e *env) measured() error {
	e.window(true)
	err := e.wait(e.seconds)
	e.window(false)
	return err
}

// arrivals hands over when a record was read.
type arrivals struct {
	mu sync.Mutex
	at map[int32]chan time.Time
}

func (a *arrivals) of(partition int32) chan time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.at[partition] == nil {
		a.at[partition] = make(chan time.Time, 16)
	}
	return a.at[partition]
}

const singles = 100 // messages to waiting consumers

// longPoll is consumers with some partitions each that wait 500 ms at a time, as Kafka's clients do: what they cost while
// nothing comes, and then what one message costs and how soon it is there.
func longPoll(consumers, each int) func(*env) (run, error) {
	return func(e *env) (run, error) {
		n := consumers * each
		if _, err := e.shared("long-poll", n); err != nil {
			return run{}, err
		}
		// A broker that makes files with the first record has made them.
		c, err := raw.Dial(e.ctx, e.broker.addr)
		if err != nil {
			return run{}, err
		}
		err = produceEach(c, e.topic, n)
		if err := errors.Join(err, c.Close()); err != nil {
			return run{}, err
		}
		ends, err := e.ends(n)
		if err != nil {
			return run{}, err
		}
		a := arrivals{at: map[int32]chan time.Time{}}
		polling, err := raw.Poll{
			Addr: e.broker.addr, Topic: e.topic, Consumers: consumers, Each: each, MaxWait: 500 * time.Millisecond,
			Arrived: func(p int32, _ int64, at time.Time) { a.of(p) <- at },
		}.Start(e.ctx, ends)
		if err != nil {
			return run{}, err
		}
		r, err := e.polled(&a, n)
		return r, errors.Join(err, polling.Stop())
	}
}

func (e *env) polled(a *arrivals, partitions int) (run, error) {
	if err := errors.Join(e.wait(e.warm), e.measured()); err != nil {
		return run{}, err
	}
	r, err := e.filled(run{})
	if err != nil {
		return r, err
	}
	idle := r.BrokerCPU / r.Seconds
	r.Value = idle * 100
	h, before := hist.Histogram{}, e.to
	if before, err = read(e.broker.pid()); err != nil {
		return r, err
	}
	if err := e.sendSingles(a, partitions, &h); err != nil {
		return r, err
	}
	after, err := read(e.broker.pid())
	cpu := (after.broker - before.broker).Seconds() - idle*after.at.Sub(before.at).Seconds()
	r.also("us p50 of a message", micros(h.Quantile(0.5)))
	r.also("us p99 of a message", micros(h.Quantile(0.99)))
	r.also("us of CPU a message", max(cpu, 0)*1e6/singles)
	return r, err
}

// sendSingles sends single messages to any partitions and notes how long each takes to its consumer.
func (e *env) sendSingles(a *arrivals, partitions int, h *hist.Histogram) error {
	c, err := raw.Dial(e.ctx, e.broker.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	random := rand.New(rand.NewPCG(3, 3))
	for range singles {
		p := int32(random.IntN(partitions))
		arrived := a.of(p)
		began := time.Now()
		resp, err := c.Do(raw.One(e.topic, []int32{p}, 100))
		if err == nil {
			err = kerr.ErrorForCode(raw.FirstError(resp))
		}
		if err != nil {
			return err
		}
		select {
		case at := <-arrived:
			h.Record(at.Sub(began))
		case <-time.After(startWithin):
			return fmt.Errorf("a message to partition %d did not arrive", p)
		}
		if err := e.wait(10 * time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// hello is a request that any connection may begin with.
func hello() *kmsg.ApiVersionsRequest {
	return kmsg.NewPtrApiVersionsRequest()
}

// connect opens connections that have asked one thing, and are idle then.
func (e *env) connect(n int) (hangUp func(), err error) {
	var all []*raw.Conn
	hangUp = func() {
		for _, c := range all {
			_ = c.Close() // nothing is expected of it any more
		}
	}
	for range n {
		c, err := raw.Dial(e.ctx, e.broker.addr)
		if err == nil {
			all = append(all, c)
			_, err = c.Do(hello())
		}
		if err != nil {
			hangUp()
			return nil, err
		}
	}
	return hangUp, nil
}

// settled is the resident memory of the broker a while after something was done.
func (e *env) settled() (float64, error) {
	if err := e.wait(time.Second); err != nil {
		return 0, err
	}
	n, err := residentOf(e.broker.pid())
	return float64(n), err
}

// connections is what idle connections take of resident memory.
func connections(n int) func(*env) (run, error) {
	return func(e *env) (run, error) {
		hangUp, err := e.connect(10) // what is made at the first connection
		if err != nil {
			return run{}, err
		}
		defer hangUp()
		before, err := e.settled()
		if err != nil {
			return run{}, err
		}
		e.window(true)
		idle, err := e.connect(n)
		if err != nil {
			return run{}, err
		}
		defer idle()
		e.window(false)
		after, err := e.settled()
		if err != nil {
			return run{}, err
		}
		return e.filled(run{Value: (after - before) / 1024 / float64(n)})
	}
}
