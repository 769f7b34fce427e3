package main

import (
	"hash/crc32"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The judge of what was transformed tells what a broker can get wrong.
func TestJudgeTransformed(t *testing.T) {
	well := []string{"read_committed 0 0 0:0", "read_committed 0 5 0:1", "read_committed 1 2 1:0", "read_committed 1 3 1:1",
		"read_uncommitted 0 0 0:0", "read_uncommitted 0 3 0:1", "read_uncommitted 0 5 0:1", "read_uncommitted 1 2 1:0", "read_uncommitted 1 3 1:1"}
	for _, k := range []struct {
		name   string
		change func([]string) []string
		want   string // part of the complaint, empty = none
	}{
		{"all well", func(l []string) []string { return l }, ""},
		{"lost at the end", func(l []string) []string { return slices.Delete(l, 3, 4) }, "partition 1 has 1 of 2 records"},
		{"lost in the middle", func(l []string) []string { return l[1:] }, "partition 0 has 0:1 at offset 5, after offset -1; 0:0 is next"},
		{"twice", func(l []string) []string { return slices.Insert(l, 1, "read_committed 0 3 0:0") }, "0:1 is next"},
		{"more than there is", func(l []string) []string { return slices.Insert(l, 4, "read_committed 1 4 1:2") }, "partition 1 has 3 of 2"},
		{"out of order", func(l []string) []string { l[1] = "read_committed 0 0 0:1"; return l }, "after offset 0"},
		{"nothing was aborted", func(l []string) []string { return slices.Delete(l, 5, 6) }, "with read_uncommitted 4 records are seen"},
		{"no reader's line", func(l []string) []string { return append(l, "oops") }, `printed "oops"`},
	} {
		_, err := judgeTransformed([]byte(strings.Join(k.change(slices.Clone(well)), "\n")), 2, 2)
		if err == nil && k.want != "" || err != nil && (k.want == "" || !strings.Contains(err.Error(), k.want)) {
			t.Errorf("%s: complaint %v, want %q", k.name, err, k.want)
		}
	}
}

// A batch is one that a broker takes: its length and checksum are those of its bytes.
func TestTransactionalBatch(t *testing.T) {
	raw := transactionalBatch(7, 3, 5, time.UnixMilli(1000), []string{"a", "bc"})
	var b kmsg.RecordBatch
	if err := b.ReadFrom(raw); err != nil {
		t.Fatal(err)
	}
	sum := crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli))
	if int(b.Length) != len(raw)-12 || uint32(b.CRC) != sum || b.ProducerID != 7 || b.ProducerEpoch != 3 || b.FirstSequence != 5 ||
		b.Attributes != 1<<4 || b.NumRecords != 2 || b.LastOffsetDelta != 1 {
		t.Errorf("batch %+v of %d bytes with checksum %x", b, len(raw), sum)
	}
	var r kmsg.Record
	if err := r.ReadFrom(b.Records); err != nil || string(r.Value) != "a" {
		t.Errorf("first record %+v: %v", r, err)
	}
}
