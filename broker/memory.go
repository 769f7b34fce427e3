package broker

import (
	"fmt"
	runtimemetrics "runtime/metrics"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rotpeter/rotpeter/config"
)

// memoryGuard says when memory is short: when what is in use for good, that is, what the last collection found
// reachable, and stacks, has passed its part of rotpeter.memory.max. Then nothing new is taken on that lasts: what clients
// can make without end (groups, topics, transactional ids) has no bound of its own in Kafka.
type memoryGuard struct {
	limits config.Memory
	inUse  func() int64
	now    func() time.Time

	checked atomic.Int64 // when inUse was last asked, nanoseconds
	full    atomic.Bool
	refused atomic.Int64 // what was not taken on

	mu      sync.Mutex // one asks at a time
	samples []runtimemetrics.Sample
}

// memoryCheck is how long one look at the figures holds. The figures change with each collection only.
const memoryCheck = 20 * time.Millisecond

func newMemoryGuard(limits config.Memory) *memoryGuard {
	g := &memoryGuard{limits: limits, now: time.Now, samples: []runtimemetrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"}}}
	g.inUse = g.read
	return g
}

// read asks the runtime. The caller holds mu.
func (g *memoryGuard) read() (n int64) {
	runtimemetrics.Read(g.samples)
	for i := range g.samples {
		n += int64(g.samples[i].Value.Uint64())
	}
	return n
}

// short tells whether memory is short. It is safe for concurrent use and costs two atomic loads most of the time.
func (g *memoryGuard) short() bool {
	if g.limits.StateBytes == 0 {
		return false
	}
	if now := g.now().UnixNano(); now-g.checked.Load() >= int64(memoryCheck) && g.mu.TryLock() {
		g.full.Store(g.inUse() >= g.limits.StateBytes)
		g.checked.Store(now)
		g.mu.Unlock()
	}
	return g.full.Load()
}

// takeOn is nil unless memory is short; else the answer to a client that wants to make something that lasts.
func (g *memoryGuard) takeOn() *kerr.Error {
	if !g.short() {
		return nil
	}
	g.refused.Add(1)
	return kerr.CoordinatorLoadInProgress
}

// create is takeOn for topics and partitions.
func (g *memoryGuard) create() error {
	if !g.short() {
		return nil
	}
	g.refused.Add(1)
	return fmt.Errorf("nothing is created while the broker is short of memory (rotpeter.memory.max=%d): %w", g.limits.Max, kerr.PolicyViolation)
}
