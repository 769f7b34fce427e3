package log

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log/batch"
)

// inStore runs f on an empty store in memory, in fake time.
func inStore(t *testing.T, f func(t *testing.T, b *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newRig(t, vfs.NewCrash())
		f(t, b)
		if err := b.s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// put appends n plain records and fails the test if that is refused.
func (b *rig) put(topic string, seed, n int) Appended {
	b.t.Helper()
	done, err := b.append(topic, data(batch.Plain(), time.Now().UnixMilli(), seed, n), AppendOptions{Durable: true, LeaderEpoch: 1})
	if err != nil {
		b.t.Fatal(err)
	}
	return done
}

func (b *rig) must(topic string) *Log {
	b.t.Helper()
	l, err := b.log(topic)
	if err != nil {
		b.t.Fatal(err)
	}
	return l
}

// reopen stops cleanly and starts again.
func (b *rig) reopen() {
	b.t.Helper()
	if err := b.s.Close(); err != nil {
		b.t.Fatal(err)
	}
	b.open()
}

// kill starts again on what a killed process leaves.
func (b *rig) kill() {
	b.t.Helper()
	disk := b.fs.(*vfs.Crash).Crash(vfs.Kill, 0)
	_ = b.s.Close()
	b.fs = disk
	b.open()
}

// files lists a partition's directory.
func (b *rig) files(dir string) string {
	b.t.Helper()
	entries, err := b.fs.ReadDir("data/" + dir)
	if err != nil {
		b.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func TestReadLimits(t *testing.T) {
	inStore(t, func(t *testing.T, b *rig) {
		b.c.SegmentBytes = 1 << 20
		var sizes []int
		for i := range 5 {
			b.put("t", i, 2)
			sizes = append(sizes, len(b.ledgers["t"].entries[i].bytes))
		}
		l := b.must("t")
		all := sizes[0] + sizes[1] + sizes[2] + sizes[3] + sizes[4]
		for _, c := range []struct {
			from, max int64
			first     bool
			want      int
		}{
			{0, 1 << 20, false, all},
			{1, 1 << 20, false, all}, // in the middle of a batch: the whole batch
			{2, 1 << 20, false, all - sizes[0]},
			{0, int64(sizes[0]), false, sizes[0]},
			{0, int64(sizes[0] + sizes[1] - 1), false, sizes[0]},
			{0, int64(sizes[0] + sizes[1]), false, sizes[0] + sizes[1]},
			{0, 1, false, 0},
			{0, 1, true, sizes[0]},
			{0, 0, true, sizes[0]},
			{9, 1 << 20, true, sizes[4]},
			{10, 1 << 20, true, 0}, // the end: nothing yet
		} {
			got, err := l.Read(c.from, int(c.max), High, c.first)
			if err != nil {
				t.Fatalf("from %d: %v", c.from, err)
			}
			if got.Bytes != c.want {
				t.Errorf("from %d, at most %d, first %t: %d bytes, want %d", c.from, c.max, c.first, got.Bytes, c.want)
			}
			got.Release()
		}
		for _, from := range []int64{-1, 11} {
			if _, err := l.Read(from, 100, High, true); !errors.Is(err, ErrOutOfRange) {
				t.Errorf("from %d: %v, want out of range", from, err)
			}
		}
	})
}

// A segment rolls before it grows past segment.bytes, when its first record is older than segment.ms, and
// when its index is full; its files are complete soon after.
func TestRoll(t *testing.T) {
	inStore(t, func(t *testing.T, b *rig) {
		for i := range 10 {
			b.put("size", i, 3)
		}
		synctest.Wait()
		l := b.must("size")
		for _, g := range *l.segments.Load() {
			if size := g.size.Load(); size > int64(b.c.SegmentBytes) {
				t.Errorf("segment %d has %d bytes", g.base, size)
			}
		}
		if l.Segments() < 3 {
			t.Errorf("%d segments", l.Segments())
		}
		second := offsetName((*l.segments.Load())[1].base)
		for _, want := range []string{offsetName(0) + ".index", offsetName(0) + ".timeindex", second + ".snapshot", second + ".log"} {
			if got := b.files("size-0"); !strings.Contains(got, want) {
				t.Errorf("%s is not among %s", want, got)
			}
		}
		b.c.SegmentBytes, b.c.SegmentMillis = 1<<20, 1000
		b.put("time", 0, 1)
		time.Sleep(900 * time.Millisecond)
		b.put("time", 1, 1)
		if n := b.must("time").Segments(); n != 1 {
			t.Errorf("%d segments before segment.ms", n)
		}
		time.Sleep(200 * time.Millisecond)
		b.put("time", 2, 1)
		if n := b.must("time").Segments(); n != 2 {
			t.Errorf("%d segments after segment.ms", n)
		}
		b.c.SegmentMillis, b.c.SegmentIndexBytes = math.MaxInt64, 3*indexEntryBytes
		for i := range 20 {
			b.put("index", i, 3)
		}
		if n := b.must("index").Segments(); n < 3 {
			t.Errorf("%d segments of full indexes", n)
		}
	})
}

func TestTimestamps(t *testing.T) {
	inStore(t, func(t *testing.T, b *rig) {
		base := time.Now().UnixMilli()
		// Batch i holds three records at 100i, 100i+1, 100i+2, but for batch 4, which is late.
		at := func(i int) int64 {
			if i == 4 {
				return base + 50
			}
			return base + int64(100*i)
		}
		for i := range 12 {
			if _, err := b.append("t", data(batch.Plain(), at(i), i, 3), AppendOptions{LeaderEpoch: 2}); err != nil {
				t.Fatal(err)
			}
		}
		check := func(when string) {
			t.Helper()
			l := b.must("t")
			for probe := base - 1; probe < base+1200; probe++ {
				want := notTimed()
				for i := 0; i < 36 && want.Offset < 0; i++ {
					if ts := at(i/3) + int64(i%3); int64(i) >= l.Offsets().Start && ts >= probe {
						want = Timed{int64(i), ts, 2}
					}
				}
				if got, err := l.OffsetFor(probe); err != nil || got != want {
					t.Fatalf("%s: timestamp base+%d: %+v, %v; want %+v", when, probe-base, got, err, want)
				}
			}
			if got, err := l.MaxTimestamp(); err != nil || got != (Timed{35, at(11) + 2, 2}) {
				t.Errorf("%s: the largest is %+v, %v", when, got, err)
			}
		}
		check("live")
		synctest.Wait()
		check("with indexes written")
		b.reopen()
		check("after a clean stop")
		b.kill()
		check("after a kill")
		if err := b.deleteBefore("t", 7); err != nil {
			t.Fatal(err)
		}
		check("with a later start")
	})
}

func TestRetention(t *testing.T) {
	c := small()
	c.RetentionMillis, c.RetentionBytes = 1000, -1
	segs := []segmentInfo{{next: 10, bytes: 100, largest: 5000}, {next: 20, bytes: 100, largest: -1, modified: 5500}, {next: 25, bytes: 50, largest: 7000}}
	with := func(change func(*Config)) *Config { d := c; change(&d); return &d }
	for _, x := range []struct {
		name        string
		start, high int64
		now         int64
		c           *Config
		want        int
	}{
		{"nothing is old enough", 0, 25, 6000, &c, 0},
		{"the first is", 0, 25, 6001, &c, 1},
		{"the second by its file's time", 0, 25, 6501, &c, 2},
		{"all, the active one too", 0, 25, 8001, &c, 3},
		{"not beyond the high watermark", 0, 19, 8001, &c, 1},
		{"not without cleanup.policy=delete", 0, 25, 8001, with(func(c *Config) { c.Delete = false }), 0},
		{"but what is below the start", 20, 25, 0, with(func(c *Config) { c.Delete = false }), 2},
		{"a start inside keeps the segment", 19, 25, 0, &c, 1},
		{"by size: the oldest that is all too much", 0, 25, 0, with(func(c *Config) { c.RetentionBytes = 150 }), 1},
		{"by size: a part too much is kept", 0, 25, 0, with(func(c *Config) { c.RetentionBytes = 151 }), 0},
		{"by size: nothing is to be kept", 0, 25, 0, with(func(c *Config) { c.RetentionBytes = 0 }), 3},
		{"for ever", 0, 25, 99999, with(func(c *Config) { c.RetentionMillis = -1 }), 0},
	} {
		if got := expired(segs, x.start, x.high, x.now, x.c); got != x.want {
			t.Errorf("%s: %d segments, want %d", x.name, got, x.want)
		}
	}
	empty := append(segs[:2:2], segmentInfo{next: 20, bytes: 0, largest: -1})
	if got := expired(empty, 0, 20, 99999, &c); got != 2 {
		t.Errorf("an empty active segment: %d, want 2", got)
	}
}

// What is deleted is out of range at once, for a reader that holds it readable, and gone from the
// disk after file.delete.delay.ms.
func TestDeletionLeavesReadersAlone(t *testing.T) {
	inStore(t, func(t *testing.T, b *rig) {
		for i := range 6 {
			b.put("t", i, 3)
		}
		l := b.must("t")
		held, err := l.Read(0, 1, High, true)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.deleteBefore("t", 12); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Read(11, 100, High, true); !errors.Is(err, ErrOutOfRange) {
			t.Errorf("below the start: %v", err)
		}
		time.Sleep(time.Second)
		if got := b.files("t-0"); !strings.Contains(got, offsetName(0)+".log.deleted") {
			t.Errorf("nothing was renamed: %s", got)
		}
		time.Sleep(2 * time.Minute)
		if got := b.files("t-0"); strings.Contains(got, offsetName(0)) || strings.Contains(got, "deleted") {
			t.Errorf("what was deleted is still there: %s", got)
		}
		got := make([]byte, held.Runs()[0].Len)
		if _, err := held.Runs()[0].File.ReadAt(got, held.Runs()[0].Off); err != nil || !bytes.Equal(got, b.ledgers["t"].entries[0].bytes) {
			t.Errorf("the reader lost its file: %v", err)
		}
		held.Release()
		if err := b.ledgers["t"].check(l, true); err != nil {
			t.Error(err)
		}
		if _, err := l.DeleteBefore(19); !errors.Is(err, ErrOutOfRange) {
			t.Errorf("delete beyond the end: %v", err)
		}
		if start, err := l.DeleteBefore(-1); err != nil || start != 18 {
			t.Errorf("delete everything: %d, %v", start, err)
		}
		b.ledgers["t"].start = 18
		for _, again := range []func(){b.reopen, b.kill} {
			again()
			if o := b.must("t").Offsets(); o.Start != 18 || o.End != 18 {
				t.Errorf("after a restart: %+v", o)
			}
		}
		b.put("t", 99, 1)
		if err := b.ledgers["t"].check(b.must("t"), true); err != nil {
			t.Error(err)
		}
	})
}

// A removed log is gone for everybody, and its name free for another topic id. The late opener of the old id
// does not take it away again.
func TestRemoveAndReuse(t *testing.T) {
	inStore(t, func(t *testing.T, b *rig) {
		known := map[[16]byte]bool{testID(1): true}
		b.s.o.Known = func(id [16]byte) bool { return known[id] }
		b.put("t", 1, 5)
		old := b.must("t")
		wake := make(chan struct{}, 1)
		defer old.Notify(wake)()
		delete(known, testID(1))
		known[testID(2)] = true
		fresh, err := b.s.Open("t", 0, testID(2), b.c) // the new topic comes first
		if err != nil {
			t.Fatal(err)
		}
		if o := fresh.Offsets(); o.End != 0 {
			t.Errorf("the new log is not empty: %+v", o)
		}
		select {
		case <-wake:
		default:
			t.Error("who waits for the old log was not told")
		}
		if _, err := old.Read(0, 100, High, true); !errors.Is(err, ErrClosed) {
			t.Errorf("read of the old log: %v", err)
		}
		if _, err := old.Append(time.Now(), data(batch.Plain(), 0, 1, 1), AppendOptions{}); !errors.Is(err, ErrClosed) {
			t.Errorf("append to the old log: %v", err)
		}
		if _, err := fresh.Append(time.Now(), data(batch.Plain(), 0, 1, 1), AppendOptions{LeaderEpoch: 1}); err != nil {
			t.Fatal(err)
		}
		if err := b.s.Remove("t", 0, testID(1)); err != nil { // the deletion comes late
			t.Fatal(err)
		}
		if _, err := b.s.Open("t", 0, testID(1), b.c); !errors.Is(err, ErrClosed) {
			t.Errorf("a late opener: %v", err)
		}
		if o := fresh.Offsets(); o.End != 1 || fresh.deleted.Load() {
			t.Errorf("the new log suffered: %+v", o)
		}
		b.ledgers["t"].gone = true
		if names := b.files(""); !strings.Contains(names, "-delete") {
			t.Errorf("no directory waits for its removal: %s", names)
		}
		time.Sleep(2 * time.Minute)
		if names := b.files(""); strings.Contains(names, "-delete") {
			t.Errorf("the old directory is still there: %s", names)
		}
	})
}

// A directory of a topic that is not known is set aside and kept.
func TestStrays(t *testing.T) {
	inStore(t, func(t *testing.T, b *rig) {
		b.put("stray", 1, 1)
		b.put("known", 1, 1)
		b.reopen()
		b.s.o.Known = func(id [16]byte) bool { return id == testID(2) }
		if _, err := b.log("known"); err != nil {
			t.Fatal(err)
		}
		if err := b.s.SetAsideUnknown(); err != nil {
			t.Fatal(err)
		}
		if names := b.files(""); strings.Contains(names, "stray-0 ") || !strings.Contains(names, "-stray") || !strings.Contains(names, "known-0") {
			t.Errorf("the directory holds %s", names)
		}
		// Another topic may have the name now; a log that cannot be replaced is an error instead.
		if l, err := b.s.Open("stray", 0, testID(9), b.c); err != nil || l.Offsets().End != 0 {
			t.Errorf("%v", err)
		}
		b.reopen()
		b.s.o.Known = func([16]byte) bool { return false }
		c := b.c
		c.Irreplaceable = true
		if _, err := b.s.Open("known", 0, testID(9), c); !errors.Is(err, ErrStorage) {
			t.Errorf("a log that cannot be replaced: %v", err)
		}
	})
}

// One sync serves all that wait, and one that fails ends everything for good.
func TestGroupCommitAndItsFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		block := make(chan struct{})
		f := vfs.NewFault(vfs.NewCrash())
		b := newRig(t, f)
		b.c.SegmentBytes = 1 << 20
		b.put("t", 0, 1)
		l := b.must("t")
		synctest.Wait() // the janitor has nothing left to do
		f.SetRules(vfs.Rule{Kind: vfs.OpSync, Do: func(vfs.Op) { <-block }}, vfs.Rule{Kind: vfs.OpSync, Nth: 3, Times: -1, Err: errors.New("gone")})
		before := len(f.Calls())
		var waits []*Commit
		for i := range 10 {
			done, err := l.Append(time.Now(), data(batch.Plain(), 0, i, 1), AppendOptions{Durable: true, LeaderEpoch: 1})
			if err != nil {
				t.Fatal(err)
			}
			waits = append(waits, done.Commit)
			synctest.Wait() // the first sync is under way: the rest gathers
		}
		for _, c := range waits {
			select {
			case <-c.Done():
				t.Error("a commit is done before its sync")
			default:
			}
		}
		close(block)
		for _, c := range waits {
			<-c.Done()
			if c.Err() != nil {
				t.Error(c.Err())
			}
		}
		syncs := 0
		for _, c := range f.Calls()[before:] {
			if c.Kind == vfs.OpSync {
				syncs++
			}
		}
		if syncs != 2 {
			t.Errorf("ten appends took %d syncs, want 2", syncs)
		}
		done, err := l.Append(time.Now(), data(batch.Plain(), 0, 10, 1), AppendOptions{Durable: true, LeaderEpoch: 1})
		if err != nil {
			t.Fatal(err)
		}
		<-done.Commit.Done()
		if err := done.Commit.Err(); !errors.Is(err, ErrOffline) {
			t.Errorf("a failed sync: %v", err)
		}
		<-b.s.Failed()
		if _, err := l.Append(time.Now(), data(batch.Plain(), 0, 11, 1), AppendOptions{}); !errors.Is(err, ErrOffline) {
			t.Errorf("append after a failed sync: %v", err)
		}
		if err := b.s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// The rules of appends that need the log's state.
func TestAppendRefusals(t *testing.T) {
	inStore(t, func(t *testing.T, b *rig) {
		big := data(batch.Plain(), 0, 1, 30)
		if _, err := b.append("t", big, AppendOptions{}); !errors.Is(err, ErrLargerThanSegment) {
			t.Errorf("larger than a segment: %v", err)
		}
		b.must("t").SetConfig(func() Config { c := b.c; c.MaxMessageBytes = 100; return c }())
		if _, err := b.append("t", data(batch.Plain(), 0, 1, 3), AppendOptions{}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("larger than max.message.bytes: %v", err)
		}
		b.must("t").SetConfig(func() Config { c := b.c; c.Compact = true; return c }())
		keyless := batch.Append(nil, batch.Plain(), []batch.Message{{Value: []byte("v")}})
		_, err := b.append("t", keyless, AppendOptions{})
		var records *RecordErrors
		if !errors.As(err, &records) || !errors.Is(err, ErrInvalidRecord) || len(records.Records) != 1 {
			t.Errorf("no key for a compacted topic: %v", err)
		}
		torn := data(batch.Plain(), 0, 1, 1)
		torn[len(torn)-1]++
		if _, err := b.append("t", torn, AppendOptions{}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("a wrong crc: %v", err)
		}
		if o := b.must("t").Offsets(); o.End != 0 {
			t.Errorf("something was appended: %+v", o)
		}
		if names := b.files(""); strings.Contains(names, "t-0") {
			t.Errorf("a refused append made files: %s", names)
		}
	})
}

// The lock keeps a second process out.
func TestLock(t *testing.T) {
	inStore(t, func(t *testing.T, b *rig) {
		if _, err := OpenStore(b.fs, "data", b.options()); !errors.Is(err, vfs.ErrLocked) {
			t.Errorf("a second store: %v", err)
		}
	})
}

func TestEpochEnds(t *testing.T) {
	inStore(t, func(t *testing.T, b *rig) {
		for i, epoch := range []int32{3, 3, 5, 8} {
			if _, err := b.append("t", data(batch.Plain(), 0, i, 2), AppendOptions{LeaderEpoch: epoch, Durable: true}); err != nil {
				t.Fatal(err)
			}
		}
		check := func(when string) {
			t.Helper()
			l := b.must("t")
			var got strings.Builder
			for epoch := int32(0); epoch < 10; epoch++ {
				e, end := l.EpochEnd(epoch)
				fmt.Fprintf(&got, "%d:%d/%d ", epoch, e, end)
			}
			if want := "0:0/0 1:1/0 2:2/0 3:3/4 4:3/4 5:5/6 6:5/6 7:5/6 8:8/8 9:-1/-1 "; got.String() != want {
				t.Errorf("%s: %s, want %s", when, got.String(), want)
			}
		}
		check("live")
		b.reopen()
		check("after a clean stop")
		if err := b.fs.Remove("data/t-0/" + epochFile); err != nil {
			t.Fatal(err)
		}
		b.kill()
		check("made again from the batches")
	})
}

// Retention by size takes as many segments as it must, and no more.
func TestRetentionDeletesJustEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRig(t, vfs.NewCrash())
		l := b.must("t")
		defer b.s.Close()
		for i := range 40 {
			if _, err := l.Append(time.Now(), data(batch.Plain(), time.Now().UnixMilli(), i, 2), AppendOptions{Origin: Client}); err != nil {
				t.Fatal(err)
			}
		}
		all := *l.segments.Load()
		if len(all) < 6 {
			t.Fatalf("%d segments", len(all))
		}
		c := *l.Config()
		c.RetentionBytes = 0
		for _, g := range all[2:] {
			c.RetentionBytes += g.size.Load()
		}
		l.SetConfig(c)
		time.Sleep(b.every + time.Second)
		if start := l.Offsets().Start; start != all[2].base {
			t.Errorf("the log begins at %d; two segments are too many, the third begins at %d", start, all[2].base)
		}
		c.RetentionBytes--
		l.SetConfig(c)
		time.Sleep(b.every + time.Second)
		if start := l.Offsets().Start; start != all[2].base {
			t.Errorf("a segment of which a part is to be kept is gone: the log begins at %d", start)
		}
		if n := len(*l.segments.Load()); n != len(all)-2 {
			t.Errorf("%d segments are left of %d", n, len(all))
		}
	})
}
