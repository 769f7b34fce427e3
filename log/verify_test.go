package log

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log/batch"
)

// cellar is a directory with a compacted log, and its batches by segment and by offset.
type cellar struct {
	disk    *vfs.Crash
	killed  bool
	point   int64
	files   map[string][]batch.Header
	start   int64
	offsets []int64
	bytes   map[int64][]byte
}

// store opens the log in a directory.
func (c *cellar) store(t *testing.T, disk *vfs.Crash, id [16]byte) (*Store, *Log, error) {
	b := &rig{t: t, fs: disk, c: compacted(), every: time.Minute, ledgers: map[string]*ledger{}}
	s, err := OpenStore(disk, "data", b.options())
	if err != nil {
		return nil, nil, err
	}
	l, err := s.Open("t", 0, id, b.c)
	if err != nil {
		return nil, nil, errors.Join(err, s.Close())
	}
	return s, l, nil
}

// batches reads from an offset on and gives whole batches, or the error that ends it.
func (c *cellar) batches(l *Log, from int64, visit func(h *batch.Header, raw []byte) error) error {
	for {
		k, err := l.Read(from, 1000, End, true)
		if err != nil || k.Bytes == 0 {
			k.Release()
			return err
		}
		raw := make([]byte, k.Bytes)
		_, err = k.Runs()[0].File.ReadAt(raw, k.Runs()[0].Off)
		k.Release()
		if err != nil {
			return err
		}
		for len(raw) > 0 {
			h, err := batch.Parse(raw)
			if err == nil {
				err = batch.CheckCRC(&h, raw[:h.Size()])
			}
			if err != nil {
				return errCRC // the client sees it
			}
			if err := visit(&h, raw[:h.Size()]); err != nil {
				return err
			}
			raw, from = raw[h.Size():], h.LastOffset()+1
		}
	}
}

var errCRC = errors.New("a wrong crc is read")

// cellars are what a clean stop and a kill leave of a log that is compacted again and again.
func cellars(t *testing.T, seed uint64) (all []*cellar, id [16]byte) {
	synctest.Test(t, func(t *testing.T) {
		p := newCompactor(t, vfs.NewCrash(), seed)
		for i := range 150 {
			p.epoch = int32(i / 20)
			p.step()
		}
		time.Sleep(2 * time.Minute)
		p.fill()
		id = p.ledger("t").id
		disk := p.fs.(*vfs.Crash)
		killed := &cellar{disk: disk.Crash(vfs.Kill, 0), killed: true}
		if err := p.s.Close(); err != nil {
			t.Fatal(err)
		}
		all = []*cellar{{disk: disk.Crash(vfs.KeepAll, 0)}, killed}
		for _, c := range all {
			c.fillIn(t, id)
		}
	})
	return all, id
}

func (c *cellar) fillIn(t *testing.T, id [16]byte) {
	c.files, c.bytes = map[string][]batch.Header{}, map[int64][]byte{}
	names, err := vfs.Files(c.disk, "data")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, logSuffix) {
			continue
		}
		b, err := readFile(c.disk, name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for len(b) > 0 {
			h, err := batch.Parse(b)
			if err != nil {
				break // reserved space of what was killed
			}
			c.files[name] = append(c.files[name], h)
			b = b[h.Size():]
		}
	}
	points, err := readFile(c.disk, "data/"+recoveryPointFile, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	all, err := parseOffsets(points)
	if err != nil {
		t.Fatal(err)
	}
	c.point = all[place{"t", 0}]
	s, l, err := c.store(t, c.disk.Crash(vfs.Kill, 0), id)
	if err != nil {
		t.Fatal(err)
	}
	c.start = l.Offsets().Start
	err = c.batches(l, c.start, func(h *batch.Header, raw []byte) error {
		c.offsets, c.bytes[h.BaseOffset] = append(c.offsets, h.BaseOffset), bytes.Clone(raw)
		return nil
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
}

// read reads from an offset to the end and compares.
func (c *cellar) read(l *Log, from int64) error {
	next := 0
	for next < len(c.offsets) && c.offsets[next] < from {
		next++
	}
	err := c.batches(l, from, func(h *batch.Header, raw []byte) error {
		for c.killed && next < len(c.offsets) && c.offsets[next] >= c.point && c.offsets[next] < h.BaseOffset {
			next++ // it was not promised, and what is left of the file does not tell that it was there
		}
		if next == len(c.offsets) || !bytes.Equal(c.bytes[c.offsets[next]], raw) {
			return fmt.Errorf("read from %d: a batch %d-%d of epoch %d is not what was written", from, h.BaseOffset, h.LastOffset(), h.LeaderEpoch)
		}
		next++
		return nil
	})
	if err == nil && next < len(c.offsets) && !(c.killed && c.offsets[next] >= c.point) {
		err = fmt.Errorf("read from %d: the batch at %d is missing", from, c.offsets[next])
	}
	if c.killed && errors.Is(err, ErrOutOfRange) && from >= l.Offsets().End && l.Offsets().End >= c.point {
		return nil
	}
	if errors.Is(err, ErrStorage) || errors.Is(err, errCRC) {
		return nil
	}
	return err
}

// judge opens a damaged directory and reads it, from somewhere first.
func (c *cellar) judge(t *testing.T, disk *vfs.Crash, id [16]byte, rng *rand.Rand) error {
	s, l, err := c.store(t, disk, id)
	if err != nil {
		return err
	}
	err = errors.Join(c.read(l, c.offsets[rng.IntN(len(c.offsets))]), c.read(l, c.offsets[rng.IntN(len(c.offsets))]), c.read(l, c.start))
	return errors.Join(err, s.Close())
}

// In a log that we compacted each bit of what no CRC covers is noticed, base offset, length and leader epoch of a
// batch, and so is the end of a file that was cut off between two batches. What the leader epoch of
// one of the batches above the recovery point was, only the epochs of its neighbours tell.
func TestEveryBitThatNoCRCCovers(t *testing.T) {
	seeds, every := uint64(4), 7
	if testing.Short() {
		seeds, every = 1, 40
	}
	for seed := range seeds {
		all, id := cellars(t, seed)
		rng := rand.New(rand.NewPCG(seed, 9))
		gaps, flips, cuts := 0, 0, 0
		for _, c := range all {
			for _, name := range slices.Sorted(maps.Keys(c.files)) {
				hs := c.files[name]
				pos := int64(0)
				for i := range hs {
					if i > 0 && hs[i].BaseOffset > hs[i-1].LastOffset()+1 {
						gaps++
					}
					for bit := rng.IntN(every); bit < 8*batch.Overhead+32; bit += every {
						if c.killed && bit >= 8*batch.Overhead && hs[i].BaseOffset >= c.point {
							continue
						}
						flips++
						c.try(t, id, rng, name, fmt.Sprintf("bit %d of the batch at %d of %v", bit, pos, hs[i].BaseOffset), func(f vfs.File) error {
							var b [1]byte
							if _, err := f.ReadAt(b[:], pos+int64(bit/8)); err != nil {
								return err
							}
							b[0] ^= 1 << (bit % 8)
							_, err := f.WriteAt(b[:], pos+int64(bit/8))
							return err
						})
					}
					cuts++
					c.try(t, id, rng, name, fmt.Sprintf("cut off at %d", pos), func(f vfs.File) error { return f.Truncate(pos) })
					pos += int64(hs[i].Size())
				}
			}
		}
		t.Logf("seed %d: %d gaps, %d flips, %d cuts", seed, gaps, flips, cuts)
		if gaps == 0 {
			t.Errorf("seed %d: no gaps", seed)
		}
	}
}

func (c *cellar) try(t *testing.T, id [16]byte, rng *rand.Rand, name, what string, change func(vfs.File) error) {
	disk := c.disk.Crash(vfs.Kill, 0)
	f, err := disk.OpenFile(name, 2, 0)
	if err == nil {
		err = errors.Join(change(f), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) { err = c.judge(t, disk, id, rng) })
	if err != nil {
		t.Errorf("killed %t, point %d: %s: %s: %v", c.killed, c.point, name, what, err)
	}
}

// BenchmarkFirstRead reads a segment of 64 MiB after a start, as consumers do, in pieces of 1 MiB: the first time, when its
// batches are verified, and again.
func BenchmarkFirstRead(b *testing.B) {
	for _, size := range []int{200, 16 << 10} {
		c := DefaultConfig()
		c.RetentionMillis = -1
		r := &rig{t: b, fs: vfs.OS(), c: c, every: time.Minute, ledgers: map[string]*ledger{}}
		dir := b.TempDir()
		s, err := OpenStore(r.fs, dir, r.options())
		if err != nil {
			b.Fatal(err)
		}
		l, err := s.Open("t", 0, testID(1), c)
		if err != nil {
			b.Fatal(err)
		}
		raw := batch.Append(nil, batch.Plain(), []batch.Message{{Timestamp: 1, Value: make([]byte, size-80)}})
		for l.Size() < 64<<20 {
			if _, err := l.Append(time.UnixMilli(1), raw, AppendOptions{Origin: Coordinator}); err != nil {
				b.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		if s, err = OpenStore(r.fs, dir, r.options()); err != nil {
			b.Fatal(err)
		}
		if l, err = s.Open("t", 0, testID(1), c); err != nil {
			b.Fatal(err)
		}
		g := l.active()
		found := g.found.Load()
		for _, first := range []bool{true, false} {
			b.Run(fmt.Sprintf("batches=%d/first=%t", size, first), func(b *testing.B) {
				b.SetBytes(l.Size())
				for b.Loop() {
					if g.found.Store(0); first {
						g.found.Store(found)
						g.checked.Store(nil)
					}
					for from := int64(0); ; {
						k, err := l.Read(from, 1<<20, End, true)
						if err != nil {
							b.Fatal(err)
						}
						n := k.Bytes
						k.Release()
						if n == 0 {
							break
						}
						from += int64(n / len(raw))
					}
				}
			})
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
