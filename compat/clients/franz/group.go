package main

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/compat/clients/member"
)

// groupMember is a member of a group by franz-go. All that touches its client
// is done by one goroutine, but for the group's own callbacks.
type groupMember struct {
	cl    *kgo.Client
	topic string
	out   *member.Out
	do    chan func()
	stop  context.CancelFunc
	done  chan struct{}

	mu  sync.Mutex
	own map[int32]bool
	at  map[int32]int64 // next offset of the partitions that it owns
}

func balancers(names []string) []kgo.GroupBalancer {
	var out []kgo.GroupBalancer
	for _, name := range names {
		switch name {
		case "range":
			out = append(out, kgo.RangeBalancer())
		case "roundrobin":
			out = append(out, kgo.RoundRobinBalancer())
		case "sticky":
			out = append(out, kgo.StickyBalancer())
		case "cooperative-sticky":
			out = append(out, kgo.CooperativeStickyBalancer())
		}
	}
	return out
}

func (d *driver) join(c member.Command, out *member.Out) (member.Member, error) {
	m := &groupMember{topic: c.Topic, out: out, do: make(chan func()), done: make(chan struct{}), own: map[int32]bool{}, at: map[int32]int64{}}
	topics := kgo.ConsumeTopics(c.Topic)
	if c.Regex {
		topics = kgo.ConsumeTopics("^" + regexp.QuoteMeta(c.Topic) + "$")
	}
	opts := []kgo.Opt{kgo.SeedBrokers(d.bootstrap), topics, kgo.ConsumerGroup(c.Group), kgo.ClientID(c.Member),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.FetchMaxWait(200 * time.Millisecond), kgo.HeartbeatInterval(time.Second),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, p map[string][]int32) { m.assigned(p[m.topic]) }),
		kgo.OnPartitionsRevoked(func(ctx context.Context, _ *kgo.Client, p map[string][]int32) {
			m.commit(ctx, p[m.topic])
			m.gone("revoked", p[m.topic])
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, p map[string][]int32) { m.gone("lost", p[m.topic]) })}
	if c.Regex {
		opts = append(opts, kgo.ConsumeRegex())
	}
	if c.Instance != "" {
		opts = append(opts, kgo.InstanceID(c.Instance))
	}
	if c.SessionMs > 0 {
		opts = append(opts, kgo.SessionTimeout(time.Duration(c.SessionMs)*time.Millisecond))
	}
	if c.Protocol == "consumer" {
		// franz-go asks for the broker's assignor range by its balancer of that name, for uniform by sticky.
		balancer := kgo.StickyBalancer()
		if slices.Contains(c.Assignors, "range") {
			balancer = kgo.RangeBalancer()
		}
		opts = append(opts, kgo.ServerSideBalancer(), kgo.Balancers(balancer))
	} else if len(c.Assignors) > 0 {
		opts = append(opts, kgo.Balancers(balancers(c.Assignors)...))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, err
	}
	m.cl = cl
	ctx, stop := context.WithCancel(context.Background())
	m.stop = stop
	go m.run(ctx)
	return m, nil
}

func (m *groupMember) assigned(partitions []int32) {
	if len(partitions) == 0 {
		return
	}
	m.mu.Lock()
	for _, p := range partitions {
		m.own[p] = true
	}
	m.mu.Unlock()
	m.out.Partitions("assigned", partitions)
}

func (m *groupMember) gone(event string, partitions []int32) {
	m.mu.Lock()
	for _, p := range partitions {
		delete(m.own, p)
		delete(m.at, p)
	}
	m.mu.Unlock()
	if len(partitions) > 0 {
		m.out.Partitions(event, partitions)
	}
}

// owned are the partitions that it owns; where is their next offsets, where one is known.
func (m *groupMember) owned() (own []int32, where map[int32]int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.own)), maps.Clone(m.at)
}

func (m *groupMember) run(ctx context.Context) {
	defer close(m.done)
	for ctx.Err() == nil {
		select {
		case f := <-m.do:
			f()
			continue
		default:
		}
		poll, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		fetches := m.cl.PollFetches(poll)
		cancel()
		fetches.EachRecord(func(r *kgo.Record) {
			m.mu.Lock()
			m.at[r.Partition] = r.Offset + 1
			m.mu.Unlock()
			m.out.Record(r.Partition, r.Offset, r.Key)
		})
		fetches.EachError(func(_ string, p int32, err error) {
			if ctx.Err() == nil && poll.Err() == nil {
				m.out.Error(err)
			}
		})
		m.cl.AllowRebalance()
	}
}

// commit commits the positions of partitions and waits for the answer.
func (m *groupMember) commit(ctx context.Context, partitions []int32) {
	done := make(chan struct{})
	m.commitAsync(ctx, partitions, func() { close(done) })
	<-done
}

func (m *groupMember) commitAsync(ctx context.Context, partitions []int32, then func()) {
	_, at := m.owned()
	offsets := map[int32]int64{}
	commit := map[int32]kgo.EpochOffset{}
	for _, p := range partitions {
		if o, ok := at[p]; ok {
			offsets[p], commit[p] = o, kgo.EpochOffset{Epoch: -1, Offset: o}
		}
	}
	if len(commit) == 0 {
		m.out.Committed(offsets, nil)
		then()
		return
	}
	m.cl.CommitOffsets(ctx, map[string]map[int32]kgo.EpochOffset{m.topic: commit},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, err error) {
			if err == nil {
				for _, t := range resp.Topics {
					for _, p := range t.Partitions {
						if e := kerr.ErrorForCode(p.ErrorCode); e != nil {
							err = e
						}
					}
				}
			}
			m.out.Committed(offsets, err)
			then()
		})
}

// Do runs a command between two polls.
func (m *groupMember) Do(c member.Command) error {
	done := make(chan struct{})
	f := func() {
		defer close(done)
		own, _ := m.owned()
		switch c.Op {
		case "pause":
			m.cl.PauseFetchPartitions(map[string][]int32{m.topic: own})
			m.out.Partitions("paused", own)
		case "resume":
			m.out.Partitions("resumed", own)
			m.cl.ResumeFetchPartitions(map[string][]int32{m.topic: own})
		case "seek":
			m.cl.SetOffsets(map[string]map[int32]kgo.EpochOffset{m.topic: {c.Partition: {Epoch: -1, Offset: c.Offset}}})
			m.mu.Lock()
			m.at[c.Partition] = c.Offset
			m.mu.Unlock()
			m.out.Sought(c.Partition, c.Offset)
		case "commit":
			m.commit(context.Background(), own)
		case "commit-async":
			m.commitAsync(context.Background(), own, func() {})
		default:
			m.out.Say("unable")
		}
	}
	select {
	case m.do <- f:
		<-done
	case <-m.done:
	}
	return nil
}

// Close commits and leaves.
func (m *groupMember) Close() error {
	m.stop()
	<-m.done
	m.cl.CloseAllowingRebalance()
	return nil
}
