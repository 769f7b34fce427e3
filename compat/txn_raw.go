package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// rawTxn sends the requests of a transactional producer one by one, so that a
// check can leave some out and send others late.
type rawTxn struct {
	cl       *kgo.Client
	id       string
	producer int64
	epoch    int16
	sequence map[string]int32 // next one, by topic-partition
}

// newRawTxn is a producer of today's protocol (KIP-890 part 2), or an old one.
// Each has connections of its own.
func newRawTxn(bootstrap, id string, old bool) (*rawTxn, error) {
	v := kversion.Stable()
	v.SetMaxKeyVersion(int16(kmsg.Produce), 12) // the next one names topics by id
	if old {
		v.SetMaxKeyVersion(int16(kmsg.Produce), 11)
		v.SetMaxKeyVersion(int16(kmsg.EndTxn), 4)
		v.SetMaxKeyVersion(int16(kmsg.AddPartitionsToTxn), 3)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ClientID("compat-raw"), kgo.MaxVersions(v))
	return &rawTxn{cl: cl, id: id, sequence: map[string]int32{}}, err
}

func (t *rawTxn) close() { t.cl.Close() }

// patiently sends a request again as long as its answer's code says that a transaction is about to end.
func patiently(ctx context.Context, send func() (int16, error)) error {
	for {
		code, err := send()
		if err != nil {
			return err
		}
		switch err := kerr.ErrorForCode(code); {
		case errors.Is(err, kerr.ConcurrentTransactions), errors.Is(err, kerr.NotCoordinator), errors.Is(err, kerr.CoordinatorNotAvailable),
			errors.Is(err, kerr.CoordinatorLoadInProgress), errors.Is(err, kerr.NotEnoughReplicas):
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// init gets the producer id and epoch.
func (t *rawTxn) init(ctx context.Context) error {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = kmsg.StringPtr(t.id), 60_000
	return patiently(ctx, func() (int16, error) {
		resp, err := req.RequestWith(ctx, t.cl)
		if err != nil {
			return 0, err
		}
		t.producer, t.epoch = resp.ProducerID, resp.ProducerEpoch
		clear(t.sequence)
		return resp.ErrorCode, nil
	})
}

// produce writes a batch of values; a partition that is not in the transaction
// is added to it by the broker, unless the producer is an old one.
func (t *rawTxn) produce(ctx context.Context, topic string, partition int32, at time.Time, values ...string) error {
	key := fmt.Sprintf("%s-%d", topic, partition)
	req := kmsg.NewPtrProduceRequest()
	req.TransactionID, req.Acks, req.TimeoutMillis = kmsg.StringPtr(t.id), -1, 30_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = partition, transactionalBatch(t.producer, t.epoch, t.sequence[key], at, values)
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	err := patiently(ctx, func() (int16, error) {
		resp, err := req.RequestWith(ctx, t.cl)
		if err != nil {
			return 0, err
		}
		return resp.Topics[0].Partitions[0].ErrorCode, nil
	})
	if err == nil {
		t.sequence[key] += int32(len(values))
	}
	return err
}

// end commits or aborts; today's protocol answers the epoch of the next transaction.
func (t *rawTxn) end(ctx context.Context, commit bool) error {
	return patiently(ctx, func() (int16, error) {
		resp, err := endTxn(ctx, t.cl, t.id, t.producer, t.epoch, commit)
		if err != nil {
			return 0, err
		}
		if resp.ErrorCode == 0 && resp.Version >= 5 {
			if resp.ProducerID != t.producer || resp.ProducerEpoch != t.epoch {
				clear(t.sequence)
			}
			t.producer, t.epoch = resp.ProducerID, resp.ProducerEpoch
		}
		return resp.ErrorCode, nil
	})
}

func endTxn(ctx context.Context, cl *kgo.Client, id string, producer int64, epoch int16, commit bool) (*kmsg.EndTxnResponse, error) {
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = id, producer, epoch, commit
	return req.RequestWith(ctx, cl)
}

// transactionalBatch is a record batch of a transaction.
func transactionalBatch(producer int64, epoch int16, sequence int32, at time.Time, values []string) []byte {
	b := kmsg.RecordBatch{PartitionLeaderEpoch: -1, Magic: 2, Attributes: 1 << 4, LastOffsetDelta: int32(len(values) - 1),
		FirstTimestamp: at.UnixMilli(), MaxTimestamp: at.UnixMilli(), ProducerID: producer, ProducerEpoch: epoch,
		FirstSequence: sequence, NumRecords: int32(len(values))}
	for i, v := range values {
		r := kmsg.Record{OffsetDelta: int32(i), Value: []byte(v)}
		r.Length = int32(len(r.AppendTo(nil)) - 1) // a length of 0 takes a byte
		b.Records = r.AppendTo(b.Records)
	}
	const beforeLength, beforeCRC = 12, 21
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[8:], uint32(len(raw)-beforeLength))
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[beforeCRC:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}
