package log

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log/batch"
)

// dirsRig is a rig with two data directories and a metadata log that knows where
// partitions are.
type dirsRig struct {
	*rig
	names []string

	mu       sync.Mutex
	assigned map[partitionKey][16]byte
	rate     atomic.Int64
	step     int64
	unknown  bool // no topic is known
}

func newDirsRig(t testing.TB, fs vfs.FS) *dirsRig {
	b := &dirsRig{
		rig:   &rig{t: t, fs: fs, c: small(), every: time.Minute, ledgers: map[string]*ledger{}},
		names: []string{"one", "two"}, assigned: map[partitionKey][16]byte{}, step: 200,
	}
	b.rate.Store(1 << 40)
	return b
}

func dirID(name string) (id [16]byte) {
	copy(id[:], "directory "+name)
	return id
}

// open opens the directories. On a disk that fails it may be false.
func (b *dirsRig) open() bool {
	b.t.Helper()
	d, err := b.tryOpen()
	if err != nil {
		if _, faulty := b.fs.(*vfs.Fault); !faulty {
			b.t.Fatal(err)
		}
		return false
	}
	b.d = d
	return true
}

func (b *dirsRig) tryOpen() (*Dirs, error) {
	o := DirsOptions{Options: b.options(), Names: b.names, Metadata: b.names[0], MoveRate: func() int64 { return b.rate.Load() }}
	o.ProducerExpiration = 1e6 * time.Hour // the clock goes on through thousands of recoveries
	o.Assigned = func(topic [16]byte, partition int32) ([16]byte, bool) {
		b.mu.Lock()
		defer b.mu.Unlock()
		dir, ok := b.assigned[partitionKey{topic, partition}]
		if !ok {
			return unassignedDir, !b.unknown
		}
		return dir, true
	}
	o.Assign = func(_ context.Context, topic [16]byte, partition int32, dir [16]byte) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.assigned[partitionKey{topic, partition}] = dir
		return nil
	}
	d, err := OpenDirs(b.fs, o)
	if err != nil {
		return nil, err
	}
	d.mover.stepBytes, d.mover.swapBytes = b.step, b.step
	for _, r := range d.Directories() {
		if err := d.SetID(r, dirID(r.Name())); err != nil {
			return nil, errors.Join(err, d.Close())
		}
	}
	if err := d.Begin(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// log opens a log and records where it is, as the broker does.
func (b *dirsRig) log(topic string) (*Log, error) {
	l, err := b.rig.log(topic)
	if err == nil {
		b.mu.Lock()
		b.assigned[partitionKey{l.id, 0}] = b.d.ID(b.d.Of(l))
		b.mu.Unlock()
	}
	return l, err
}

// move begins the move of a topic's log.
func (b *dirsRig) move(topic, to string) error {
	l, err := b.log(topic)
	if err != nil {
		return err
	}
	r, err := b.d.Named(to)
	if err != nil {
		return err
	}
	return b.d.Move(l, r)
}

// where is the directory of a topic's log, and where it is on its way to.
func (b *dirsRig) where(topic string) (dir, to string) {
	b.t.Helper()
	l, err := b.log(topic)
	if err != nil {
		b.t.Fatal(err)
	}
	if r, _, _ := b.d.Moving(l); r != nil {
		to = r.Name()
	}
	return l.Directory(), to
}

// fill appends n batches to a topic, some of them of a producer and of transactions.
func (b *dirsRig) fill(topic string, from, n int) {
	now := time.Now().UnixMilli()
	for i := from; i < from+n; i++ {
		o := batch.Plain()
		ao := AppendOptions{Origin: Client, Durable: i%3 == 0, LeaderEpoch: int32(i / 7), Verified: true}
		switch i % 4 {
		case 1:
			o.ProducerID, o.ProducerEpoch, o.BaseSequence = 7, int16(i), 0
		case 2:
			o.ProducerID, o.ProducerEpoch, o.BaseSequence, o.Transactional = 20+int64(i), 0, 0, true
		}
		_, _ = b.append(topic, data(o, now, i, 1+i%3), ao)
		if i%4 == 2 && i%8 != 6 {
			marker := batch.AppendMarker(nil, 20+int64(i), 0, []batch.ControlKind{batch.ControlAbort, batch.ControlCommit}[i/4%2], 5, now)
			_, _ = b.append(topic, marker, AppendOptions{Origin: Coordinator, Durable: true, LeaderEpoch: int32(i / 7)})
		}
	}
}

// A new partition goes where it was asked to, or is recorded, or where the fewest are.
func TestPlacement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newDirsRig(t, vfs.NewMem())
		b.names = []string{"one", "two", "three"}
		b.open()
		var got []string
		place := func(topics ...string) {
			for _, topic := range topics {
				dir, _ := b.where(topic)
				got = append(got, topic+":"+dir)
			}
		}
		place("a", "b", "c", "d")
		b.d.Wish("e", 0, b.d.dirs[0])
		place("e", "f")
		b.mu.Lock()
		b.assigned[partitionKey{b.ledger("g").id, 0}] = dirID("one")
		b.assigned[partitionKey{b.ledger("h").id, 0}] = dirID("gone") // and no directory is out of service
		b.assigned[partitionKey{b.ledger("i").id, 0}] = lostDir
		b.mu.Unlock()
		place("g", "h", "i")
		b.d.Cordon([]string{"two", "three"})
		place("j", "k")
		b.d.Cordon(nil)
		if err := b.d.Remove("j", 0, b.ledger("j").id); err != nil {
			t.Fatal(err)
		}
		place("l", "m")
		want := "a:one b:two c:three d:one e:one f:two g:one h:three i:two j:one k:one l:three m:two"
		if s := strings.Join(got, " "); s != want {
			t.Errorf("placed %s\nwant   %s", s, want)
		}
		if err := b.d.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A clean stop of a process that did not get as far as opening all logs says nothing about them.
func TestCleanOnlyWhenAllWereOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewCrash()
		b := newRig(t, disk)
		for i, topic := range []string{"a", "b"} {
			if _, err := b.append(topic, data(batch.Plain(), time.Now().UnixMilli(), i, 2), AppendOptions{Durable: true}); err != nil {
				t.Fatal(err)
			}
		}
		b.fs = disk.Crash(vfs.Kill, 0)
		_ = b.s.Close()
		for i, topics := range [][]string{{"a"}, {"a", "b"}, nil} {
			b.open()
			if clean := b.s.Clean(); clean != (i == 2) {
				t.Errorf("start %d: clean is %v", i, clean)
			}
			for _, topic := range topics {
				if _, err := b.log(topic); err != nil {
					t.Fatal(err)
				}
			}
			if err := b.s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A log moves while it is read and written, with all that belongs to it, and is
// found in its new directory by the next start.
func TestMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newDirsRig(t, vfs.NewMem())
		b.open()
		b.fill("a", 0, 40)
		if err := b.deleteBefore("a", 11); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		from, err := b.log("a")
		if err != nil {
			t.Fatal(err)
		}
		wake := make(chan struct{}, 1)
		defer from.Notify(wake)()
		before, _ := aborted(from)
		b.rate.Store(2000)
		if err := b.move("a", "two"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		if dir, to := b.where("a"); dir != "one" || to != "two" {
			t.Fatalf("the log is in %s on its way to %s", dir, to)
		}
		r, bytes, lag := b.d.Moving(from)
		if r == nil || bytes <= 0 || lag <= 0 {
			t.Errorf("%d bytes are there, %d records are missing", bytes, lag)
		}
		for i := range 20 {
			b.fill("a", 100+i, 1)
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		if dir, to := b.where("a"); dir != "two" || to != "" {
			t.Fatalf("the log is in %s on its way to %q", dir, to)
		}
		if b.assigned[partitionKey{from.id, 0}] != dirID("two") {
			t.Error("the new place is not recorded")
		}
		select {
		case <-wake:
		default:
		}
		b.fill("a", 200, 1)
		select {
		case <-wake:
		default:
			t.Error("who waited for news of the log before the move hears nothing after it")
		}
		if _, err := from.Append(time.Now(), data(batch.Plain(), time.Now().UnixMilli(), 1, 1), AppendOptions{}); err != nil {
			t.Errorf("an append that began before the move: %v", err)
		}
		b.ledgers["a"].entries = nil // that append is in no ledger
		to, _ := b.log("a")
		if to == from || to.Offsets().End != from.Offsets().End+1+1+1 && to.Offsets().End <= from.Offsets().End {
			t.Errorf("the log ends at %d, that before the move at %d", to.Offsets().End, from.Offsets().End)
		}
		if c, err := from.Read(20, 1000, High, true); err != nil || c.Bytes == 0 {
			t.Errorf("a read of the log before the move: %v", err)
		} else {
			c.Release()
		}
		after, o := aborted(to)
		if !slices.Equal(before, after[:len(before)]) || o.Start != 11 {
			t.Errorf("aborted transactions %v, before the move %v; start %d", after, before, o.Start)
		}
		if err := b.d.Close(); err != nil {
			t.Fatal(err)
		}
		b.open()
		if dir, to := b.where("a"); dir != "two" || to != "" {
			t.Errorf("at the next start it is in %s on its way to %q", dir, to)
		}
		again, _ := b.log("a")
		if again.Offsets() != o {
			t.Errorf("offsets %+v, want %+v", again.Offsets(), o)
		}
		if err := b.d.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		for _, dir := range b.names {
			entries, _ := b.fs.ReadDir(dir)
			for _, e := range entries {
				if _, future := futureOf(e.Name()); future || dir == "one" && strings.HasPrefix(e.Name(), "a-0") && !strings.HasSuffix(e.Name(), deleteDirSuffix) {
					t.Errorf("%s/%s was left", dir, e.Name())
				}
			}
		}
	})
}

// aborted lists the aborted transactions that a reader of the whole log is told of.
func aborted(l *Log) ([]AbortedTxn, Offsets) {
	var all []AbortedTxn
	o := l.Offsets()
	for from := o.Start; from < o.Stable; {
		c, err := l.Read(from, 1<<20, Stable, true)
		if err != nil || c.Bytes == 0 {
			break
		}
		for _, a := range c.Aborted {
			if !slices.Contains(all, a) {
				all = append(all, a)
			}
		}
		for _, r := range c.Runs() {
			b := make([]byte, r.Len)
			_, _ = r.File.ReadAt(b, r.Off)
			for len(b) > 0 {
				h, _ := batch.Parse(b)
				from = h.LastOffset() + 1
				b = b[h.Size():]
			}
		}
		c.Release()
	}
	return all, o
}

// Whoever asks for moves at the same time, there is one log in the end, whole, and no copy of it.
func TestMovesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newDirsRig(t, vfs.NewMem())
		b.names = []string{"one", "two", "three"}
		b.open()
		b.fill("a", 0, 40)
		var wg sync.WaitGroup
		for who := range 3 {
			wg.Go(func() {
				for i := range 60 {
					if err := b.move("a", b.names[(who+i*(who+1))%3]); err != nil {
						t.Error(err)
					}
					time.Sleep(time.Duration(1+who*7+i%5) * time.Millisecond)
				}
			})
		}
		b.rate.Store(50_000)
		for i := range 60 {
			b.fill("a", 100+i, 1)
			time.Sleep(5 * time.Millisecond)
		}
		wg.Wait()
		if err := b.move("a", "three"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		l, err := b.log("a")
		if err != nil || l.Directory() != "three" {
			t.Fatalf("the log is in %s: %v", l.Directory(), err)
		}
		if err := b.ledgers["a"].check(l, true); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Minute)
		if got := b.list(); got != "three/a-0" {
			t.Errorf("there is %s", got)
		}
		if err := b.d.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// The move back ends a move, a topic's removal does, and a stop leaves it for the next start.
func TestMoveCalledOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newDirsRig(t, vfs.NewMem())
		b.open()
		for _, topic := range []string{"a", "b", "c"} {
			b.fill(topic, 0, 30)
		}
		b.rate.Store(300)
		for topic, to := range map[string]string{"a": "two", "b": "one", "c": "two"} {
			if err := b.move(topic, to); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Second)
		if err := b.move("a", "one"); err != nil {
			t.Fatal(err)
		}
		if dir, to := b.where("a"); dir != "one" || to != "" {
			t.Errorf("after the move back: in %s on its way to %q", dir, to)
		}
		if err := b.d.Remove("b", 0, b.ledger("b").id); err != nil {
			t.Fatal(err)
		}
		if err := b.move("a", "nowhere"); !errors.Is(err, ErrNoDirectory) {
			t.Errorf("to a directory that does not exist: %v", err)
		}
		if err := b.d.Close(); err != nil {
			t.Fatal(err)
		}
		b.open()
		if dir, to := b.where("c"); dir != "one" || to != "two" {
			t.Errorf("after a stop: in %s on its way to %q", dir, to)
		}
		l, _ := b.log("c")
		if _, bytes, _ := b.d.Moving(l); bytes == 0 {
			t.Error("what was copied before a clean stop is thrown away")
		}
		b.rate.Store(1 << 40)
		time.Sleep(time.Minute)
		if dir, to := b.where("c"); dir != "two" || to != "" {
			t.Errorf("then: in %s on its way to %q", dir, to)
		}
		l, _ = b.log("c")
		if err := b.ledgers["c"].check(l, true); err != nil {
			t.Error(err)
		}
		if err := b.d.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A log whose segments are replaced while it moves is copied again.
func TestMoveOfARewrittenLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newDirsRig(t, vfs.NewMem())
		b.open()
		b.fill("a", 0, 60)
		time.Sleep(2 * time.Second) // sealed segments are finished
		b.rate.Store(1000)
		if err := b.move("a", "two"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1100 * time.Millisecond)
		l, _ := b.log("a")
		if _, bytes, lag := b.d.Moving(l); bytes == 0 || lag == 0 || !l.moving.Load() {
			t.Fatalf("%d bytes are copied, %d records are missing", bytes, lag)
		}
		l.mu.Lock()
		all := *l.segments.Load()
		for i, g := range all[:len(all)-1] {
			n := l.newSegment(g.base, g.created)
			n.end, n.exists, n.finished, n.timesKnown = g.end, true, true, false
			n.size.Store(g.size.Load())
			n.mem.Store(nil)
			n.aborted.Store(nil)
			all = slices.Clone(all)
			all[i] = n
		}
		l.setSegments(all)
		l.mu.Unlock()
		time.Sleep(time.Second)
		if _, bytes, _ := b.d.Moving(l); bytes > 1500 {
			t.Errorf("%d bytes are copied a second later", bytes)
		}
		time.Sleep(time.Minute)
		if dir, to := b.where("a"); dir != "two" || to != "" {
			t.Errorf("the log is in %s on its way to %q", dir, to)
		}
		l, _ = b.log("a")
		if err := b.ledgers["a"].check(l, true); err != nil {
			t.Error(err)
		}
		if err := b.d.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
