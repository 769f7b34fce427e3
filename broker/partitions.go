package broker

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/metadata"
)

// partitionKey names a partition for ever: a topic that is deleted and made
// again has another id.
type partitionKey struct {
	topic     [16]byte
	partition int32
}

func (k partitionKey) compare(o partitionKey) int {
	return cmp.Or(bytes.Compare(k.topic[:], o.topic[:]), cmp.Compare(k.partition, o.partition))
}

// partitions holds the open logs of this broker. A log is opened at its first
// use, or by the opener that walks all of them after start.
type partitions struct {
	dirs   *log.Dirs
	view   func(t *metadata.Topic) log.Config
	now    func() *metadata.Image
	opened func(*metadata.Topic, *log.Log) // told of each log that was opened

	mu     sync.RWMutex
	byKey  map[partitionKey]*openLog
	closed bool
}

// openLog is one log that is open or being opened: ready is closed when l and
// err are set.
type openLog struct {
	ready chan struct{}
	l     *log.Log
	err   error
}

var errClosing = errors.New("the broker is stopping")

func newPartitions(dirs *log.Dirs, view func(*metadata.Topic) log.Config, now func() *metadata.Image, opened func(*metadata.Topic, *log.Log)) *partitions {
	return &partitions{dirs: dirs, view: view, now: now, opened: opened, byKey: map[partitionKey]*openLog{}}
}

// get returns the log of one partition of t, opening it if need be. Opening
// may have to recover the log, so it can take as long as reading its tail.
// The error is a storage error, also for a log that is open in a directory that has
// failed; a failed opening is tried again by the next caller. A partition that had no
// leader when this broker started is not this broker's.
func (p *partitions) get(t *metadata.Topic, index int32) (*log.Log, error) {
	key := partitionKey{t.ID, index}
	p.mu.RLock()
	o := p.byKey[key]
	p.mu.RUnlock()
	if o == nil {
		o = p.open(key, t)
	}
	<-o.ready
	if o.err == nil {
		if err := o.l.Offline(); err != nil {
			return nil, err
		}
	}
	return o.l, o.err
}

// replace puts another log in the place of one that was moved to another directory.
func (p *partitions) replace(from, to *log.Log) {
	ready := make(chan struct{})
	close(ready)
	p.mu.Lock()
	defer p.mu.Unlock()
	key := partitionKey{from.TopicID(), from.Partition()}
	if o := p.byKey[key]; o != nil && o.l == from {
		p.byKey[key] = &openLog{ready: ready, l: to}
	}
}

func (p *partitions) open(key partitionKey, t *metadata.Topic) *openLog {
	p.mu.Lock()
	if o := p.byKey[key]; o != nil {
		p.mu.Unlock()
		return o
	}
	o := &openLog{ready: make(chan struct{})}
	if p.closed {
		o.err = errClosing
		close(o.ready)
		p.mu.Unlock()
		return o
	}
	p.byKey[key] = o
	p.mu.Unlock()

	o.l, o.err = p.dirs.Open(t.Name, key.partition, t.ID, p.view(t))
	if errors.Is(o.err, log.ErrOffline) && t.Partitions[key.partition].Leader == metadata.NoLeader {
		o.err = kerr.NotLeaderForPartition
	}
	if o.err != nil {
		o.err = fmt.Errorf("open %s-%d: %w", t.Name, key.partition, o.err)
		p.mu.Lock()
		delete(p.byKey, key)
		p.mu.Unlock()
	}
	if o.l != nil {
		p.opened(t, o.l)
	}
	close(o.ready)
	// The settings may have changed since the caller looked at the topic. From here on
	// configure finds the log by itself.
	if current := p.now().TopicByID(t.ID); o.l != nil && current != nil {
		o.l.SetConfig(p.view(current))
	}
	return o
}

// configure puts the topic's settings in force for its open logs.
func (p *partitions) configure(t *metadata.Topic) {
	c := p.view(t)
	for i := range t.Partitions {
		p.mu.RLock()
		o := p.byKey[partitionKey{t.ID, int32(i)}]
		p.mu.RUnlock()
		if o == nil {
			continue
		}
		select {
		case <-o.ready:
			if o.l != nil {
				o.l.SetConfig(c)
			}
		default:
		}
	}
}

// remove deletes the logs of a deleted topic. Readers that are in the middle
// of one finish undisturbed.
func (p *partitions) remove(t *metadata.Topic) error {
	var all error
	for i := range t.Partitions {
		key := partitionKey{t.ID, t.Partitions[i].Index}
		p.mu.Lock()
		o := p.byKey[key]
		delete(p.byKey, key)
		p.mu.Unlock()
		if o != nil {
			<-o.ready
		}
		if err := p.dirs.Remove(t.Name, key.partition, t.ID); err != nil {
			all = errors.Join(all, fmt.Errorf("delete %s-%d: %w", t.Name, key.partition, err))
		}
	}
	return all
}

// each calls f with every open log, in no particular order.
func (p *partitions) each(f func(*log.Log)) {
	p.mu.RLock()
	open := make([]*openLog, 0, len(p.byKey))
	for _, o := range p.byKey {
		open = append(open, o)
	}
	p.mu.RUnlock()
	for _, o := range open {
		select {
		case <-o.ready:
			if o.l != nil {
				f(o.l)
			}
		default:
		}
	}
}

// stop refuses further openings. Logs that are open stay so until the store closes.
func (p *partitions) stop() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
}
