package log

import (
	"fmt"
	"testing"
	"time"

	"github.com/rotpeter/rotpeter/internal/poison"
	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log/batch"
)

// openReal is a log on the real file system, in page-cache mode.
func openReal(t testing.TB) (*rig, *Log) {
	c := DefaultConfig()
	c.RetentionMillis = -1
	r := &rig{t: t, fs: vfs.OS(), c: c, every: time.Minute, ledgers: map[string]*ledger{}}
	s, err := OpenStore(r.fs, t.TempDir(), r.options())
	if err != nil {
		t.Fatal(err)
	}
	r.s = s
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	l, err := s.Open("t", 0, testID(1), c)
	if err != nil {
		t.Fatal(err)
	}
	return r, l
}

// oneBatch is what a client sends: one record, about so many bytes.
func oneBatch(size int) []byte {
	return batch.Append(nil, batch.Plain(), []batch.Message{{Timestamp: time.Now().UnixMilli(), Value: make([]byte, size-80)}})
}

// BenchmarkAppend is a client's batch into the page cache.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			_, l := openReal(b)
			raw, now := oneBatch(size), time.Now()
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			for b.Loop() {
				batch.SetBaseOffset(raw, 0)
				if _, err := l.Append(now, raw, AppendOptions{Origin: Client}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRead is a read of 64 KiB where the index is in memory.
func BenchmarkRead(b *testing.B) {
	_, l := openReal(b)
	raw, now := oneBatch(1<<10), time.Now()
	for range 10_000 {
		batch.SetBaseOffset(raw, 0)
		if _, err := l.Append(now, raw, AppendOptions{Origin: Client}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	from := int64(0)
	for b.Loop() {
		c, err := l.Read(from, 64<<10, High, true)
		if err != nil || c.Bytes == 0 {
			b.Fatal(c.Bytes, err)
		}
		c.Release()
		from = (from + 63) % 9_900
	}
}

// What an append and a read may allocate: nothing for each byte, and next to nothing for each call.
func TestAllocationsOfAppendAndRead(t *testing.T) {
	if poison.On {
		t.Skip("with poison nothing that was released is used again")
	}
	_, l := openReal(t)
	raw, now := oneBatch(1<<10), time.Now()
	appends := testing.AllocsPerRun(1000, func() {
		batch.SetBaseOffset(raw, 0)
		if _, err := l.Append(now, raw, AppendOptions{Origin: Client}); err != nil {
			t.Fatal(err)
		}
	})
	reads := testing.AllocsPerRun(1000, func() {
		c, err := l.Read(500, 64<<10, High, true)
		if err != nil || c.Bytes == 0 {
			t.Fatal(c.Bytes, err)
		}
		c.Release()
	})
	t.Logf("append %v, read %v", appends, reads)
	if appends > 0 || reads > 1 {
		t.Errorf("an append allocates %v times, a read %v times", appends, reads)
	}
}
