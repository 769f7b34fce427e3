package log

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log/batch"
)

// spot is where a batch of a ledger lies.
type spot struct {
	entry
	file string
	base int64
	pos  int64
}

// spots finds every batch of the log in its files.
func (b *rig) spots(topic string) []spot {
	b.t.Helper()
	var all []spot
	segments := *b.must(topic).segments.Load()
	pos := int64(0)
	for _, e := range b.ledgers[topic].entries {
		g := segments[floor(segments, e.first)]
		if e.first == g.base {
			pos = 0
		}
		all = append(all, spot{e, "data/" + topic + "-0/" + offsetName(g.base) + logSuffix, g.base, pos})
		pos += int64(len(e.bytes))
	}
	return all
}

// whole reports that the batch's bytes are in the file as they were.
func (s *spot) whole(t testing.TB, disk vfs.FS) bool {
	t.Helper()
	f, err := disk.OpenFile(s.file, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, len(s.bytes))
	n, _ := f.ReadAt(got, s.pos)
	return n == len(got) && bytes.Equal(got, s.bytes)
}

// readOne reads the batch that holds an offset.
func readOne(l *Log, offset int64) ([]byte, error) {
	c, err := l.Read(offset, 1, High, true)
	if err != nil {
		return nil, err
	}
	defer c.Release()
	if c.Bytes == 0 {
		return nil, nil
	}
	got := make([]byte, c.Runs()[0].Len)
	if n, err := c.Runs()[0].File.ReadAt(got, c.Runs()[0].Off); n < len(got) {
		return nil, err
	}
	return got, nil
}

// overwrite changes bytes of a file; n zeros if b is nil.
func overwrite(t testing.TB, disk vfs.FS, name string, pos int64, b []byte) {
	t.Helper()
	f, err := disk.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(b, pos); err != nil {
		t.Fatal(err)
	}
}

func truncate(t testing.TB, disk vfs.FS, name string, size int64) {
	t.Helper()
	f, err := disk.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
}

// spoil stops the broker, killed or cleanly, does something to its files, and starts it again.
func (b *rig) spoil(clean bool, f func(disk vfs.FS)) {
	b.t.Helper()
	time.Sleep(2 * time.Minute) // the recovery point is written
	disk := b.fs.(*vfs.Crash)
	if clean {
		if err := b.s.Close(); err != nil {
			b.t.Fatal(err)
		}
	} else {
		disk = disk.Crash(vfs.Kill, 0)
		_ = b.s.Close()
	}
	f(disk)
	b.fs = disk
	b.open()
}

// expect checks that exactly these batches cannot be read, and that all others are what they were.
func (b *rig) expect(topic string, lost ...int) {
	b.t.Helper()
	l := b.must(topic)
	gone := map[int]bool{}
	for _, i := range lost {
		gone[i] = true
	}
	for i, e := range b.ledgers[topic].entries {
		for _, offset := range []int64{e.first, e.last} {
			got, err := readOne(l, offset)
			switch {
			case gone[i] && !errors.Is(err, ErrStorage):
				b.t.Errorf("offset %d is damaged: read %d bytes, %v", offset, len(got), err)
			case !gone[i] && (err != nil || !bytes.Equal(got, e.bytes)):
				b.t.Errorf("offset %d is whole: read %d bytes of %d, %v", offset, len(got), len(e.bytes), err)
			}
		}
	}
}

// Damage of every kind in the segment of the recovery point, and in one that a start does not look at.
func TestDamageIsConfined(t *testing.T) {
	// The batches of the segment that is damaged are first, first+1, ...
	type damages struct {
		name string
		do   func(t *testing.T, disk vfs.FS, at []spot, first int)
		lost []int // of the segment's batches
		cold bool  // can be met without reading the bytes of the batch
	}
	cases := []damages{
		{"a record's byte", func(t *testing.T, disk vfs.FS, at []spot, first int) {
			overwrite(t, disk, at[first+1].file, at[first+1].pos+80, []byte{0xff})
		}, []int{1}, false},
		{"the length", func(t *testing.T, disk vfs.FS, at []spot, first int) {
			overwrite(t, disk, at[first+1].file, at[first+1].pos+8, []byte{0x7f})
		}, []int{1}, true},
		{"a length that is too short", func(t *testing.T, disk vfs.FS, at []spot, first int) {
			overwrite(t, disk, at[first+1].file, at[first+1].pos+8, []byte{0, 0, 0, 60})
		}, []int{1}, true},
		{"a base offset that is too large", func(t *testing.T, disk vfs.FS, at []spot, first int) {
			overwrite(t, disk, at[first+1].file, at[first+1].pos+6, []byte{1})
		}, []int{1}, true},
		{"a base offset that is a little too large", func(t *testing.T, disk vfs.FS, at []spot, first int) {
			overwrite(t, disk, at[first+1].file, at[first+1].pos+7, []byte{byte(at[first+1].first + 1)})
		}, []int{1}, true},
		{"a base offset that is too small", func(t *testing.T, disk vfs.FS, at []spot, first int) {
			overwrite(t, disk, at[first+1].file, at[first+1].pos+7, []byte{byte(at[first+1].first - 1)})
		}, []int{1}, true},
		{"zeros over two batches", func(t *testing.T, disk vfs.FS, at []spot, first int) {
			overwrite(t, disk, at[first].file, at[first].pos+20, make([]byte, len(at[first].bytes)))
		}, []int{0, 1}, true},
		{"the last batch", func(t *testing.T, disk vfs.FS, at []spot, first int) {
			overwrite(t, disk, at[first+2].file, at[first+2].pos+8, []byte{0x7f})
		}, []int{2}, true},
		{"the file's end is cut off", func(t *testing.T, disk vfs.FS, at []spot, first int) {
			truncate(t, disk, at[first+2].file, at[first+2].pos)
		}, []int{2}, true},
		{"the file's end is cut off inside a batch", func(t *testing.T, disk vfs.FS, at []spot, first int) {
			truncate(t, disk, at[first+1].file, at[first+1].pos+30)
		}, []int{1, 2}, true},
		{"an empty file", func(t *testing.T, disk vfs.FS, at []spot, first int) {
			truncate(t, disk, at[first].file, 0)
		}, []int{0, 1, 2}, true},
		{"no file", func(t *testing.T, disk vfs.FS, at []spot, first int) {
			if err := disk.Remove(at[first].file); err != nil {
				t.Fatal(err)
			}
		}, []int{0, 1, 2}, true},
	}
	for _, c := range cases {
		for _, where := range []string{"active segment", "old segment"} {
			for _, clean := range []bool{false, true} {
				if where == "old segment" && !c.cold {
					continue // as in Kafka, the reader's check of the CRC finds it
				}
				if where == "active segment" && clean && !c.cold {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/clean=%v", c.name, where, clean), func(t *testing.T) {
					inStore(t, func(t *testing.T, b *rig) {
						b.c.SegmentBytes = 3 * len(data(batch.Plain(), time.Now().UnixMilli(), 7, 3))
						for range 12 { // three batches a segment
							b.put("t", 7, 3)
						}
						at := b.spots("t")
						first := 3
						if where == "active segment" {
							first = 9
						}
						if at[first-1].base == at[first].base || at[first].base != at[first+2].base {
							t.Fatal("the segments are not as the test needs them")
						}
						var lost []int
						for _, i := range c.lost {
							lost = append(lost, first+i)
						}
						var before string
						b.spoil(clean, func(disk vfs.FS) {
							c.do(t, disk, at, first)
							before = content(t, disk, "data/t-0")
						})
						end := b.must("t").Offsets().End
						if end != at[11].last+1 {
							t.Errorf("the log ends at %d, it was %d", end, at[11].last+1)
						}
						b.expect("t", lost...)
						ds := b.must("t").Damages()
						if len(ds) != 1 || ds[0].From != at[lost[0]].first || ds[0].To != at[lost[len(lost)-1]].last+1 {
							t.Errorf("damaged ranges: %+v", ds)
						}
						if done := b.put("t", 50, 2); done.First != end {
							t.Errorf("appended at %d, the end was %d", done.First, end)
						}
						b.expect("t", lost...)
						b.kill()
						b.expect("t", lost...)
						b.reopen()
						b.expect("t", lost...)
						if again := b.must("t").Damages(); len(again) != 1 || again[0].From != ds[0].From || again[0].To != ds[0].To {
							t.Errorf("damaged ranges after a restart: %+v", again)
						}
						if after := content(t, b.fs, "data/t-0"); !strings.HasPrefix(after, before) && where == "old segment" {
							t.Errorf("files were changed:\n%s\n%s", before, after)
						}
						// Records deleted past the range heal the partition.
						if err := b.deleteBefore("t", ds[0].To); err != nil {
							t.Fatal(err)
						}
						if err := b.must("t").Err(); err != nil {
							t.Errorf("after DeleteRecords: %v", err)
						}
						b.reopen()
						if err := b.must("t").Err(); err != nil {
							t.Errorf("after DeleteRecords and a restart: %v", err)
						}
					})
				})
			}
		}
	}
}

// content lists the log files of a directory with their bytes.
func content(t testing.TB, disk vfs.FS, dir string) string {
	t.Helper()
	entries, err := disk.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), logSuffix) {
			b, err := readFile(disk, dir+"/"+e.Name(), 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&out, "%s %x\n", e.Name(), b)
		}
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// The file that was damaged is put back while the broker is stopped: all of it is served again.
func TestDamageHeals(t *testing.T) {
	inStore(t, func(t *testing.T, b *rig) {
		for i := range 9 {
			b.put("t", i, 3)
		}
		at := b.spots("t")
		good := bytes.Clone(at[3].bytes)
		b.spoil(false, func(disk vfs.FS) { overwrite(t, disk, at[3].file, at[3].pos, make([]byte, len(good))) })
		b.expect("t", 3)
		time.Sleep(time.Minute)
		b.spoil(true, func(disk vfs.FS) { overwrite(t, disk, at[3].file, at[3].pos, good) })
		b.expect("t")
		if err := b.must("t").Err(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if names := b.files("t-0"); strings.Contains(names, damageFile) {
			t.Errorf("the list of damage is still there: %s", names)
		}
	})
}

// Records are found by their timestamps around damage, and retention removes what is damaged when its time comes.
func TestDamageAndTimestamps(t *testing.T) {
	inStore(t, func(t *testing.T, b *rig) {
		var times []int64
		for i := range 9 {
			times = append(times, time.Now().UnixMilli())
			b.put("t", i, 3)
			time.Sleep(time.Second)
		}
		at := b.spots("t")
		b.spoil(false, func(disk vfs.FS) { overwrite(t, disk, at[4].file, at[4].pos, make([]byte, 40)) })
		for i := range 9 {
			want := at[i].first
			if i == 4 {
				want = at[5].first
			}
			got, err := b.must("t").OffsetFor(times[i])
			if err != nil || got.Offset != want {
				t.Errorf("the record at %d: %+v, %v; want offset %d", times[i], got, err, want)
			}
		}
		if got, err := b.must("t").MaxTimestamp(); err != nil || got.Offset != at[8].last {
			t.Errorf("the newest record: %+v, %v", got, err)
		}
		c := b.c
		c.RetentionMillis = 1000
		b.must("t").SetConfig(c)
		time.Sleep(10 * time.Minute)
		if l := b.must("t"); l.Offsets().Start <= at[4].last || l.Err() != nil {
			t.Errorf("after retention the log starts at %d: %v", l.Offsets().Start, l.Err())
		}
	})
}

// Broken indexes are no damage: they are made again where they lead astray.
func TestIndexLeadsAstray(t *testing.T) {
	for pos := range 24 {
		inStore(t, func(t *testing.T, b *rig) {
			for i := range 12 {
				b.put("t", i, 2)
			}
			name := "data/t-0/" + offsetName((*b.must("t").segments.Load())[1].base) + indexSuffix
			b.spoil(true, func(disk vfs.FS) {
				old, err := readFile(disk, name, 1<<20)
				if err != nil || len(old) < 16 {
					t.Fatalf("%d bytes of index, %v", len(old), err)
				}
				overwrite(t, disk, name, int64(pos%len(old)), []byte{old[pos%len(old)] ^ 5})
			})
			b.expect("t")
			if err := b.must("t").Err(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A log that was compacted once has gaps: they are nothing to report.
func TestGapsOfCompactionAreNoDamage(t *testing.T) {
	inStore(t, func(t *testing.T, b *rig) {
		b.c.SegmentBytes = 3 * len(data(batch.Plain(), time.Now().UnixMilli(), 7, 3))
		for range 12 {
			b.put("t", 7, 3)
		}
		at := b.spots("t")
		b.spoil(true, func(disk vfs.FS) { // as a compaction that removed the second batch and the last of a segment
			truncate(t, disk, at[3].file, 0)
			overwrite(t, disk, at[3].file, 0, at[4].bytes)
		})
		for _, offset := range []int64{at[3].first, at[4].first} {
			if got, err := readOne(b.must("t"), offset); err != nil || !bytes.Equal(got, at[4].bytes) {
				t.Errorf("read at %d: %d bytes, %v", offset, len(got), err)
			}
		}
		if got, err := readOne(b.must("t"), at[5].first); err != nil || !bytes.Equal(got, at[6].bytes) {
			t.Errorf("read in the gap: %d bytes, %v", len(got), err)
		}
		if err := b.must("t").Err(); err != nil {
			t.Error(err)
		}
	})
}

func TestDamageFileRoundTrip(t *testing.T) {
	all := []damage{{base: 0, pos: 10, end: 20, from: 3, to: 9}, {base: 0, pos: 90, end: 90, from: 12, to: 12}, {base: 40, pos: 0, end: 7, from: 40, to: 50}}
	got, err := parseDamages(formatDamages(all))
	if err != nil || fmt.Sprint(got) != fmt.Sprint(all) {
		t.Errorf("%v, %v", got, err)
	}
	for _, text := range []string{"0\n1\n1 2 3 4\n", "0\n1\n0 9 3 4 5\n", "0\n1\n0 0 3 9 5\n", "0\n1\n9 0 3 4 5\n", "0\n2\n0 0 3 4 9\n0 4 5 6 10\n", "0\n1\n0 -1 3 4 5\n", "1\n0\n"} {
		if _, err := parseDamages([]byte(text)); err == nil {
			t.Errorf("%q was believed", text)
		}
	}
}

// What a later snapshot knows of the producers outlives damage before it.
func TestProducersAfterDamage(t *testing.T) {
	inStore(t, func(t *testing.T, b *rig) {
		o := batch.Plain()
		o.ProducerID, o.ProducerEpoch = 7, 0
		send := func(seed int, sequence int32) error {
			o.BaseSequence = sequence
			_, err := b.append("t", data(o, time.Now().UnixMilli(), seed, 3), AppendOptions{Durable: true, LeaderEpoch: 1})
			return err
		}
		for i := range 4 {
			if err := send(i, int32(3*i)); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 8 {
			b.put("t", 100+i, 3)
		}
		at := b.spots("t")
		if at[3].base == at[len(at)-1].base {
			t.Fatal("too few segments")
		}
		b.spoil(false, func(disk vfs.FS) {
			// The segment is read again, and the snapshot at its end is there.
			overwrite(t, disk, at[3].file, at[3].pos+8, []byte{0x7f})
			if err := replaceDurably(disk, "data/"+recoveryPointFile, fmt.Appendf(nil, "0\n1\nt 0 %d\n", at[3].last)); err != nil {
				t.Fatal(err)
			}
		})
		if err := send(4, 12); err != nil {
			t.Errorf("the producer goes on: %v", err)
		}
		l := b.must("t")
		if _, err := readOne(l, at[3].first); !errors.Is(err, ErrStorage) {
			t.Errorf("the damage went unnoticed: %v", err)
		}
	})
}

// Anything may happen to the files of a log: every batch that is whole is read at its offset, all else is an error or
// absent, no file goes, appends work, and the next start sees the same.
func TestRandomDamage(t *testing.T) {
	runs := uint64(2000)
	if testing.Short() {
		runs = 150
	}
	kinds := map[string]int{}
	for seed := range runs {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 9))
			b := newRig(t, vfs.NewCrash())
			b.c.SegmentBytes = 500 + rng.IntN(1500)
			var sequence int32
			for i := range 10 + rng.IntN(20) {
				o := batch.Plain()
				n := 1 + rng.IntN(5)
				if i%3 == 0 {
					o.ProducerID, o.ProducerEpoch, o.BaseSequence = 5, 0, sequence
					sequence += int32(n)
				}
				if _, err := b.append("t", data(o, time.Now().UnixMilli(), i, n), AppendOptions{Durable: true, LeaderEpoch: int32(i / 8)}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Duration(rng.IntN(20)) * time.Second)
			}
			at := b.spots("t")
			clean := rng.IntN(2) == 0
			point := at[len(at)-1].last
			var kind string
			var names []string
			b.spoil(clean, func(disk vfs.FS) {
				names = logFiles(t, disk)
				if !clean { // anywhere: what lies above may be cut off
					point = at[rng.IntN(len(at))].last + 1
					text := fmt.Sprintf("0\n1\nt 0 %d\n", point)
					if err := replaceDurably(disk, "data/"+recoveryPointFile, []byte(text)); err != nil {
						t.Fatal(err)
					}
				}
				kind = corrupt(t, disk, rng)
				kinds[strings.Fields(kind)[0]]++
				names = stillThere(t, disk, names)
			})
			fail := func(format string, args ...any) {
				t.Helper()
				t.Errorf("seed %d, %s, clean=%v, recovery point %d: %s", seed, kind, clean, point, fmt.Sprintf(format, args...))
			}
			// From the first broken batch above the recovery point on, a tail may be torn.
			cut := at[len(at)-1].last + 1
			for i := range at {
				if !clean && at[i].last >= point && !at[i].whole(t, b.fs) {
					cut = at[i].first
					break
				}
			}
			look := func(when string) string {
				var out strings.Builder
				l := b.must("t")
				for i := range at {
					s := &at[i]
					got, err := readOne(l, s.first)
					whole := s.whole(t, b.fs)
					switch {
					case err == nil && bytes.Equal(got, s.bytes):
						fmt.Fprintf(&out, "%d ok ", s.first)
					case whole && s.first < cut:
						fail("%s: the batch at %d is whole: read %d bytes, %v", when, s.first, len(got), err)
					case err == nil && len(got) > 0 && !refused(got, s):
						fail("%s: the batch at %d is broken: read %d other bytes", when, s.first, len(got))
					default:
						fmt.Fprintf(&out, "%d no ", s.first)
					}
				}
				return out.String()
			}
			look("first start")
			end := b.must("t").Offsets().End
			if !clean && end < min(point, cut) {
				fail("the log ends at %d", end)
			}
			raw := data(batch.Plain(), time.Now().UnixMilli(), 999, 2)
			done, err := b.must("t").Append(time.Now(), raw, AppendOptions{Durable: true, LeaderEpoch: 9})
			if err != nil || done.First != end {
				fail("append at %d: %+v, %v", end, done, err)
			} else if <-done.Commit.Done(); done.Commit.Err() != nil {
				fail("commit: %v", done.Commit.Err())
			}
			at = at[:floorSpot(at, end)]
			first := look("after an append")
			if rng.IntN(2) == 0 {
				b.kill()
			} else {
				b.reopen()
			}
			if again := look("second start"); again != first {
				fail("the second start differs:\n%s\n%s", first, again)
			}
			if got, err := readOne(b.must("t"), end); err != nil || len(got) != len(raw) {
				fail("what was appended at %d: %d bytes, %v", end, len(got), err)
			}
			for _, name := range names {
				if offset, _ := offsetOf(name, logSuffix); offset >= cut {
					continue
				}
				if _, err := b.fs.Stat("data/t-0/" + name); err != nil {
					fail("a file is gone: %v", err)
				}
			}
			if err := b.s.Close(); err != nil {
				fail("close: %v", err)
			}
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d damaged logs: %v", runs, kinds)
}

// floorSpot is how many batches begin below an offset.
func floorSpot(at []spot, end int64) int {
	n := 0
	for n < len(at) && at[n].first < end {
		n++
	}
	return n
}

// refused tells that a reader cannot take the bytes for the batch that it asked for: a wrong CRC, or a batch that
// follows. The CRC does not cover the leader epoch.
func refused(got []byte, s *spot) bool {
	h, err := batch.Parse(got)
	if err != nil || batch.CheckCRC(&h, got) != nil {
		return true
	}
	clone := bytes.Clone(got)
	batch.SetLeaderEpoch(clone, 0)
	want := bytes.Clone(s.bytes)
	batch.SetLeaderEpoch(want, 0)
	return bytes.Equal(clone, want)
}

func logFiles(t testing.TB, disk vfs.FS) []string {
	t.Helper()
	entries, err := disk.ReadDir("data/t-0")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), logSuffix) {
			names = append(names, e.Name())
		}
	}
	return names
}

func stillThere(t testing.TB, disk vfs.FS, names []string) []string {
	t.Helper()
	var left []string
	for _, name := range names {
		if _, err := disk.Stat("data/t-0/" + name); err == nil {
			left = append(left, name)
		}
	}
	return left
}

// corrupt does one or two random things to the files of t-0 and says what.
func corrupt(t testing.TB, disk vfs.FS, rng *rand.Rand) string {
	t.Helper()
	entries, err := disk.ReadDir("data/t-0")
	if err != nil {
		t.Fatal(err)
	}
	var logs, rest []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case info.Size() == 0 || e.Name() == metadataFile:
		case strings.HasSuffix(e.Name(), logSuffix):
			logs = append(logs, e.Name())
		default:
			rest = append(rest, e.Name())
		}
	}
	var did string
	for range 1 + rng.IntN(2) {
		names := logs
		if rng.IntN(4) == 0 {
			names = rest
		}
		name := "data/t-0/" + names[rng.IntN(len(names))]
		b, err := readFile(disk, name, 1<<20)
		if err != nil || len(b) == 0 {
			continue
		}
		pos := rng.IntN(len(b))
		n := 1 + rng.IntN(min(200, len(b)-pos))
		switch rng.IntN(5) {
		case 0:
			did += fmt.Sprintf(" flip %s %d", name, pos)
			overwrite(t, disk, name, int64(pos), []byte{b[pos] ^ 1<<rng.IntN(8)})
		case 1:
			did += fmt.Sprintf(" zeros %s %d+%d", name, pos, n)
			overwrite(t, disk, name, int64(pos), make([]byte, n))
		case 2:
			did += fmt.Sprintf(" noise %s %d+%d", name, pos, n)
			noise := make([]byte, n)
			for i := range noise {
				noise[i] = byte(rng.Uint32())
			}
			overwrite(t, disk, name, int64(pos), noise)
		case 3:
			did += fmt.Sprintf(" truncate %s %d", name, pos)
			truncate(t, disk, name, int64(pos))
		case 4:
			did += " remove " + name
			if name != "data/t-0/"+logs[0] { // the beginning of a log may have been deleted by anybody
				if err := disk.Remove(name); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return did
}
