package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/bench/hist"
	"github.com/rotpeter/rotpeter/bench/raw"
)

// makeTopics creates many topics of one partition by one request.
func makeTopics(n int) func(*env) (run, error) {
	return func(e *env) (run, error) {
		req := raw.CreateTopic(e.topic+"-0", 1)
		for i := 1; i < n; i++ {
			req.Topics = append(req.Topics, raw.CreateTopic(fmt.Sprintf("%s-%d", e.topic, i), 1).Topics...)
		}
		defer func() {
			del := raw.DeleteTopic(req.Topics[0].Topic)
			for _, t := range req.Topics[1:] {
				del.TopicNames = append(del.TopicNames, t.Topic)
			}
			_, _ = raw.Ask(e.ctx, e.broker.addr, del) // a broker that cannot is measured with more topics
		}()
		return e.creation(n, func() error {
			if _, err := raw.Ask(e.ctx, e.broker.addr, req); err != nil {
				return err
			}
			last := *e
			last.topic = req.Topics[n-1].Topic
			_, err := last.ends(1)
			return err
		})
	}
}

// makePartitions creates one topic of many partitions.
func makePartitions(n int) func(*env) (run, error) {
	return func(e *env) (run, error) {
		return e.creation(n, func() error { return e.create(n) })
	}
}

// creation is the time until what was asked for is there and answers, in microseconds for each.
func (e *env) creation(n int, make func() error) (run, error) {
	e.window(true)
	began := time.Now()
	if err := make(); err != nil {
		return run{}, err
	}
	took := time.Since(began)
	e.window(false)
	return e.filled(run{Value: micros(took) / float64(n), Records: int64(n)})
}

// memoryOf is the resident memory of a topic of many partitions, without records, or with one in each.
func memoryOf(n int, records bool) func(*env) (run, error) {
	return func(e *env) (run, error) {
		before, err := e.settled()
		if err != nil {
			return run{}, err
		}
		e.window(true)
		if err := e.filledTopic(n, records); err != nil {
			return run{}, err
		}
		e.window(false)
		after, err := e.settled()
		if err != nil {
			return run{}, err
		}
		r, err := e.filled(run{Value: (after - before) / 1024 / float64(n), Records: int64(n)})
		r.also("MB resident", after/1e6)
		return r, err
	}
}

// filledTopic makes the run's topic, with a record in each partition if it is asked for.
func (e *env) filledTopic(n int, records bool) error {
	if err := e.create(n); err != nil || !records {
		return err
	}
	c, err := raw.Dial(e.ctx, e.broker.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	return produceEach(c, e.topic, n)
}

// produceEach sends a record to each partition, acks=all.
func produceEach(c *raw.Conn, topic string, n int) error {
	const once = 1000 // partitions in a request
	for from := 0; from < n; from += once {
		var some []int32
		for i := from; i < min(n, from+once); i++ {
			some = append(some, int32(i))
		}
		resp, err := c.Do(raw.One(topic, some, 100))
		if err == nil {
			err = kerr.ErrorForCode(raw.FirstError(resp))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// metadataOf is the time of a Metadata answer about all topics, one of which has many partitions.
func metadataOf(n int) func(*env) (run, error) {
	return func(e *env) (run, error) {
		if _, err := e.shared("partitions", n); err != nil {
			return run{}, err
		}
		c, err := raw.Dial(e.ctx, e.broker.addr)
		if err != nil {
			return run{}, err
		}
		defer c.Close()
		req := kmsg.NewPtrMetadataRequest()
		req.Version, req.Topics = 8, nil // all topics
		ask := func() error {
			got, err := c.Do(req)
			if err != nil {
				return err
			}
			seen := 0
			for _, t := range got.(*kmsg.MetadataResponse).Topics {
				seen += len(t.Partitions)
			}
			if seen < n {
				return fmt.Errorf("metadata of %d partitions of %d", seen, n)
			}
			return nil
		}
		h := hist.Histogram{}
		for begin := time.Now(); time.Since(begin) < e.warm && err == nil; {
			err = ask()
		}
		e.window(true)
		for begin := time.Now(); err == nil && (h.N() == 0 || time.Since(begin) < e.seconds); {
			began := time.Now()
			err = ask()
			h.Record(time.Since(began))
		}
		e.window(false)
		r := run{Requests: h.N()}
		r.latencies(&h)
		r, err2 := e.filled(r)
		r.Value = r.P50 / float64(n)
		r.also("us of CPU a partition", r.BrokerCPU*1e6/float64(r.Requests)/float64(n))
		return r, errors.Join(err, err2)
	}
}
