package group

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

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
	consumer := consumerRecords()
	for i, r := range consumer {
		next := consumer[(i+1)%len(consumer)]
		f.Add(r.Key, r.Value, next.Key, next.Value)
		f.Add(r.Key, r.Value, r.Key, []byte(nil))
		f.Add(r.Key, r.Value[:len(r.Value)-1], next.Key[:len(next.Key)-1], next.Value)
		f.Add(r.Key, r.Value, g.Key, g.Value)
	}
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
		for i, line := range []string{"heartbeat", "join", "join", "beat", "beat", "consumer-describe", "sync", "leave", "commit", "describe", "fetch", "list", "delete"} {
			a := args{"member": "a", "generation": "3", "offsets": "t/0:1", "members": "a", "version": "3"}
			if i == 2 {
				a["instance"], a["member"] = "i", ""
			}
			if i == 3 {
				a = args{"member": "a", "epoch": "2", "owns": "1:0", "topics": "t"}
			}
			if i == 4 {
				a = args{"member": "n", "instance": "i", "topics": "t", "regex": "t.*"}
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

// FuzzConsumerHeartbeat sends any heartbeat to a group in some state: nothing that a client says may break what must hold
// of a group, nor what its other members get.
func FuzzConsumerHeartbeat(f *testing.F) {
	states := [][]string{
		{},
		{"beat member=m topics=a regex=b.*", "resolve", "beat member=m epoch=1"},
		{"beat member=m topics=a", "beat member=n topics=a,b", "beat member=m epoch=2 owns=1:0+1+2"},
		{"beat member=m topics=a instance=i", "beat member=n topics=a", "beat member=m epoch=-2 instance=i"},
		{"join subscribe=a version=3", "advance for=4s", "sync member=c-1 generation=1 share=c-1:a/0+a/1+a/2"},
		{"join subscribe=a version=3", "join subscribe=a version=3"},
		{"beat member=m topics=a assignor=range", "join subscribe=a version=3 instance=i", "sync member=uuid-1 generation=3 instance=i"},
		{"beat member=m topics=a", "beat member=m epoch=-1"},
		{"commit offsets=a/0:1"},
	}
	f.Add(uint8(2), "m", int32(2), "", "", int32(-1), "", "", "", "1:0+1", uint8(0))
	f.Add(uint8(3), "o", int32(0), "i", "", int32(100), "a,b", "", "uniform", "", uint8(0xFF))
	f.Add(uint8(4), "m", int32(0), "", "r", int32(0), "b,b,a", "a|b", "range", "", uint8(0x3E))
	f.Add(uint8(6), "uuid-1", int32(3), "i", "", int32(5), "a", "", "", "1:0+7,9:1", uint8(0xF1))
	f.Add(uint8(1), "m", int32(-1), "", "", int32(-1), "", "(", "", "", uint8(0x10))
	f.Fuzz(func(t *testing.T, state uint8, member string, epoch int32, instance, rack string, rebalance int32, names, regex, assignor, owns string, given uint8) {
		w := newWorld(t, DefaultOptions(nil, nil))
		w.topics("a:3", "b:2")
		for _, line := range states[int(state)%len(states)] {
			w.command(line)
		}
		q := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		q.Group, q.MemberID, q.MemberEpoch, q.RebalanceTimeoutMillis = "g", member, epoch, rebalance
		for i, p := range []struct {
			to   **string
			text *string
		}{{&q.InstanceID, &instance}, {&q.RackID, &rack}, {&q.ServerAssignor, &assignor}, {&q.SubscribedTopicRegex, &regex}} {
			if given&(1<<i) != 0 {
				*p.to = p.text
			}
		}
		if given&(1<<4) != 0 {
			q.SubscribedTopicNames = strings.Split(names, ",")
		}
		if given&(1<<5) != 0 {
			q.Topics = readOwns(owns)
		}
		w.ask(ConsumerHeartbeat{Req: q, Version: int16(given >> 6 & 1), ClientID: "c", ClientHost: "/127.0.0.1"})
		for _, line := range []string{
			"resolve", "beat member=m epoch=2 owns=", "beat member=n epoch=3 owns=", "beat member=o topics=a", "heartbeat member=uuid-1 generation=3 instance=i",
			"join member=c-1 subscribe=a", "consumer-describe", "leave members=m", "topics a:5", "beat member=o epoch=4",
		} {
			w.command(line)
			w.advance(20 * time.Second)
		}
	})
}
