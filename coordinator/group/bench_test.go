package group

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/rotpeter/rotpeter/coordinator"
)

func BenchmarkHandle(b *testing.B) {
	offsets := "t/0:1"
	for i := 1; i < 100; i++ {
		offsets += fmt.Sprintf(",t/%d:1", i)
	}
	for _, c := range []struct {
		name, line string
		a          args
	}{
		{"heartbeat", "heartbeat", args{"member": "c-1"}},
		{"commit of 1", "commit", args{"group": "s", "offsets": "t/0:1"}},
		{"commit of 100", "commit", args{"group": "s", "offsets": offsets}},
		{"fetch of 100", "fetch", args{"group": "s"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			w := newWorld(b, DefaultOptions(nil, nil))
			run := func(body any) {
				for _, r := range w.shard.Handle(w.now, coordinator.Event{Token: "t", Body: body}).Records {
					w.shard.Apply(r)
				}
			}
			run(readEvent("join", args{"version": "3"}))
			w.now = w.now.Add(w.o.InitialRebalanceDelay)
			run(coordinator.Tick{})
			run(readEvent("commit", args{"group": "s", "offsets": offsets}))
			body := readEvent(c.line, c.a)
			b.ReportAllocs()
			for b.Loop() {
				run(body)
			}
		})
	}
}

// BenchmarkLoad loads a million commits: of 1,000 groups, each of 1,000 partitions of 10 topics. An operation is the whole
// of it.
func BenchmarkLoad(b *testing.B) {
	const groups, partitions = 1000, 1000
	records := make([]coordinator.Record, 0, groups*partitions)
	now := time.UnixMilli(1_700_000_000_000)
	for p := range partitions {
		for g := range groups {
			tp := topicPartition{fmt.Sprintf("topic-%d", p%10), int32(p / 10)}
			records = append(records, offsetRecord(now, fmt.Sprintf("group-%04d", g), tp, offset{offset: int64(p), leaderEpoch: 3, committed: now.UnixMilli(), expires: noTime}))
		}
	}
	var before, after runtime.MemStats
	for b.Loop() {
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&before)
		s := New(DefaultOptions(nil, nil))
		b.StartTimer()
		for i := range records {
			s.Apply(records[i])
		}
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(groups*partitions), "bytes/offset")
		if s.skipped > 0 || len(s.offsets) != groups {
			b.Fatalf("%d records passed over, %d groups", s.skipped, len(s.offsets))
		}
		b.StartTimer()
	}
}
