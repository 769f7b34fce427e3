package broker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/metadata"
)

// coordinators holds one shell per led partition of an internal topic, each made at
// its first use or by the walk after start.
type coordinators struct {
	b       *Broker
	topic   string
	options func(partitionKey) coordinator.ShellOptions // what is special about a partition's shell

	mu     sync.Mutex
	shells map[partitionKey]*coordinator.Shell
	before map[partitionKey]*atomic.Bool // whether a partition's state machine was there before
	closed bool
}

func newCoordinators(b *Broker, topic string, options func(partitionKey) coordinator.ShellOptions) *coordinators {
	return &coordinators{b: b, topic: topic, options: options, shells: map[partitionKey]*coordinator.Shell{}, before: map[partitionKey]*atomic.Bool{}}
}

// loadedAfter is the newest connection that may carry requests to the state machine of a partition that was there before
// the one that is about to be loaded; 0 if there was none since the start.
func (g *coordinators) loadedAfter(key partitionKey) uint64 {
	g.mu.Lock()
	before := g.before[key]
	if before == nil {
		before = new(atomic.Bool)
		g.before[key] = before
	}
	g.mu.Unlock()
	if !before.Swap(true) {
		return 0
	}
	return g.b.connIDs.Load()
}

// of finds the shell that is the coordinator of a group or transactional id.
// NOT_COORDINATOR when the topic does not exist yet: the client asks
// FindCoordinator then, which creates it.
func (g *coordinators) of(id string) (*coordinator.Shell, error) {
	t := g.b.image().Topic(g.topic)
	if t == nil || len(t.Partitions) == 0 {
		return nil, kerr.NotCoordinator
	}
	index := metadata.PartitionFor(id, int32(len(t.Partitions)))
	if t.Partitions[index].Leader == metadata.NoLeader {
		return nil, kerr.NotCoordinator
	}
	return g.shell(t, index)
}

// available tells whether the partition that is the coordinator of an id has a leader.
func (g *coordinators) available(id string) bool {
	t := g.b.image().Topic(g.topic)
	return t != nil && len(t.Partitions) > 0 && t.Partitions[metadata.PartitionFor(id, int32(len(t.Partitions)))].Leader != metadata.NoLeader
}

// dropLeaderless ends the shells of partitions that have lost their leader.
func (g *coordinators) dropLeaderless() {
	t := g.b.image().Topic(g.topic)
	if t == nil {
		return
	}
	g.end(func(key partitionKey) bool {
		return key.topic == t.ID && t.Partitions[key.partition].Leader == metadata.NoLeader
	})
}

func (g *coordinators) shell(t *metadata.Topic, index int32) (*coordinator.Shell, error) {
	key := partitionKey{t.ID, index}
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.shells[key]; s != nil {
		return s, nil
	}
	if g.closed {
		return nil, coordinator.ErrClosed
	}
	o := g.options(key)
	o.Name = g.topic + "-" + itoa(int(index))
	o.Journal = &journal{open: func() (*log.Log, error) { return g.b.parts.get(t, index) }, epoch: t.Partitions[index].LeaderEpoch, origin: log.Coordinator, durable: g.b.durableAcks}
	o.Log = g.b.log.With(slog.String("coordinator", g.topic), slog.Int("partition", int(index)))
	s := coordinator.NewShell(o)
	g.shells[key] = s
	return s, nil
}

// all returns a shell for each partition of the topic that has records: a
// partition without any has no state.
func (g *coordinators) all() ([]*coordinator.Shell, error) {
	t := g.b.image().Topic(g.topic)
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
func (g *coordinators) loaded() []*coordinator.Shell {
	g.mu.Lock()
	defer g.mu.Unlock()
	shells := make([]*coordinator.Shell, 0, len(g.shells))
	for _, s := range g.shells {
		shells = append(shells, s)
	}
	return shells
}

func (g *coordinators) drop(topic [16]byte) {
	g.end(func(key partitionKey) bool { return key.topic == topic })
}

// end closes the shells of some partitions.
func (g *coordinators) end(which func(partitionKey) bool) {
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
func (g *coordinators) Close() error {
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

// ask sends one event to the coordinator of an id and waits for its reply.
func (g *coordinators) ask(ctx context.Context, id string, event any) (any, error) {
	s, err := g.of(id)
	if err != nil {
		return nil, err
	}
	return s.Do(ctx, event)
}

// post hands an event to the shell of a partition, if there is one, and does not wait.
func (g *coordinators) post(key partitionKey, event any) {
	g.mu.Lock()
	s := g.shells[key]
	g.mu.Unlock()
	if s != nil {
		s.Post(event)
	}
}
