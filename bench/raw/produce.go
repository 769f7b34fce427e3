package raw

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/log/batch"
)

const (
	produceVersion = 8
	fetchVersion   = 11
)

// Produce is a load of one frame for each connection, again and again: a batch for each of some partitions.
// Its producer is not idempotent, so that a frame may be sent many times.
type Produce struct {
	Load
	Topic      string
	Partitions int // in a request, from the first on
	Batch      int // bytes of a batch, about
	Record     int // bytes of a value
	Acks       int16
}

// Run produces.
func (p Produce) Run(ctx context.Context) (*Result, error) {
	return p.run(ctx, func(i int) (worker, error) {
		frame, records, bytes := p.build(rand.New(rand.NewPCG(uint64(i), 1)))
		return &producer{request: frame, partitions: p.Partitions, records: records, bytes: bytes}, nil
	})
}

// build makes the frame with its length, and tells its records and bytes of batches.
func (p Produce) build(random *rand.Rand) (frame []byte, records, bytes int64) {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = produceVersion, p.Acks, 30_000
	t := kmsg.NewProduceRequestTopic()
	t.Topic = p.Topic
	for i := range p.Partitions {
		rp := kmsg.NewProduceRequestTopicPartition()
		rp.Partition = int32(i)
		n := max(1, p.Batch/(p.Record+8))
		rp.Records = appendBatch(random, n, p.Record)
		records += int64(n)
		bytes += int64(len(rp.Records))
		t.Partitions = append(t.Partitions, rp)
	}
	req.Topics = append(req.Topics, t)
	return appendRequest(nil, req), records, bytes
}

// appendBatch is a batch of now.
func appendBatch(random *rand.Rand, records, size int) []byte {
	return batch.Append(nil, batch.Plain(), messages(random, records, size, time.Now().UnixMilli()))
}

// messages have values of random letters: half of their bits are news.
func messages(random *rand.Rand, n, size int, now int64) []batch.Message {
	all := make([]batch.Message, n)
	for i := range all {
		v := make([]byte, size)
		for j := range v {
			v[j] = "abcdefghijklmnop"[random.IntN(16)]
		}
		all[i] = batch.Message{Timestamp: now, Value: v}
	}
	return all
}

type producer struct {
	request        []byte
	partitions     int
	records, bytes int64
}

func (p *producer) frame() []byte { return p.request }

func (p *producer) answer(b []byte) (records, bytes int64, err error) {
	r := reader{b: b}
	r.i32() // correlation id
	seen := 0
	for range r.count() {
		r.take(int(r.i16()))
		for range r.count() {
			index, code := r.i32(), r.i16()
			r.take(3 * 8)
			if n := r.count(); n > 0 {
				return 0, 0, fmt.Errorf("%d record errors", n)
			}
			if n := r.i16(); n >= 0 {
				r.take(int(n))
			}
			if code != 0 {
				return 0, 0, fmt.Errorf("produce to partition %d: %w", index, kerr.ErrorForCode(code))
			}
			seen++
		}
	}
	if r.bad || seen != p.partitions {
		return 0, 0, fmt.Errorf("an answer about %d of %d partitions", seen, p.partitions)
	}
	return p.records, p.bytes, nil
}
