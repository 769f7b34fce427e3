package group

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/rotpeter/rotpeter/coordinator/group/assignor"
)

// consumerState is the state of a consumer group (KIP-848, Kafka's ConsumerGroupState; a Dead group is one that
// does not exist). It follows from the epochs and the members.
type consumerState int8

const (
	consumerEmpty consumerState = iota
	consumerAssigning
	consumerReconciling
	consumerStable
)

// String returns the name that ListGroups and ConsumerGroupDescribe show.
func (s consumerState) String() string {
	switch s {
	case consumerAssigning:
		return "Assigning"
	case consumerReconciling:
		return "Reconciling"
	case consumerStable:
		return "Stable"
	}
	return "Empty"
}

// memberState is how far a member of a consumer group is on its way to its target, as in records (Kafka's
// MemberState). Values that are not known are kept: a newer Kafka may have written them.
type memberState int8

const (
	memberStable     memberState = 0 // it has its target
	memberUnrevoked  memberState = 1 // it has to give partitions up
	memberUnreleased memberState = 2 // it waits for partitions of others
)

// Epochs that a heartbeat may carry beside a member's own.
const (
	joinEpoch        = 0
	leaveEpoch       = -1
	leaveStaticEpoch = -2 // a static member will be back
)

// firstEpoch is the epoch of a consumer group that nobody has joined.
const firstEpoch = 1

// partitions are partitions by topic id, sorted. Nobody changes one that others can see.
type partitions map[assignor.Topic][]int32

func (p partitions) equal(q partitions) bool {
	return maps.EqualFunc(p, q, func(a, b []int32) bool { return slices.Equal(a, b) })
}

// ownedPartition is a partition with the epoch at which a member got it. Commits of older epochs are refused
// (KIP-1251).
type ownedPartition struct{ partition, epoch int32 }

// owned are partitions of a member by topic id, sorted. Nobody changes one that others can see.
type owned map[assignor.Topic][]ownedPartition

func (o owned) equal(p owned) bool {
	return maps.EqualFunc(o, p, func(a, b []ownedPartition) bool { return slices.Equal(a, b) })
}

// epoch returns when a partition was assigned.
func (o owned) epoch(topic assignor.Topic, partition int32) (int32, bool) {
	i, ok := slices.BinarySearchFunc(o[topic], partition, func(p ownedPartition, n int32) int { return cmp.Compare(p.partition, n) })
	if !ok {
		return 0, false
	}
	return o[topic][i].epoch, true
}

func (o owned) has(topic assignor.Topic, partition int32) bool {
	_, ok := o.epoch(topic, partition)
	return ok
}

// consumerMember is a member of a consumer group. All of it is hard; nobody changes one that is in a group.
type consumerMember struct {
	id              string
	instanceID      *string
	rackID          *string
	clientID        string
	clientHost      string
	rebalanceMillis int32    // -1 not told
	topics          []string // sorted
	regex           *string  // "" like nil: none
	assignor        *string
	classic         *classicMetadata // nil: it speaks the consumer protocol

	epoch         int32
	previousEpoch int32
	state         memberState
	assigned      owned
	revoking      owned // to be given up
}

// classicMetadata is what a member told that speaks the classic protocol.
type classicMetadata struct {
	sessionMillis int32
	protocols     []protocol
}

// newConsumerMember returns a member that has told nothing yet.
func newConsumerMember(id string) *consumerMember {
	return &consumerMember{id: id, rebalanceMillis: -1, regex: new(string)}
}

// sameMetadata reports whether the members' metadata records are equal.
func (m *consumerMember) sameMetadata(n *consumerMember) bool {
	return sameString(m.instanceID, n.instanceID) && sameString(m.rackID, n.rackID) && m.clientID == n.clientID && m.clientHost == n.clientHost &&
		m.rebalanceMillis == n.rebalanceMillis && slices.Equal(m.topics, n.topics) && sameString(m.regex, n.regex) &&
		sameString(m.assignor, n.assignor) && m.classic.equal(n.classic)
}

// sameCurrent reports whether the members' records of what they have are equal.
func (m *consumerMember) sameCurrent(n *consumerMember) bool {
	return m.epoch == n.epoch && m.previousEpoch == n.previousEpoch && m.state == n.state && m.assigned.equal(n.assigned) && m.revoking.equal(n.revoking)
}

func (c *classicMetadata) equal(d *classicMetadata) bool {
	if c == nil || d == nil {
		return c == d
	}
	return c.sessionMillis == d.sessionMillis && slices.EqualFunc(c.protocols, d.protocols, func(a, b protocol) bool {
		return a.name == b.name && bytes.Equal(a.metadata, b.metadata)
	})
}

func sameString(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }

// reconciled reports whether the member has the target of an epoch.
func (m *consumerMember) reconciled(target int32) bool {
	return m.state == memberStable && m.epoch == target
}

// advance moves the member to an epoch.
func (m *consumerMember) advance(epoch int32) { m.previousEpoch, m.epoch = m.epoch, epoch }

// pattern is the regular expression that the member is subscribed to, "" if there is none.
func (m *consumerMember) pattern() string { return deref(m.regex) }

// topicCount is how many members name a topic and how many regular expressions of the group match it.
type topicCount struct{ names, regexes int }

// resolvedRegex are the topics that a regular expression matched.
type resolvedRegex struct {
	topics  []string // sorted
	version int64    // offset of the metadata log
	at      int64    // milliseconds since 1970
}

// consumerGroup is one consumer group. What records say is hard, the rest is derived from that.
type consumerGroup struct {
	id          string
	epoch       int32
	hash        int64 // of the topics at that epoch
	targetEpoch int32
	targetAt    int64 // when the target was computed, milliseconds since 1970; 0 not known
	members     map[string]*consumerMember
	target      map[string]partitions
	resolved    map[string]*resolvedRegex
	oldMetadata bool // a record of partition metadata is there (before Kafka 4.1); it is to go

	// Derived.
	static           map[string]string // member id by instance id
	topics           map[string]topicCount
	regexes          map[string]int // members by regular expression
	assignors        map[string]int // members by the assignor they prefer
	classicMembers   int
	classicProtocols map[string]int                     // members by a protocol they support
	held             map[assignor.Topic]map[int32]int32 // by partition, the epoch of the member that has it

	// Soft.
	fresh    bool  // topics have not changed since hash was computed, at freshFor
	freshFor int32 // epoch
}

func newConsumerGroup(id string) *consumerGroup {
	return &consumerGroup{
		id: id, epoch: firstEpoch, targetEpoch: firstEpoch,
		members: map[string]*consumerMember{}, target: map[string]partitions{}, resolved: map[string]*resolvedRegex{},
		static: map[string]string{}, topics: map[string]topicCount{}, regexes: map[string]int{}, assignors: map[string]int{},
		classicProtocols: map[string]int{}, held: map[assignor.Topic]map[int32]int32{},
	}
}

// state works the state out, in O(members).
func (g *consumerGroup) state() consumerState {
	switch {
	case len(g.members) == 0:
		return consumerEmpty
	case g.epoch > g.targetEpoch:
		return consumerAssigning
	}
	for _, m := range g.members {
		if !m.reconciled(g.targetEpoch) {
			return consumerReconciling
		}
	}
	return consumerStable
}

// ids returns the ids of the members, sorted: what is done for all of them is done in this order.
func (g *consumerGroup) ids() []string { return slices.Sorted(maps.Keys(g.members)) }

// staticMember is who holds an instance id, nil if nobody does.
func (g *consumerGroup) staticMember(instanceID *string) *consumerMember {
	if instanceID == nil {
		return nil
	}
	return g.members[g.static[*instanceID]]
}

// targetOf is the target of a member, or of the static member whose place it takes.
func (g *consumerGroup) targetOf(m *consumerMember) partitions {
	id := m.id
	if m.instanceID != nil {
		id = g.static[*m.instanceID]
	}
	return g.target[id]
}

// put makes a member what it is from now on.
func (g *consumerGroup) put(m *consumerMember) {
	if old := g.members[m.id]; old != nil {
		g.count(old, -1)
		g.release(old)
		if old.instanceID != nil && g.static[*old.instanceID] == m.id {
			delete(g.static, *old.instanceID)
		}
	}
	g.members[m.id] = m
	g.count(m, 1)
	g.hold(m.assigned, m.epoch)
	g.hold(m.revoking, m.epoch)
	if m.instanceID != nil {
		g.static[*m.instanceID] = m.id
	}
}

// drop takes a member out.
func (g *consumerGroup) drop(id string) {
	m := g.members[id]
	if m == nil {
		return
	}
	delete(g.members, id)
	g.count(m, -1)
	g.release(m)
	if m.instanceID != nil && g.static[*m.instanceID] == id {
		delete(g.static, *m.instanceID)
	}
}

// count counts what a member is subscribed to and supports in or out.
func (g *consumerGroup) count(m *consumerMember, n int) {
	for _, topic := range m.topics {
		countTopic(g.topics, topic, n, 0)
	}
	if p := m.pattern(); p != "" {
		countName(g.regexes, p, n)
	}
	if m.assignor != nil {
		countName(g.assignors, *m.assignor, n)
	}
	if m.classic != nil {
		g.classicMembers += n
		for i := range m.classic.protocols {
			countName(g.classicProtocols, m.classic.protocols[i].name, n)
		}
	}
}

func countName(counts map[string]int, name string, n int) {
	if counts[name] += n; counts[name] == 0 {
		delete(counts, name)
	}
}

func countTopic(counts map[string]topicCount, topic string, names, regexes int) {
	c := counts[topic]
	c.names, c.regexes = c.names+names, c.regexes+regexes
	if c == (topicCount{}) {
		delete(counts, topic)
		return
	}
	counts[topic] = c
}

// hold notes the epoch at which partitions are held. Records of several members may come in any order after
// compaction: the newest counts.
func (g *consumerGroup) hold(o owned, epoch int32) {
	for topic, ps := range o {
		held := g.held[topic]
		if held == nil {
			held = make(map[int32]int32, len(ps))
			g.held[topic] = held
		}
		for _, p := range ps {
			if before, ok := held[p.partition]; !ok || before < epoch {
				held[p.partition] = epoch
			}
		}
	}
}

// release takes back what hold has noted, unless somebody else holds it by now.
func (g *consumerGroup) release(m *consumerMember) {
	for _, o := range []owned{m.assigned, m.revoking} {
		for topic, ps := range o {
			held := g.held[topic]
			for _, p := range ps {
				if epoch, ok := held[p.partition]; ok && epoch == m.epoch {
					delete(held, p.partition)
				}
			}
			if len(held) == 0 {
				delete(g.held, topic)
			}
		}
	}
}

// isHeld reports whether a member has the partition.
func (g *consumerGroup) isHeld(topic assignor.Topic, partition int32) bool {
	_, ok := g.held[topic][partition]
	return ok
}

// resolve notes the topics that a regular expression matches; nil: it is not known any more.
func (g *consumerGroup) resolve(regex string, r *resolvedRegex) {
	if old := g.resolved[regex]; old != nil {
		for _, topic := range old.topics {
			countTopic(g.topics, topic, 0, -1)
		}
	}
	if r == nil {
		delete(g.resolved, regex)
		return
	}
	g.resolved[regex] = r
	for _, topic := range r.topics {
		countTopic(g.topics, topic, 0, 1)
	}
}

// lastResolved is when, and at which offset of the metadata log, the regular expressions were matched. All of them
// are at once. It is false if none was.
func (g *consumerGroup) lastResolved() (at, version int64, ok bool) {
	for _, r := range g.resolved {
		if !ok || r.at > at {
			at, version, ok = r.at, r.version, true
		}
	}
	return at, version, ok
}

// subscriptions are the topics that a member wants: those it names and those its regular expression matched. Sorted.
func (g *consumerGroup) subscriptions(m *consumerMember) []string {
	r := g.resolved[m.pattern()]
	switch {
	case r == nil || len(r.topics) == 0:
		return m.topics
	case len(m.topics) == 0:
		return r.topics
	}
	all := append(slices.Clone(m.topics), r.topics...)
	slices.Sort(all)
	return slices.Compact(all)
}

// homogeneous reports whether all members want the same topics, with counts as given
// (ConsumerGroup.subscriptionType).
func homogeneous(regexes map[string]int, topics map[string]topicCount, members int) bool {
	if len(regexes) == 0 {
		for _, c := range topics {
			if c.names != members {
				return false
			}
		}
		return true
	}
	for _, n := range regexes {
		if n != members {
			return false
		}
	}
	for _, c := range topics {
		if c.regexes != 1 || c.names > 0 {
			return false
		}
	}
	return true
}

// preferred is the assignor that most members prefer, or def. Of several it is one that nobody preferred before, and
// then uniform before range: the order that Kafka's hash tables have.
func preferred(counts, before map[string]int, def string) string {
	best, most := def, 0
	for _, name := range slices.Backward(slices.Sorted(maps.Keys(counts))) {
		n := counts[name]
		if n > most || n == most && before[best] > 0 && before[name] == 0 {
			best, most = name, n
		}
	}
	return best
}

// waitsForRelease reports whether another member still has a partition that the member is to get
// (ConsumerGroup.waitingOnUnreleasedPartition).
func (g *consumerGroup) waitsForRelease(m *consumerMember) bool {
	for topic, ps := range g.target[m.id] {
		for _, p := range ps {
			if !m.assigned.has(topic, p) && g.isHeld(topic, p) {
				return true
			}
		}
	}
	return false
}
