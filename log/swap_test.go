package log

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rotpeter/rotpeter/internal/vfs"
)

// compaction makes a closed directory with three segments, and beside them the files that Kafka's
// cleaner would have made of the first two: batches 0 and 2, in one segment.
func compaction(t *testing.T, suffix string) (b *rig, want []byte) {
	t.Helper()
	b = newRig(t, vfs.NewCrash())
	b.c.SegmentBytes = 260
	for i := range 6 {
		b.put("t", i, 2)
	}
	l := b.must("t")
	third := (*l.segments.Load())[2].base
	if err := b.s.Close(); err != nil {
		t.Fatal(err)
	}
	var cleaned []byte
	for i, e := range b.ledgers["t"].entries {
		switch {
		case e.first >= third:
			want = append(want, e.bytes...)
		case i == 0, e.last == third-1:
			cleaned = append(cleaned, e.bytes...)
			want = append(want, e.bytes...)
		}
	}
	for _, f := range []struct {
		suffix string
		bytes  []byte
	}{{logSuffix, cleaned}, {indexSuffix, nil}, {timeIndexSuffix, nil}} {
		if err := writeFile(b.fs, "data/t-0/"+offsetName(0)+f.suffix+suffix, f.bytes, true); err != nil {
			t.Fatal(err)
		}
	}
	b.c.Compact = true
	return b, want
}

// A compaction that a crash interrupted is completed once its files are called
// .swap, and undone before.
func TestInterruptedCompaction(t *testing.T) {
	for _, c := range []struct {
		suffix  string
		prepare func(b *rig) error
		done    bool
	}{
		{swapSuffix, func(*rig) error { return nil }, true},
		{cleanedSuffix, func(*rig) error { return nil }, false},
		{swapSuffix, func(b *rig) error { // another .cleaned at or below it: the swap had not begun
			return writeFile(b.fs, "data/t-0/"+offsetName(0)+".log.cleaned", nil, true)
		}, false},
		{swapSuffix, func(b *rig) error { // the old segments are gone already, half of the new is in place
			for _, name := range []string{offsetName(0) + ".log", offsetName(0) + ".index", offsetName(0) + ".timeindex"} {
				if err := b.fs.Rename("data/t-0/"+name, "data/t-0/"+name+".deleted"); err != nil {
					return err
				}
			}
			return b.fs.Rename("data/t-0/"+offsetName(0)+".index.swap", "data/t-0/"+offsetName(0)+".index")
		}, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			b, want := compaction(t, c.suffix)
			if err := c.prepare(b); err != nil {
				t.Fatal(err)
			}
			if !c.done {
				want = nil
				for _, e := range b.ledgers["t"].entries {
					want = append(want, e.bytes...)
				}
			}
			for range 2 {
				b.open()
				got, err := readAll(b.must("t"), 0, High)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: read %d bytes, %v; want %d", c.suffix, len(got), err, len(want))
				}
				if err := b.s.Close(); err != nil {
					t.Error(err)
				}
				if names := b.files("t-0"); strings.Contains(names, "swap") || strings.Contains(names, "cleaned") {
					t.Errorf("something is left: %s", names)
				}
			}
		})
	}
}

// A crash at any change while a compaction is completed is completed by the next start.
func TestCrashWhileACompactionIsCompleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, want := compaction(t, swapSuffix)
		disk := b.fs.(*vfs.Crash)
		for n := 0; ; n++ {
			broken := disk.Crash(vfs.KeepAll, 0)
			broken.StopAfter(n)
			b.fs = broken
			if s, err := OpenStore(broken, "data", b.options()); err == nil {
				_, err = s.Open("t", 0, testID(1), b.c)
				_ = s.Close()
				if err == nil && broken.Ops() < n {
					return
				}
			}
			for _, mode := range vfs.Modes() {
				b.fs = broken.Crash(mode, uint64(n))
				b.open()
				got, err := readAll(b.must("t"), 0, High)
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("crash %s after %d changes: read %d bytes, %v; want %d", mode, n, len(got), err, len(want))
				}
				if err := b.s.Close(); err != nil {
					t.Fatal(fmt.Errorf("crash %s after %d changes: %w", mode, n, err))
				}
			}
		}
	})
}
