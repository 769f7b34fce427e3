package txn

import (
	"bytes"
	"reflect"
	"testing"
	"time"

	"github.com/rotpeter/rotpeter/coordinator"
)

// FuzzRecord reads any record: nothing in a journal may take the broker down, and what can be read can be written and read
// again.
func FuzzRecord(f *testing.F) {
	x := &transaction{
		id: "x", producerID: 7, previousID: 6, nextID: 8, epoch: 32767, timeoutMillis: 1000, state: PrepareAbort,
		partitions: map[Partition]bool{{"a", 0}: true, {"a", 1}: true, {"b", 0}: true}, started: 5, updated: 6, version: 2, previousEpoch: noEpoch,
	}
	for level := range int16(3) {
		r := x.record(level)
		f.Add(r.Key, r.Value)
		f.Add(r.Key, r.Value[:len(r.Value)-3])
		f.Add(r.Key, append(bytes.Clone(r.Value), 1))
	}
	for _, state := range []State{Empty, Ongoing, CompleteCommit, 6, -1} {
		y := *x
		if y.state = state; state == Empty {
			y.partitions = nil
		}
		r := y.record(2)
		f.Add(r.Key, r.Value)
	}
	f.Add(key(""), []byte(nil))
	f.Add([]byte{0, 1, 0, 0}, []byte{0, 0})
	f.Add([]byte{0}, []byte{0})
	f.Add(key("0"), []byte("00'00000000000000\x1d\x0300\x00\x80\xff\xff0\x00\x00\x00\x000000000000000000")) // a great many tagged fields
	f.Add([]byte(nil), []byte{0, 2})
	f.Fuzz(func(t *testing.T, k, v []byte) {
		id, known, ok := readKey(k)
		if ok && known {
			if again, known, ok := readKey(key(id)); again != id || !known || !ok {
				t.Fatalf("%q is written as a key and read as %q", id, again)
			}
			if x, ok := read(id, v); ok {
				level := int16(2)
				if plain(v) {
					level = 0
				}
				again, ok := read(id, x.record(level).Value)
				if !ok || !reflect.DeepEqual(x, again) {
					t.Fatalf("%+v is written and read as %+v", x, again)
				}
			}
		}
		s, now := New(DefaultOptions()), time.UnixMilli(1_700_000_000_000)
		s.Apply(coordinator.Record{Key: k, Value: v})
		apply := func(r coordinator.Result) {
			for _, rec := range r.Records {
				s.Apply(rec)
			}
		}
		apply(s.Loaded(now))
		p := Producer{noID, noEpoch}
		if x := s.all[id]; x != nil {
			p = Producer{x.producerID, x.epoch}
		}
		for _, body := range []any{
			Describe{id}, List{LongerThan: -1}, Add{TransactionalID: id, Producer: p, Partitions: []Partition{{"a", 0}}, Version: 2}, coordinator.Tick{},
			End{TransactionalID: id, Producer: p, Version: 2, NewID: 99}, Init{TransactionalID: id, TimeoutMillis: 1000, NewID: 100}, coordinator.Tick{},
		} {
			for _, m := range s.asked {
				apply(s.Handle(now, coordinator.Event{Body: MarkersWritten{TransactionalID: id, of: m}}))
			}
			now = now.Add(time.Hour)
			apply(s.Handle(now, coordinator.Event{Token: "t", Body: body}))
			if x := s.all[id]; x != nil && x.epoch < p.epochBefore() {
				t.Fatalf("%+v goes back from %+v", x, p)
			}
		}
	})
}

// epochBefore is the lowest epoch that may follow: a producer id that changes begins at 0.
func (p Producer) epochBefore() int16 { return min(p.Epoch, 0) }
