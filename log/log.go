package log

import (
	"math"
	"path/filepath"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rotpeter/rotpeter/internal/invariant"
	"github.com/rotpeter/rotpeter/internal/mutant"
)

// Offsets is one consistent look at a log.
type Offsets struct {
	Start       int64 // first offset that may be read (log start offset)
	Stable      int64 // last stable offset: below it no transaction is open
	High        int64 // high watermark: readable; on a single node it is End
	End         int64 // next offset to be written (log end offset)
	LeaderEpoch int32 // of the newest batch, -1 if there is none
}

// Log is one partition. Append is serial; everything else may run beside it.
type Log struct {
	store  *Store
	at     place
	id     [16]byte
	config atomic.Pointer[Config]

	segments atomic.Pointer[[]*segment] // by base; at least one; the last is active
	epochs   atomic.Pointer[epochs]
	marks    marks
	watchers *watchers
	dir      atomic.Pointer[string] // it moves when the log is deleted

	damage  atomic.Pointer[[]damage] // ranges that cannot be read, by offset; nil: none
	inspect sync.Mutex               // one search for the extent of damage at a time; it is held while reading

	deleted atomic.Bool   // removed from the store
	moving  atomic.Bool   // it is being copied to another directory: its segments are not to be rewritten
	loaded  atomic.Bool   // it may be seen by others than its loader
	wanted  atomic.Bool   // the janitor was asked for
	keeping chan struct{} // whoever holds its one token works on the directory's files

	mu sync.Mutex
	logState
}

// logState is what Log.mu guards.
type logState struct {
	closed    bool
	gate      chan struct{} // not nil: changes wait until it is closed, see move.go
	successor *Log          // took the log's place in another directory
	broken    error         // a failed write that could not be undone
	onDisk    bool          // the directory exists
	producers *producers
	// unflushed counts records since the last flush, for flush.messages.
	unflushed   int64
	unflushedAt int64 // milliseconds of the first of them, for flush.ms

	// Stable storage. dirs counts new names in the directory, and root whether the
	// directory's own name is new: each must be synced before a durable answer.
	durable    int64 // records below are on stable storage
	names      int64 // names made so far
	namesSafe  int64 // of which are durable
	rootUnsafe bool
	idUnsafe   bool    // partition.metadata was not synced
	joined     *Commit // the newest round of the flusher that the log is in

	// The recovery point and what was written for it; changed by the janitor.
	recovery   int64
	pointSaved int64             // the recovery point that is on disk
	startSaved int64             // the log start that this process has made durable
	snapshots  []pendingSnapshot // taken at rolls, not written yet
	lastSnap   int64             // offset of the newest snapshot file, -1: none
	oddSnap    int64             // a snapshot that belongs to no segment, -1: none
	tidy       int64             // the end at which all files were found complete, -1: they were not
	epochsSafe *epochs           // the list that is in the checkpoint
	damageSafe *[]damage         // likewise

	cleaned     int64 // compacted up to here (cleaner-offset-checkpoint)
	uncleanable error // why it is not compacted
}

// pendingSnapshot is the producer state at an offset.
type pendingSnapshot struct {
	offset int64
	bytes  []byte
}

// marks is Offsets for one writer and many readers without a lock: a reader that
// meets a change tries again.
type marks struct {
	version                  atomic.Uint32 // odd while it changes
	start, stable, high, end atomic.Int64
	epoch                    atomic.Int32
}

func (m *marks) load() Offsets {
	for {
		v := m.version.Load()
		o := Offsets{Start: m.start.Load(), Stable: m.stable.Load(), High: m.high.Load(), End: m.end.Load(), LeaderEpoch: m.epoch.Load()}
		if v&1 == 0 && m.version.Load() == v {
			return o
		}
	}
}

// store is called by one goroutine at a time.
func (m *marks) store(o Offsets) {
	m.version.Add(1)
	m.start.Store(o.Start)
	m.stable.Store(o.Stable)
	m.high.Store(o.High)
	m.end.Store(o.End)
	m.epoch.Store(o.LeaderEpoch)
	m.version.Add(1)
}

// Topic is the topic's name.
func (l *Log) Topic() string { return l.at.topic }

// Partition is the partition's index.
func (l *Log) Partition() int32 { return l.at.partition }

// TopicID is the topic's id.
func (l *Log) TopicID() [16]byte { return l.id }

func (l *Log) place() place { return l.at }
func (l *Log) path() string { return *l.dir.Load() }

// Offsets returns one consistent look.
func (l *Log) Offsets() Offsets { return l.marks.load() }

// Config returns the settings in force. They must not be changed.
func (l *Log) Config() *Config { return l.config.Load() }

// SetConfig puts other settings in force, from the next append and retention on.
func (l *Log) SetConfig(c Config) {
	l.config.Store(&c)
	l.store.configured(&c)
}

// Size is the bytes of all segments.
func (l *Log) Size() int64 {
	var n int64
	for _, g := range *l.segments.Load() {
		n += g.size.Load()
	}
	return n
}

// Segments is how many segments there are, at least one.
func (l *Log) Segments() int { return len(*l.segments.Load()) }

// EpochEnd tells where a leader epoch ended: the largest known epoch up to it and
// the offset where the next one begins; (-1, -1) if it is newer than all.
func (l *Log) EpochEnd(epoch int32) (e int32, end int64) {
	return l.epochs.Load().end(epoch, l.Offsets().End)
}

// EpochOf is the leader epoch that an offset was written in, -1 if unknown.
func (l *Log) EpochOf(offset int64) int32 { return l.epochs.Load().of(offset) }

// Watch has f called on every advance of the high watermark, the last stable offset or the log's start, and when the log
// goes. f must neither block nor use the log. stop ends it; a call that is under way may still come.
func (l *Log) Watch(f func()) (stop func()) { return l.watchers.add(f) }

// Notify is Watch with a poke: it never waits, wake should have room for one.
func (l *Log) Notify(wake chan<- struct{}) (stop func()) {
	return l.Watch(func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})
}

// watchers are those who want news of one log.
type watchers struct {
	n atomic.Int32 // an append that nobody waits for costs this look

	mu  sync.Mutex
	all []*watcher
}

// watcher is one of them.
type watcher struct {
	f  func()
	at int // in all; -1: stopped
}

func (w *watchers) add(f func()) (stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	added := &watcher{f, len(w.all)}
	w.all = append(w.all, added)
	w.n.Add(1)
	return func() { w.remove(added) }
}

func (w *watchers) remove(gone *watcher) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if gone.at < 0 {
		return
	}
	n := len(w.all) - 1
	last := w.all[n]
	w.all[gone.at], last.at = last, gone.at
	w.all[n], gone.at = nil, -1
	w.all = w.all[:n]
	w.n.Add(-1)
}

func (w *watchers) poke() {
	if w.n.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.all {
		one.f()
	}
}

// active is the segment that grows.
func (l *Log) active() *segment {
	all := *l.segments.Load()
	return all[len(all)-1]
}

// segmentOf is the segment with this base offset, nil if there is none.
func (l *Log) segmentOf(base int64) *segment {
	all := *l.segments.Load()
	i := sort.Search(len(all), func(i int) bool { return all[i].base >= base })
	if i == len(all) || all[i].base != base {
		return nil
	}
	return all[i]
}

// floor is the index of the segment that an offset belongs to, -1 below the first.
func floor(all []*segment, offset int64) int {
	return sort.Search(len(all), func(i int) bool { return all[i].base > offset }) - 1
}

// setSegments is the one place where the list changes. The caller holds l.mu or is
// recovery.
func (l *Log) setSegments(all []*segment) {
	invariant.That(len(all) > 0, "a log has a segment", "log", l.at)
	for i := 1; i < len(all); i++ {
		invariant.That(all[i].base > all[i-1].base, "segments are in order", "log", l.at, "base", all[i].base)
		all[i-1].limit.Store(all[i].base)
	}
	all[len(all)-1].limit.Store(math.MaxInt64)
	l.segments.Store(&all)
}

// publishLocked makes new marks visible; offsets never go back.
func (l *Log) publishLocked(start, end int64) {
	was := l.marks.load()
	o := Offsets{Start: start, High: end, End: end, Stable: end, LeaderEpoch: l.epochs.Load().latest()}
	if first, ok := l.producers.firstUnstable(); ok {
		if mutant.On(mutant.StableOneLate) {
			first++
		}
		o.Stable = min(end, max(first, start))
	}
	if o.Start < was.Start || o.End < was.End || o.Start > o.High {
		invariant.That(false, "offsets go forward", "log", l.at, "was", was, "is", o)
	}
	l.marks.store(o)
}

// rewrite has the janitor write a segment's indexes again.
func (l *Log) rewrite(g *segment, m *memIndex) {
	l.mu.Lock()
	g.mem.Store(m)
	g.finished = false
	l.mu.Unlock()
	l.store.kick(l)
}

// DeleteBefore makes an offset the log's start (DeleteRecords). -1 means the high
// watermark. The start is on stable storage when it returns. Files go when whole
// segments lie below. Error: ErrOutOfRange beyond the high watermark, or the world's.
func (l *Log) DeleteBefore(offset int64) (start int64, err error) {
	if err := l.store.Err(); err != nil {
		return 0, err
	}
	l = l.lockForChange()
	o := l.marks.load()
	if offset == -1 {
		offset = o.High
	}
	if offset < 0 || offset > o.High || l.closed {
		err := l.refusalLocked()
		l.mu.Unlock()
		if err == nil {
			err = ErrOutOfRange
		}
		return 0, err
	}
	if offset <= o.Start {
		l.mu.Unlock()
		return o.Start, nil
	}
	l.advanceStartLocked(offset)
	l.mu.Unlock()
	l.watchers.poke()
	if mutant.On(mutant.StartNotSaved) {
		return offset, nil
	}
	if err := l.store.saveStarts(); err != nil {
		return 0, err
	}
	l.store.kick(l)
	return offset, nil
}

func (l *Log) advanceStartLocked(start int64) {
	if es, changed := l.epochs.Load().from(start); changed {
		l.epochs.Store(&es)
	}
	l.publishLocked(start, l.marks.load().End)
	l.healLocked(start)
}

// refusalLocked says why the log takes no change, nil if it does.
func (l *Log) refusalLocked() error {
	if l.closed {
		return ErrClosed
	}
	return l.broken
}

// millis is Kafka's time.
func millis(t time.Time) int64 { return t.UnixMilli() }

// partitionDir is the directory of a partition.
func partitionDir(root string, p place) string { return filepath.Join(root, p.String()) }
