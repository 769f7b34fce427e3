package log

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log/batch"
)

// written is one record as its producer sent it.
type written struct {
	offset     int64
	timestamp  int64
	key, value string
	tombstone  bool
	producer   int64 // of its transaction, -1: none
	aborted    bool
	decided    bool // no transaction, or it has ended
	unsure     bool // the append failed: it may be there or not
}

// compactor plays a compacted topic: what was written, and what must be left of it.
type compactor struct {
	*rig
	rng      *rand.Rand
	history  []written
	sequence map[int64]int32
	open     map[int64]bool
	batches  int
	failed   bool  // the disk: nothing more is written
	epoch    int32 // of the leader
	codecs   int   // how many of them are used, at least one: none

	quiet   atomic.Bool // nobody writes
	onPause func(begin bool)
	calls   int
}

func compacted() Config {
	c := small()
	c.Compact, c.Delete = true, false
	c.SegmentBytes, c.SegmentIndexBytes = 1500, 4096
	c.MinCleanableRatio, c.DeleteRetentionMillis = 0.2, 10*60_000
	return c
}

func newCompactor(t testing.TB, fs vfs.FS, seed uint64) *compactor {
	p := &compactor{epoch: 1, codecs: 5, rng: rand.New(rand.NewPCG(seed, 7)), sequence: map[int64]int32{}, open: map[int64]bool{}}
	p.rig = &rig{t: t, fs: fs, c: compacted(), every: time.Minute, ledgers: map[string]*ledger{}, cleaner: CleanerConfig{
		Enabled: true, Threads: 1, DedupeBytes: 24 * (10 + int64(seed%3)*40), IOBytes: 8192, LoadFactor: 0.9, Backoff: 5 * time.Second,
	}}
	p.rig.open()
	return p
}

// A compacted topic keeps the last value of every key, of transactions that were
// committed only, through restarts and kills; each record that is left is where and
// what it was, and no producer is forgotten.
func TestCompactionModel(t *testing.T) {
	steps, seeds := 600, uint64(12)
	if testing.Short() {
		steps, seeds = 200, 3
	}
	var cleaned int64
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			p := newCompactor(t, vfs.NewCrash(), seed)
			for i := range steps {
				cleaned += p.step()
				if t.Failed() {
					t.Fatalf("seed %d, step %d", seed, i)
				}
			}
			p.endAll()
			for range 3 { // and tombstones go in the end
				p.fill()
				time.Sleep(time.Hour)
			}
			p.compare()
			cleaned += p.s.CleanerStats().Cleaned
			p.tombstonesAreGone()
			if err := p.s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Logf("%d compactions", cleaned)
	if cleaned < int64(steps/100)*int64(seeds) {
		t.Errorf("only %d compactions: the test does not test", cleaned)
	}
}

func (p *compactor) step() (cleaned int64) {
	switch n := p.rng.IntN(100); {
	case n < 40:
		p.send(batch.Plain(), false)
	case n < 55:
		p.idempotent(int64(p.rng.IntN(3)), false)
	case n < 70:
		p.idempotent(100+int64(p.rng.IntN(3)), true)
	case n < 82:
		p.end(100+int64(p.rng.IntN(3)), p.rng.IntN(2) == 0)
	case n < 92:
		time.Sleep(time.Duration(p.rng.IntN(120)) * time.Second)
	case n < 95:
		p.compare()
	case n < 97:
		cleaned = p.s.CleanerStats().Cleaned
		p.reopen()
		p.compare()
	default:
		cleaned = p.s.CleanerStats().Cleaned
		p.kill()
		p.compare()
	}
	return cleaned
}

// send appends one batch of random records.
func (p *compactor) send(o batch.Options, verified bool) {
	if p.failed = p.failed || p.s.Err() != nil; p.failed {
		return
	}
	l, err := p.log("t")
	if _, faulty := p.fs.(*vfs.Fault); err != nil && faulty {
		p.failed = true // what works beside met the error just now
		return
	}
	if err != nil {
		p.t.Fatal(err)
	}
	first := l.Offsets().End
	n := 1 + p.rng.IntN(4)
	var messages []batch.Message
	for i := range n {
		p.batches++
		m := batch.Message{Timestamp: time.Now().UnixMilli(), Key: fmt.Appendf(nil, "key %d", p.rng.IntN(15)), Value: fmt.Appendf(nil, "value %d", p.batches)}
		w := written{offset: first + int64(i), timestamp: m.Timestamp, key: string(m.Key), value: string(m.Value), producer: -1, decided: !o.Transactional}
		if p.rng.IntN(6) == 0 {
			m.Value, w.value, w.tombstone = nil, "", true
		}
		if o.Transactional {
			w.producer = o.ProducerID
		}
		if p.rng.IntN(3) == 0 {
			m.Headers = []batch.RecordHeader{{Key: []byte("h"), Value: []byte("x")}}
		}
		messages = append(messages, m)
		p.history = append(p.history, w)
	}
	o.Codec = batch.Codec(p.rng.IntN(p.codecs))
	raw, err := new(batch.Encoder).Append(nil, o, messages)
	if err != nil {
		p.t.Fatal(err)
	}
	if !p.push(raw, AppendOptions{Verified: verified}) {
		for i := range p.history {
			if p.history[i].offset >= first {
				p.history[i].unsure = true
			}
		}
		return
	}
	if o.ProducerID >= 0 {
		p.sequence[o.ProducerID] += int32(n)
	}
}

// push is false if it failed, as it may on a disk that does.
func (p *compactor) push(raw []byte, o AppendOptions) bool {
	o.LeaderEpoch, o.Durable = p.epoch, true
	l, err := p.log("t")
	var done Appended
	if err == nil {
		done, err = l.Append(time.Now(), raw, o)
	}
	if err == nil {
		<-done.Commit.Done()
		err = done.Commit.Err()
	}
	if _, faulty := p.fs.(*vfs.Fault); err != nil && !faulty {
		p.t.Fatal(err)
	}
	p.failed = err != nil
	return err == nil
}

func (p *compactor) idempotent(id int64, transactional bool) {
	o := batch.Plain()
	o.ProducerID, o.ProducerEpoch, o.BaseSequence, o.Transactional = id, 0, p.sequence[id], transactional
	p.send(o, transactional && !p.open[id])
	if transactional {
		p.open[id] = true
	}
}

func (p *compactor) end(id int64, commit bool) {
	if !p.open[id] || p.failed {
		return
	}
	kind := batch.ControlAbort
	if commit {
		kind = batch.ControlCommit
	}
	sure := p.push(batch.AppendMarker(nil, id, 0, kind, 1, time.Now().UnixMilli()), AppendOptions{Origin: Coordinator})
	p.open[id] = false
	for i := range p.history {
		if w := &p.history[i]; w.producer == id && !w.decided {
			w.decided, w.aborted, w.unsure = true, !commit, !sure
		}
	}
}

func (p *compactor) endAll() {
	for id := int64(100); id < 103; id++ {
		p.end(id, true)
	}
}

// fill writes a segment's worth under a key of its own, so that what is before it can be cleaned.
func (p *compactor) fill() {
	for range 30 {
		p.batches++
		m := batch.Message{Timestamp: time.Now().UnixMilli(), Key: []byte("fill"), Value: fmt.Appendf(nil, "value %d and much more of it so that it takes some space", p.batches)}
		p.history = append(p.history, written{offset: p.must("t").Offsets().End, timestamp: m.Timestamp, key: "fill", value: string(m.Value), producer: -1, decided: true})
		if !p.push(batch.Append(nil, batch.Plain(), []batch.Message{m}), AppendOptions{}) {
			return
		}
	}
}

// compare holds what a consumer reads against the history.
func (p *compactor) compare() {
	p.t.Helper()
	l := p.must("t")
	if err := l.Err(); err != nil {
		p.t.Fatal(err)
	}
	for _, mark := range []Mark{High, Stable} {
		if err := p.compareAt(l, mark); err != nil {
			p.t.Errorf("up to mark %d: %v", mark, err)
		}
	}
	if st := p.s.CleanerStats(); st.Uncleanable > 0 {
		p.t.Errorf("%d logs are uncleanable: %v", st.Uncleanable, l.uncleanable)
	}
	if err := p.compareTimes(l); err != nil {
		p.t.Error(err)
	}
}

func (p *compactor) compareAt(l *Log, mark Mark) error {
	o := l.Offsets()
	got, err := consume(l, mark)
	if err != nil {
		return err
	}
	by := map[int64]written{}
	last := map[string]written{}
	for _, w := range p.history {
		if w.offset >= o.At(mark) {
			continue
		}
		by[w.offset] = w
		if mark == Stable && w.aborted || w.unsure {
			continue
		}
		last[w.key] = w
	}
	seen, at := map[string]written{}, int64(-1)
	for _, r := range got {
		w, ok := by[r.offset]
		if !ok || r.offset <= at || w.key != r.key || w.value != r.value || w.tombstone != r.tombstone || w.timestamp != r.timestamp {
			return fmt.Errorf("read %+v after offset %d, written was %+v", r, at, w)
		}
		if mark == Stable && w.aborted && !w.unsure {
			return fmt.Errorf("read %+v, which was aborted", w)
		}
		at, seen[r.key] = r.offset, w
	}
	if mark != Stable {
		return nil // aborted records may be gone, or not
	}
	for key, w := range last {
		r, ok := seen[key]
		switch {
		case w.tombstone && (!ok || r.offset == w.offset), ok && r.unsure:
		case !ok:
			return fmt.Errorf("%+v is lost", w)
		case r.offset != w.offset:
			return fmt.Errorf("the last of %q is %+v, written was %+v", key, r, w)
		}
	}
	return p.compareProducers(l)
}

func (p *compactor) compareProducers(l *Log) error {
	if p.failed {
		return nil
	}
	for id, next := range p.sequence {
		have := l.producers.byID[id]
		if have == nil {
			return fmt.Errorf("producer %d is forgotten", id)
		}
		if p.open[id] != (have.txnFirst >= 0) {
			return fmt.Errorf("producer %d has its transaction at %d, open is %t", id, have.txnFirst, p.open[id])
		}
		if have.n > 0 && have.lastSeq() != next-1 {
			return fmt.Errorf("producer %d is at %d, want %d", id, have.lastSeq(), next-1)
		}
		if have.n == 0 {
			return fmt.Errorf("producer %d has lost its sequence, which was %d", id, next-1)
		}
	}
	return nil
}

// compareTimes looks records up by their timestamps.
func (p *compactor) compareTimes(l *Log) error {
	synctest.Wait() // the cleaner rests while its clock stands still
	all, err := consume(l, High)
	if err != nil || len(all) == 0 {
		return err
	}
	for range 5 {
		target := all[p.rng.IntN(len(all))].timestamp
		i := slices.IndexFunc(all, func(w written) bool { return w.timestamp >= target })
		got, err := l.OffsetFor(target)
		if err != nil {
			return err
		}
		// A marker has a timestamp too, and is found before the next record of data.
		if got.Offset < 0 || got.Offset > all[i].offset || got.Timestamp < target {
			return fmt.Errorf("timestamp %d is found at %d, want %d", target, got.Offset, all[i].offset)
		}
	}
	return nil
}

// tombstonesAreGone: long after the last write nothing is left of keys that were deleted,
// but in the active segment, and nothing of aborted transactions but what producers need.
func (p *compactor) tombstonesAreGone() {
	l := p.must("t")
	active := l.active().base
	all, err := consume(l, High)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, r := range all {
		if r.offset < active && r.tombstone {
			p.t.Errorf("the tombstone %+v is still there; the active segment begins at %d", r, active)
		}
		for _, w := range p.history {
			if w.offset == r.offset && w.aborted {
				p.t.Errorf("the aborted %+v is still there", w)
			}
		}
	}
}

// A topic that was compacted once has gaps for ever: a recovery that reads all of it, as
// after a Kafka that was killed, finds them in order, whatever the policy is by then.
func TestRecoveryOfFormerlyCompacted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newCompactor(t, vfs.NewCrash(), 3)
		p.live()
		if p.s.CleanerStats().Cleaned == 0 {
			t.Fatal("nothing was compacted")
		}
		want, err := consume(p.must("t"), High)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.s.Close(); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{recoveryPointFile, cleanShutdownFile} {
			if err := p.fs.Remove("data/" + name); err != nil {
				t.Fatal(err)
			}
		}
		p.c.Compact, p.c.Delete = false, true
		p.rig.open()
		got, err := consume(p.must("t"), High)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%d records are left of %d: %v", len(got), len(want), err)
		}
		if err := errors.Join(p.must("t").Err(), p.s.Close()); err != nil {
			t.Error(err)
		}
	})
}

// consume reads a log as a consumer does: control batches hidden, and with Stable the
// records of aborted transactions too (Fetcher of the Java client).
func consume(l *Log, mark Mark) ([]written, error) {
	var all []written
	from := l.Offsets().Start
	for from < l.Offsets().At(mark) {
		c, err := l.Read(from, 900, mark, true)
		if err != nil {
			return nil, err
		}
		var raw []byte
		for _, r := range c.Runs() {
			b := make([]byte, r.Len)
			if n, err := r.File.ReadAt(b, r.Off); n < r.Len {
				c.Release()
				return nil, err
			}
			raw = append(raw, b...)
		}
		coming := slices.Clone(c.Aborted)
		c.Release()
		if len(raw) == 0 {
			break // the rest of the log has nothing in it
		}
		aborted := map[int64]bool{}
		for len(raw) > 0 {
			h, err := batch.Parse(raw)
			if err == nil {
				err = batch.CheckCRC(&h, raw)
			}
			if err != nil {
				return nil, err
			}
			b := raw[:h.Size()]
			raw = raw[h.Size():]
			start := from
			from = h.LastOffset() + 1
			coming = slices.DeleteFunc(coming, func(a AbortedTxn) bool {
				if a.FirstOffset <= h.LastOffset() {
					aborted[a.ProducerID] = true
				}
				return a.FirstOffset <= h.LastOffset()
			})
			if h.Control() {
				m, err := markerOf(&h, b)
				if err != nil {
					return nil, err
				}
				if m != nil && !m.commit {
					delete(aborted, h.ProducerID)
				}
				continue
			}
			if mark == Stable && h.Transactional() && aborted[h.ProducerID] {
				continue
			}
			err = batch.Records(b, 1<<20, func(r batch.Record) error {
				if offset := h.BaseOffset + int64(r.OffsetDelta); offset >= start {
					all = append(all, written{offset: offset, timestamp: h.BaseTimestamp + r.TimestampDelta, key: string(bytes.Clone(r.Key)), value: string(bytes.Clone(r.Value)), tombstone: r.Value == nil})
				}
				return nil
			})
			if err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}
