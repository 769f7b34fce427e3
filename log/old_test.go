package log

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"hash/crc32"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log/batch"
)

// oldMessage is a message of format 0 or 1, or a wrapper of some.
func oldMessage(magic byte, codec batch.Codec, offset, timestamp int64, key, value []byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(offset))
	b = append(b, make([]byte, 8)...) // length and crc
	b = append(b, magic, byte(codec))
	if magic == 1 {
		b = binary.BigEndian.AppendUint64(b, uint64(timestamp))
	}
	for _, field := range [][]byte{key, value} {
		n := int32(len(field))
		if field == nil {
			n = -1
		}
		b = append(binary.BigEndian.AppendUint32(b, uint32(n)), field...)
	}
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	binary.BigEndian.PutUint32(b[12:], crc32.ChecksumIEEE(b[16:]))
	return b
}

// oldSegment is what a Kafka before 0.11 wrote: both formats, a wrapper among them.
func oldSegment(t *testing.T, timestamp int64) (b []byte, records []written) {
	t.Helper()
	for i, key := range []string{"a", "b", "a"} {
		value := []byte{'0', byte('0' + i)}
		b = append(b, oldMessage(0, batch.None, int64(i), 0, []byte(key), value)...)
		records = append(records, written{offset: int64(i), timestamp: -1, key: key, value: string(value)})
	}
	b = append(b, oldMessage(1, batch.None, 3, timestamp, []byte("b"), nil)...)
	records = append(records, written{offset: 3, timestamp: timestamp, key: "b", tombstone: true})
	var inner []byte
	for i, key := range []string{"c", "d", "c"} {
		value := []byte{'w', byte('0' + i)}
		inner = append(inner, oldMessage(1, batch.None, int64(i), timestamp+int64(i), []byte(key), value)...)
		records = append(records, written{offset: int64(4 + i), timestamp: timestamp + int64(i), key: key, value: string(value)})
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(inner)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return append(b, oldMessage(1, batch.Gzip, 6, timestamp+2, nil, packed.Bytes())...), records
}

// readOld decodes what a reader of the whole log gets.
func readOld(t *testing.T, l *Log) (all []written) {
	t.Helper()
	raw, err := readStored(l)
	if err != nil {
		t.Fatal(err)
	}
	for len(raw) > 0 {
		h, err := batch.Stored(raw)
		if err == nil {
			err = batch.CheckStoredCRC(&h, raw)
		}
		if err == nil {
			err = new(batch.Decoder).StoredRecords(&h, raw[:h.Size()], 1<<20, func(r batch.Record) error {
				all = append(all, written{offset: h.BaseOffset + int64(r.OffsetDelta), timestamp: h.BaseTimestamp + r.TimestampDelta, key: string(r.Key), value: string(r.Value), tombstone: r.Value == nil})
				return nil
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		raw = raw[h.Size():]
	}
	return all
}

func readStored(l *Log) (all []byte, err error) {
	for from := l.Offsets().Start; from < l.Offsets().End; {
		c, err := l.Read(from, 300, High, true)
		if err != nil || c.Bytes == 0 {
			c.Release()
			return all, err
		}
		for _, r := range c.Runs() {
			b := make([]byte, r.Len)
			if n, err := r.File.ReadAt(b, r.Off); n < r.Len {
				c.Release()
				return all, err
			}
			all = append(all, b...)
			for len(b) > 0 {
				h, err := batch.Stored(b)
				if err != nil {
					c.Release()
					return all, err
				}
				from, b = h.LastOffset()+1, b[h.Size():]
			}
		}
		c.Release()
	}
	return all, nil
}

// Segments with messages of formats 0 and 1, as a cluster has them that was upgraded since, are
// recovered, read as they are, found by time, and turned into batches by compaction.
func TestOldMessageFormats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := vfs.NewCrash()
		b := &rig{t: t, fs: disk, c: small(), every: time.Minute, ledgers: map[string]*ledger{}, cleaner: DefaultCleanerConfig()}
		now := time.Now().UnixMilli()
		old, want := oldSegment(t, now)
		if err := disk.MkdirAll("data/t-0", 0o700); err != nil {
			t.Fatal(err)
		}
		for name, content := range map[string][]byte{"00000000000000000000.log": old, metadataFile: formatMetadata(b.ledger("t").id)} {
			if err := writeFile(disk, "data/t-0/"+name, content, true); err != nil {
				t.Fatal(err)
			}
		}
		b.open()
		same := func(what string, want []written) {
			t.Helper()
			got := readOld(t, b.must("t"))
			if len(got) != len(want) {
				t.Fatalf("%s: %d records, want %d: %+v", what, len(got), len(want), got)
			}
			for i := range got {
				if got[i] != want[i] {
					t.Errorf("%s: record %d is %+v, want %+v", what, i, got[i], want[i])
				}
			}
		}
		same("after recovery", want)
		for target, offset := range map[int64]int64{now: 3, now + 1: 5, now + 2: 6, now + 3: -1} {
			got, err := b.must("t").OffsetFor(target)
			if err != nil || got.Offset != offset {
				t.Errorf("timestamp %d is found at %d, want %d: %v", target-now, got.Offset, offset, err)
			}
		}
		for i := range 12 { // new batches follow, and the segment is sealed
			b.put("t", i, 3)
			time.Sleep(time.Second)
		}
		b.reopen()
		if got := readOld(t, b.must("t")); len(got) != len(want)+36 {
			t.Errorf("%d records after a restart", len(got))
		}
		c := b.c
		c.Compact, c.Delete, c.MinCleanableRatio = true, false, 0.01
		b.c = c
		b.must("t").SetConfig(c)
		time.Sleep(time.Minute)
		if st := b.s.CleanerStats(); st.Cleaned == 0 || st.Uncleanable > 0 {
			t.Fatalf("%+v: %v", st, b.must("t").uncleanable)
		}
		left := map[int64]bool{}
		for _, r := range readOld(t, b.must("t")) {
			if r.offset > 6 {
				break
			}
			left[r.offset] = true
			if r != want[r.offset] {
				t.Errorf("after compaction %+v, was %+v", r, want[r.offset])
			}
		}
		for offset, kept := range map[int64]bool{0: false, 1: false, 2: true, 3: true, 4: false, 5: true, 6: true} {
			if left[offset] != kept {
				t.Errorf("offset %d is kept: %t", offset, left[offset])
			}
		}
		raw, err := readStored(b.must("t"))
		if err != nil {
			t.Fatal(err)
		}
		if h, err := batch.Parse(raw); err != nil || h.Old {
			t.Errorf("what was compacted is no batch: %+v, %v", h, err)
		}
		if err := b.s.Close(); err != nil {
			t.Error(err)
		}
	})
}
