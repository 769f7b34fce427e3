package main

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// rawProducer is an idempotent producer without a client: it knows which bytes it sent, and
// can send them again.
type rawProducer struct {
	name     string
	topic    string
	id       int64
	epoch    int16
	sequence int32       // of the next record
	sent     []sentBatch // newest last
}

type sentBatch struct {
	bytes  []byte
	offset int64
}

// newRawProducer takes a producer id of the broker that serves now. An id that was given
// before, by whichever broker, is an error.
func (s *swap) newRawProducer(ctx context.Context, cl *kgo.Client, name, topic string) (*rawProducer, error) {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionTimeoutMillis, req.ProducerID, req.ProducerEpoch = -1, -1, -1
	kresp, err := cl.SeedBrokers()[0].Request(ctx, req)
	if err != nil {
		return nil, err
	}
	resp := kresp.(*kmsg.InitProducerIDResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, err
	}
	if resp.ProducerID <= s.lastID {
		return nil, fmt.Errorf("producer id %d was given after %d", resp.ProducerID, s.lastID)
	}
	s.lastID = resp.ProducerID
	p := &rawProducer{name: name, topic: topic, id: resp.ProducerID, epoch: resp.ProducerEpoch}
	s.raw = append(s.raw, p)
	return p, nil
}

// send appends a batch of new records.
func (p *rawProducer) send(ctx context.Context, cl *kgo.Client, n int) error {
	values := make([]string, n)
	for i := range values {
		values[i] = fmt.Sprintf("%s %d/%d", p.name, p.epoch, p.sequence+int32(i))
	}
	b := batchBytes(p.id, p.epoch, p.sequence, values)
	offset, err := rawProduce(ctx, cl, p.topic, b)
	if err != nil {
		return fmt.Errorf("producer %s, records %d to %d: %w", p.name, p.sequence, p.sequence+int32(n)-1, err)
	}
	p.sequence += int32(n)
	p.sent = append(p.sent, sentBatch{b, offset})
	return nil
}

// bump goes on in the next epoch, as a client does after an error that it cannot resolve
// (KIP-360).
func (p *rawProducer) bump() { p.epoch, p.sequence = p.epoch+1, 0 }

// producers is what the broker says to a producer that it has to know: its last batch again,
// earlier ones again, a gap, an epoch that is over. Nothing of it may be appended.
func (v *viewer) producers(s *section) error {
	for _, p := range v.s.raw {
		for i, b := range p.sent {
			offset, err := rawProduce(v.ctx, v.ref.cl, p.topic, b.bytes)
			if err == nil && offset != b.offset {
				return fmt.Errorf("batch %d of producer %s, sent again, is at %d, and at %d before", i, p.name, offset, b.offset)
			}
			// Only the last batch is in a snapshot of producers (ProducerStateManager): of the
			// four before, a broker knows those that it has seen itself.
			if i == len(p.sent)-1 {
				s.add("producer %s: last batch again is at %d, error %v", p.name, offset, err)
			} else if err != nil && !errors.Is(err, kerr.OutOfOrderSequenceNumber) && !errors.Is(err, kerr.InvalidProducerEpoch) {
				return fmt.Errorf("batch %d of producer %s again: %w", i, p.name, err)
			}
		}
		for what, b := range map[string][]byte{
			"a gap":              batchBytes(p.id, p.epoch, p.sequence+7, []string{"gap"}),
			"an epoch before it": batchBytes(p.id, p.epoch-1, 0, []string{"stale"}),
		} {
			if p.epoch == 0 && what != "a gap" {
				continue
			}
			offset, err := rawProduce(v.ctx, v.ref.cl, p.topic, b)
			if err == nil {
				return fmt.Errorf("producer %s: %s was taken, at %d", p.name, what, offset)
			}
			s.add("producer %s: %s: %v", p.name, what, err)
		}
	}
	return nil
}

// batchBytes makes a batch of an idempotent producer.
func batchBytes(id int64, epoch int16, sequence int32, values []string) []byte {
	now := time.Now().UnixMilli()
	var records []byte
	for i, value := range values {
		r := kmsg.Record{OffsetDelta: int32(i), Value: []byte(value)}
		r.Length = int32(len(r.AppendTo(nil)) - 1) // its own varint is one byte while it is 0
		records = r.AppendTo(records)
	}
	b := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, LastOffsetDelta: int32(len(values) - 1), FirstTimestamp: now, MaxTimestamp: now,
		ProducerID: id, ProducerEpoch: epoch, FirstSequence: sequence, NumRecords: int32(len(values)), Records: records,
	}
	out := b.AppendTo(nil)
	binary.BigEndian.PutUint32(out[8:], uint32(len(out)-12))
	binary.BigEndian.PutUint32(out[17:], crc32.Checksum(out[21:], crc32.MakeTable(crc32.Castagnoli)))
	return out
}

// rawProduce sends a batch to partition 0 of a topic and answers its offset.
func rawProduce(ctx context.Context, cl *kgo.Client, topic string, batch []byte) (int64, error) {
	id, err := topicID(ctx, cl, topic)
	if err != nil {
		return -1, err
	}
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 10_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = topic, id
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Records = batch
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	kresp, err := cl.SeedBrokers()[0].Request(ctx, req)
	if err != nil {
		return -1, err
	}
	resp := kresp.(*kmsg.ProduceResponse)
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return -1, fmt.Errorf("Produce answered for %d topics", len(resp.Topics))
	}
	got := resp.Topics[0].Partitions[0]
	return got.BaseOffset, kerr.ErrorForCode(got.ErrorCode)
}

func topicID(ctx context.Context, cl *kgo.Client, topic string) (id [16]byte, err error) {
	req := kmsg.NewPtrMetadataRequest()
	rt := kmsg.NewMetadataRequestTopic()
	rt.Topic = &topic
	req.Topics = append(req.Topics, rt)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return id, err
	}
	return resp.Topics[0].TopicID, kerr.ErrorForCode(resp.Topics[0].ErrorCode)
}

// busyClient is an idempotent client that produces while a broker is killed under it: it sends
// again, to the next broker, what it has no answer for.
type busyClient struct {
	cl   *kgo.Client
	sent int // records so far

	mu  sync.Mutex
	err error // the first of a record that was given up
}

// busyFor is how long the client produces before the broker is killed.
const busyFor = 300 * time.Millisecond

// begin produces until the function that it answers is called, which waits until everything is
// acknowledged.
func (c *busyClient) begin(ctx context.Context) (finish func() error) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-ctx.Done():
				return
			case <-time.After(time.Millisecond):
			}
			c.cl.Produce(ctx, kgo.StringRecord(fmt.Sprintf("busy %d", c.sent)), func(_ *kgo.Record, err error) {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.err = cmp.Or(c.err, err)
			})
			c.sent++
		}
	}()
	return func() error {
		close(stop)
		<-done
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		err := c.cl.Flush(ctx)
		c.mu.Lock()
		defer c.mu.Unlock()
		return errors.Join(err, c.err)
	}
}

// check reads back what the client produced: each record once and in order.
func (c *busyClient) check(ctx context.Context, ref *reference) error {
	got, err := ref.readAll(ctx, swapBusy)
	if err != nil {
		return err
	}
	for i, r := range got {
		if want := fmt.Sprintf("busy %d", i); string(r.Value) != want {
			return fmt.Errorf("at offset %d is %q, want %q", r.Offset, r.Value, want)
		}
	}
	if len(got) != c.sent {
		return fmt.Errorf("%d records are there, %d were acknowledged", len(got), c.sent)
	}
	return nil
}
