package raw

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Fetch is a load of consumers that read some partitions from the beginning, and again when they come to an end.
// InFlight has to be 1: a fetch depends on what came before.
type Fetch struct {
	Load
	Topic          string
	Partitions     int // of each connection's fetches, from the first on
	PartitionBytes int // at most, of one partition in an answer
	MaxBytes       int // at most, of an answer
}

// Run fetches.
func (f Fetch) Run(ctx context.Context) (*Result, error) {
	if f.InFlight != 1 {
		return nil, errors.New("a fetch has one request in flight")
	}
	return f.run(ctx, func(int) (worker, error) { return newConsumer(&f), nil })
}

// consumer reads partitions; the request is built once and its offsets are set in place.
type consumer struct {
	request []byte
	at      []int // positions of the partitions' offsets in the request
	offsets []int64
}

func newConsumer(f *Fetch) *consumer {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = fetchVersion, -1, 500, 1, int32(f.MaxBytes), -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic = f.Topic
	c := &consumer{offsets: make([]int64, f.Partitions)}
	for i := range f.Partitions {
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.CurrentLeaderEpoch, p.PartitionMaxBytes = int32(i), -1, int32(f.PartitionBytes)
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	c.request = appendRequest(nil, req)
	// The partitions stand behind: header, 25 bytes, the topic's name; 28 bytes each, the offset after 8.
	first := 4 + 8 + 5 + 25 + 4 + 2 + len(f.Topic) + 4
	for i := range f.Partitions {
		c.at = append(c.at, first+i*28+8)
	}
	return c
}

func (c *consumer) frame() []byte {
	for i, o := range c.offsets {
		binary.BigEndian.PutUint64(c.request[c.at[i]:], uint64(o))
	}
	return c.request
}

func (c *consumer) answer(b []byte) (records, bytes int64, err error) {
	r := reader{b: b}
	r.i32() // correlation id
	r.i32() // throttle
	if code := r.i16(); code != 0 {
		return 0, 0, fmt.Errorf("fetch: %w", kerr.ErrorForCode(code))
	}
	r.i32() // session
	for range r.count() {
		r.take(int(r.i16()))
		for range r.count() {
			index, code := r.i32(), r.i16()
			high := r.i64()
			r.take(2 * 8)
			if n := r.i32(); n > 0 {
				r.take(16 * int(n))
			}
			r.i32() // preferred replica
			batches := r.take(int(max(r.i32(), 0)))
			if code != 0 || index < 0 || int(index) >= len(c.offsets) {
				return 0, 0, fmt.Errorf("fetch partition %d: %w", index, kerr.ErrorForCode(code))
			}
			next, n := walk(batches, c.offsets[index])
			c.offsets[index] = next
			records += n
			bytes += int64(len(batches))
			if c.offsets[index] >= high {
				c.offsets[index] = 0
			}
		}
	}
	if r.bad {
		return 0, 0, errors.New("an answer that ends too early")
	}
	return records, bytes, nil
}
