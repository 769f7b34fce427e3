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

// The judge of delayed ends tells what is torn.
func TestJudgeDelayed(t *testing.T) {
	printed := "commit a 0\nabort a 1\nfailed b 0 because\n"
	well := func() []map[string]int { return []map[string]int{{"a 0": 1}, {"a 0": 1, "b 0": 1}} }
	for _, k := range []struct {
		name, printed string
		change        func(seen []map[string]int)
		want          string // part of the complaint, empty = none
	}{
		{"all well", printed[:21], func(seen []map[string]int) { delete(seen[1], "b 0") }, ""},
		{"a client stopped", printed, func([]map[string]int) {}, "1 of 3 transactions are not what their clients were told: failed b 0 because"},
		{"half is lost", printed, func(seen []map[string]int) { delete(seen[1], "a 0") }, "2 of 3 transactions are not what their clients were told: commit a 0, and it is 0 times in partition 1"},
		{"twice", printed, func(seen []map[string]int) { seen[0]["a 0"] = 2 }, "commit a 0, and it is 2 times in partition 0"},
		{"half is aborted", printed, func(seen []map[string]int) { seen[0]["a 1"] = 1 }, "abort a 1, and it is 1 times in partition 0"},
		{"nobody's", printed[:21], func([]map[string]int) {}, `nobody wrote "b 0"`},
		{"not a line of a client", "oops\n", func([]map[string]int) {}, `printed "oops"`},
	} {
		seen := well()
		k.change(seen)
		err := judgeDelayed([]byte(k.printed), seen, 2)
		if err == nil && k.want != "" || err != nil && (k.want == "" || !strings.Contains(err.Error(), k.want)) {
			t.Errorf("%s: complaint %v, want %q", k.name, err, k.want)
		}
	}
}

// The delayer finds the transactional id of the requests that it may delay, in each version of them.
func TestTransactionOf(t *testing.T) {
	f := kmsg.NewRequestFormatter(kmsg.FormatterClientID("c"))
	id := "an id"
	for _, req := range []kmsg.Request{
		&kmsg.ProduceRequest{TransactionID: &id}, &kmsg.AddOffsetsToTxnRequest{TransactionalID: id},
		&kmsg.TxnOffsetCommitRequest{TransactionalID: id}, &kmsg.EndTxnRequest{TransactionalID: id}, &kmsg.AddPartitionsToTxnRequest{TransactionalID: id},
	} {
		for v := range req.MaxVersion() + 1 {
			_, produce := req.(*kmsg.ProduceRequest)
			_, add := req.(*kmsg.AddPartitionsToTxnRequest)
			if produce && v < 3 || add && v > 3 { // without one, and from brokers
				continue
			}
			req.SetVersion(v)
			got, ends := transactionOf(f.AppendRequest(nil, req, 1)[4:])
			if _, want := req.(*kmsg.EndTxnRequest); got != id || ends != want {
				t.Errorf("%s v%d: id %q, ends %t", kmsg.NameForKey(req.Key()), v, got, ends)
			}
		}
	}
	if got, _ := transactionOf(f.AppendRequest(nil, kmsg.NewPtrMetadataRequest(), 1)[4:]); got != "" {
		t.Errorf("Metadata has the id %q", got)
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
