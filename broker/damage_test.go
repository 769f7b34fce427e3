package broker

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A consumer hears of a damaged range where it meets it, seeks past it and goes on in the same session. Producers
// notice nothing, and the metrics show it until DeleteRecords gives the range up.
func TestDamagedRange(t *testing.T) {
	inBubble(t, func(h *harness) {
		cl := h.client()
		var offsets []int64
		for i := range 9 {
			r, err := cl.ProduceSync(h.t.Context(), &kgo.Record{Topic: "t", Partition: 0, Value: []byte(strings.Repeat("v", 100+i))}).First()
			if err != nil {
				t.Fatal(err)
			}
			offsets = append(offsets, r.Offset)
		}
		cl.Close()
		h.stop()
		f, err := h.fs.OpenFile("data/t-0/00000000000000000000.log", os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		size, err := f.Size()
		if err != nil {
			t.Fatal(err)
		}
		// The header of a batch in the middle; all have about the same size.
		if _, err := f.WriteAt(make([]byte, 30), size/9*4); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		h.start()

		cl = h.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"t": {0: kgo.NewOffset().At(0)}}), kgo.KeepRetryableFetchErrors())
		defer cl.Close()
		seen, failed := map[int64]bool{}, false
		ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
		defer cancel()
		for len(seen) < len(offsets)-1 && ctx.Err() == nil {
			fetches := cl.PollFetches(ctx)
			fetches.EachError(func(_ string, _ int32, err error) {
				if err != kerr.KafkaStorageError {
					t.Errorf("the range answers %v", err)
				}
				failed = true
			})
			fetches.EachRecord(func(r *kgo.Record) { seen[r.Offset] = true })
			if failed {
				next := int64(len(seen)) + 1
				cl.SetOffsets(map[string]map[int32]kgo.EpochOffset{"t": {0: {Epoch: -1, Offset: next}}})
				failed = false
			}
		}
		lost := 0
		for _, o := range offsets {
			if !seen[o] {
				lost++
			}
		}
		if lost != 1 {
			t.Errorf("%d records were not read, one is damaged", lost)
		}
		if r, err := cl.ProduceSync(h.t.Context(), &kgo.Record{Topic: "t", Value: []byte("after")}).First(); err != nil || r.Offset != offsets[8]+1 {
			t.Errorf("produce: %+v, %v", r, err)
		}
		count := func() (partitions, ranges int) {
			for _, l := range h.b.facts().Logs {
				if l.Damaged > 0 {
					partitions, ranges = partitions+1, ranges+l.Damaged
				}
			}
			return partitions, ranges
		}
		if p, r := count(); p != 1 || r != 1 {
			t.Errorf("facts say %d damaged partitions with %d ranges", p, r)
		}
		adm := kadm.NewClient(cl)
		dirs, err := adm.DescribeAllLogDirs(h.t.Context(), nil)
		dirs.Each(func(d kadm.DescribedLogDir) {
			if d.Err != nil || d.Size() < size {
				t.Errorf("DescribeLogDirs: %d bytes, %v", d.Size(), d.Err)
			}
		})
		if err != nil {
			t.Error(err)
		}
		var to kadm.Offsets
		to.Add(kadm.Offset{Topic: "t", At: offsets[8] + 1})
		if _, err := adm.DeleteRecords(h.t.Context(), to); err != nil {
			t.Fatal(err)
		}
		if p, r := count(); p != 0 || r != 0 {
			t.Errorf("after DeleteRecords facts say %d damaged partitions with %d ranges", p, r)
		}
	})
}
