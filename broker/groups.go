package broker

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/coordinator/group"
	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// offsetsTopic keeps the state of groups.
const offsetsTopic = "__consumer_offsets"

// groups holds one shell per led partition of __consumer_offsets, each made at
// its first use or by the walk after start.
type groups struct {
	b    *Broker
	opts group.Options

	mu     sync.Mutex
	shells map[partitionKey]*coordinator.Shell
	closed bool
}

func newGroups(b *Broker, opts group.Options) *groups {
	return &groups{b: b, opts: opts, shells: map[partitionKey]*coordinator.Shell{}}
}

// of finds the shell that is the coordinator of a group.
// NOT_COORDINATOR when the offsets topic does not exist yet: the client asks
// FindCoordinator then, which creates it.
func (g *groups) of(groupID string) (*coordinator.Shell, error) {
	t := g.b.image().Topic(offsetsTopic)
	if t == nil || len(t.Partitions) == 0 {
		return nil, kerr.NotCoordinator
	}
	index := metadata.PartitionFor(groupID, int32(len(t.Partitions)))
	if t.Partitions[index].Leader == metadata.NoLeader {
		return nil, kerr.NotCoordinator
	}
	return g.shell(t, index)
}

// available tells whether the partition that is the coordinator of a group has a leader.
func (g *groups) available(groupID string) bool {
	t := g.b.image().Topic(offsetsTopic)
	return t != nil && len(t.Partitions) > 0 && t.Partitions[metadata.PartitionFor(groupID, int32(len(t.Partitions)))].Leader != metadata.NoLeader
}

// dropLeaderless ends the shells of partitions that have lost their leader.
func (g *groups) dropLeaderless() {
	t := g.b.image().Topic(offsetsTopic)
	if t == nil {
		return
	}
	g.end(func(key partitionKey) bool {
		return key.topic == t.ID && t.Partitions[key.partition].Leader == metadata.NoLeader
	})
}

func (g *groups) shell(t *metadata.Topic, index int32) (*coordinator.Shell, error) {
	key := partitionKey{t.ID, index}
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.shells[key]; s != nil {
		return s, nil
	}
	if g.closed {
		return nil, coordinator.ErrClosed
	}
	s := coordinator.NewShell(coordinator.ShellOptions{
		Name: offsetsTopic + "-" + itoa(int(index)),
		New: func() coordinator.Shard {
			o := g.opts
			o.Cluster = newGroupCluster(g.b.image(), g.b.conf.Load())
			return group.New(o)
		},
		Errands: func(all []coordinator.Errand) { g.errands(key, all) },
		Journal: &journal{open: func() (*log.Log, error) { return g.b.parts.get(t, index) }, epoch: t.Partitions[index].LeaderEpoch, origin: log.Coordinator, durable: g.b.durableAcks},
		Log:     g.b.log.With(slog.String("coordinator", offsetsTopic), slog.Int("partition", int(index))),
	})
	g.shells[key] = s
	return s, nil
}

// all returns a shell for each partition of the offsets topic that has records:
// a partition without any has no group.
func (g *groups) all() ([]*coordinator.Shell, error) {
	t := g.b.image().Topic(offsetsTopic)
	if t == nil {
		return nil, nil
	}
	var shells []*coordinator.Shell
	for i := range t.Partitions {
		if t.Partitions[i].Leader == metadata.NoLeader {
			continue
		}
		l, err := g.b.parts.get(t, int32(i))
		if err != nil {
			return nil, err
		}
		if o := l.Offsets(); o.End == o.Start {
			continue
		}
		s, err := g.shell(t, int32(i))
		if err != nil {
			return nil, err
		}
		shells = append(shells, s)
	}
	return shells, nil
}

// loaded returns the shells that run already.
func (g *groups) loaded() []*coordinator.Shell {
	g.mu.Lock()
	defer g.mu.Unlock()
	shells := make([]*coordinator.Shell, 0, len(g.shells))
	for _, s := range g.shells {
		shells = append(shells, s)
	}
	return shells
}

// topicDeleted tells every group that a topic is gone, so that its committed
// offsets go too. The deletion of the offsets topic itself ends all shells.
func (g *groups) topicDeleted(ctx context.Context, t *metadata.Topic) {
	if t.Name == offsetsTopic {
		g.drop(t.ID)
		return
	}
	shells, err := g.all()
	if err != nil {
		g.b.log.Warn("offsets of a deleted topic stay until they expire", "topic", t.Name, "err", err)
		return
	}
	for _, s := range shells {
		// A journal that failed is loaded again soon: the event must not be lost.
		_, err := s.Do(ctx, group.TopicDeleted{Topic: t.Name, ID: t.ID})
		for errors.Is(err, coordinator.ErrNotCoordinator) || errors.Is(err, coordinator.ErrLoading) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(topicDeletedPause):
			}
			_, err = s.Do(ctx, group.TopicDeleted{Topic: t.Name, ID: t.ID})
		}
	}
}

// topicDeletedPause is the wait before a coordinator is told again.
const topicDeletedPause = 200 * time.Millisecond

func (g *groups) drop(topic [16]byte) {
	g.end(func(key partitionKey) bool { return key.topic == topic })
}

// end closes the shells of some partitions.
func (g *groups) end(which func(partitionKey) bool) {
	g.mu.Lock()
	var gone []*coordinator.Shell
	for key, s := range g.shells {
		if which(key) {
			gone = append(gone, s)
			delete(g.shells, key)
		}
	}
	g.mu.Unlock()
	for _, s := range gone {
		s.Close()
	}
}

// Close ends every shell. Waiting callers get ErrClosed.
func (g *groups) Close() error {
	g.mu.Lock()
	g.closed = true
	shells := g.shells
	g.shells = map[partitionKey]*coordinator.Shell{}
	g.mu.Unlock()
	var all error
	for _, s := range shells {
		all = errors.Join(all, s.Close())
	}
	return all
}

// ask sends one event to the coordinator of a group and waits for its reply.
func (g *groups) ask(ctx context.Context, groupID string, event any) (any, error) {
	s, err := g.of(groupID)
	if err != nil {
		return nil, err
	}
	return s.Do(ctx, event)
}

// groupCall sends one group request on its way: the common shape of handlers
// that ask one coordinator and answer with its reply, or with a code.
func groupCall[R protocol.Response](b *Broker, groupID string, event any, failed func(code int16) R) protocol.Answer {
	return protocol.Later(func(ctx context.Context) protocol.Response {
		reply, err := b.groups.ask(ctx, groupID, event)
		if err != nil {
			return failed(codeOf(err))
		}
		return reply.(R)
	})
}

// clientHost is how Kafka writes a client's address: Java's InetAddress text.
func clientHost(peer netip.Addr) string { return "/" + peer.Unmap().String() }

// groupStatsWait bounds how long a scrape of the metrics waits for a busy coordinator.
const groupStatsWait = 2 * time.Second
