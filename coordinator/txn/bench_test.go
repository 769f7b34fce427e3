package txn

import (
	"testing"
	"time"

	"github.com/rotpeter/rotpeter/coordinator"
)

// BenchmarkTransaction is the work of a coordinator for one transaction, with what it writes down.
func BenchmarkTransaction(b *testing.B) {
	for _, c := range []struct {
		name       string
		version    int16
		partitions int32
	}{{"old", 0, 1}, {"new", 2, 1}, {"new of 100 partitions", 2, 100}} {
		b.Run(c.name, func(b *testing.B) {
			s, now, ids := New(DefaultOptions()), time.UnixMilli(1_700_000_000_000), int64(100)
			s.Loaded(now)
			handle := func(body any) coordinator.Result {
				r := s.Handle(now, coordinator.Event{Token: "t", Body: body})
				for _, rec := range r.Records {
					s.Apply(rec)
				}
				return r
			}
			var ps []Partition
			for i := range c.partitions {
				ps = append(ps, Partition{"topic", i})
			}
			b.ReportAllocs()
			for b.Loop() {
				ids++
				p := handle(Init{TransactionalID: "x", TimeoutMillis: 60000, NewID: ids}).Replies[0].Body.(Initialized)
				handle(Add{TransactionalID: "x", Producer: p.Producer, Partitions: ps, Version: c.version})
				r := handle(End{TransactionalID: "x", Producer: p.Producer, Commit: true, Version: c.version, NewID: ids})
				if r.Replies[0].Body.(Ended).Code != 0 || len(r.Errands) != 1 {
					b.Fatalf("%+v ends with %+v", p, r)
				}
				handle(r.Errands[0].(WriteMarkers).Written())
			}
		})
	}
}
