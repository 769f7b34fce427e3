package raw

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetchOf asks to fetch partitions of a topic, each from an offset.
func fetchOf(topic string, partitions []int32, offsets map[int32]int64, maxBytes, maxWait int32) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes, req.SessionEpoch = fetchVersion, -1, maxWait, 1, maxBytes, -1
	if len(partitions) > 0 {
		t := kmsg.NewFetchRequestTopic()
		t.Topic = topic
		for _, i := range partitions {
			p := kmsg.NewFetchRequestTopicPartition()
			p.Partition, p.CurrentLeaderEpoch, p.PartitionMaxBytes, p.FetchOffset = i, -1, maxBytes, offsets[i]
			t.Partitions = append(t.Partitions, p)
		}
		req.Topics = append(req.Topics, t)
	}
	return req
}

// Session is a load of incremental fetches (KIP-227): each connection has a session with Active partitions, which are read
// from their start again and again, and Idle ones behind them, at whose end nothing arrives.
type Session struct {
	Load
	Topic        string
	Active, Idle int
	MaxBytes     int // of one partition, and of an answer
}

// Run fetches.
func (s Session) Run(ctx context.Context) (*Result, error) {
	return s.run(ctx, func(int) (worker, error) { return &sessionReader{s: &s, offsets: map[int32]int64{}}, nil })
}

type sessionReader struct {
	s       *Session
	id      int32
	epoch   int32
	offsets map[int32]int64 // of active partitions
	buf     []byte
}

// frame first opens the session with all partitions, then moves the active ones.
func (s *sessionReader) frame() []byte {
	names := s.s.Active
	if s.id == 0 {
		names += s.s.Idle
	}
	req := fetchOf(s.s.Topic, first(names), s.offsets, int32(s.s.MaxBytes), 500)
	req.SessionID, req.SessionEpoch = s.id, s.epoch
	s.buf = appendRequest(s.buf[:0], req)
	return s.buf
}

// first are the numbers below n.
func first(n int) []int32 {
	all := make([]int32, n)
	for i := range all {
		all[i] = int32(i)
	}
	return all
}

func (s *sessionReader) answer(b []byte) (records, bytes int64, err error) {
	var resp kmsg.FetchResponse
	resp.Version = fetchVersion
	if err := resp.ReadFrom(b[4:]); err != nil {
		return 0, 0, err
	}
	if resp.ErrorCode != 0 {
		return 0, 0, fmt.Errorf("fetch in a session: %w", kerr.ErrorForCode(resp.ErrorCode))
	}
	if resp.SessionID == 0 {
		return 0, 0, errors.New("the broker gave no fetch session")
	}
	s.id = resp.SessionID
	s.epoch++
	for i := range resp.Topics {
		for _, p := range resp.Topics[i].Partitions {
			if p.ErrorCode != 0 {
				return 0, 0, fmt.Errorf("fetch partition %d: %w", p.Partition, kerr.ErrorForCode(p.ErrorCode))
			}
			next, n := walk(p.RecordBatches, s.offsets[p.Partition])
			if next >= p.HighWatermark {
				next = 0
			}
			s.offsets[p.Partition] = next
			records += n
			bytes += int64(len(p.RecordBatches))
		}
	}
	return records, bytes, nil
}

// walk goes over whole batches: the offset behind them, and their records.
func walk(b []byte, offset int64) (next, records int64) {
	const header = 61
	for len(b) >= header {
		size := 12 + int(binary.BigEndian.Uint32(b[8:]))
		if size > len(b) {
			break // a part of a batch, as brokers may send
		}
		delta := int64(binary.BigEndian.Uint32(b[23:]))
		offset = int64(binary.BigEndian.Uint64(b)) + delta + 1
		records += delta + 1
		b = b[size:]
	}
	return offset, records
}

// Lookup is a load of fetches of one batch each from random offsets below End of partition 0: what it costs to find an offset.
type Lookup struct {
	Load
	Topic string
	End   int64
}

// Run fetches.
func (l Lookup) Run(ctx context.Context) (*Result, error) {
	return l.run(ctx, func(i int) (worker, error) {
		c := newConsumer(&Fetch{Topic: l.Topic, Partitions: 1, PartitionBytes: 1, MaxBytes: 1})
		return &seeker{c, rand.New(rand.NewPCG(uint64(i), 2)), l.End}, nil
	})
}

type seeker struct {
	*consumer
	random *rand.Rand
	end    int64
}

func (s *seeker) frame() []byte {
	s.offsets[0] = s.random.Int64N(s.end)
	return s.consumer.frame()
}
