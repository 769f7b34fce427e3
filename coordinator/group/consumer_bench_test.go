package group

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/metadata"
)

// large is a consumer group of many members over many partitions, without the journal and the checks of a world.
type large struct {
	shard   *Shard
	now     time.Time
	clients []*largeMember
	records int
	bytes   int
}

// largeMember is a client that gives up and takes what it is told at once.
type largeMember struct {
	id    string
	epoch int32
	owns  []kmsg.ConsumerGroupHeartbeatRequestTopic
	news  bool // it has to tell what it has
}

func newLarge(members, topics, partitions int, interval time.Duration) *large {
	c := newCluster()
	c.settings.AssignmentInterval = interval
	for i := range topics {
		name := fmt.Sprintf("topic-%03d", i)
		c.byName[name] = &metadata.Topic{Name: name, ID: [16]byte{0: byte(i), 1: byte(i >> 8), 15: 1}, Partitions: make([]metadata.Partition, partitions)}
	}
	o := DefaultOptions(nil, nil)
	o.Cluster = fastCluster{c, byID(c)}
	l := &large{shard: New(o), now: time.UnixMilli(1_700_000_000_000)}
	l.take(l.shard.Loaded(l.now))
	for i := range members {
		l.clients = append(l.clients, &largeMember{id: fmt.Sprintf("member-%04d", i)})
	}
	return l
}

// fastCluster finds topics by id in one step, as the real one does.
type fastCluster struct {
	*cluster
	ids map[[16]byte]*metadata.Topic
}

func byID(c *cluster) map[[16]byte]*metadata.Topic {
	ids := map[[16]byte]*metadata.Topic{}
	for _, t := range c.byName {
		ids[t.ID] = t
	}
	return ids
}

func (c fastCluster) TopicByID(id [16]byte) *metadata.Topic { return c.ids[id] }

func (l *large) take(r coordinator.Result) {
	for i := range r.Records {
		l.records++
		l.bytes += len(r.Records[i].Key) + len(r.Records[i].Value)
		l.shard.Apply(r.Records[i])
	}
}

// beat sends a heartbeat of a member and does what the answer says.
func (l *large) beat(m *largeMember, names []string) {
	q := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	q.Group, q.MemberID, q.MemberEpoch, q.RebalanceTimeoutMillis = "g", m.id, m.epoch, -1
	if m.epoch == joinEpoch {
		q.RebalanceTimeoutMillis, q.SubscribedTopicNames, q.Topics = 300_000, names, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	} else if m.news {
		q.Topics = m.owns
	}
	r := l.shard.Handle(l.now, coordinator.Event{Token: "t", Body: ConsumerHeartbeat{Req: q, Version: 1, ClientID: "c", ClientHost: "/127.0.0.1"}})
	l.take(r)
	a := r.Replies[0].Body.(*kmsg.ConsumerGroupHeartbeatResponse)
	if a.ErrorCode != 0 {
		panic(showBeat(a))
	}
	m.epoch, m.news = a.MemberEpoch, a.Assignment != nil
	if a.Assignment != nil {
		m.owns = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		for _, t := range a.Assignment.Topics {
			m.owns = append(m.owns, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: t.TopicID, Partitions: t.Partitions})
		}
	}
}

// settle lets all members beat until the group is Stable, and returns how often each did.
func (l *large) settle(clients []*largeMember, names []string) int {
	for round := 1; ; round++ {
		l.now = l.now.Add(5 * time.Second)
		for _, m := range clients {
			l.beat(m, names)
		}
		if l.shard.consumers["g"].state() == consumerStable {
			return round
		}
	}
}

func (l *large) names() []string { return l.shard.cluster.(fastCluster).names() }

func (c *cluster) names() []string {
	var all []string
	for name := range c.byName {
		all = append(all, name)
	}
	return all
}

// TestSteadyHeartbeatAllocations bounds what a heartbeat costs that says nothing new, whatever the size of the group.
func TestSteadyHeartbeatAllocations(t *testing.T) {
	l := newLarge(1000, 10, 1000, time.Second)
	l.settle(l.clients, l.names())
	q := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	q.Group, q.MemberID, q.MemberEpoch, q.RebalanceTimeoutMillis = "g", l.clients[7].id, l.clients[7].epoch, -1
	e := coordinator.Event{Token: "t", Body: ConsumerHeartbeat{Req: q, Version: 1, ClientID: "c", ClientHost: "/127.0.0.1"}}
	var r coordinator.Result
	got := testing.AllocsPerRun(100, func() { r = l.shard.Handle(l.now, e) })
	if a := r.Replies[0].Body.(*kmsg.ConsumerGroupHeartbeatResponse); a.ErrorCode != 0 || len(r.Records) > 0 {
		t.Fatalf("%s with %d records", showBeat(a), len(r.Records))
	}
	// The answer and the list of replies it is in.
	if got > 2 {
		t.Errorf("a steady heartbeat allocates %v times", got)
	}
}

// TestSteadyRegexAllocations is the same for a member that is subscribed to a regular expression.
func TestSteadyRegexAllocations(t *testing.T) {
	w := newWorld(t, DefaultOptions(nil, nil))
	for _, line := range []string{"topics a:3 ab:2", "beat member=m regex=a.*", "resolve", "beat member=m epoch=1"} {
		w.command(line)
	}
	e := coordinator.Event{Token: "t", Body: readBeat(args{"member": "m", "epoch": "2"})}
	if got := testing.AllocsPerRun(100, func() { w.shard.Handle(w.now, e) }); got > 2 {
		t.Errorf("a steady heartbeat allocates %v times", got)
	}
}

func BenchmarkSteadyHeartbeat(b *testing.B) {
	for _, members := range []int{10, 1000} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			l := newLarge(members, 10, 1000, time.Second)
			l.settle(l.clients, l.names())
			q := kmsg.NewPtrConsumerGroupHeartbeatRequest()
			q.Group, q.MemberID, q.MemberEpoch, q.RebalanceTimeoutMillis = "g", l.clients[7].id, l.clients[7].epoch, -1
			e := coordinator.Event{Token: "t", Body: ConsumerHeartbeat{Req: q, Version: 1, ClientID: "c", ClientHost: "/127.0.0.1"}}
			b.ReportAllocs()
			for b.Loop() {
				l.now = l.now.Add(time.Millisecond)
				l.shard.Handle(l.now, e)
			}
		})
	}
}

// BenchmarkConsumerRebalance lets one more join 1,000 members over 10,000 partitions: all of it until the group is
// Stable again.
func BenchmarkConsumerRebalance(b *testing.B) {
	for _, topics := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("topics=%d", topics), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				l := newLarge(1001, topics, 10_000/topics, time.Second)
				names := l.names()
				l.settle(l.clients[:1000], names)
				l.records, l.bytes = 0, 0
				b.StartTimer()
				rounds := l.settle(l.clients, names)
				b.ReportMetric(float64(rounds), "rounds")
				b.ReportMetric(float64(l.records), "records")
				b.ReportMetric(float64(l.bytes), "bytes")
			}
		})
	}
}

// BenchmarkConsumerStart lets 1,000 members join one after the other, with a target for each of them, or not more than
// one a second (Kafka's default).
func BenchmarkConsumerStart(b *testing.B) {
	for _, interval := range []time.Duration{0, time.Second} {
		b.Run(fmt.Sprintf("interval=%v", interval), func(b *testing.B) {
			for b.Loop() {
				l := newLarge(1000, 10, 1000, interval)
				names := l.names()
				l.settle(l.clients, names)
				b.ReportMetric(float64(l.records), "records")
				b.ReportMetric(float64(l.bytes), "bytes")
			}
		})
	}
}

// BenchmarkClassicRebalance lets one more join 1,000 members of the classic protocol: all join again and get their
// assignments.
func BenchmarkClassicRebalance(b *testing.B) {
	const members = 1000
	for b.Loop() {
		b.StopTimer()
		o := DefaultOptions(func(string) string { return "m-last" }, nil)
		o.InitialRebalanceDelay = 0
		s := New(o)
		now := time.UnixMilli(1_700_000_000_000)
		handle := func(body any) coordinator.Result {
			r := s.Handle(now, coordinator.Event{Token: "t", Body: body})
			for _, rec := range r.Records {
				s.Apply(rec)
			}
			return r
		}
		s.Apply(classicOf(now, members))
		s.Loaded(now)
		join := make([]any, members)
		sync := make([]any, members)
		for i := range join {
			id := fmt.Sprintf("m-%04d", i)
			join[i] = readEvent("join", args{"member": id, "subscribe": "a+b+c"})
			sync[i] = readEvent("sync", args{"member": id, "generation": "2"})
		}
		var assign []kmsg.SyncGroupRequestGroupAssignment
		for i := range members {
			assign = append(assign, kmsg.SyncGroupRequestGroupAssignment{MemberID: fmt.Sprintf("m-%04d", i), MemberAssignment: assignment("a/0+a/1+b/0+c/0", "")})
		}
		lead := sync[0].(Sync)
		lead.Req.GroupAssignment = assign
		b.StartTimer()
		handle(readEvent("join", args{"version": "3", "subscribe": "a+b+c"}))
		for i := range join {
			handle(join[i])
		}
		for i := range sync {
			handle(sync[i])
		}
		b.StopTimer()
		if g := s.groups["g"]; g.state != stable || len(g.members) != members+1 {
			b.Fatalf("the group is %v with %d members", g.state, len(g.members))
		}
		b.StartTimer()
	}
}

// classicOf is the record of a classic group.
func classicOf(now time.Time, members int) coordinator.Record {
	protocol := "range"
	g := &groupMetadata{protocolType: consumerProtocol, generation: 1, protocol: &protocol, leader: "m-0000"}
	for i := range members {
		g.members = append(g.members, memberMetadata{
			id: fmt.Sprintf("m-%04d", i), clientID: "c", clientHost: "/127.0.0.1", sessionMillis: 45_000, rebalanceMillis: 60_000, subscription: subscription("a", "b", "c"),
		})
	}
	return groupRecord(now, "g", g)
}
