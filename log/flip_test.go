package log

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log/batch"
)

// archive is a data directory with files of every kind, and what they hold.
type archive struct {
	disk    *vfs.Crash
	files   []string
	killed  bool
	ledgers []ledger
	starts  map[string]int64 // log starts
	points  map[place]int64  // recovery points
}

// damaged is an archive in which one file is.
type damaged struct {
	*archive
	disk *vfs.Crash
	file string
	what string
}

// archives makes the directory that a clean stop leaves, and one that a kill leaves.
func archives(t *testing.T, seed uint64) (all []*archive) {
	synctest.Test(t, func(t *testing.T) {
		f := newLife(&rig{t: t}, seed, nil, nil)
		f.live(80)
		f.open()
		for _, topic := range lifeTopics { // so that each has an aborted transaction, several segments, and a start
			topic := f.choose(topic)
			for range 3 {
				err := errors.Join(f.fill(topic), f.appendTransactional(topic), f.endTransaction(topic), f.appendIdempotent(topic))
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		f.commitAll()
		time.Sleep(2 * f.every) // checkpoints
		starts := f.starts()
		killed := f.archive(vfs.Kill, starts)
		if err := f.s.Close(); err != nil {
			t.Fatal(err)
		}
		all = []*archive{f.archive(vfs.KeepAll, starts), killed}
	})
	return all
}

// choose is pick for a topic that is named.
func (f *life) choose(topic string) string {
	for f.pick() != topic {
	}
	return topic
}

// commitAll makes everything durable.
func (f *life) commitAll() {
	for _, topic := range lifeTopics {
		f.choose(topic)
		if err := f.send(topic, f.some(batch.Plain()), AppendOptions{Durable: true}); err != nil {
			f.t.Fatal(err)
		}
	}
}

// starts are the log starts of all topics.
func (f *life) starts() map[string]int64 {
	starts := map[string]int64{}
	for _, topic := range lifeTopics {
		starts[topic] = f.must(topic).Offsets().Start
	}
	return starts
}

func (f *life) archive(mode vfs.Mode, starts map[string]int64) *archive {
	a := &archive{disk: f.disk.Crash(mode, 0), killed: mode == vfs.Kill, ledgers: f.promises(), starts: starts}
	var err error
	if a.files, err = vfs.Files(a.disk, "data"); err != nil {
		f.t.Fatal(err)
	}
	b, err := readFile(a.disk, "data/"+recoveryPointFile, 1<<20)
	if err == nil {
		a.points, err = parseOffsets(b)
	}
	if err != nil {
		f.t.Fatal(err)
	}
	return a
}

// kindOf is what a file is, for the table.
func kindOf(name string) string {
	base := path.Base(name)
	if _, suffix, ok := strings.Cut(base, "."); ok && len(base) > 20 && leadingOffset(base) >= 0 {
		return "." + suffix
	}
	return base
}

// A file that a bad disk has changed is noticed, or it is no matter: what is read is what
// was written, or an error; nothing that was promised is missing without a word, and no
// file that holds data is removed.
func TestDamageOfEveryFile(t *testing.T) {
	cases, lives := 7500, uint64(6)
	if testing.Short() {
		cases, lives = 400, 1
	}
	var mu sync.Mutex
	outcomes := map[string]map[string]int{}
	t.Run("life", func(t *testing.T) {
		for seed := range lives {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				t.Parallel()
				all := archives(t, seed)
				rng := rand.New(rand.NewPCG(seed, 5))
				for range cases / int(lives) {
					d := all[rng.IntN(len(all))].damage(t, rng)
					synctest.Test(t, func(t *testing.T) {
						outcome, err := d.judge(t)
						if err != nil {
							why, known := d.undetectable(err)
							if outcome = "NOT NOTICED: " + why; !known {
								outcome = "WRONG"
								t.Errorf("seed %d, killed %t: %s: %s: %v", seed, d.killed, d.file, d.what, err)
							}
						}
						mu.Lock()
						defer mu.Unlock()
						key := kindOf(d.file) + " " + strings.SplitN(d.what, ":", 2)[0]
						if outcomes[key] == nil {
							outcomes[key] = map[string]int{}
						}
						outcomes[key][outcome]++
					})
				}
			})
		}
	})
	var s strings.Builder
	for _, key := range slices.Sorted(maps.Keys(outcomes)) {
		for _, o := range slices.Sorted(maps.Keys(outcomes[key])) {
			fmt.Fprintf(&s, "%6d  %s: %s\n", outcomes[key][o], key, o)
		}
	}
	t.Logf("what came of it:\n%s", s.String())
}

// wrong is what was read and should have been another thing.
type wrong struct{ what, detail string }

func (w wrong) Error() string { return w.what + ": " + w.detail }

func wrongly(what, detail string, args ...any) error {
	return wrong{what, fmt.Sprintf(detail, args...)}
}

// What can be wrong.
const (
	wrongData    = "other data"
	wrongMissing = "missing"
	wrongStart   = "another log start"
	wrongTime    = "another offset for a time"
	wrongAborted = "a committed transaction said to be aborted"
)

// undetectable tells why a change could not be noticed: where the files have neither a checksum
// nor another place that says the same.
func (d *damaged) undetectable(err error) (why string, yes bool) {
	w, ok := errors.AsType[wrong](err)
	if !ok || kindOf(d.file) != logSuffix || w.what != wrongData && w.what != wrongMissing {
		return "", false
	}
	at, cut, ok := d.where()
	if !ok {
		return "", false
	}
	hs, pos, i := d.batchAt(at)
	above := d.killed && i < len(hs) && hs[i].BaseOffset >= d.points[place{path.Base(path.Dir(d.file))[:len(path.Base(path.Dir(d.file)))-2], 0}]
	switch byte := at - pos; {
	case !cut && byte >= batch.Overhead && byte < 16 && above:
		return "the leader epoch of a batch above the recovery point, which goes with those of its neighbours", true
	case d.knowsGaps():
		return "", false
	case !cut && byte < 8 && gapBeside(hs, i):
		return "the base offset of a batch beside a gap that Kafka's compaction left", true
	case cut && byte == 0 && gapIn(hs):
		return "a segment that Kafka compacted was cut off between two batches", true
	}
	return "", false
}

// where is the byte that a bit was flipped in, or from which on the file is lost.
func (d *damaged) where() (at int, cut, ok bool) {
	var bit, size int
	if _, err := fmt.Sscanf(d.what, "flip: bit %d of byte %d of %d", &bit, &at, &size); err == nil {
		return at, false, true
	}
	_, err := fmt.Sscanf(d.what, "truncate: to %d of %d", &at, &size)
	return at, true, err == nil
}

// batchAt gives the batches of the file as it was, and which of them has a byte, from its own position on.
func (d *damaged) batchAt(at int) (hs []batch.Header, pos, i int) {
	b, err := readFile(d.archive.disk, d.file, 1<<20)
	i = -1
	for p := 0; err == nil && p < len(b); {
		h, e := batch.Parse(b[p:])
		if err = e; err == nil {
			if at >= p && at < p+h.Size() {
				pos, i = p, len(hs)
			}
			hs, p = append(hs, h), p+h.Size()
		}
	}
	return hs, pos, max(i, 0)
}

// gapBeside tells that the i-th batch of a segment lies next to a gap, or ends it.
func gapBeside(hs []batch.Header, i int) bool {
	return i+1 >= len(hs) || hs[i+1].BaseOffset > hs[i].LastOffset()+1 || i > 0 && hs[i].BaseOffset > hs[i-1].LastOffset()+1
}

func gapIn(hs []batch.Header) bool {
	for i := range hs {
		if i > 0 && hs[i].BaseOffset > hs[i-1].LastOffset()+1 {
			return true
		}
	}
	return false
}

// knowsGaps tells that the segment has an index that we wrote, and not one of Kafka's.
func (d *damaged) knowsGaps() bool {
	b, err := readFile(d.archive.disk, strings.TrimSuffix(d.file, logSuffix)+indexSuffix, 1<<20)
	return err == nil && len(b) >= indexEntryBytes && decodeIndexEntry(b).pos == 0
}

// damage chooses a file and changes it.
func (a *archive) damage(t *testing.T, rng *rand.Rand) *damaged {
	byKind := map[string][]string{}
	for _, name := range a.files {
		byKind[kindOf(name)] = append(byKind[kindOf(name)], name)
	}
	kinds := slices.Sorted(maps.Keys(byKind))
	for {
		of := byKind[kinds[rng.IntN(len(kinds))]]
		d := &damaged{archive: a, disk: a.disk.Crash(vfs.Kill, 0), file: of[rng.IntN(len(of))]}
		var err error
		if d.what, err = vfs.Damage(d.disk, d.file, rng); err != nil {
			t.Fatal(err)
		}
		if d.what != "" {
			return d
		}
	}
}

// judge opens the directory and reads everything.
func (d *damaged) judge(t *testing.T) (outcome string, err error) {
	b := &rig{t: t, fs: d.disk, c: small(), every: time.Minute, ledgers: map[string]*ledger{}}
	for i := range d.ledgers {
		g := d.ledgers[i]
		b.ledgers[g.topic] = &g
	}
	b.known = b.current
	s, err := OpenStore(d.disk, "data", b.options())
	if err != nil {
		if !strings.Contains(err.Error(), path.Base(d.file)) {
			return "", fmt.Errorf("the start is refused without a word about %s: %w", d.file, err)
		}
		return "the start is refused", nil
	}
	b.s, outcome = s, "harmless"
	for _, topic := range slices.Sorted(maps.Keys(b.ledgers)) {
		if b.ledgers[topic].gone {
			continue
		}
		o, e := d.judgeLog(b, b.ledgers[topic])
		if e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", topic, e))
		}
		if o != "" {
			outcome = o
		}
	}
	_ = s.Close()
	return outcome, errors.Join(err, d.filesKept())
}

// judgeLog reads one log from its start to its end and compares. Empty: all is right.
func (d *damaged) judgeLog(b *rig, g *ledger) (outcome string, err error) {
	l, err := b.log(g.topic)
	if err != nil {
		another := errors.Is(err, ErrClosed) && strings.Contains(err.Error(), "belongs to topic id")
		if !another && !errors.Is(err, ErrStorage) || !strings.Contains(err.Error(), g.topic+"-0") {
			return "", fmt.Errorf("refused without a word: %w", err)
		}
		return "the partition is refused", nil
	}
	o := l.Offsets()
	mine := strings.HasPrefix(d.file, "data/"+g.topic+"-0/")
	if o.Start != d.starts[g.topic] && !(mine && l.Err() != nil) {
		return "", wrongly(wrongStart, "%d, was %d", o.Start, d.starts[g.topic])
	}
	want := slices.Clone(g.entries)
	want = slices.DeleteFunc(want, func(e entry) bool { return e.last < o.Start })
	for from := o.Start; ; {
		c, err := l.Read(from, 1<<20, End, true)
		if err != nil {
			if errors.Is(err, ErrStorage) {
				return "reading it is refused", nil
			}
			return "", fmt.Errorf("read at %d of %+v: %w", from, o, err)
		}
		if c.Bytes == 0 {
			c.Release()
			break
		}
		raw := make([]byte, c.Bytes)
		_, err = c.Runs()[0].File.ReadAt(raw, c.Runs()[0].Off)
		c.Release()
		if err != nil {
			return "", err
		}
		for len(raw) > 0 {
			h, err := batch.Parse(raw)
			if err == nil {
				err = batch.CheckCRC(&h, raw[:h.Size()])
			}
			if err != nil {
				return "the client sees a wrong CRC", nil
			}
			for len(want) > 0 && want[0].optional && want[0].first != h.BaseOffset {
				want = want[1:]
			}
			switch {
			case len(want) == 0:
				return "", wrongly(wrongData, "a batch %d-%d too much", h.BaseOffset, h.LastOffset())
			case !bytes.Equal(raw[:h.Size()], want[0].bytes):
				w, _ := batch.Parse(want[0].bytes)
				return "", wrongly(wrongData, "base offset %d and epoch %d, want %d and %d", h.BaseOffset, h.LeaderEpoch, w.BaseOffset, w.LeaderEpoch)
			}
			raw, want, from = raw[h.Size():], want[1:], h.LastOffset()+1
		}
	}
	for _, e := range want {
		if e.optional {
			continue
		}
		if d.killed && mine && e.first >= d.points[place{g.topic, 0}] {
			return "cut off as torn, above the recovery point", nil
		}
		return "", wrongly(wrongMissing, "from %d on of %+v", e.first, o)
	}
	return d.judgeDerived(l, g)
}

// judgeDerived looks things up by offset and time, and holds what is known of producers and
// transactions against the ledger: files that can be made again are behind these.
func (d *damaged) judgeDerived(l *Log, g *ledger) (outcome string, err error) {
	start := l.Offsets().Start
	aborted := map[AbortedTxn]bool{}
	open := map[int64]int64{}
	for _, e := range g.entries {
		h, err := batch.Parse(e.bytes)
		if err != nil {
			return "", err
		}
		if h.HasProducer() {
			m, err := markerOf(&h, e.bytes)
			switch _, is := open[h.ProducerID]; {
			case err != nil:
				return "", err
			case m != nil:
				aborted[AbortedTxn{h.ProducerID, open[h.ProducerID]}] = !m.commit && e.last >= start
				delete(open, h.ProducerID)
			case h.Transactional() && !is:
				open[h.ProducerID] = e.first
			}
		}
		if e.first < start || e.optional {
			continue
		}
		c, err := l.Read(e.first, 1, End, true)
		if err != nil {
			if errors.Is(err, ErrStorage) {
				return "reading it is refused", nil
			}
			return "", fmt.Errorf("read at %d: %w", e.first, err)
		}
		raw := make([]byte, c.Bytes)
		if c.Bytes > 0 {
			_, err = c.Runs()[0].File.ReadAt(raw, c.Runs()[0].Off)
		}
		c.Release()
		if err != nil || !bytes.Equal(raw, e.bytes) {
			return "", wrongly(wrongData, "at %d, found by the index: %d bytes, %v", e.first, len(raw), err)
		}
		if g.compact {
			continue // the files of the compaction in a life have empty time indexes
		}
		at, err := l.OffsetFor(h.MaxTimestamp)
		if err != nil {
			if errors.Is(err, ErrStorage) {
				return "a time is refused", nil
			}
			return "", err
		}
		if at.Offset < start || at.Offset > e.last || at.Timestamp < h.MaxTimestamp {
			return "", wrongly(wrongTime, "that of offset %d gives %d", e.last, at.Offset)
		}
	}
	c, err := l.Read(start, 1<<20, Stable, true)
	if err != nil {
		if errors.Is(err, ErrStorage) {
			return "reading what is committed is refused", nil
		}
		return "", err
	}
	defer c.Release()
	for _, a := range c.Aborted {
		if !aborted[a] {
			return "", wrongly(wrongAborted, "%+v", a)
		}
	}
	return "", d.judgeProducers(l, g)
}

// judgeProducers compares producers that are remembered; to forget one is no harm.
func (d *damaged) judgeProducers(l *Log, g *ledger) error {
	want := newProducers()
	for _, e := range g.entries {
		h, err := batch.Parse(e.bytes)
		if err != nil {
			return err
		}
		if !h.HasProducer() || e.first >= l.Offsets().End {
			continue
		}
		m, err := markerOf(&h, e.bytes)
		if err != nil {
			return err
		}
		want.apply(&h, m)
	}
	for id, have := range l.producers.byID {
		p := want.byID[id]
		if p == nil || have.epoch != p.epoch || have.lastSeq() != p.lastSeq() || have.txnFirst != p.txnFirst {
			return fmt.Errorf("producer %d is %+v, want %+v", id, *have, p)
		}
	}
	return nil
}

// filesKept: whatever held records is still there, in its place or set aside.
func (d *damaged) filesKept() error {
	now, err := vfs.Files(d.disk, "data")
	if err != nil {
		return err
	}
	for _, name := range d.files {
		if !strings.HasSuffix(name, logSuffix) || slices.Contains(now, name) {
			continue
		}
		dir, base := path.Split(name)
		aside := strings.TrimSuffix(dir, "/") + "."
		if !slices.ContainsFunc(now, func(n string) bool { return strings.HasPrefix(n, aside) && path.Base(n) == base }) {
			return fmt.Errorf("%s is gone", kindOf(name))
		}
	}
	return nil
}
