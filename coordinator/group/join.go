package group

import (
	"bytes"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator"
)

// Versions of JoinGroup that changed what members expect.
const (
	rebalanceTimeoutSince = 1 // before it the session timeout served for both
	memberIDRequiredSince = 4 // KIP-394
	skipAssignmentSince   = 9 // KIP-814
	syncProtocolSince     = 5 // SyncGroup names type and protocol (KIP-559)
)

// joiner is one JoinGroup request on its way into a group.
type joiner struct {
	parked
	Join
	protocols []protocol
}

// refuse answers a JoinGroup with an error.
func (t *turn) refuse(p parked, memberID string, err *kerr.Error) {
	r := newJoinResponse(p.version)
	r.ErrorCode, r.MemberID = err.Code, memberID
	t.reply(p.token, r)
}

// newJoinResponse returns a reply as Kafka's errors have it: generation -1, no
// leader, no protocol.
func newJoinResponse(version int16) *kmsg.JoinGroupResponse {
	r := kmsg.NewPtrJoinGroupResponse()
	r.Version = version
	return r
}

// join handles a JoinGroup request (GroupMetadataManager.classicGroupJoin).
func (t *turn) join(to coordinator.Token, e Join) {
	j := joiner{parked: parked{to, e.Version}, Join: e, protocols: readProtocols(e.Req.Protocols)}
	if err := t.checkJoin(e); err != nil {
		t.refuse(j.parked, e.Req.MemberID, err)
		return
	}
	other := t.foreign[e.Req.Group]
	if other != nil && !other.replaceable() {
		t.refuse(j.parked, "", kerr.InconsistentGroupProtocol)
		return
	}
	c := t.consumers[e.Req.Group]
	if c != nil && len(c.members) > 0 {
		t.joinConsumerGroup(c, j.parked, e)
		return
	}
	g := t.groups[e.Req.Group]
	created := g == nil
	if created {
		if e.Req.MemberID != "" {
			t.refuse(j.parked, e.Req.MemberID, kerr.UnknownMemberID)
			return
		}
		if other != nil {
			t.endForeign(other)
		}
		if c != nil {
			t.noteEnd(c, nil)
			delete(t.consumers, c.id)
		}
		g = t.ensure(e.Req.Group)
		g.since = t.now.UnixMilli()
		t.recordGroup(g)
	}
	switch {
	case !t.hasRoom(g, e.Req.MemberID):
		if m := g.byID[e.Req.MemberID]; m != nil {
			t.remove(g, m)
			t.completeIfJoined(g)
		}
		t.refuse(j.parked, "", kerr.GroupMaxSizeReached)
	case e.Req.MemberID == "":
		t.joinNew(g, j)
	default:
		t.rejoin(g, j)
	}
}

// checkJoin checks what does not depend on the group.
func (t *turn) checkJoin(e Join) *kerr.Error {
	if e.Req.Group == "" || len(e.Req.Group) > maxRecordString {
		return kerr.InvalidGroupID
	}
	session := time.Duration(e.Req.SessionTimeoutMillis) * time.Millisecond
	if session < t.o.MinSessionTimeout || session > t.o.MaxSessionTimeout {
		return kerr.InvalidSessionTimeout
	}
	long := len(e.Req.ProtocolType) > maxRecordString || len(e.ClientID) > maxRecordString || len(e.ClientHost) > maxRecordString ||
		e.Req.InstanceID != nil && len(*e.Req.InstanceID) > maxRecordString
	for i := range e.Req.Protocols {
		long = long || len(e.Req.Protocols[i].Name) > maxRecordString
	}
	if long {
		return kerr.InvalidRequest
	}
	return nil
}

// readProtocols copies the protocols of a request. Of two with the same name the
// first counts.
func readProtocols(from []kmsg.JoinGroupRequestProtocol) []protocol {
	ps := make([]protocol, 0, len(from))
	seen := make(map[string]bool, len(from))
	for i := range from {
		if !seen[from[i].Name] {
			seen[from[i].Name] = true
			ps = append(ps, protocol{from[i].Name, bytes.Clone(from[i].Metadata)})
		}
	}
	return ps
}

// hasRoom reports whether a member may join: those who are in already, others up
// to the limit. During a rebalance those count who have rejoined, so that a group
// that grew beyond a lowered limit shrinks to it.
func (t *turn) hasRoom(g *group, memberID string) bool {
	m := g.byID[memberID]
	switch g.state {
	case preparingRebalance:
		return m != nil && m.join != nil || g.awaitingJoin < t.o.MaxSize
	case completingRebalance, stable:
		return m != nil || len(g.members) < t.o.MaxSize
	}
	return true
}

// joinNew handles a join without member id.
func (t *turn) joinNew(g *group, j joiner) {
	if !g.supports(j.Req.ProtocolType, j.protocols) {
		t.refuse(j.parked, "", kerr.InconsistentGroupProtocol)
		return
	}
	if j.Req.InstanceID != nil {
		id := t.o.NewMemberID(*j.Req.InstanceID)
		switch old := g.static[*j.Req.InstanceID]; {
		case len(id) > maxRecordString:
			t.refuse(j.parked, "", kerr.InvalidRequest)
		case old != nil:
			t.replaceStatic(g, old, id, j)
		default:
			t.addMember(g, id, j)
		}
		return
	}
	id := t.o.NewMemberID(j.ClientID)
	switch {
	case len(id) > maxRecordString:
		t.refuse(j.parked, "", kerr.InvalidRequest)
	case j.Version < memberIDRequiredSince:
		t.addMember(g, id, j)
	case len(g.pending) >= maxPendingMembers:
		t.refuse(j.parked, "", kerr.GroupMaxSizeReached)
	default:
		// The member must show that it got its id before it counts as a member:
		// else one that times out and tries again leaves a dead one behind.
		session := &timer{kind: sessionTimer, group: g, member: id}
		if g.pending == nil {
			g.pending = map[string]*timer{}
		}
		g.pending[id] = session
		t.timers.arm(session, t.now.Add(time.Duration(j.Req.SessionTimeoutMillis)*time.Millisecond))
		t.refuse(j.parked, id, kerr.MemberIDRequired)
	}
}

// rejoin handles a join with member id.
func (t *turn) rejoin(g *group, j joiner) {
	id := j.Req.MemberID
	if !g.supports(j.Req.ProtocolType, j.protocols) {
		t.refuse(j.parked, id, kerr.InconsistentGroupProtocol)
		return
	}
	if session := g.pending[id]; session != nil {
		if j.Req.InstanceID != nil { // ids of static members are never pending
			t.refuse(j.parked, id, kerr.UnknownServerError)
			return
		}
		t.timers.stop(session)
		delete(g.pending, id)
		t.addMember(g, id, j)
		return
	}
	m, err := g.check(id, j.Req.InstanceID)
	if err != nil {
		t.refuse(j.parked, id, err)
		return
	}
	// A leader may want a rebalance for reasons that only it knows, such as new
	// partitions. Whoever else brings nothing new has probably missed the answer.
	same := m.matches(j.protocols)
	switch {
	case g.state == completingRebalance && same, g.state == stable && same && !g.leads(m):
		t.reply(j.token, g.joinResponse(m, j.version))
	default:
		t.update(g, m, j)
		t.rebalance(g)
	}
}

// joinResponse tells a member about the current generation; the leader also hears
// of all members.
func (g *group) joinResponse(m *member, version int16) *kmsg.JoinGroupResponse {
	r := newJoinResponse(version)
	r.Generation, r.Protocol, r.LeaderID, r.MemberID = g.generation, g.protocol, g.leader, m.id
	if g.protocolType != "" {
		r.ProtocolType = &g.protocolType
	}
	if g.leads(m) {
		r.Members = g.joinMembers()
	}
	return r
}

// joinMembers lists the members for the leader.
func (g *group) joinMembers() []kmsg.JoinGroupResponseMember {
	ms := make([]kmsg.JoinGroupResponseMember, 0, len(g.members))
	for _, m := range g.members {
		rm := kmsg.NewJoinGroupResponseMember()
		rm.MemberID, rm.InstanceID, rm.ProtocolMetadata = m.id, m.instanceID, m.metadata(g.protocol)
		ms = append(ms, rm)
	}
	return ms
}

// addMember makes a new member whose JoinGroup waits for the end of a rebalance.
func (t *turn) addMember(g *group, id string, j joiner) {
	if g.state == preparingRebalance && g.prev == empty {
		g.newMemberAdded = true
	}
	if len(g.members) == 0 {
		g.protocolType = j.Req.ProtocolType
	}
	m := &member{
		id: id, instanceID: j.Req.InstanceID, clientID: j.ClientID, clientHost: j.ClientHost,
		rebalanceMillis: j.rebalanceMillis(), sessionMillis: j.Req.SessionTimeoutMillis,
		protocols: j.protocols, join: &j.parked, isNew: true,
		session: timer{kind: sessionTimer, group: g, member: id},
	}
	g.add(m)
	t.timers.arm(&m.session, t.now.Add(t.o.NewMemberJoinTimeout))
	t.rebalance(g)
}

// rebalanceMillis is how long the member lets others join.
func (j joiner) rebalanceMillis() int32 {
	if j.version < rebalanceTimeoutSince || j.Req.RebalanceTimeoutMillis < 0 {
		return j.Req.SessionTimeoutMillis
	}
	return j.Req.RebalanceTimeoutMillis
}

// update takes over what a member tells about itself, and parks its JoinGroup.
func (t *turn) update(g *group, m *member, j joiner) {
	g.vote(m, -1)
	m.protocols = j.protocols
	g.vote(m, 1)
	m.rebalanceMillis, m.sessionMillis = j.rebalanceMillis(), j.Req.SessionTimeoutMillis
	if m.join != nil {
		// The member asks again; nobody listens to the first answer any more.
		t.refuse(*m.join, m.id, kerr.RebalanceInProgress)
	} else {
		g.awaitingJoin++
	}
	m.join = &j.parked
}

// replaceStatic lets a static member that has restarted take its place again under
// a new id. Whoever used the old id is fenced. In a stable group nothing else
// happens, unless the choice of the protocol changes
// (updateStaticMemberThenRebalanceOrCompleteJoin).
func (t *turn) replaceStatic(g *group, m *member, id string, j joiner) {
	oldLeader := g.leader
	if m.join != nil {
		t.refuse(*m.join, m.id, kerr.FencedInstanceID)
		m.join = nil
		g.awaitingJoin--
	}
	if m.sync != nil {
		t.refuseSync(*m.sync, kerr.FencedInstanceID)
		m.sync = nil
	}
	t.timers.stop(&m.session)
	g.rename(m, id)
	m.isNew = false
	m.session = timer{kind: sessionTimer, group: g, member: id}
	t.extend(m)
	t.update(g, m, j)

	switch g.state {
	case stable:
		rec := groupRecord(t.now, g.id, g.snapshot())
		if differs(g.protocol, g.choose()) || !t.fits(rec) {
			t.prepareRebalance(g)
			return
		}
		t.record(rec)
		r := g.joinResponse(m, j.version)
		if j.version >= skipAssignmentSince {
			r.SkipAssignment = g.leads(m)
		} else {
			// An older leader must not believe it leads: it would send an assignment.
			r.LeaderID, r.Members = oldLeader, nil
		}
		t.reply(m.join.token, r)
		m.join = nil
		g.awaitingJoin--
	case completingRebalance:
		// The leader may be assigning to the old id already.
		t.prepareRebalance(g)
	default:
		t.completeIfJoined(g)
	}
}
