package log

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rotpeter/rotpeter/internal/poison"
	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log/batch"
)

// unsynced is the operating system's file system without its syncs: for making big directories.
type unsynced struct{ vfs.FS }

func (u unsynced) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := u.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return unsyncedFile{f}, nil
}
func (unsynced) SyncDir(string) error { return nil }
func (unsynced) SyncFS(string) error  { return nil }

type unsyncedFile struct{ vfs.File }

func (unsyncedFile) Sync() error                    { return nil }
func (unsyncedFile) Preallocate(off, n int64) error { return nil }

// counting counts calls on a file system, and what is open.
type counting struct {
	vfs.FS
	reads, bytes, opens, lists, open atomic.Int64
}

func (c *counting) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	f, err := c.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	c.opens.Add(1)
	c.open.Add(1)
	return &countingFile{f, c}, nil
}

func (c *counting) ReadDir(name string) ([]fs.DirEntry, error) {
	c.lists.Add(1)
	return c.FS.ReadDir(name)
}

type countingFile struct {
	vfs.File
	c *counting
}

func (f *countingFile) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(b, off)
	f.c.reads.Add(1)
	f.c.bytes.Add(int64(n))
	return n, err
}

func (f *countingFile) Close() error {
	f.c.open.Add(-1)
	return f.File.Close()
}

// scaleConfig rolls at each append.
func scaleConfig() Config {
	c := DefaultConfig()
	c.SegmentBytes, c.RetentionMillis = 200, -1
	return c
}

func scaleTopic(i int) (topic string, id [16]byte) {
	id[0], id[14], id[15] = 1, byte(i>>8), byte(i)
	return "topic-" + strconv.Itoa(i), id
}

func scaleOptions() Options {
	var n atomic.Uint64
	return Options{
		NewID:  func() (id [16]byte) { id[0] = byte(n.Add(1)); return id },
		Random: func() int64 { return 0 },
	}
}

// fill makes a directory of logs with this many segments each, stopped cleanly.
func fill(t testing.TB, fsys vfs.FS, dir string, topics, partitions, segments int) {
	t.Helper()
	s, err := OpenStore(fsys, dir, scaleOptions())
	if err != nil {
		t.Fatal(err)
	}
	raw := batch.Append(nil, batch.Plain(), []batch.Message{{Timestamp: 900_000_000_000, Value: make([]byte, 80)}})
	for i := range topics {
		topic, id := scaleTopic(i)
		for p := range partitions {
			l, err := s.Open(topic, int32(p), id, scaleConfig())
			if err != nil {
				t.Fatal(err)
			}
			for range segments {
				b := append([]byte(nil), raw...)
				if _, err := l.Append(time.Now(), b, AppendOptions{LeaderEpoch: 0}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// openAll opens every log from this many goroutines.
func openAll(t testing.TB, s *Store, topics, partitions, workers int) []*Log {
	t.Helper()
	all := make([]*Log, topics*partitions)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= len(all) {
					return
				}
				topic, id := scaleTopic(n / partitions)
				l, err := s.Open(topic, int32(n%partitions), id, scaleConfig())
				if err != nil {
					t.Error(err)
					return
				}
				all[n] = l
			}
		})
	}
	wg.Wait()
	return all
}

// BenchmarkOpen10000Partitions opens 10,000 partitions of 10 segments each after a clean stop. The directory is made
// once in ROTPETER_SCALE_DIR if that is set.
func BenchmarkOpen10000Partitions(b *testing.B) {
	const topics, partitions, segments = 100, 100, 10
	if testing.Short() {
		b.Skip("it makes 400,000 files")
	}
	dir := os.Getenv("ROTPETER_SCALE_DIR")
	if dir == "" {
		dir = b.TempDir()
	}
	dir = filepath.Join(dir, "data")
	if _, err := os.Stat(filepath.Join(dir, cleanShutdownFile)); err != nil {
		fill(b, unsynced{vfs.OS()}, dir, topics, partitions, segments)
	}
	for b.Loop() {
		b.StopTimer()
		c := &counting{FS: unsynced{vfs.OS()}}
		before := heap()
		b.StartTimer()
		s, err := OpenStore(c, dir, scaleOptions())
		if err != nil {
			b.Fatal(err)
		}
		logs := openAll(b, s, topics, partitions, 4)
		b.StopTimer()
		if !s.Clean() || len(logs) != topics*partitions || len(*logs[7].segments.Load()) != segments {
			b.Fatalf("clean %v, %d logs with %d segments", s.Clean(), len(logs), len(*logs[7].segments.Load()))
		}
		b.ReportMetric(float64(heap()-before)/(topics*partitions), "heap-B/partition")
		b.ReportMetric(float64(c.opens.Load())/(topics*partitions), "opens/partition")
		b.ReportMetric(float64(c.reads.Load())/(topics*partitions), "reads/partition")
		b.ReportMetric(float64(c.open.Load()), "descriptors")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		runtime.KeepAlive(logs)
		b.StartTimer()
	}
}

// heap is the bytes of live objects.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// What is idle holds no descriptors and next to no memory, whatever was done with it before.
func TestIdlePartitionsAreCheap(t *testing.T) {
	if poison.On {
		t.Skip("with poison what was released is kept for a while")
	}
	const partitions, segments = 200, 10
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewMem()
		fill(t, disk, "data", 1, partitions, segments)
		c := &counting{FS: disk}
		before := heap()
		s, err := OpenStore(c, "data", scaleOptions())
		if err != nil {
			t.Fatal(err)
		}
		logs := openAll(t, s, 1, partitions, 1)
		if n := c.open.Load(); n != 0 {
			t.Errorf("%d descriptors are open after the start", n)
		}
		each := (heap() - before) / partitions
		if most := int64(800 + 450*segments); each > most { // measured: 3.6 KB with 10 segments
			t.Errorf("%d bytes a partition of %d segments, at most %d", each, segments, most)
		}
		// A big index each, some of it written by this process; all are read, and some are appended to.
		for i, l := range logs[:20] {
			config := scaleConfig()
			config.SegmentBytes, config.IndexIntervalBytes = 1<<20, 1
			l.SetConfig(config)
			raw := batch.Append(nil, batch.Plain(), []batch.Message{{Timestamp: 910_000_000_000, Value: make([]byte, 20)}})
			for range 2000 {
				if _, err := l.Append(time.Now(), bytes.Clone(raw), AppendOptions{Durable: true}); err != nil {
					t.Fatal(err)
				}
			}
			if i%2 == 0 {
				time.Sleep(time.Second)
			}
		}
		for range 20 { // often enough for the tops of their indexes
			for _, l := range logs {
				for offset := range l.Offsets().End {
					if offset > segments && offset%500 > 0 {
						continue
					}
					if got, err := readOne(l, offset); err != nil || len(got) == 0 {
						t.Fatalf("read at %d: %d bytes, %v", offset, len(got), err)
					}
				}
				if _, err := l.OffsetFor(905_000_000_000); err != nil {
					t.Fatal(err)
				}
			}
		}
		if c.open.Load() == 0 {
			t.Error("reading opened nothing: the test does not test")
		}
		time.Sleep(idleMillis*time.Millisecond + 3*idleCheck)
		if n := c.open.Load(); n != 0 {
			t.Errorf("%d descriptors are open when all is idle", n)
		}
		for _, l := range logs {
			for _, g := range *l.segments.Load() {
				if m := g.mem.Load(); g.sealed.Load() != nil || m != nil && m.offsets.size() >= idleEntries {
					t.Fatalf("segment %d of %s holds its index", g.base, l.at)
				}
			}
		}
		// They go on where they were.
		for _, l := range logs {
			end := l.Offsets().End
			raw := batch.Append(nil, batch.Plain(), []batch.Message{{Timestamp: 920_000_000_000, Value: []byte("after")}})
			done, err := l.Append(time.Now(), raw, AppendOptions{Durable: true})
			if err != nil || done.First != end {
				t.Fatalf("append at %d: %+v, %v", end, done, err)
			}
			for _, offset := range []int64{0, end / 2, end} {
				if got, err := readOne(l, offset); err != nil || len(got) == 0 {
					t.Fatalf("read at %d: %d bytes, %v", offset, len(got), err)
				}
			}
			if at, err := l.OffsetFor(920_000_000_000); err != nil || at.Offset != end {
				t.Fatalf("the newest record: %+v, %v", at, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = OpenStore(c, "data", scaleOptions()); err != nil {
			t.Fatal(err)
		}
		if end := openAll(t, s, 1, partitions, 1)[0].Offsets().End; end != segments+2001 || !s.Clean() {
			t.Errorf("after a restart the log ends at %d, clean %v", end, s.Clean())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// bigLog is a log of many batches in a few segments on a disk that is made up: the log files are zeros with headers where
// somebody looks, made when they are read; the indexes are real.
const (
	bigSegments = 20
	bigBatches  = 500_000 // a segment
	bigBytes    = 1024    // a batch
)

// Any offset and any timestamp of 10 million batches is found by a number of reads that grows with the logarithm.
func TestLookupsAreLogarithmic(t *testing.T) {
	disk := &counting{FS: newBigDisk(t)}
	o := scaleOptions()
	s, err := OpenStore(disk, "data", o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	c := DefaultConfig()
	c.RetentionMillis = -1
	_, id := scaleTopic(0)
	l, err := s.Open("big", 0, id, c)
	if err != nil {
		t.Fatal(err)
	}
	const total = bigSegments * bigBatches
	if o := l.Offsets(); o.End != total {
		t.Fatalf("the log ends at %d", o.End)
	}
	t.Logf("opened with %d reads of %d bytes", disk.reads.Load(), disk.bytes.Load())
	if disk.reads.Load() > 40 || disk.bytes.Load() > 1<<20 {
		t.Error("too much is read at the start")
	}
	// 500,000 batches a segment have 125,000 index entries: at most 12 halvings, one piece for the rest, and then the
	// batches between two entries. A read of many bytes looks for its end too, a timestamp for its offset.
	const most, bigRead = 15, 1 << 20
	worst, whole := int64(0), 0
	rng := rand.New(rand.NewPCG(1, 2))
	look := func(what string, most int64, find func() (int64, error), want int64) {
		t.Helper()
		reads, bytes := disk.reads.Load(), disk.bytes.Load()
		got, err := find()
		if err != nil || got != want {
			t.Fatalf("%s: found %d, %v", what, got, err)
		}
		reads, bytes = disk.reads.Load()-reads, disk.bytes.Load()-bytes
		if bytes > 4*headerWindowBytes {
			whole++ // an index, because it is used often
		}
		if worst = max(worst, reads); reads > most {
			t.Fatalf("%s: %d reads of %d bytes", what, reads, bytes)
		}
	}
	for _, g := range *l.segments.Load() {
		g.trust() // what is read the first time is verified, which takes a walk over it
	}
	// The largest timestamp of each segment is read once in its life.
	if _, err := l.OffsetFor(math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	for i := range 400 {
		offset := rng.Int64N(total)
		if i < 4 {
			offset = []int64{0, total - 1, bigBatches - 1, bigBatches}[i]
		}
		if i%100 == 50 {
			for _, g := range *l.segments.Load() { // as after a pause
				g.sealed.Store(nil)
				g.lookups.Store(0)
			}
		}
		for _, size := range []int{1, bigRead} {
			look(fmt.Sprintf("offset %d", offset), most*int64(1+size/bigRead), func() (int64, error) {
				c, err := l.Read(offset, size, High, true)
				if err != nil {
					return -1, err
				}
				defer c.Release()
				return c.Runs()[0].Off/bigBytes + offset/bigBatches*bigBatches, nil
			}, offset)
		}
		look(fmt.Sprintf("timestamp of %d", offset), 2*most, func() (int64, error) {
			at, err := l.OffsetFor(bigTime + offset)
			return at.Offset, err
		}, offset)
	}
	if whole > 5*bigSegments {
		t.Errorf("indexes were read whole %d times", whole)
	}
	t.Logf("%d batches: at most %d reads for a lookup; indexes were read whole %d times", total, worst, whole)
}

const bigTime = 1_700_000_000_000

// bigDisk is a memory disk with the files of the big log, whose bytes are made when they are read.
type bigDisk struct {
	vfs.FS
	files map[string]*made
}

// made is a file of equal pieces that are made when they are read.
type made struct {
	name   string
	pieces int64
	bytes  int // of a piece
	make   func(b []byte, i int64)
}

func newBigDisk(t testing.TB) *bigDisk {
	t.Helper()
	d := &bigDisk{FS: vfs.NewMem(), files: map[string]*made{}}
	const dir = "data/big-0/"
	if err := d.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	_, id := scaleTopic(0)
	const total = bigSegments * bigBatches
	for name, text := range map[string]string{
		"data/" + cleanShutdownFile:              "",
		"data/" + recoveryPointFile:              fmt.Sprintf("0\n1\nbig 0 %d\n", total),
		dir + metadataFile:                       string(formatMetadata(id)),
		dir + epochFile:                          "0\n0\n",
		dir + offsetName(total) + snapshotSuffix: string(newProducers().snapshot()),
	} {
		if err := writeFile(d.FS, name, []byte(text), true); err != nil {
			t.Fatal(err)
		}
	}
	add := func(base int64, suffix string, pieces int64, bytes int, fill func(b []byte, i int64)) {
		name := offsetName(base) + suffix
		d.files[dir+name] = &made{name, pieces, bytes, fill}
	}
	const entries = (bigBatches - 1) / 4
	for s := range int64(bigSegments) {
		base := s * bigBatches
		add(base, logSuffix, bigBatches, bigBytes, func(b []byte, i int64) {
			value := make([]byte, bigBytes-batch.HeaderBytes-9) // 9 bytes of a record's own fields
			raw := batch.Append(nil, batch.Plain(), []batch.Message{{Timestamp: bigTime + base + i, Value: value}})
			batch.SetBaseOffset(raw, base+i)
			if copy(b, raw) != len(raw) || len(raw) != bigBytes {
				t.Fatalf("a batch of %d bytes", len(raw))
			}
		})
		add(base, indexSuffix, entries, indexEntryBytes, func(b []byte, i int64) {
			copy(b, appendIndex(nil, []indexEntry{{int32(4 * (i + 1)), int32(4 * (i + 1) * bigBytes)}}))
		})
		add(base, timeIndexSuffix, entries+1, timeEntryBytes, func(b []byte, i int64) {
			rel := min(4*(i+1), bigBatches-1)
			copy(b, appendTimeIndex(nil, []timeEntry{{bigTime + base + rel, int32(rel)}}))
		})
	}
	return d
}

func (d *bigDisk) OpenFile(name string, flag int, perm fs.FileMode) (vfs.File, error) {
	if f := d.files[name]; f != nil {
		return &madeFile{f: f}, nil
	}
	return d.FS.OpenFile(name, flag, perm)
}

func (d *bigDisk) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := d.FS.ReadDir(name)
	if name == "data/big-0" {
		for _, name := range slices.Sorted(maps.Keys(d.files)) {
			entries = append(entries, d.files[name])
		}
	}
	return entries, err
}

func (m *made) Name() string               { return m.name }
func (m *made) IsDir() bool                { return false }
func (m *made) Type() fs.FileMode          { return 0 }
func (m *made) Mode() fs.FileMode          { return 0o600 }
func (m *made) ModTime() time.Time         { return time.UnixMilli(bigTime) }
func (m *made) Sys() any                   { return nil }
func (m *made) Size() int64                { return m.pieces * int64(m.bytes) }
func (m *made) Info() (fs.FileInfo, error) { return m, nil }

type madeFile struct {
	vfs.File
	f *made
}

func (f *madeFile) Size() (int64, error) { return f.f.Size(), nil }
func (f *madeFile) Close() error         { return nil }

func (f *madeFile) ReadAt(b []byte, off int64) (n int, err error) {
	piece := make([]byte, f.f.bytes)
	for n < len(b) && off < f.f.Size() {
		f.f.make(piece, off/int64(f.f.bytes))
		m := copy(b[n:], piece[off%int64(f.f.bytes):])
		n, off = n+m, off+int64(m)
	}
	if n < len(b) {
		err = io.EOF
	}
	return n, err
}
