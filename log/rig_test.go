package log

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"maps"
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
	c     Config
	every time.Duration
	lg    *slog.Logger
	// cleaner compacts; the zero value does not
	cleaner CleanerConfig

	mu      sync.Mutex
	ledgers map[string]*ledger
}

// ledger is what was asked of one log and what was answered.
type ledger struct {
	topic   string
	id      [16]byte
	entries []entry
	written int64 // end of what an append has answered
	durable int64 // end of what a commit has confirmed
	start   int64 // confirmed by DeleteBefore
	gone    bool  // removal was asked for
}

// entry is one batch as it was to be stored, from the moment the append began.
type entry struct {
	first, last int64
	bytes       []byte
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
	var n uint64
	var mu sync.Mutex
	return Options{
		NewID: func() (id [16]byte) {
			mu.Lock()
			defer mu.Unlock()
			n++
			binary.BigEndian.PutUint64(id[:], n)
			return id
		},
		Random: func() int64 { return 0 }, SyncFS: false, OpenFiles: 4,
		Log: b.lg, Cleaner: b.cleaner,
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
		g = &ledger{topic: topic, id: testID(byte(len(b.ledgers) + 1))}
		b.ledgers[topic] = g
	}
	return g
}

func (b *rig) log(topic string) (*Log, error) {
	return b.s.Open(topic, 0, b.ledger(topic).id, b.c)
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
		planned = append(planned, entry{end, end + int64(h.LastOffsetDelta), kept})
		end += int64(h.LastOffsetDelta) + 1
		rest = rest[h.Size():]
	}
	b.mu.Lock()
	g.entries = append(g.entries, planned...)
	b.mu.Unlock()
	done, err := l.Append(time.Now(), bytes.Clone(raw), o)
	if err != nil || done.Duplicate {
		b.mu.Lock()
		g.entries = g.entries[:len(g.entries)-len(planned)]
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
	return b.s.Remove(topic, 0, g.id)
}

// promise is a ledger at one moment.
func (b *rig) promises() []ledger {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []ledger
	for _, topic := range slices.Sorted(maps.Keys(b.ledgers)) {
		g := b.ledgers[topic]
		c := *g
		c.entries = append([]entry(nil), g.entries...)
		all = append(all, c)
	}
	return all
}

// readAll reads a log from an offset to its end through Read.
func readAll(l *Log, from int64, upTo Mark) ([]byte, error) {
	var all []byte
	for from < l.Offsets().at(upTo) {
		c, err := l.Read(from, 300, upTo, true)
		if err != nil {
			return all, err
		}
		if c.Bytes == 0 {
			c.Release()
			return all, fmt.Errorf("nothing at offset %d below %d", from, l.Offsets().at(upTo))
		}
		for _, r := range c.Runs {
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
	if o.Start < g.start || o.Start > o.End {
		return fmt.Errorf("starts at %d, %d was promised; it ends at %d", o.Start, g.start, o.End)
	}
	var want []byte
	ps, end := newProducers(), int64(0)
	for _, e := range g.entries {
		if e.first >= o.End {
			break
		}
		end = e.last + 1
		h, err := batch.Parse(e.bytes)
		if err != nil {
			return err
		}
		if h.HasProducer() {
			m, err := markerOf(&h, e.bytes)
			if err != nil {
				return err
			}
			ps.apply(&h, m)
		}
		if e.last >= o.Start {
			want = append(want, e.bytes...)
		}
	}
	if o.End > o.Start && end != o.End {
		return fmt.Errorf("ends at %d, in the middle of a batch that ends at %d", o.End, end)
	}
	got, err := readAll(l, o.Start, End)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%d to %d: read %d bytes, want %d, or others", o.Start, o.End, len(got), len(want))
	}
	return g.checkProducers(l, ps, o)
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
