package log

import (
	"bytes"
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log/batch"
)

// A producer snapshot from below the log's first segment says that a transaction is
// open, and its end was deleted with the segments in between: the last stable offset
// does not wait for it.
func TestSnapshotBelowTheLogIsNotUsed(t *testing.T) {
	inStore(t, func(t *testing.T, b *rig) {
		o := batch.Plain()
		o.ProducerID, o.ProducerEpoch, o.BaseSequence, o.Transactional = 20, 0, 0, true
		now := time.Now().UnixMilli()
		if _, err := b.append("t", data(o, now, 1, 2), AppendOptions{Durable: true, Verified: true}); err != nil {
			t.Fatal(err)
		}
		for len(*b.must("t").segments.Load()) < 2 {
			b.put("t", 2, 1)
		}
		if _, err := b.append("t", batch.AppendMarker(nil, 20, 0, batch.ControlCommit, 1, now), AppendOptions{Origin: Coordinator, Durable: true}); err != nil {
			t.Fatal(err)
		}
		for len(*b.must("t").segments.Load()) < 3 {
			b.put("t", 3, 1)
		}
		time.Sleep(b.every) // the snapshots at both rolls are written
		all := *b.must("t").segments.Load()
		second, third := all[1].base, all[2].base
		if err := b.deleteBefore("t", third); err != nil {
			t.Fatal(err)
		}
		// A crash: the segments are gone, the second's snapshot is not yet, the third's was not written.
		disk := b.fs.(*vfs.Crash).Crash(vfs.KeepAll, 0)
		kept, err := readFile(disk, "data/t-0/"+offsetName(second)+snapshotSuffix, maxSnapshotBytes)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		disk = b.fs.(*vfs.Crash).Crash(vfs.KeepAll, 0)
		if err := disk.Remove("data/t-0/" + offsetName(third) + snapshotSuffix); err != nil {
			t.Fatal(err)
		}
		if err := writeFile(disk, "data/t-0/"+offsetName(second)+snapshotSuffix, kept, true); err != nil {
			t.Fatal(err)
		}
		if err := b.s.Close(); err != nil {
			t.Fatal(err)
		}
		b.fs = disk
		b.open()
		b.put("t", 4, 1)
		if o := b.must("t").Offsets(); o.Stable != o.End || o.Start != third {
			t.Errorf("offsets %+v: want a log from %d that is stable to its end", o, third)
		}
	})
}

// A directory whose topic id did not survive holds nothing that was promised. What is
// left in it does not become a part of the log that begins there.
func TestDirectoryWithoutIDIsCleared(t *testing.T) {
	inStore(t, func(t *testing.T, b *rig) {
		b.c.Compact = true // a segment may begin after the end of the one before
		for _, name := range []string{metadataFile, offsetName(0) + logSuffix, offsetName(7) + logSuffix} {
			if err := b.fs.MkdirAll("data/t-0", 0o700); err != nil {
				t.Fatal(err)
			}
			if err := writeFile(b.fs, "data/t-0/"+name, nil, true); err != nil {
				t.Fatal(err)
			}
		}
		b.put("t", 1, 2)
		b.reopen()
		if o := b.must("t").Offsets(); o.Start != 0 || o.End != 2 {
			t.Errorf("offsets %+v, want 0 to 2", o)
		}
	})
}

// A start after a kill that did not open all logs leaves no marker of a clean stop: the
// others are still to be recovered.
func TestNoMarkerBeforeAllLogsWereOpened(t *testing.T) {
	inStore(t, func(t *testing.T, b *rig) {
		b.put("a", 1, 1)
		b.put("b", 2, 1)
		b.kill()
		b.must("a")
		b.reopen()
		if b.s.Clean() {
			t.Error("a clean stop is claimed, and b was never recovered")
		}
		b.must("a")
		b.must("b")
		b.reopen()
		if !b.s.Clean() {
			t.Error("all logs were recovered and the stop was clean, and nobody says so")
		}
	})
}

// An index that leads past an offset is made again. To believe it would leave records out.
func TestIndexThatLeadsPastAnOffset(t *testing.T) {
	inStore(t, func(t *testing.T, b *rig) {
		for i := range 12 {
			b.put("t", i, 1)
		}
		if len(*b.must("t").segments.Load()) < 2 {
			t.Fatal("one segment only")
		}
		if err := b.s.Close(); err != nil {
			t.Fatal(err)
		}
		name := "data/t-0/" + offsetName(0) + indexSuffix
		text, err := readFile(b.fs, name, maxIndexBytes)
		if err != nil || len(text) < indexEntryBytes {
			t.Fatalf("%d bytes of index, %v", len(text), err)
		}
		text[3] = 1 // the first entry is said to be of offset 1
		if err := writeFile(b.fs, name, text, true); err != nil {
			t.Fatal(err)
		}
		b.open()
		c, err := b.must("t").Read(1, 1, End, true)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Release()
		raw := make([]byte, c.Bytes)
		if _, err := c.Runs()[0].File.ReadAt(raw, c.Runs()[0].Off); err != nil {
			t.Fatal(err)
		}
		if want := b.ledgers["t"].entries[1]; !bytes.Equal(raw, want.bytes) {
			t.Errorf("read at offset 1: %d bytes that are not its batch", len(raw))
		}
	})
}

// The name of the data directory is durable before anything in it is promised, also if
// an earlier start made it and ended there.
func TestDirectoryOfAFailedStartIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewCrash()
		b := &rig{t: t, fs: vfs.NewFault(disk, vfs.Rule{Kind: vfs.OpMkdir, Err: syscall.EIO, After: true}), c: small(), every: time.Minute, ledgers: map[string]*ledger{}}
		if b.open() {
			t.Fatal("the fault did not strike")
		}
		b.open()
		b.put("t", 1, 2)
		if err := b.s.Close(); err != nil {
			t.Fatal(err)
		}
		b.fs = disk.Crash(vfs.LoseUnsynced, 0)
		b.open()
		if o := b.must("t").Offsets(); o.End != 2 {
			t.Errorf("the log ends at %d after a power cut, want 2", o.End)
		}
		if err := b.s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A partition.metadata that says nonsense is damage: the partition is refused, and its
// directory stays where it is.
func TestDamagedPartitionMetadata(t *testing.T) {
	inStore(t, func(t *testing.T, b *rig) {
		b.put("t", 1, 2)
		if err := b.s.Close(); err != nil {
			t.Fatal(err)
		}
		before := b.files("t-0")
		if err := writeFile(b.fs, "data/t-0/"+metadataFile, []byte("version: 0\ntopic_id: ?"), true); err != nil {
			t.Fatal(err)
		}
		b.open()
		if _, err := b.log("t"); !errors.Is(err, ErrStorage) || !strings.Contains(err.Error(), metadataFile) {
			t.Errorf("open: %v", err)
		}
		if err := b.s.SetAsideUnknown(); !errors.Is(err, ErrStorage) {
			t.Errorf("set aside: %v", err)
		}
		if after := b.files("t-0"); after != before {
			t.Errorf("files %s, were %s", after, before)
		}
	})
}

// A control batch that the disk does not give during recovery is not a torn one: the log
// is not opened, and is whole when it can be read.
func TestMarkerThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRig(t, vfs.NewCrash())
		o := batch.Plain()
		o.ProducerID, o.ProducerEpoch, o.BaseSequence, o.Transactional = 20, 0, 0, true
		now := time.Now().UnixMilli()
		if _, err := b.append("t", data(o, now, 1, 2), AppendOptions{Durable: true, Verified: true}); err != nil {
			t.Fatal(err)
		}
		marker := batch.AppendMarker(nil, 20, 0, batch.ControlCommit, 1, now)
		if _, err := b.append("t", marker, AppendOptions{Origin: Coordinator, Durable: true}); err != nil {
			t.Fatal(err)
		}
		disk := b.fs.(*vfs.Crash).Crash(vfs.Kill, 0)
		if err := b.s.Close(); err != nil {
			t.Fatal(err)
		}
		for nth := 1; nth <= 4; nth++ {
			b.fs = vfs.NewFault(disk, vfs.Rule{Kind: vfs.OpRead, Path: "*.log", Nth: nth, Err: syscall.EIO})
			b.open()
			_, _ = b.log("t")
			_ = b.s.Close()
		}
		b.fs = disk
		b.open()
		if err := b.ledger("t").check(b.must("t"), true); err != nil {
			t.Error(err)
		}
		if err := b.s.Close(); err != nil {
			t.Error(err)
		}
	})
}
