package group

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator/group/assignor"
)

// memberIDRequiredByConsumers is the version of ConsumerGroupHeartbeat from which on members make their own ids
// (KIP-1082).
const memberIDRequiredByConsumers = 1

// refusal is why a request of the consumer protocol is refused, in Kafka's words.
type refusal struct {
	err     *kerr.Error
	message string
}

func refuse(err *kerr.Error, format string, args ...any) *refusal {
	return &refusal{err, fmt.Sprintf(format, args...)}
}

// consumerHeartbeat handles a ConsumerGroupHeartbeat request (GroupMetadataManager.consumerGroupHeartbeat).
func (t *turn) consumerHeartbeat(e ConsumerHeartbeat) *kmsg.ConsumerGroupHeartbeatResponse {
	before := len(t.out.Records)
	r, no := t.checkedHeartbeat(e)
	if no != nil {
		t.out.Records = t.out.Records[:before]
		r = kmsg.NewPtrConsumerGroupHeartbeatResponse()
		r.ErrorCode, r.ErrorMessage = no.err.Code, &no.message
	}
	r.Version = e.Version
	return r
}

func (t *turn) checkedHeartbeat(e ConsumerHeartbeat) (*kmsg.ConsumerGroupHeartbeatResponse, *refusal) {
	if no := t.checkHeartbeat(e); no != nil {
		return nil, no
	}
	if e.Req.MemberEpoch < joinEpoch {
		return t.leaveConsumerGroup(e.Req)
	}
	return t.beatConsumer(e)
}

// checkHeartbeat checks what does not depend on the group
// (GroupCoordinatorService.throwIfConsumerGroupHeartbeatRequestIsInvalid).
func (t *turn) checkHeartbeat(e ConsumerHeartbeat) *refusal {
	r := e.Req
	mustName := e.Version >= memberIDRequiredByConsumers || r.MemberEpoch > joinEpoch || r.MemberEpoch == leaveEpoch
	for _, c := range []struct {
		value *string
		name  string
	}{{&r.MemberID, "MemberId"}, {&r.Group, "GroupId"}, {r.InstanceID, "InstanceId"}, {r.RackID, "RackId"}} {
		if c.value == nil || c.value == &r.MemberID && !mustName {
			continue
		}
		if isBlank(*c.value) {
			return refuse(kerr.InvalidRequest, "%s can't be empty.", c.name)
		}
	}
	switch {
	case r.MemberEpoch == joinEpoch && r.RebalanceTimeoutMillis == -1:
		return refuse(kerr.InvalidRequest, "RebalanceTimeoutMs must be provided in first request.")
	case r.MemberEpoch == joinEpoch && (r.Topics == nil || len(r.Topics) > 0):
		return refuse(kerr.InvalidRequest, "TopicPartitions must be empty when (re-)joining.")
	case r.MemberEpoch == joinEpoch && r.SubscribedTopicNames == nil && r.SubscribedTopicRegex == nil:
		return refuse(kerr.InvalidRequest, "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.")
	case r.MemberEpoch == leaveStaticEpoch && r.InstanceID == nil:
		return refuse(kerr.InvalidRequest, "InstanceId can't be null.")
	case r.MemberEpoch < leaveStaticEpoch:
		return refuse(kerr.InvalidRequest, "MemberEpoch is invalid.")
	case r.ServerAssignor != nil && !slices.ContainsFunc(t.o.Assignors, func(a assignor.Assignor) bool { return a.Name() == *r.ServerAssignor }):
		names := make([]string, 0, len(t.o.Assignors))
		for _, a := range t.o.Assignors {
			names = append(names, a.Name())
		}
		return refuse(kerr.UnsupportedAssignor, "ServerAssignor %s is not supported. Supported assignors: %s.", *r.ServerAssignor, strings.Join(names, ", "))
	}
	return t.checkLengths(e)
}

// isBlank reports whether nothing is left of a text when Java has trimmed it.
func isBlank(s string) bool {
	return strings.TrimFunc(s, func(c rune) bool { return c <= ' ' }) == ""
}

// checkLengths refuses what keys of records cannot hold, which Kafka fails to write.
func (t *turn) checkLengths(e ConsumerHeartbeat) *refusal {
	r := e.Req
	long := max(len(r.Group), len(r.MemberID), len(e.ClientID), len(e.ClientHost), len(deref(r.InstanceID)), len(deref(r.RackID)), len(deref(r.SubscribedTopicRegex)))
	for _, topic := range r.SubscribedTopicNames {
		long = max(long, len(topic))
	}
	if long > maxRecordString {
		return refuse(kerr.InvalidRequest, "No name may be longer than %d bytes.", maxRecordString)
	}
	return nil
}

// beatConsumer handles a heartbeat of a member that joins or stays: the member becomes what it says it is, the group
// gets a new target if it needs one, and the member moves towards it.
func (t *turn) beatConsumer(e ConsumerHeartbeat) (*kmsg.ConsumerGroupHeartbeatResponse, *refusal) {
	req, joins := e.Req, e.Req.MemberEpoch == joinEpoch
	g, no := t.consumerGroup(req.Group, joins)
	if no != nil {
		return nil, no
	}
	id := req.MemberID
	if g.members[id] == nil && len(g.members) >= t.o.ConsumerMaxSize {
		return nil, refuse(kerr.GroupMaxSizeReached, "The consumer group has reached its maximum capacity of %d members.", t.o.ConsumerMaxSize)
	}
	if id == "" {
		id = t.o.NewConsumerMemberID()
	}
	var m *consumerMember
	if req.InstanceID == nil {
		m, no = t.dynamicMember(g, id, req, joins)
	} else {
		m, no = t.staticMember(g, id, req, joins)
	}
	if no != nil {
		return nil, no
	}
	// A heartbeat that says nothing new allocates nothing but its answer.
	now := m
	if !m.saidBefore(e) {
		now = m.told(e)
	}
	now, no = t.changed(g, m, now, e.Caller, req.Topics)
	if no != nil {
		return nil, no
	}
	settings := t.settings(g.id)
	t.armFor(consumerSessionTimer, g.id, id, settings.Session)

	r := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	r.MemberID, r.MemberEpoch, r.HeartbeatIntervalMillis = &now.id, now.epoch, int32(settings.Heartbeat.Milliseconds())
	full := req.RebalanceTimeoutMillis != -1 && (req.SubscribedTopicNames != nil || req.SubscribedTopicRegex != nil) && req.Topics != nil
	if joins || full || now != m && !now.assigned.equal(m.assigned) {
		r.Assignment = now.assignment()
	}
	return r, nil
}

// assignment is what a member is told that it has.
func (m *consumerMember) assignment() *kmsg.ConsumerGroupHeartbeatResponseAssignment {
	a := kmsg.NewConsumerGroupHeartbeatResponseAssignment()
	a.Topics = []kmsg.ConsumerGroupHeartbeatResponseAssignmentTopic{}
	for _, topic := range sortedTopics(m.assigned) {
		at := kmsg.NewConsumerGroupHeartbeatResponseAssignmentTopic()
		at.TopicID = topic
		for _, p := range m.assigned[topic] {
			at.Partitions = append(at.Partitions, p.partition)
		}
		a.Topics = append(a.Topics, at)
	}
	return &a
}

// saidBefore reports whether a heartbeat says nothing of the member that is not known.
func (m *consumerMember) saidBefore(e ConsumerHeartbeat) bool {
	r := e.Req
	said := func(a, b *string) bool { return a == nil || b != nil && *a == *b }
	return m.classic == nil && m.clientID == e.ClientID && m.clientHost == e.ClientHost &&
		said(r.InstanceID, m.instanceID) && said(r.RackID, m.rackID) && said(r.ServerAssignor, m.assignor) && said(r.SubscribedTopicRegex, m.regex) &&
		(r.RebalanceTimeoutMillis == -1 || r.RebalanceTimeoutMillis == m.rebalanceMillis) &&
		(r.SubscribedTopicNames == nil || m.topics != nil && slices.Equal(r.SubscribedTopicNames, m.topics))
}

// told is the member after a heartbeat. What is null has not changed.
func (m *consumerMember) told(e ConsumerHeartbeat) *consumerMember {
	now := *m
	update := func(to **string, from *string) {
		if from != nil {
			*to = from
		}
	}
	update(&now.instanceID, e.Req.InstanceID)
	update(&now.rackID, e.Req.RackID)
	update(&now.assignor, e.Req.ServerAssignor)
	update(&now.regex, e.Req.SubscribedTopicRegex)
	if e.Req.RebalanceTimeoutMillis != -1 {
		now.rebalanceMillis = e.Req.RebalanceTimeoutMillis
	}
	if e.Req.SubscribedTopicNames != nil {
		now.topics = sortedNames(e.Req.SubscribedTopicNames)
	}
	now.clientID, now.clientHost, now.classic = e.ClientID, e.ClientHost, nil
	return &now
}

// sortedNames copies names, sorted, each once.
func sortedNames(names []string) []string {
	sorted := slices.Clone(names)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}

// changed writes down what a member is now instead of what it was, gives the group a new epoch and a new target if
// that is needed, and moves the member on. It returns the member as it is then.
func (t *turn) changed(g *consumerGroup, was, now *consumerMember, caller any, has []kmsg.ConsumerGroupHeartbeatRequestTopic) (*consumerMember, *refusal) {
	namesChanged := false
	if now != was && !now.sameMetadata(was) {
		t.noteMember(g.id, now)
		namesChanged = !slices.Equal(now.topics, was.topics)
	}
	regexes, no := t.updateRegexes(g, was, now, caller)
	if no != nil {
		return nil, no
	}
	// A classic group that moves here in its first rebalance has no generation yet. Kafka may leave the epoch at 0 then,
	// with which a member cannot go on: it means to join.
	epoch, same := t.updateEpoch(g, was, now, namesChanged || regexes == regexResolved || g.epoch < firstEpoch)
	target, targetEpoch, no := t.updateTarget(g, epoch, was, now, same)
	if no != nil {
		return nil, no
	}
	return t.reconcile(g, now, target, targetEpoch, namesChanged || regexes != regexSame, has)
}

// consumerGroup finds the group of a heartbeat. A join makes one, or takes the place of an empty classic group, or
// upgrades one with members.
func (t *turn) consumerGroup(id string, joins bool) (*consumerGroup, *refusal) {
	if g := t.consumers[id]; g != nil {
		return g, nil
	}
	classic := t.groups[id]
	switch {
	case t.foreign[id] != nil:
		return nil, refuse(kerr.GroupIDNotFound, "Group %s is not a consumer group.", id)
	case classic == nil && !joins:
		return nil, refuse(kerr.GroupIDNotFound, "Consumer group %s not found.", id)
	case classic == nil:
		return newConsumerGroup(id), nil
	case !joins:
		return nil, refuse(kerr.GroupIDNotFound, "Group %s is not a consumer group.", id)
	case classic.state == empty:
		t.record(groupTombstone(t.now, id))
		return newConsumerGroup(id), nil
	}
	return t.upgrade(classic)
}

// dynamicMember finds or makes the member of a heartbeat without instance id.
func (t *turn) dynamicMember(g *consumerGroup, id string, req *kmsg.ConsumerGroupHeartbeatRequest, joins bool) (*consumerMember, *refusal) {
	m := g.members[id]
	switch {
	case m == nil && !joins:
		return nil, g.unknown(id)
	case m == nil:
		return newConsumerMember(id), nil
	}
	return m, m.checkEpoch(req)
}

func (g *consumerGroup) unknown(id string) *refusal {
	return refuse(kerr.UnknownMemberID, "Member %s is not a member of group %s.", id, g.id)
}

// checkEpoch checks the epoch of a heartbeat. The one before is as good where the answer with the new one was lost, and
// a member may join again at any time (GroupMetadataManager.throwIfConsumerGroupMemberEpochIsInvalid).
func (m *consumerMember) checkEpoch(req *kmsg.ConsumerGroupHeartbeatRequest) *refusal {
	size := "greater"
	switch {
	case req.MemberEpoch == joinEpoch, req.MemberEpoch == m.epoch, req.MemberEpoch < m.epoch && req.MemberEpoch == m.previousEpoch && m.hasAll(req.Topics):
		return nil
	case req.MemberEpoch < m.epoch:
		size = "smaller"
	}
	return refuse(kerr.FencedMemberEpoch, "The consumer group member has a %s member epoch (%d) than the one known by the group coordinator (%d). "+
		"The member must abandon all its partitions and rejoin.", size, req.MemberEpoch, m.epoch)
}

// hasAll reports whether the member has all these partitions. It is false if it did not tell.
func (m *consumerMember) hasAll(has []kmsg.ConsumerGroupHeartbeatRequestTopic) bool {
	for i := range has {
		for _, p := range has[i].Partitions {
			if !m.assigned.has(has[i].TopicID, p) {
				return false
			}
		}
	}
	return has != nil
}

// staticMember finds or makes the member of a heartbeat with an instance id. A member that joins takes the place of
// one that has said that it would be back (getOrMaybeSubscribeStaticConsumerGroupMember).
func (t *turn) staticMember(g *consumerGroup, id string, req *kmsg.ConsumerGroupHeartbeatRequest, joins bool) (*consumerMember, *refusal) {
	old := g.staticMember(req.InstanceID)
	switch {
	case !joins:
		if no := g.checkStatic(old, id, *req.InstanceID); no != nil {
			return nil, no
		}
		return old, old.checkEpoch(req)
	case old == nil:
		if m := g.members[id]; m != nil {
			return m, nil
		}
		return newConsumerMember(id), nil
	case old.classic == nil && old.epoch != leaveStaticEpoch:
		return nil, refuse(kerr.UnreleasedInstanceID, "Static member %s with instance id %s cannot join the group because the instance id is owned by %s member.",
			id, *req.InstanceID, old.id)
	}
	return t.replace(g, old, id), nil
}

// checkStatic checks that a member is the one that has the instance id.
func (g *consumerGroup) checkStatic(m *consumerMember, id, instanceID string) *refusal {
	switch {
	case m == nil:
		return refuse(kerr.UnknownMemberID, "Instance id %s is unknown.", instanceID)
	case m.id != id:
		return refuse(kerr.FencedInstanceID, "Static member %s with instance id %s was fenced by member %s.", id, instanceID, m.id)
	}
	return nil
}

// replace writes down that a static member has another id from now on.
func (t *turn) replace(g *consumerGroup, old *consumerMember, id string) *consumerMember {
	m := *old
	m.id, m.epoch, m.previousEpoch = id, 0, 0
	t.noteGone(g.id, old.id)
	t.noteMember(g.id, &m)
	t.noteTarget(g.id, id, g.target[old.id])
	t.noteCurrent(g.id, &m)
	return &m
}

// leaveConsumerGroup handles a heartbeat of a member that goes, for good or for a while
// (GroupMetadataManager.consumerGroupLeave).
func (t *turn) leaveConsumerGroup(req *kmsg.ConsumerGroupHeartbeatRequest) (*kmsg.ConsumerGroupHeartbeatResponse, *refusal) {
	g := t.consumers[req.Group]
	switch {
	case g == nil && !t.exists(req.Group):
		return nil, refuse(kerr.GroupIDNotFound, "Group %s not found.", req.Group)
	case g == nil:
		return nil, refuse(kerr.GroupIDNotFound, "Group %s is not a consumer group.", req.Group)
	}
	r := kmsg.NewPtrConsumerGroupHeartbeatResponse()
	r.MemberID, r.MemberEpoch = &req.MemberID, req.MemberEpoch
	if req.InstanceID == nil {
		m := g.members[req.MemberID]
		if m == nil {
			return nil, g.unknown(req.MemberID)
		}
		return r, t.fence(g, m)
	}
	m := g.staticMember(req.InstanceID)
	if no := g.checkStatic(m, req.MemberID, *req.InstanceID); no != nil {
		return nil, no
	}
	if req.MemberEpoch != leaveStaticEpoch {
		return r, t.fence(g, m)
	}
	away := *m
	away.epoch, away.revoking, away.assigned = leaveStaticEpoch, owned{}, owned{}
	for topic, ps := range m.assigned {
		for _, p := range ps {
			away.assigned[topic] = append(away.assigned[topic], ownedPartition{p.partition, 0})
		}
	}
	t.noteCurrent(g.id, &away)
	return r, nil
}

// fence takes members out of their group, or moves the group to the classic protocol if all that are left speak it
// (GroupMetadataManager.consumerGroupFenceMembers).
func (t *turn) fence(g *consumerGroup, gone ...*consumerMember) *refusal {
	if len(gone) == 0 {
		return nil
	}
	if t.mayDowngrade(g, gone) {
		return t.downgrade(g, gone, nil, true)
	}
	topics := cloneCounts(g.topics)
	regexes := map[string]int{}
	for _, m := range gone {
		t.noteGone(g.id, m.id)
		for _, topic := range m.topics {
			countTopic(topics, topic, -1, 0)
		}
		if p := m.pattern(); p != "" {
			regexes[p]++
		}
	}
	for _, p := range slices.Sorted(keys(regexes)) {
		if g.regexes[p] != regexes[p] {
			continue
		}
		t.note(consumerKey(consumerRegexKey, g.id, p), nil)
		if r := g.resolved[p]; r != nil {
			for _, topic := range r.topics {
				countTopic(topics, topic, 0, -1)
			}
		}
	}
	t.noteEpoch(g.id, g.epoch+1, t.hashTopics(topics))
	for _, m := range gone {
		t.stopAll(g.id, m.id)
	}
	return nil
}

// consumerTimersDue takes members out that were silent for too long, or did not do their part of a rebalance: those of
// one group at once.
func (t *turn) consumerTimersDue(late []*timer) {
	var groups []*consumerGroup
	gone := map[*consumerGroup][]*consumerMember{}
	for _, due := range late {
		g := t.consumers[due.consumer]
		if g == nil {
			continue
		}
		m := g.members[due.member]
		switch {
		case m == nil, slices.Contains(gone[g], m),
			due.kind == consumerRebalanceTimer && m.epoch != due.epoch,
			m.classic == nil && (due.kind == consumerJoinTimer || due.kind == consumerSyncTimer):
			continue
		}
		if gone[g] == nil {
			groups = append(groups, g)
		}
		gone[g] = append(gone[g], m)
	}
	for _, g := range groups {
		before := len(t.out.Records)
		if no := t.fence(g, gone[g]...); no != nil {
			t.out.Records = t.out.Records[:before]
			for _, m := range gone[g] { // Kafka gives up here, and they stay for ever
				t.armFor(consumerSessionTimer, g.id, m.id, time.Second)
			}
		}
	}
}
