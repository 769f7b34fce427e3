package group

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator/group/assignor"
)

// topicPart is a partition by its topic's id.
type topicPart struct {
	topic     assignor.Topic
	partition int32
}

// holding are partitions.
type holding map[topicPart]bool

// claim is what the owner of a member id has been told that it has and has not given up.
type claim struct {
	held   holding
	unsure bool // it has joined a classic group whose leader may be giving its partitions away, or after it was taken out;
	// or the group has moved to the classic protocol since
}

// groupClient is a client that follows its protocol, the consumer or the classic one.
type groupClient struct {
	name     string
	instance *string
	classic  bool
	memberID string
	epoch    int32
	names    []string
	regex    *string
	assignor *string
	owned    holding

	// Of the consumer protocol.
	joined  bool
	changed bool    // it wants something else than it has told
	report  bool    // it has something else than it has told
	told    holding // its assignment
	lost    int     // answers in a row that it did not get

	// Of the classic protocol.
	version  int16 // of the embedded protocol
	waits    string
	phase    classicPhase
	protocol *string
	leads    bool
	members  []kmsg.JoinGroupResponseMember
}

// classicPhase is what a member of the classic protocol sends next.
type classicPhase int

const (
	toJoin classicPhase = iota
	toSync
	toBeat
)

// start makes a client begin anew, as after a crash. With an instance id it will come back under it.
func (c *groupClient) start() {
	c.memberID, c.joined, c.changed, c.report, c.lost = "", false, false, false, 0
	c.owned, c.told = holding{}, holding{}
	c.waits, c.phase, c.leads, c.members = "", toJoin, false, nil
}

// abandon makes a member of the consumer protocol give everything up and join again under its id.
func (c *groupClient) abandon() {
	id := c.memberID
	c.start()
	c.memberID = id
}

// act sends what the client's protocol asks for next.
func (r *run) act(c *groupClient) {
	switch {
	case !c.classic:
		r.beat(c)
	case c.waits != "":
	case c.phase == toJoin:
		r.classicJoin(c)
	case c.phase == toSync:
		r.classicSync(c)
	default:
		r.classicBeat(c)
	}
}

// beat sends a heartbeat of the consumer protocol.
func (r *run) beat(c *groupClient) {
	if c.memberID == "" {
		r.serial++
		c.memberID = fmt.Sprintf("%s-%d", c.name, r.serial)
	}
	if c.joined && c.lost == 0 && !maps.Equal(c.owned, c.told) && (r.calm || r.rnd.IntN(2) == 0) {
		c.owned, c.report = maps.Clone(c.told), true
	}
	q := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	q.Group, q.MemberID, q.MemberEpoch, q.InstanceID, q.RebalanceTimeoutMillis = "g", c.memberID, c.epoch, c.instance, -1
	full := !c.joined || c.lost > 0 || r.rnd.IntN(8) == 0
	if full || c.changed {
		q.SubscribedTopicNames, q.SubscribedTopicRegex, q.ServerAssignor = slices.Clone(c.names), c.regex, c.assignor
	}
	if full {
		q.RebalanceTimeoutMillis = 20_000
	}
	if full || c.report {
		q.Topics = c.owns()
		r.claims[c.memberID] = &claim{held: maps.Clone(c.owned)}
	}
	if !c.joined {
		q.MemberEpoch = joinEpoch
	}
	c.changed, c.report = false, false
	a := r.w.ask(ConsumerHeartbeat{Req: q, Version: 1, ClientID: c.name, ClientHost: "/127.0.0.1"}).(*kmsg.ConsumerGroupHeartbeatResponse)
	r.expectBeat(c, q, a)
	if !r.calm && r.rnd.IntN(12) == 0 {
		c.lost++
		return
	}
	r.hear(c, a)
}

// owns is what a client has, as it tells the broker.
func (c *groupClient) owns() []kmsg.ConsumerGroupHeartbeatRequestTopic {
	all := []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	byTopic := map[assignor.Topic][]int32{}
	for tp := range c.owned {
		byTopic[tp.topic] = append(byTopic[tp.topic], tp.partition)
	}
	for _, topic := range sortedTopics(byTopic) {
		t := kmsg.NewConsumerGroupHeartbeatRequestTopic()
		t.TopicID, t.Partitions = topic, slices.Sorted(slices.Values(byTopic[topic]))
		all = append(all, t)
	}
	return all
}

// expectBeat checks the error of an answer: a client that follows the protocol is refused only for a reason.
func (r *run) expectBeat(c *groupClient, q *kmsg.ConsumerGroupHeartbeatRequest, a *kmsg.ConsumerGroupHeartbeatResponse) {
	g := r.w.shard.consumers["g"]
	fine := false
	switch joins := q.MemberEpoch == joinEpoch; a.ErrorCode {
	case 0:
		fine = true
	case kerr.UnknownMemberID.Code:
		fine = !joins && (g == nil || g.members[c.memberID] == nil)
	case kerr.GroupIDNotFound.Code:
		fine = g == nil
	case kerr.UnreleasedInstanceID.Code:
		fine = joins && c.instance != nil
	case kerr.FencedMemberEpoch.Code:
		fine = !joins && c.lost > 1
	case kerr.GroupMaxSizeReached.Code:
		fine = joins || g.members[c.memberID] == nil
	}
	if !fine {
		r.w.t.Fatalf("%s at epoch %d after %d lost answers got %s\nso far:\n%s", c.memberID, q.MemberEpoch, c.lost, showBeat(a), r.w.out)
	}
}

// hear reads an answer to a heartbeat.
func (r *run) hear(c *groupClient, a *kmsg.ConsumerGroupHeartbeatResponse) {
	switch a.ErrorCode {
	case 0:
		c.joined, c.lost, c.epoch = true, 0, a.MemberEpoch
		if a.Assignment == nil {
			return
		}
		c.told = holding{}
		for _, t := range a.Assignment.Topics {
			for _, p := range t.Partitions {
				c.told[topicPart{t.TopicID, p}] = true
				r.claims[c.memberID].held[topicPart{t.TopicID, p}] = true
			}
		}
	case kerr.UnreleasedInstanceID.Code, kerr.GroupMaxSizeReached.Code:
		c.start()
	default:
		delete(r.claims, c.memberID)
		c.abandon()
	}
}

// leave says good-bye. A static member of the consumer protocol says that it will be back, or not; one of the classic
// protocol says nothing.
func (r *run) leave(c *groupClient) {
	heard := r.rnd.IntN(8) > 0
	switch {
	case c.memberID == "":
	case c.classic && c.instance == nil:
		delete(r.claims, c.memberID)
		r.w.ask(readEvent("leave", args{"members": c.memberID}))
	case !c.classic && c.joined && heard:
		q := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		q.Group, q.MemberID, q.MemberEpoch, q.InstanceID, q.RebalanceTimeoutMillis = "g", c.memberID, leaveEpoch, c.instance, -1
		if c.instance != nil && r.rnd.IntN(4) > 0 {
			q.MemberEpoch = leaveStaticEpoch
		}
		delete(r.claims, c.memberID)
		r.w.ask(ConsumerHeartbeat{Req: q, Version: 1, ClientID: c.name, ClientHost: "/127.0.0.1"})
	}
	c.start()
}

// classicJoin sends JoinGroup. An eager member has given everything up before.
func (r *run) classicJoin(c *groupClient) {
	if !r.cooperative {
		c.owned = holding{}
	}
	if before := r.claims[c.memberID]; c.memberID != "" {
		// If the group does not know it any more, it learns that from its next assignment.
		unsure := before == nil || before.unsure || r.w.shard.groups["g"] != nil
		r.claims[c.memberID] = &claim{held: maps.Clone(c.owned), unsure: unsure}
	}
	s := kmsg.NewConsumerMemberMetadata()
	s.Version, s.Topics, s.Generation = c.version, c.names, c.epoch
	byTopic := map[assignor.Topic][]int32{}
	for tp := range c.owned {
		byTopic[tp.topic] = append(byTopic[tp.topic], tp.partition)
	}
	for _, topic := range sortedTopics(byTopic) {
		if known := r.w.cluster.TopicByID(topic); known != nil {
			o := kmsg.NewConsumerMemberMetadataOwnedPartition()
			o.Topic, o.Partitions = known.Name, slices.Sorted(slices.Values(byTopic[topic]))
			s.OwnedPartitions = append(s.OwnedPartitions, o)
		}
	}
	q := kmsg.NewPtrJoinGroupRequest()
	q.Group, q.MemberID, q.InstanceID, q.ProtocolType = "g", c.memberID, c.instance, consumerProtocol
	q.SessionTimeoutMillis, q.RebalanceTimeoutMillis = 10_000, 15_000
	for _, name := range []string{"range", "sticky"} {
		p := kmsg.NewJoinGroupRequestProtocol()
		p.Name, p.Metadata = name, s.AppendTo(nil)
		q.Protocols = append(q.Protocols, p)
	}
	r.sendClassic(c, Join{Req: q, Version: 9, ClientID: c.name, ClientHost: "/127.0.0.1"})
}

// sendClassic sends a request whose answer may have to wait.
func (r *run) sendClassic(c *groupClient, body any) {
	c.waits = r.w.token()
	r.w.send(c.waits, body)
	r.listen(c)
}

// classicSync sends SyncGroup, with assignments for all if the member leads.
func (r *run) classicSync(c *groupClient) {
	q := kmsg.NewPtrSyncGroupRequest()
	q.Group, q.MemberID, q.InstanceID, q.Generation = "g", c.memberID, c.instance, c.epoch
	kind := consumerProtocol
	q.ProtocolType, q.Protocol = &kind, c.protocol
	if c.leads {
		q.GroupAssignment = r.share(c.members)
	}
	r.sendClassic(c, Sync{Req: q, Version: 5})
}

// share deals partitions out to the members of a classic group. What somebody else has is for nobody until it has been
// given up.
func (r *run) share(members []kmsg.JoinGroupResponseMember) []kmsg.SyncGroupRequestGroupAssignment {
	wants := map[string][]int{}
	owner := map[topicPartition]int{}
	given := make([]kmsg.ConsumerMemberAssignment, len(members))
	for i := range members {
		s := kmsg.NewConsumerMemberMetadata()
		if err := s.ReadFrom(members[i].ProtocolMetadata); err != nil {
			r.w.t.Fatal(err)
		}
		for _, topic := range s.Topics {
			wants[topic] = append(wants[topic], i)
		}
		for _, o := range s.OwnedPartitions {
			for _, p := range o.Partitions {
				owner[topicPartition{o.Topic, p}] = i
			}
		}
	}
	for _, topic := range slices.Sorted(maps.Keys(wants)) {
		known := r.w.cluster.Topic(topic)
		if known == nil {
			continue
		}
		for p := range known.Partitions {
			to := wants[topic][p%len(wants[topic])]
			if i, taken := owner[topicPartition{topic, int32(p)}]; taken && i != to {
				continue
			}
			t := kmsg.NewConsumerMemberAssignmentTopic()
			t.Topic, t.Partitions = topic, []int32{int32(p)}
			given[to].Topics = append(given[to].Topics, t)
		}
	}
	var all []kmsg.SyncGroupRequestGroupAssignment
	for i := range members {
		a := kmsg.NewSyncGroupRequestGroupAssignment()
		a.MemberID, a.MemberAssignment = members[i].MemberID, given[i].AppendTo(nil)
		all = append(all, a)
	}
	return all
}

// listen reads what a member of the classic protocol waits for, if it has come.
func (r *run) listen(c *groupClient) {
	body, ok := r.w.replies[c.waits]
	if c.waits == "" || !ok {
		return
	}
	c.waits = ""
	if !r.calm && r.rnd.IntN(12) == 0 {
		c.phase = toJoin // it did not get the answer, and joins again
		return
	}
	switch a := body.(type) {
	case *kmsg.JoinGroupResponse:
		r.classicJoined(c, a)
	case *kmsg.SyncGroupResponse:
		r.classicSynced(c, a)
	}
}

func (r *run) classicJoined(c *groupClient, a *kmsg.JoinGroupResponse) {
	switch a.ErrorCode {
	case 0:
		if c.memberID != a.MemberID {
			r.claims[a.MemberID] = &claim{held: maps.Clone(c.owned), unsure: true}
		}
		c.memberID, c.epoch, c.phase = a.MemberID, a.Generation, toSync
		c.protocol, c.leads, c.members = a.Protocol, a.LeaderID == a.MemberID && !a.SkipAssignment, a.Members
	case kerr.MemberIDRequired.Code:
		c.memberID = a.MemberID
	case kerr.RebalanceInProgress.Code:
	case kerr.UnknownMemberID.Code, kerr.FencedInstanceID.Code, kerr.InconsistentGroupProtocol.Code, kerr.GroupMaxSizeReached.Code:
		delete(r.claims, c.memberID)
		c.start()
	default:
		r.w.t.Fatalf("%s got %s", c.name, showJoin(a))
	}
}

func (r *run) classicSynced(c *groupClient, a *kmsg.SyncGroupResponse) {
	c.phase = toJoin
	if a.ErrorCode != 0 {
		r.classicRefused(c, a.ErrorCode)
		return
	}
	has := holding{}
	if len(a.MemberAssignment) > 0 {
		m := kmsg.NewConsumerMemberAssignment()
		if err := m.ReadFrom(a.MemberAssignment); err != nil {
			r.w.t.Fatalf("%s got %x: %v", c.name, a.MemberAssignment, err)
		}
		for _, t := range m.Topics {
			for _, p := range t.Partitions {
				if known := r.w.cluster.Topic(t.Topic); known != nil {
					has[topicPart{known.ID, p}] = true
				}
			}
		}
	}
	c.phase = toBeat
	for tp := range c.owned {
		if !has[tp] {
			c.phase = toJoin // it gives partitions up, and says so
		}
	}
	c.owned = has
	r.claims[c.memberID] = &claim{held: maps.Clone(has)}
}

// classicRefused does what an error says.
func (r *run) classicRefused(c *groupClient, code int16) {
	switch code {
	case kerr.RebalanceInProgress.Code:
		c.phase = toJoin
	case kerr.IllegalGeneration.Code:
		c.phase, c.owned = toJoin, holding{}
	default:
		delete(r.claims, c.memberID)
		c.start()
	}
}

func (r *run) classicBeat(c *groupClient) {
	q := kmsg.NewPtrHeartbeatRequest()
	q.Group, q.MemberID, q.InstanceID, q.Generation = "g", c.memberID, c.instance, c.epoch
	if a := r.w.ask(Heartbeat{Req: q, Version: 4}).(*kmsg.HeartbeatResponse); a.ErrorCode != 0 {
		r.classicRefused(c, a.ErrorCode)
	}
}

// commits sends a commit of a partition it has at the epoch it knows, or at one before.
func (r *run) commits(c *groupClient) {
	name := "a"
	if known := r.w.cluster.Topic(name); known == nil || c.memberID == "" {
		return
	}
	epoch := c.epoch - int32(r.rnd.IntN(4)/3)
	a := args{"member": c.memberID, "generation": fmt.Sprint(epoch), "version": "9", "offsets": fmt.Sprintf("%s/%d:%d", name, r.rnd.IntN(3), r.rnd.IntN(100))}
	if c.instance != nil {
		a["instance"] = *c.instance
	}
	got := r.w.ask(readEvent("commit", a)).(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode
	g := r.w.shard.consumers["g"]
	if g == nil || g.members[c.memberID] == nil {
		return
	}
	m := g.members[c.memberID]
	allowed := []int16{0}
	switch {
	case epoch > m.epoch:
		allowed = []int16{kerr.StaleMemberEpoch.Code, kerr.IllegalGeneration.Code}
	case epoch < m.epoch:
		allowed = []int16{0, kerr.StaleMemberEpoch.Code, kerr.IllegalGeneration.Code}
	}
	if !slices.Contains(allowed, got) {
		r.w.t.Fatalf("a commit of %s at epoch %d, it is at %d, got %d", c.memberID, epoch, m.epoch, got)
	}
}

// beatEvery is how often clients act that behave.
const beatEvery = 3 * time.Second

// wait lets time pass while everybody behaves.
func (r *run) wait(d time.Duration) {
	for range int(d / beatEvery) {
		r.w.out.Reset()
		for _, c := range r.clients {
			r.listen(c)
			r.act(c)
		}
		r.resolve()
		r.w.advance(beatEvery)
		r.observe()
	}
}
