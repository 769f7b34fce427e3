package log

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log/batch"
)

// rig is a store in memory with what was promised about it.
type rig struct {
	t     testing.TB
	fs    vfs.FS
	s     *Store
	d     *Dirs // not nil: instead of s
	c     Config
	every time.Duration
	lg    *slog.Logger
	// cleaner compacts; the zero value does not
	cleaner CleanerConfig
	known   func(id [16]byte) bool // Options.Known
	whole   bool                   // Options.SyncFS

	mu      sync.Mutex
	ledgers map[string]*ledger // the newest of each topic
	lastID  byte
}

// ledger is what was asked of one log and what was answered.
type ledger struct {
	topic   string
	id      [16]byte
	entries []entry
	written int64 // end of what an append has answered
	durable int64 // end of what a commit has confirmed
	start   int64 // confirmed by DeleteBefore
	asked   int64 // of DeleteBefore, confirmed or not
	gone    bool  // removal was asked for
	removed bool  // and confirmed
	compact bool  // cleanup.policy=compact
	pinned  bool  // Config.Irreplaceable: never removed
	// refused are batches whose append failed. Their bytes were taken back, and may return
	// after a crash where nothing durable follows.
	refused []entry
	found   []entry // what the last check saw, and what is below the log's start
}

// entry is one batch as it was to be stored, from the moment the append began.
type entry struct {
	first, last int64
	bytes       []byte
	optional    bool // a compaction may have dropped it
	broken      bool // its bytes on disk were damaged
}

func testID(n byte) (id [16]byte) {
	id[0], id[15] = 1, n
	return id
}

// small settings make every mechanism work within a few appends.
func small() Config {
	c := DefaultConfig()
	c.SegmentBytes, c.IndexIntervalBytes, c.SegmentIndexBytes = 700, 100, 1024
	c.RetentionMillis = -1
	return c
}

func newRig(t testing.TB, fs vfs.FS) *rig {
	b := &rig{t: t, fs: fs, c: small(), every: time.Minute, ledgers: map[string]*ledger{}}
	b.open()
	return b
}

func (b *rig) options() Options {
	return Options{
		NewID: func() (id [16]byte) {
			// A disk may have names from an earlier start.
			binary.BigEndian.PutUint64(id[:], rand.Uint64())
			return id
		},
		Random: func() int64 { return 0 }, SyncFS: b.whole, OpenFiles: 4,
		Log: b.lg, Cleaner: b.cleaner, Known: b.known,
		RetentionCheck: b.every, Checkpoint: b.every / 2, StartCheckpoint: b.every / 2,
		ProducerExpiration: 24 * time.Hour, ProducerExpirationCheck: time.Hour,
	}
}

// open opens the store on the bench's disk. The disk may be one that fails: then s is nil.
func (b *rig) open() bool {
	b.t.Helper()
	s, err := OpenStore(b.fs, "data", b.options())
	if err != nil {
		return b.refused(err)
	}
	b.s = s
	return true
}

func (b *rig) refused(err error) bool {
	b.t.Helper()
	b.s = nil
	if _, faulty := b.fs.(*vfs.Fault); !faulty {
		b.t.Fatal(err)
	}
	return false
}

// ledger returns the book of a topic, making it.
func (b *rig) ledger(topic string) *ledger {
	b.mu.Lock()
	defer b.mu.Unlock()
	g := b.ledgers[topic]
	if g == nil {
		g = b.renewLocked(topic)
	}
	return g
}

// renewLocked begins the book of a topic, or that of the next topic of the name. The
// caller holds b.mu.
func (b *rig) renewLocked(topic string) *ledger {
	b.lastID++
	g := &ledger{topic: topic, id: testID(b.lastID)}
	b.ledgers[topic] = g
	return g
}

// config is the settings of a topic.
func (g *ledger) config(c Config) Config {
	if g.compact {
		c.Compact, c.Delete = true, false
	}
	c.Irreplaceable = g.pinned
	return c
}

func (b *rig) log(topic string) (*Log, error) {
	g := b.ledger(topic)
	if b.d != nil {
		return b.d.Open(topic, 0, g.id, g.config(b.c))
	}
	return b.s.Open(topic, 0, g.id, g.config(b.c))
}

// data is one batch of n records, 40 to 80 bytes each, that tell where they belong.
func data(o batch.Options, nowMillis int64, seed, n int) []byte {
	var messages []batch.Message
	for i := range n {
		messages = append(messages, batch.Message{
			Timestamp: nowMillis + int64(i),
			Key:       fmt.Appendf(nil, "k%d", seed%7),
			Value:     append(fmt.Appendf(nil, "%d/%d ", seed, i), bytes.Repeat([]byte{'x'}, 20+seed%40)...),
		})
	}
	return batch.Append(nil, o, messages)
}

// append enters a batch into the ledger before, and what was answered after.
func (b *rig) append(topic string, raw []byte, o AppendOptions) (Appended, error) {
	g := b.ledger(topic)
	l, err := b.log(topic)
	if err != nil {
		return Appended{}, err
	}
	end := l.Offsets().End
	var planned []entry
	for rest := raw; len(rest) > 0; {
		h, err := batch.Parse(rest)
		if err != nil {
			b.t.Fatal(err)
		}
		kept := bytes.Clone(rest[:h.Size()])
		batch.SetBaseOffset(kept, end)
		batch.SetLeaderEpoch(kept, o.LeaderEpoch)
		planned = append(planned, entry{first: end, last: end + int64(h.LastOffsetDelta), bytes: kept})
		end += int64(h.LastOffsetDelta) + 1
		rest = rest[h.Size():]
	}
	b.mu.Lock()
	g.entries = append(g.entries, planned...)
	b.mu.Unlock()
	done, err := l.Append(time.Now(), bytes.Clone(raw), o)
	if err != nil || done.Duplicate {
		b.mu.Lock()
		n := len(g.entries) - len(planned)
		g.entries = g.entries[:n:n] // whoever holds a promise keeps what he saw
		if err != nil {
			g.refused = append(slices.Clip(g.refused), planned...)
		}
		b.mu.Unlock()
		return done, err
	}
	if done.First != planned[0].first || done.Last != planned[len(planned)-1].last {
		b.t.Errorf("%s: appended at %d-%d, want %d-%d", topic, done.First, done.Last, planned[0].first, planned[len(planned)-1].last)
	}
	b.mu.Lock()
	g.written = max(g.written, done.Last+1)
	b.mu.Unlock()
	if done.Commit != nil {
		<-done.Commit.Done()
		err = done.Commit.Err()
	}
	if err == nil && o.Durable {
		b.mu.Lock()
		g.durable = max(g.durable, done.Last+1)
		b.mu.Unlock()
	}
	return done, err
}

func (b *rig) deleteBefore(topic string, offset int64) error {
	l, err := b.log(topic)
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.ledgers[topic].asked = max(b.ledgers[topic].asked, offset)
	b.mu.Unlock()
	start, err := l.DeleteBefore(offset)
	if err == nil {
		b.mu.Lock()
		b.ledgers[topic].start = start
		b.mu.Unlock()
	}
	return err
}

func (b *rig) remove(topic string) error {
	g := b.ledger(topic)
	b.mu.Lock()
	g.gone = true
	b.mu.Unlock()
	err := b.s.Remove(topic, 0, g.id)
	b.mu.Lock()
	g.removed = err == nil
	b.mu.Unlock()
	return err
}

// promises are the ledgers at one moment.
func (b *rig) promises() []ledger {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []ledger
	for _, topic := range slices.Sorted(maps.Keys(b.ledgers)) {
		g := b.ledgers[topic]
		c := *g
		c.entries = slices.Clip(g.entries)
		all = append(all, c)
	}
	return all
}

// errNothing is a hole at the end of a log, which only a compacted one may have: after a
// crash a segment that had not been synced may be empty, and the next one begin after it.
var errNothing = errors.New("nothing")

// readAll reads a log from an offset to its end through Read.
func readAll(l *Log, from int64, upTo Mark) ([]byte, error) {
	var all []byte
	for from < l.Offsets().At(upTo) {
		c, err := l.Read(from, 300, upTo, true)
		if err != nil {
			return all, err
		}
		if c.Bytes == 0 {
			c.Release()
			return all, fmt.Errorf("%w at offset %d below %d", errNothing, from, l.Offsets().At(upTo))
		}
		for _, r := range c.Runs() {
			b := make([]byte, r.Len)
			if n, err := r.File.ReadAt(b, r.Off); n < r.Len {
				c.Release()
				return all, err
			}
			for rest := b; len(rest) > 0; {
				h, err := batch.Parse(rest)
				if err != nil {
					c.Release()
					return all, err
				}
				from = h.LastOffset() + 1
				rest = rest[h.Size():]
			}
			all = append(all, b...)
		}
		c.Release()
	}
	return all, nil
}

// check holds a log that was opened again against its ledger: killed tells that the machine went
// on, so that all that was answered must be there.
func (g *ledger) check(l *Log, killed bool) error {
	if err := l.Err(); err != nil {
		return fmt.Errorf("damaged: %w", err)
	}
	o := l.Offsets()
	least := g.durable
	if killed {
		least = max(least, g.written)
	}
	if o.End < least {
		return fmt.Errorf("ends at %d, %d was promised", o.End, least)
	}
	anew := o.End == 0 && g.durable == 0 // its directory was never durable
	if o.Start < g.start && !anew || o.Start > o.End {
		return fmt.Errorf("starts at %d, %d was promised; it ends at %d", o.Start, g.start, o.End)
	}
	got, err := readAll(l, o.Start, End)
	if err != nil && !(g.compact && errors.Is(err, errNothing)) {
		return err
	}
	found, rest, end, err := g.match(got, o, least)
	if err != nil {
		return fmt.Errorf("%d to %d: %w", o.Start, o.End, err)
	}
	g.found = found
	if o.End > o.Start && end != o.End {
		return fmt.Errorf("ends at %d, in the middle of a batch that ends at %d", o.End, end)
	}
	ps := newProducers()
	for _, e := range found {
		h, err := batch.Parse(e.bytes)
		if err != nil {
			return err
		}
		if epoch := l.EpochOf(max(e.first, o.Start)); e.last >= o.Start && epoch != h.LeaderEpoch {
			return fmt.Errorf("offset %d is of leader epoch %d, want %d", e.first, epoch, h.LeaderEpoch)
		}
		if !h.HasProducer() {
			continue
		}
		m, err := markerOf(&h, e.bytes)
		if err != nil {
			return err
		}
		ps.apply(&h, m)
	}
	if rest > 0 {
		return fmt.Errorf("%d to %d: %d bytes more than there should be", o.Start, o.End, rest)
	}
	return g.checkProducers(l, ps, o)
}

// match goes along the bytes that were read and the entries that should be there up
// to the log's end, of which those below least were promised. It gives the entries that are
// there, the bytes that are left, and the end of the last entry.
func (g *ledger) match(got []byte, o Offsets, least int64) (found []entry, rest int, end int64, err error) {
	for _, e := range g.entries {
		if e.first >= o.End {
			break
		}
		switch lost := e.first >= least; {
		case e.last < o.Start:
			found = append(found, e)
		case bytes.HasPrefix(got, e.bytes):
			found, got = append(found, e), got[len(e.bytes):]
		case lost && g.wasRefused(got, e.first):
			found, got, end = g.matchRefused(found, got, end)
			return found, len(got), end, nil
		case e.optional, lost && (g.compact || o.Start == o.End):
			// Records that were not durable may be gone while a deletion of some of them is
			// not: the log begins anew where that ended.
		default:
			return nil, 0, 0, fmt.Errorf("the batch %d to %d is missing or another: %d bytes are left", e.first, e.last, len(got))
		}
		end = e.last + 1
	}
	found, got, end = g.matchRefused(found, got, end)
	return found, len(got), end, nil
}

func (g *ledger) wasRefused(got []byte, first int64) bool {
	return slices.ContainsFunc(g.refused, func(e entry) bool { return e.first == first && bytes.HasPrefix(got, e.bytes) })
}

// matchRefused goes on with batches whose append failed.
func (g *ledger) matchRefused(found []entry, got []byte, end int64) ([]entry, []byte, int64) {
	for {
		i := slices.IndexFunc(g.refused, func(e entry) bool { return e.first == end && bytes.HasPrefix(got, e.bytes) })
		if i < 0 {
			return found, got, end
		}
		e := g.refused[i]
		found, got, end = append(found, e), got[len(e.bytes):], e.last+1
	}
}

// checkProducers compares what a log knows of its producers with what its batches say.
func (g *ledger) checkProducers(l *Log, want *producers, o Offsets) error {
	for id, p := range want.byID {
		if p.n > 0 && p.batches[p.n-1].lastOffset < o.Start {
			continue // it may have gone with its records
		}
		have := l.producers.byID[id]
		if have == nil {
			return fmt.Errorf("producer %d is forgotten", id)
		}
		if have.epoch != p.epoch || have.lastSeq() != p.lastSeq() || have.txnFirst != p.txnFirst || have.coordinatorEpoch != p.coordinatorEpoch {
			return fmt.Errorf("producer %d is %+v, want %+v", id, *have, *p)
		}
	}
	stable := o.End
	if first, ok := want.firstUnstable(); ok {
		stable = min(stable, max(first, o.Start))
	}
	if o.Stable != stable {
		return fmt.Errorf("last stable offset %d, want %d", o.Stable, stable)
	}
	return nil
}
