package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/rotpeter/rotpeter/compat/clients/member"
)

// kafkaGoMember is a member of a group by kafka-go: its ConsumerGroup gives
// generations, and a reader without a group reads each partition of one.
type kafkaGoMember struct {
	bootstrap string
	topic     string
	group     *kafka.ConsumerGroup
	out       *member.Out
	stop      context.CancelFunc
	wg        sync.WaitGroup

	mu         sync.Mutex
	generation *kafka.Generation // nil between generations
	readers    map[int32]*kafkaGoReader
	paused     bool
	resumed    chan struct{} // closed while it is not paused
}

type kafkaGoReader struct {
	*kafka.Reader
	seeks int
	at    int64 // next offset, -1 before the first record
}

func joinKafkaGo(bootstrap string, c member.Command, out *member.Out) (member.Member, error) {
	config := kafka.ConsumerGroupConfig{ID: c.Group, Brokers: []string{bootstrap}, Topics: []string{c.Topic},
		Dialer:            &kafka.Dialer{ClientID: c.Member, Timeout: 5 * time.Second},
		HeartbeatInterval: time.Second, JoinGroupBackoff: 500 * time.Millisecond, StartOffset: kafka.FirstOffset,
		ErrorLogger: kafka.LoggerFunc(func(format string, args ...any) {
			fmt.Fprintf(os.Stderr, c.Member+" "+format+"\n", args...)
		})}
	if c.SessionMs > 0 {
		config.SessionTimeout = time.Duration(c.SessionMs) * time.Millisecond
	}
	for _, name := range c.Assignors {
		switch name {
		case "range":
			config.GroupBalancers = append(config.GroupBalancers, kafka.RangeGroupBalancer{})
		case "roundrobin":
			config.GroupBalancers = append(config.GroupBalancers, kafka.RoundRobinGroupBalancer{})
		default:
			return nil, fmt.Errorf("no assignor %q", name)
		}
	}
	group, err := kafka.NewConsumerGroup(config)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	m := &kafkaGoMember{bootstrap: bootstrap, topic: c.Topic, group: group, out: out, stop: stop, resumed: make(chan struct{})}
	close(m.resumed)
	m.wg.Go(func() {
		for ctx.Err() == nil {
			generation, err := group.Next(ctx)
			if errors.Is(err, kafka.ErrGroupClosed) {
				return
			}
			if err == nil {
				m.open(generation)
			}
		}
	})
	return m, nil
}

// open starts the readers of a generation, which ends when they have ended.
func (m *kafkaGoMember) open(g *kafka.Generation) {
	readers := map[int32]*kafkaGoReader{}
	for _, a := range g.Assignments[m.topic] {
		r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{m.bootstrap}, Topic: m.topic, Partition: a.ID, MaxWait: 200 * time.Millisecond,
			ReadBackoffMax: 200 * time.Millisecond, ReadLagInterval: -1})
		if err := r.SetOffset(a.Offset); err != nil {
			m.out.Error(err)
		}
		readers[int32(a.ID)] = &kafkaGoReader{Reader: r, at: -1}
	}
	own := slices.Sorted(maps.Keys(readers))
	m.mu.Lock()
	m.generation, m.readers = g, readers
	if len(own) > 0 {
		m.out.Partitions("assigned", own)
	}
	m.mu.Unlock()
	g.Start(func(ctx context.Context) {
		var wg sync.WaitGroup
		for _, r := range readers {
			wg.Go(func() { m.read(ctx, r) })
		}
		<-ctx.Done()
		wg.Wait()
		for _, r := range readers {
			if err := r.Close(); err != nil {
				m.out.Error(err)
			}
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.commitLocked()
		m.generation, m.readers = nil, nil
		if len(own) > 0 {
			m.out.Partitions("revoked", own)
		}
	})
}

func (m *kafkaGoMember) read(ctx context.Context, r *kafkaGoReader) {
	for ctx.Err() == nil {
		m.mu.Lock()
		seeks, resumed := r.seeks, m.resumed
		m.mu.Unlock()
		select {
		case <-resumed:
		case <-ctx.Done():
			return
		}
		got, err := r.FetchMessage(ctx)
		if err != nil {
			if ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, err)
			}
			continue
		}
		for told := false; !told; {
			m.mu.Lock()
			resumed = m.resumed
			// What comes from before a seek is not told.
			if told = !m.paused; told && (r.seeks == seeks || got.Offset == r.at) {
				r.at = got.Offset + 1
				m.out.Record(int32(got.Partition), got.Offset, got.Key)
			}
			m.mu.Unlock()
			select {
			case <-resumed:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (m *kafkaGoMember) commitLocked() {
	offsets := map[int32]int64{}
	commit := map[int]int64{}
	for p, r := range m.readers {
		if r.at >= 0 {
			offsets[p], commit[int(p)] = r.at, r.at
		}
	}
	if len(commit) > 0 {
		m.out.Committed(offsets, m.generation.CommitOffsets(map[string]map[int]int64{m.topic: commit}))
	}
}

func (m *kafkaGoMember) Do(c member.Command) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	own := slices.Sorted(maps.Keys(m.readers))
	switch c.Op {
	case "pause":
		m.paused, m.resumed = true, make(chan struct{})
		m.out.Partitions("paused", own)
	case "resume":
		m.out.Partitions("resumed", own)
		m.paused = false
		close(m.resumed)
	case "seek":
		r := m.readers[c.Partition]
		if r == nil {
			return fmt.Errorf("%s does not own partition %d", c.Member, c.Partition)
		}
		r.seeks++
		r.at = c.Offset
		m.out.Sought(c.Partition, c.Offset)
		return r.SetOffset(c.Offset)
	case "commit":
		m.commitLocked()
	default: // its commits wait
		m.out.Say("unable")
	}
	return nil
}

func (m *kafkaGoMember) Close() error {
	m.stop()
	err := m.group.Close()
	m.wg.Wait()
	return err
}
