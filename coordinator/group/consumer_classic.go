package group

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Members of a consumer group that speak the classic protocol: their generation is the epoch, their assignment is what
// the broker gives them, in the words of the consumers' embedded protocol.

// maxEmbedded is the newest version of the consumers' embedded protocol (Kafka's ConsumerProtocol).
const maxEmbedded = 3

// readEmbedded reads a subscription whole.
func readEmbedded(metadata []byte) (*kmsg.ConsumerMemberMetadata, bool) {
	topics := map[string]bool{}
	if !readSubscription(metadata, topics) {
		return nil, false
	}
	s := kmsg.NewConsumerMemberMetadata()
	if err := s.ReadFrom(metadata); err != nil {
		return nil, false
	}
	return &s, true
}

// joinConsumerGroup handles a JoinGroup request for a consumer group with members
// (GroupMetadataManager.classicGroupJoinToConsumerGroup).
func (t *turn) joinConsumerGroup(g *consumerGroup, p parked, e Join) {
	before := len(t.out.Records)
	r, no := t.joinAsClassic(g, e)
	if no != nil {
		t.out.Records = t.out.Records[:before]
		t.refuse(p, "", no.err)
		return
	}
	r.Version = p.version
	t.reply(p.token, r)
}

func (t *turn) joinAsClassic(g *consumerGroup, e Join) (*kmsg.JoinGroupResponse, *refusal) {
	req, id, unknown := e.Req, e.Req.MemberID, e.Req.MemberID == ""
	if unknown {
		id = t.o.NewConsumerMemberID()
	}
	protocols := readProtocols(req.Protocols)
	switch {
	case t.o.Migration == MigrationDisabled:
		return nil, refuse(kerr.InconsistentGroupProtocol, "Cannot join the consumer group %s with the classic protocol because the group migration is disabled.", g.id)
	case g.members[id] == nil && len(g.members) >= t.o.ConsumerMaxSize:
		return nil, refuse(kerr.GroupMaxSizeReached, "The consumer group has reached its maximum capacity of %d members.", t.o.ConsumerMaxSize)
	case req.ProtocolType != consumerProtocol || !slices.ContainsFunc(protocols, func(p protocol) bool { return g.classicProtocols[p.name] == g.classicMembers }):
		return nil, refuse(kerr.InconsistentGroupProtocol, "Member %s's protocols are not supported.", id)
	case unknown && req.InstanceID == nil && e.Version >= memberIDRequiredSince:
		r := newJoinResponse(e.Version)
		r.MemberID, r.ErrorCode = id, kerr.MemberIDRequired.Code
		return r, nil
	}
	was, no := t.classicMember(g, id, req.InstanceID, unknown)
	if no != nil {
		return nil, no
	}
	s, ok := readEmbedded(protocols[0].metadata)
	if !ok {
		return nil, refuse(kerr.UnknownServerError, "Malformed embedded consumer protocol in subscription deserialization.")
	}
	now := *was
	now.topics, now.regex, now.clientID, now.clientHost = sortedNames(s.Topics), new(string), e.ClientID, e.ClientHost
	if req.InstanceID != nil {
		now.instanceID = req.InstanceID
	}
	if deref(s.Rack) != "" {
		now.rackID = s.Rack
	}
	if req.RebalanceTimeoutMillis != -1 {
		now.rebalanceMillis = req.RebalanceTimeoutMillis
	}
	now.classic = &classicMetadata{req.SessionTimeoutMillis, protocols}
	m, stays, no := t.changedClassic(g, was, &now, t.ownedBefore(s))
	if no != nil {
		return nil, no
	}
	t.stopFor(consumerJoinTimer, g.id, m.id)
	if stays {
		t.armFor(consumerSessionTimer, g.id, m.id, time.Duration(req.SessionTimeoutMillis)*time.Millisecond)
		t.armFor(consumerSyncTimer, g.id, m.id, time.Duration(m.rebalanceMillis)*time.Millisecond)
	}
	kind := consumerProtocol
	r := newJoinResponse(e.Version)
	r.MemberID, r.Generation, r.ProtocolType, r.Protocol = m.id, m.epoch, &kind, &m.classic.protocols[0].name
	return r, nil
}

// classicMember finds or makes the member of a JoinGroup request. One with an instance id takes the place of whoever had
// it, if it comes without a member id.
func (t *turn) classicMember(g *consumerGroup, id string, instanceID *string, unknown bool) (*consumerMember, *refusal) {
	if instanceID == nil {
		if m := g.members[id]; m != nil {
			return m, nil
		}
		return newConsumerMember(id), nil
	}
	old := g.staticMember(instanceID)
	switch {
	case !unknown:
		return old, g.checkStatic(old, id, *instanceID)
	case old == nil:
		return newConsumerMember(id), nil
	}
	return t.replace(g, old, id), nil
}

// changedClassic is changed for a member of the classic protocol. If it takes the place of the last one of the consumer
// protocol, the group moves to the classic protocol, and stays is false.
func (t *turn) changedClassic(g *consumerGroup, was, now *consumerMember, has []kmsg.ConsumerGroupHeartbeatRequestTopic) (m *consumerMember, stays bool, no *refusal) {
	moves := t.mayDowngradeFor(g, g.staticMember(now.instanceID))
	namesChanged := false
	if !now.sameMetadata(was) {
		t.noteMember(g.id, now)
		namesChanged = !slices.Equal(now.topics, was.topics)
	}
	regexes, no := t.updateRegexes(g, was, now, nil)
	if no != nil {
		return nil, false, no
	}
	changed := namesChanged || regexes != regexSame
	epoch, same := t.updateEpoch(g, was, now, changed)
	if moves {
		m = now
		// (Kafka does not look at the others: who waits for partitions does not hear of them any more.)
		stale := g.targetEpoch < epoch || g.waits(now)
		if !stale {
			if m, no = t.reconcile(g, now, g.targetOf(now), g.targetEpoch, changed, has); no != nil {
				return nil, false, no
			}
		}
		return m, false, t.downgrade(g, nil, m, stale)
	}
	target, targetEpoch, no := t.updateTarget(g, epoch, was, now, same)
	if no != nil {
		return nil, true, no
	}
	m, no = t.reconcile(g, now, target, targetEpoch, changed, has)
	return m, true, no
}

// waits reports whether a member is on its way to its target, the one that has this instance id left out.
func (g *consumerGroup) waits(but *consumerMember) bool {
	for _, m := range g.members {
		if !m.reconciled(g.targetEpoch) && m != g.staticMember(but.instanceID) {
			return true
		}
	}
	return false
}

// ownedBefore are the partitions that a member says it has, by topic id.
func (t *turn) ownedBefore(s *kmsg.ConsumerMemberMetadata) []kmsg.ConsumerGroupHeartbeatRequestTopic {
	has := []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	for i := range s.OwnedPartitions {
		if known := t.cluster.Topic(s.OwnedPartitions[i].Topic); known != nil {
			o := kmsg.NewConsumerGroupHeartbeatRequestTopic()
			o.TopicID, o.Partitions = known.ID, s.OwnedPartitions[i].Partitions
			has = append(has, o)
		}
	}
	return has
}

// classicIn finds the member of a consumer group that a request of the classic protocol speaks for
// (validateConsumerGroupMember).
func (g *consumerGroup) classicIn(id string, instanceID *string, generation int32) (*consumerMember, *kerr.Error) {
	m := g.members[id]
	if instanceID != nil {
		m = g.staticMember(instanceID)
		if no := g.checkStatic(m, id, *instanceID); no != nil {
			return nil, no.err
		}
	}
	switch {
	case m == nil, m.classic == nil:
		return nil, kerr.UnknownMemberID
	case m.epoch != generation:
		return nil, kerr.IllegalGeneration
	}
	return m, nil
}

func (m *consumerMember) classicSession() time.Duration {
	return time.Duration(m.classic.sessionMillis) * time.Millisecond
}

// syncConsumerGroup handles a SyncGroup request (classicGroupSyncToConsumerGroup).
func (t *turn) syncConsumerGroup(g *consumerGroup, p parked, r *kmsg.SyncGroupRequest) {
	m, err := g.classicIn(r.MemberID, r.InstanceID, r.Generation)
	switch {
	case err != nil:
		t.refuseSync(p, err)
		return
	case r.ProtocolType != nil && *r.ProtocolType != consumerProtocol, r.Protocol != nil && *r.Protocol != m.classic.protocols[0].name:
		t.refuseSync(p, kerr.InconsistentGroupProtocol)
		return
	case g.targetEpoch > m.epoch && m.state != memberUnrevoked:
		t.armOnce(consumerJoinTimer, g.id, m.id, time.Duration(m.rebalanceMillis)*time.Millisecond)
		t.refuseSync(p, kerr.RebalanceInProgress)
		return
	}
	t.stopFor(consumerSyncTimer, g.id, m.id)
	t.armFor(consumerSessionTimer, g.id, m.id, m.classicSession())
	resp := kmsg.NewPtrSyncGroupResponse()
	resp.Version, resp.ProtocolType, resp.Protocol = p.version, r.ProtocolType, r.Protocol
	has := partitions{}
	for topic, ps := range m.assigned {
		for _, o := range ps {
			has[topic] = append(has[topic], o.partition)
		}
	}
	resp.MemberAssignment = t.embed(has, m.classic.protocols[0].metadata)
	t.reply(p.token, resp)
}

// embed writes an assignment in the version that a member's subscription has.
func (t *turn) embed(p partitions, subscription []byte) []byte {
	a := kmsg.NewConsumerMemberAssignment()
	if len(subscription) >= 2 {
		a.Version = min(int16(subscription[0])<<8|int16(subscription[1]), maxEmbedded)
	}
	for _, topic := range sortedTopics(p) {
		if known := t.cluster.TopicByID(topic); known != nil {
			at := kmsg.NewConsumerMemberAssignmentTopic()
			at.Topic, at.Partitions = known.Name, p[topic]
			a.Topics = append(a.Topics, at)
		}
	}
	return a.AppendTo(nil)
}

// beatAsClassic handles a Heartbeat request (classicGroupHeartbeatToConsumerGroup).
func (t *turn) beatAsClassic(g *consumerGroup, r *kmsg.HeartbeatRequest) *kerr.Error {
	m, err := g.classicIn(r.MemberID, r.InstanceID, r.Generation)
	if err != nil {
		return err
	}
	t.armFor(consumerSessionTimer, g.id, m.id, m.classicSession())
	if m.epoch < g.targetEpoch || m.state == memberUnrevoked || m.state == memberUnreleased && !g.waitsForRelease(m) || t.lags(g) {
		t.armOnce(consumerJoinTimer, g.id, m.id, time.Duration(m.rebalanceMillis)*time.Millisecond)
		return kerr.RebalanceInProgress
	}
	return nil
}

// lags reports whether a group all of whose members speak the classic protocol needs a new target: then one of them must
// join to bring it about. (Kafka leaves such a group as it is until somebody joins: it may be stuck for ever.)
func (t *turn) lags(g *consumerGroup) bool {
	switch {
	case g.classicMembers < len(g.members):
		return false
	case g.fresh && g.epoch >= g.freshFor:
	case t.hashTopics(g.topics) != g.hash:
		return true
	default:
		g.fresh, g.freshFor = true, g.epoch
	}
	return g.targetEpoch < g.epoch && !t.tooSoon(g)
}

// leaveAsClassic handles a LeaveGroup request, of a member or of a tool
// (classicGroupLeaveToConsumerGroup).
func (t *turn) leaveAsClassic(g *consumerGroup, leaving []kmsg.LeaveGroupRequestMember) []kmsg.LeaveGroupResponseMember {
	var all []kmsg.LeaveGroupResponseMember
	var gone []*consumerMember
	for i := range leaving {
		r := kmsg.NewLeaveGroupResponseMember()
		r.MemberID, r.InstanceID = leaving[i].MemberID, leaving[i].InstanceID
		m := g.members[r.MemberID]
		var no *refusal
		switch {
		case r.InstanceID != nil && r.MemberID == "":
			if m = g.staticMember(r.InstanceID); m == nil {
				no = g.checkStatic(nil, "", *r.InstanceID)
			}
		case r.InstanceID != nil:
			m = g.staticMember(r.InstanceID)
			no = g.checkStatic(m, r.MemberID, *r.InstanceID)
		case m == nil:
			no = g.unknown(r.MemberID)
		}
		if no != nil {
			r.ErrorCode = no.err.Code
		} else if !slices.Contains(gone, m) {
			gone = append(gone, m)
		}
		all = append(all, r)
	}
	before := len(t.out.Records)
	if no := t.fence(g, gone...); no != nil {
		t.out.Records = t.out.Records[:before]
		for i := range all {
			all[i].ErrorCode = no.err.Code
		}
	}
	return all
}

// Migration says which groups may move between the protocols while they have members
// (group.consumer.migration.policy).
type Migration int8

// The policies.
const (
	MigrationBidirectional Migration = iota
	MigrationUpgrade
	MigrationDowngrade
	MigrationDisabled
)

func (m Migration) upgrades() bool { return m == MigrationBidirectional || m == MigrationUpgrade }

func (m Migration) downgrades() bool { return m == MigrationBidirectional || m == MigrationDowngrade }

// mayDowngrade reports whether only members of the classic protocol are left when some have gone, and may have the
// group for themselves.
func (t *turn) mayDowngrade(g *consumerGroup, gone []*consumerMember) bool {
	classic := g.classicMembers
	for _, m := range gone {
		if m.classic != nil {
			classic--
		}
	}
	left := len(g.members) - len(gone)
	return left > 0 && classic == left && t.o.Migration.downgrades() && left <= t.o.MaxSize
}

// mayDowngradeFor is the same where a static member takes the place of another.
func (t *turn) mayDowngradeFor(g *consumerGroup, replaced *consumerMember) bool {
	return replaced != nil && replaced.classic == nil && g.classicMembers == len(g.members)-1 && t.o.Migration.downgrades() && len(g.members) <= t.o.MaxSize
}

// downgrade makes the group a classic one of those that stay, and of the one that takes the place of a static member,
// if there is one. Their assignment is the target of the last epoch
// (GroupMetadataManager.convertToClassicGroup).
func (t *turn) downgrade(g *consumerGroup, gone []*consumerMember, joining *consumerMember, rebalance bool) *refusal {
	ids := g.ids()
	var replaced *consumerMember
	if joining != nil {
		replaced = g.staticMember(joining.instanceID)
		ids[slices.Index(ids, replaced.id)] = joining.id // the records of the old id have gone
	}
	t.noteEnd(g, ids)
	c := newGroup(g.id)
	c.state, c.prev, c.generation, c.protocolType, c.since = stable, stable, g.epoch, consumerProtocol, t.now.UnixMilli()
	targets := map[string]partitions{}
	for _, id := range g.ids() {
		m := g.members[id]
		switch {
		case slices.Contains(gone, m):
			continue
		case m == replaced:
			m = joining
		}
		targets[m.id] = g.target[id]
		c.add(&member{
			id: m.id, instanceID: m.instanceID, clientID: m.clientID, clientHost: m.clientHost,
			rebalanceMillis: m.rebalanceMillis, sessionMillis: m.classic.sessionMillis, protocols: m.classic.protocols,
			session: timer{kind: sessionTimer, group: c, member: m.id},
		})
	}
	if c.protocol = c.choose(); c.protocol == nil {
		return refuse(kerr.GroupIDNotFound, "Cannot downgrade the consumer group %s: its members support no protocol in common.", g.id)
	}
	c.updateSubscribed()
	for _, m := range c.members {
		m.assignment = t.embed(targets[m.id], m.metadata(c.protocol))
	}
	t.recordGroup(c)
	for _, m := range g.members {
		t.stopAll(g.id, m.id)
	}
	// The consumer group goes with its tombstone. Until then the records of this turn find it.
	t.groups[g.id] = c
	for _, m := range c.members {
		t.extend(m)
	}
	if rebalance {
		t.prepareRebalance(c)
	}
	return nil
}

// upgrade makes a classic group with members a consumer group, whose members keep what they have
// (GroupMetadataManager.convertToConsumerGroup).
func (t *turn) upgrade(c *group) (*consumerGroup, *refusal) {
	no := func(why string) (*consumerGroup, *refusal) {
		return nil, refuse(kerr.GroupIDNotFound, "Cannot upgrade classic group %s to consumer group because %s", c.id, why)
	}
	switch {
	case !t.o.Migration.upgrades():
		return no("online upgrade is disabled.")
	case c.protocolType != consumerProtocol:
		return no("the group does not use the consumer embedded protocol.")
	case len(c.members) > t.o.ConsumerMaxSize:
		return no("the group size exceeds the consumer group maximum size.")
	}
	g := newConsumerGroup(c.id)
	g.epoch, g.targetEpoch = c.generation, c.generation
	name := c.protocol
	if name == nil {
		name = c.choose()
	}
	for _, from := range c.members {
		m, has, why := t.fromClassic(c, from, name)
		if why != "" {
			return no(why)
		}
		g.target[m.id] = has
		g.put(m)
	}
	g.hash = t.hashTopics(g.topics)
	for _, m := range c.members {
		t.sendBack(c, m)
	}
	t.record(groupTombstone(t.now, c.id))
	t.noteUpgraded(g)
	return g, nil
}

// sendBack tells a member of a classic group that waits to join once more.
func (t *turn) sendBack(c *group, m *member) {
	if m.join != nil {
		t.refuse(*m.join, m.id, kerr.RebalanceInProgress)
		m.join = nil
		c.awaitingJoin--
	}
	if m.sync != nil {
		t.refuseSync(*m.sync, kerr.RebalanceInProgress)
		m.sync = nil
	}
	t.extend(m) // the group may stay a classic one: whoever asked for the upgrade may be refused yet
}

// noteUpgraded writes down a group that was a classic one, and starts the sessions of its members.
func (t *turn) noteUpgraded(g *consumerGroup) {
	ids := g.ids()
	for _, id := range ids {
		t.noteMember(g.id, g.members[id])
	}
	t.noteEpoch(g.id, g.epoch, g.hash)
	for _, id := range ids {
		t.noteTarget(g.id, id, g.target[id])
	}
	t.noteTargetEpoch(g.id, g.targetEpoch, time.Time{})
	for _, id := range ids {
		m := g.members[id]
		t.noteCurrent(g.id, m)
		t.armFor(consumerSessionTimer, g.id, id, m.classicSession())
	}
}

// fromClassic is the member of a consumer group that one of a classic group becomes, with what it has. Otherwise it says
// why that cannot be.
func (t *turn) fromClassic(c *group, from *member, protocol *string) (m *consumerMember, has partitions, why string) {
	s, ok := readEmbedded(from.metadata(protocol))
	if !ok {
		return nil, nil, "the embedded consumer protocol is malformed."
	}
	has = partitions{}
	if len(from.assignment) > 0 {
		a := kmsg.NewConsumerMemberAssignment()
		if err := a.ReadFrom(from.assignment); err != nil {
			return nil, nil, "the embedded consumer protocol is malformed."
		}
		if len(a.UserData) > 0 {
			return nil, nil, "an unsupported custom assignor is in use. Please refer to the documentation or switch to a default assignor before re-attempting the upgrade."
		}
		for i := range a.Topics {
			if known := t.cluster.Topic(a.Topics[i].Topic); known != nil {
				ps := slices.DeleteFunc(slices.Clone(a.Topics[i].Partitions), func(p int32) bool { return p < 0 || int(p) >= len(known.Partitions) })
				ps = append(ps, has[known.ID]...)
				if slices.Sort(ps); len(ps) > 0 {
					has[known.ID] = slices.Compact(ps)
				}
			}
		}
	}
	m = newConsumerMember(from.id)
	m.epoch, m.previousEpoch, m.instanceID = c.generation, c.generation, from.instanceID
	m.clientID, m.clientHost, m.rebalanceMillis, m.topics = from.clientID, from.clientHost, from.rebalanceMillis, sortedNames(s.Topics)
	if deref(s.Rack) != "" {
		m.rackID = s.Rack
	}
	m.classic = &classicMetadata{from.sessionMillis, from.protocols}
	m.assigned = owned{}
	for topic, ps := range has {
		for _, p := range ps {
			m.assigned[topic] = append(m.assigned[topic], ownedPartition{p, c.generation})
		}
	}
	return m, has, ""
}
