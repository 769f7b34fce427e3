package log

import (
	"slices"
	"testing"
	"testing/synctest"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log/batch"
)

// A transaction index that is damaged in any of its bits is made again from the batches: a
// read_committed reader sees what was committed, and nothing else.
func TestDamagedTransactionIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewCrash()
		p := newCompactor(t, disk, 5)
		p.c.Compact, p.c.Delete = false, true
		for range 12 { // committed and aborted in turn, over several segments
			for i := range 4 {
				p.idempotent(100, true)
				p.send(batch.Plain(), false)
				p.end(100, i%2 == 0)
			}
		}
		want, err := consume(p.must("t"), Stable)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.s.Close(); err != nil {
			t.Fatal(err)
		}
		names, err := vfs.Files(disk, "data")
		if err != nil {
			t.Fatal(err)
		}
		names = slices.DeleteFunc(names, func(n string) bool { return len(n) < 10 || n[len(n)-9:] != txnIndexSuffix })
		if len(names) < 3 {
			t.Fatalf("there are only %d transaction indexes", len(names))
		}
		name := names[1] // of a sealed segment that is not the first
		whole, err := readFile(disk, name, 1<<20)
		if err != nil || len(whole) < 2*abortedBytes {
			t.Fatalf("%d bytes: %v", len(whole), err)
		}
		for bit := range 8 * 2 * abortedBytes {
			wrong := slices.Clone(whole)
			wrong[bit/8] ^= 1 << (bit % 8)
			if !p.readsRight(disk, name, wrong, want) {
				t.Errorf("bit %d of byte %d: a reader sees something else", bit%8, bit/8)
			}
		}
		for n := range len(whole) {
			if n%abortedBytes != 0 && !p.readsRight(disk, name, whole[:n], want) {
				t.Errorf("cut off after %d bytes: a reader sees something else", n)
			}
		}
	})
}

// readsRight starts on a copy of the disk with another file in a place, and reads all.
func (p *compactor) readsRight(disk *vfs.Crash, name string, b []byte, want []written) bool {
	p.t.Helper()
	copied := disk.Crash(vfs.KeepAll, 0)
	if err := writeFile(copied, name, b, true); err != nil {
		p.t.Fatal(err)
	}
	p.fs = copied
	p.rig.open()
	got, err := consume(p.must("t"), Stable)
	if c := p.s.Close(); err == nil {
		err = c
	}
	return err == nil && slices.Equal(got, want)
}
