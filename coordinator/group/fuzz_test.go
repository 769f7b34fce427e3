package group

import (
	"testing"
	"time"

	"github.com/rotpeter/rotpeter/coordinator"
)

// FuzzApply loads a shard from any two records and talks to it: nothing in a
// journal may take the broker down.
func FuzzApply(f *testing.F) {
	now := time.UnixMilli(1_700_000_000_000)
	protocol, instance := "range", "i"
	g := groupRecord(now, "g", &groupMetadata{
		protocolType: "consumer", generation: 3, protocol: &protocol, leader: "a", since: 5,
		members: []memberMetadata{{id: "a", instanceID: &instance, sessionMillis: 6000, rebalanceMillis: 10, subscription: subscription("t")}},
	})
	o := offsetRecord(now, "g", topicPartition{"t", 0}, offset{offset: 1, committed: 1, expires: noTime})
	f.Add(g.Key, g.Value, o.Key, o.Value)
	f.Add(o.Key, o.Value, g.Key, []byte(nil))
	headless := groupRecord(now, "g", &groupMetadata{members: []memberMetadata{{id: "a"}, {id: "a"}, {id: "", sessionMillis: -1}}})
	f.Add(headless.Key, headless.Value, o.Key, []byte(nil))
	f.Fuzz(func(t *testing.T, key1, value1, key2, value2 []byte) {
		w := newWorld(t, DefaultOptions(nil, nil))
		w.shard = New(w.o)
		w.shard.Apply(coordinator.Record{Key: key1, Value: value1})
		w.shard.Apply(coordinator.Record{Key: key2, Value: value2, Transactional: true, ProducerID: 1})
		at := now
		run := func(r coordinator.Result) {
			for _, rec := range r.Records {
				w.shard.Apply(rec)
			}
		}
		run(w.shard.Loaded(at))
		for i, line := range []string{"heartbeat", "join", "join", "sync", "leave", "commit", "describe", "fetch", "list", "delete"} {
			a := args{"member": "a", "generation": "3", "offsets": "t/0:1", "members": "a", "version": "3"}
			if i == 2 {
				a["instance"], a["member"] = "i", ""
			}
			run(w.shard.Handle(at, coordinator.Event{Token: "t", Body: readEvent(line, a)}))
			at = at.Add(20 * time.Second)
			run(w.shard.Handle(at, coordinator.Event{Body: coordinator.Tick{}}))
			if next, ok := w.shard.Deadline(); !ok || !next.After(at) {
				t.Fatalf("after a tick at %v the deadline is %v %v", at, next, ok)
			}
		}
	})
}
