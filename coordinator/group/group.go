package group

import (
	"bytes"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rotpeter/rotpeter/coordinator"
)

// state is the state of a classic group. (Kafka's ClassicGroupState; a Dead group
// is one that does not exist.)
type state int8

const (
	empty state = iota
	preparingRebalance
	completingRebalance
	stable
)

// String returns the name that ListGroups and DescribeGroups show.
func (s state) String() string {
	switch s {
	case preparingRebalance:
		return "PreparingRebalance"
	case completingRebalance:
		return "CompletingRebalance"
	case stable:
		return "Stable"
	}
	return "Empty"
}

// consumerProtocol is the protocol type of consumers, the only one whose
// metadata is looked into.
const consumerProtocol = "consumer"

// group is one classic group.
type group struct {
	id   string
	kept *groupMetadata // hard: the last record; nil if only offsets made the group

	// Soft from here on.
	state        state
	prev         state
	since        int64  // when it came to this state, milliseconds since 1970, or noTime
	protocolType string // "" none yet
	protocol     *string
	generation   int32
	leader       string // member id, "" none

	members []*member // in the order of joining
	byID    map[string]*member
	static  map[string]*member // by instance id
	pending map[string]*timer  // ids given out whose owners have not joined, with their session

	awaitingJoin int            // members whose JoinGroup waits
	pendingSync  int            // members that have not sent SyncGroup since the last JoinGroup reply
	votes        map[string]int // protocol name -> members that support it

	subscribed      map[string]bool // topics that consumers are subscribed to
	knowsSubscribed bool            // subscribed could be worked out

	newMemberAdded   bool // during the initial rebalance: it may be extended
	initialDelay     time.Duration
	initialRemaining time.Duration
	joining          timer // initialTimer or joinTimer
	syncing          timer
}

// member is one member of a group.
type member struct {
	id              string
	instanceID      *string // static member
	clientID        string
	clientHost      string
	rebalanceMillis int32
	sessionMillis   int32
	protocols       []protocol // in the member's order of preference
	assignment      []byte

	join     *parked // JoinGroup that waits
	sync     *parked // SyncGroup that waits
	isNew    bool    // has never been answered: does not know its id
	unsynced bool    // counted in group.pendingSync
	session  timer
}

// protocol is one way to assign that a member supports.
type protocol struct {
	name     string
	metadata []byte
}

// parked is a request whose reply waits.
type parked struct {
	token   coordinator.Token
	version int16
}

// newGroup returns an Empty group without protocol.
func newGroup(id string) *group {
	g := &group{id: id, since: noTime}
	g.joining = timer{kind: joinTimer, group: g}
	g.syncing = timer{kind: syncTimer, group: g}
	return g
}

// metadata returns what the member told about itself for the named protocol.
func (m *member) metadata(name *string) []byte {
	for i := range m.protocols {
		if name != nil && m.protocols[i].name == *name {
			return m.protocols[i].metadata
		}
	}
	return nil
}

// matches reports whether a JoinGroup brings nothing new.
func (m *member) matches(ps []protocol) bool {
	return slices.EqualFunc(m.protocols, ps, func(a, b protocol) bool {
		return a.name == b.name && bytes.Equal(a.metadata, b.metadata)
	})
}

// excused reports whether a member may be silent: it waits for the group. A new
// member may not; it is expected to ask again.
func (m *member) excused() bool { return !m.isNew && (m.join != nil || m.sync != nil) }

// sessionTimeout returns the session timeout the member asked for.
func (m *member) sessionTimeout() time.Duration {
	return time.Duration(m.sessionMillis) * time.Millisecond
}

// moveTo changes the state.
func (g *group) moveTo(s state, now time.Time) {
	g.prev, g.state, g.since = g.state, s, now.UnixMilli()
}

// add puts a member into the group. The first becomes its leader.
func (g *group) add(m *member) {
	if g.byID == nil {
		g.byID, g.static, g.votes = map[string]*member{}, map[string]*member{}, map[string]int{}
	}
	if g.leader == "" {
		g.leader = m.id
	}
	g.members = append(g.members, m)
	g.byID[m.id] = m
	if m.instanceID != nil {
		g.static[*m.instanceID] = m
	}
	if m.join != nil {
		g.awaitingJoin++
	}
	g.vote(m, 1)
}

// drop takes a member out of the group. The one that joined first leads after the
// leader is gone. What the member waited for must have been answered.
func (g *group) drop(m *member) {
	i := slices.Index(g.members, m)
	g.members = slices.Delete(g.members, i, i+1)
	delete(g.byID, m.id)
	if m.instanceID != nil {
		delete(g.static, *m.instanceID)
	}
	g.setUnsynced(m, false)
	g.vote(m, -1)
	if g.leader == m.id {
		g.leader = ""
		if len(g.members) > 0 {
			g.leader = g.members[0].id
		}
	}
}

// rename gives a static member the id it has joined with again.
func (g *group) rename(m *member, id string) {
	delete(g.byID, m.id)
	if g.leader == m.id {
		g.leader = id
	}
	m.id = id
	g.byID[id] = m
}

// vote counts the protocols of a member in or out.
func (g *group) vote(m *member, n int) {
	for i := range m.protocols {
		name := m.protocols[i].name
		if g.votes[name] += n; g.votes[name] == 0 {
			delete(g.votes, name)
		}
	}
}

// setUnsynced notes whether a SyncGroup of the member is expected.
func (g *group) setUnsynced(m *member, expected bool) {
	if m.unsynced == expected {
		return
	}
	m.unsynced = expected
	if expected {
		g.pendingSync++
	} else {
		g.pendingSync--
	}
}

// supports reports whether somebody with these protocols can be a member.
func (g *group) supports(protocolType string, ps []protocol) bool {
	if g.state == empty {
		return protocolType != "" && len(ps) > 0
	}
	return protocolType == g.protocolType && slices.ContainsFunc(ps, func(p protocol) bool {
		return g.votes[p.name] == len(g.members)
	})
}

// choose returns the protocol that most members prefer among those that all
// support, by name where votes are equal (Kafka leaves that to chance).
func (g *group) choose() *string {
	votes := map[string]int{}
	for _, m := range g.members {
		for i := range m.protocols {
			if name := m.protocols[i].name; g.votes[name] == len(g.members) {
				votes[name]++
				break
			}
		}
	}
	var best *string
	for name, n := range votes {
		if best == nil || n > votes[*best] || n == votes[*best] && name < *best {
			best = &name
		}
	}
	return best
}

// nextGeneration starts the generation of those who have joined.
func (g *group) nextGeneration(now time.Time) {
	g.generation++
	g.protocol = nil
	next := empty
	if len(g.members) > 0 {
		g.protocol, next = g.choose(), completingRebalance
	}
	g.updateSubscribed()
	g.moveTo(next, now)
	for _, m := range g.members {
		g.setUnsynced(m, false)
	}
}

// allJoined reports whether every member waits for the end of the rebalance and
// nobody else is about to join.
func (g *group) allJoined() bool {
	return g.awaitingJoin == len(g.members) && len(g.pending) == 0
}

// leads reports whether the member computes the assignment.
func (g *group) leads(m *member) bool { return g.leader == m.id }

// rebalanceTimeout is how long members have to join: what the most patient asks.
func (g *group) rebalanceTimeout() time.Duration {
	longest := int32(0)
	for _, m := range g.members {
		longest = max(longest, m.rebalanceMillis)
	}
	return time.Duration(longest) * time.Millisecond
}

// check finds the member a request speaks for. The error is nil, or
// UNKNOWN_MEMBER_ID, or FENCED_INSTANCE_ID when its static id belongs to another
// member by now.
func (g *group) check(memberID string, instanceID *string) (*member, *kerr.Error) {
	if instanceID != nil {
		m := g.static[*instanceID]
		if m == nil {
			return nil, kerr.UnknownMemberID
		}
		if m.id != memberID {
			return nil, kerr.FencedInstanceID
		}
	}
	m := g.byID[memberID]
	if m == nil {
		return nil, kerr.UnknownMemberID
	}
	return m, nil
}

// snapshot returns what a record of the group says.
func (g *group) snapshot() *groupMetadata {
	k := &groupMetadata{
		protocolType: g.protocolType, generation: g.generation, protocol: g.protocol, leader: g.leader, since: g.since,
	}
	for _, m := range g.members {
		k.members = append(k.members, memberMetadata{
			id: m.id, clientID: m.clientID, clientHost: m.clientHost, instanceID: m.instanceID,
			rebalanceMillis: m.rebalanceMillis, sessionMillis: m.sessionMillis,
			subscription: m.metadata(g.protocol), assignment: m.assignment,
		})
	}
	return k
}

// restore makes the soft state what the record said: members with the one protocol
// that was chosen. The caller arms their sessions.
func (g *group) restore() {
	k := g.kept
	if k == nil {
		return
	}
	g.protocolType, g.generation, g.protocol, g.since = k.protocolType, k.generation, k.protocol, k.since
	for i := range k.members {
		from := &k.members[i]
		m := &member{
			id: from.id, instanceID: from.instanceID, clientID: from.clientID, clientHost: from.clientHost,
			rebalanceMillis: from.rebalanceMillis, sessionMillis: from.sessionMillis, assignment: from.assignment,
		}
		if k.protocol != nil {
			m.protocols = []protocol{{*k.protocol, from.subscription}}
		}
		if g.byID[m.id] != nil || m.instanceID != nil && g.static[*m.instanceID] != nil {
			continue // no broker writes such a record; the first wins
		}
		g.add(m)
	}
	if g.byID[k.leader] != nil {
		g.leader = k.leader
	}
	g.state, g.prev = empty, empty
	if len(g.members) > 0 {
		g.state = stable
	}
	g.updateSubscribed()
}

// isSubscribed reports whether offsets of the topic are in use. A consumer group
// whose subscriptions are not known uses every topic.
func (g *group) isSubscribed(topic string) bool {
	if g.knowsSubscribed {
		return g.subscribed[topic]
	}
	return g.protocolType == consumerProtocol
}

// updateSubscribed works out what the members are subscribed to.
func (g *group) updateSubscribed() {
	g.subscribed, g.knowsSubscribed = nil, false
	if g.protocolType != consumerProtocol {
		return
	}
	topics := map[string]bool{}
	for _, m := range g.members {
		if !readSubscription(m.metadata(g.protocol), topics) {
			return
		}
	}
	g.subscribed, g.knowsSubscribed = topics, true
}
