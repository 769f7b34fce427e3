package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/rotpeter/rotpeter/compat/clients/member"
)

// saramaMember is a member of a group by sarama. A partition is its own while
// its claim runs.
type saramaMember struct {
	group sarama.ConsumerGroup
	topic string
	out   *member.Out
	stop  context.CancelFunc
	wg    sync.WaitGroup

	mu      sync.Mutex
	session sarama.ConsumerGroupSession
	at      map[int32]int64 // next offset of its partitions, -1 before the first record
	paused  bool
	resumed chan struct{} // closed while it is not paused
}

func joinSarama(bootstrap string, c member.Command, out *member.Out) (member.Member, error) {
	config := sarama.NewConfig()
	config.ClientID = c.Member
	config.Version = sarama.MaxVersion
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.MaxWaitTime = 200 * time.Millisecond
	config.Consumer.Group.Heartbeat.Interval = time.Second
	config.Consumer.Group.Rebalance.Retry.Backoff = 500 * time.Millisecond
	config.Consumer.Return.Errors = true
	config.Metadata.Retry.Max = 50
	config.Consumer.Group.InstanceId = c.Instance
	if c.SessionMs > 0 {
		config.Consumer.Group.Session.Timeout = time.Duration(c.SessionMs) * time.Millisecond
	}
	for i, name := range c.Assignors {
		strategy := map[string]func() sarama.BalanceStrategy{"range": sarama.NewBalanceStrategyRange, "roundrobin": sarama.NewBalanceStrategyRoundRobin,
			"sticky": sarama.NewBalanceStrategySticky, "cooperative-sticky": sarama.NewBalanceStrategyCooperativeSticky}[name]
		if strategy == nil {
			return nil, fmt.Errorf("no assignor %q", name)
		}
		if i == 0 {
			config.Consumer.Group.Rebalance.GroupStrategies = nil
		}
		config.Consumer.Group.Rebalance.GroupStrategies = append(config.Consumer.Group.Rebalance.GroupStrategies, strategy())
	}
	group, err := sarama.NewConsumerGroup([]string{bootstrap}, c.Group, config)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	m := &saramaMember{group: group, topic: c.Topic, out: out, stop: stop, at: map[int32]int64{}, resumed: make(chan struct{})}
	close(m.resumed)
	m.wg.Go(func() {
		for err := range group.Errors() {
			fmt.Fprintln(os.Stderr, c.Member, err)
		}
	})
	m.wg.Go(func() {
		defer group.Close()
		for ctx.Err() == nil {
			if err := group.Consume(ctx, []string{c.Topic}, m); err != nil && ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, c.Member, err)
				time.Sleep(200 * time.Millisecond)
			}
		}
	})
	return m, nil
}

func (m *saramaMember) Setup(s sarama.ConsumerGroupSession) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.session = s
	return nil
}

func (m *saramaMember) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (m *saramaMember) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	p := claim.Partition()
	m.mu.Lock()
	m.at[p] = -1
	m.mu.Unlock()
	m.out.Partitions("assigned", []int32{p})
	m.consume(s, claim)
	s.Commit()
	m.mu.Lock()
	delete(m.at, p)
	m.mu.Unlock()
	m.out.Partitions("revoked", []int32{p})
	return nil
}

// consume tells records until the claim ends. What sarama had on its way when
// the member was paused, waits here.
func (m *saramaMember) consume(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) {
	for r := range claim.Messages() {
		for told := false; !told; {
			m.mu.Lock()
			resumed := m.resumed
			if told = !m.paused; told {
				m.at[r.Partition] = r.Offset + 1
				m.out.Record(r.Partition, r.Offset, r.Key)
			}
			m.mu.Unlock()
			select {
			case <-resumed:
			case <-s.Context().Done():
				return
			}
		}
		s.MarkMessage(r, "")
	}
}

func (m *saramaMember) Do(c member.Command) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	own := slices.Sorted(maps.Keys(m.at))
	switch c.Op {
	case "pause":
		m.paused, m.resumed = true, make(chan struct{})
		m.group.Pause(map[string][]int32{m.topic: own})
		m.out.Partitions("paused", own)
	case "resume":
		m.out.Partitions("resumed", own)
		m.group.Resume(map[string][]int32{m.topic: own})
		m.paused = false
		close(m.resumed)
	case "commit":
		if m.session == nil {
			return fmt.Errorf("%s has no session", c.Member)
		}
		offsets := map[int32]int64{}
		for p, o := range m.at {
			if o >= 0 {
				offsets[p] = o
				m.session.MarkOffset(m.topic, p, o, "")
			}
		}
		m.session.Commit()
		m.out.Committed(offsets, nil)
	default: // sarama cannot seek in a group, and its commits wait
		m.out.Say("unable")
	}
	return nil
}

func (m *saramaMember) Close() error {
	m.stop()
	m.wg.Wait()
	return nil
}
