package group

import (
	"bytes"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator"
)

// refuseSync answers a SyncGroup with an error.
func (t *turn) refuseSync(p parked, err *kerr.Error) {
	r := kmsg.NewPtrSyncGroupResponse()
	r.Version, r.ErrorCode = p.version, err.Code
	t.reply(p.token, r)
}

// assign answers a SyncGroup with the member's assignment.
func (t *turn) assign(p parked, g *group, m *member) {
	r := kmsg.NewPtrSyncGroupResponse()
	r.Version, r.Protocol, r.MemberAssignment = p.version, g.protocol, m.assignment
	if g.protocolType != "" {
		r.ProtocolType = &g.protocolType
	}
	t.reply(p.token, r)
}

// propagate answers every SyncGroup that waits, with the assignments or with the
// error, and starts the sessions of those who asked.
func (t *turn) propagate(g *group, err *kerr.Error) {
	for _, m := range g.members {
		if m.sync == nil {
			continue
		}
		if err != nil {
			t.refuseSync(*m.sync, err)
		} else {
			t.assign(*m.sync, g, m)
		}
		m.sync = nil
		t.extend(m)
	}
}

// sync handles a SyncGroup request (classicGroupSyncToClassicGroup).
func (t *turn) sync(to coordinator.Token, e Sync) {
	p := parked{to, e.Version}
	if c := t.consumers[e.Req.Group]; c != nil {
		if err := checkSyncVersion(e); err != nil {
			t.refuseSync(p, err)
			return
		}
		t.syncConsumerGroup(c, p, e.Req)
		return
	}
	g, m, err := t.checkSync(e)
	if err != nil {
		t.refuseSync(p, err)
		return
	}
	g.setUnsynced(m, false)
	if g.pendingSync == 0 {
		t.timers.stop(&g.syncing)
	}
	if g.state == stable {
		t.assign(p, g, m)
		return
	}
	if m.sync != nil {
		// The member asks again; nobody listens to the first answer any more.
		t.refuseSync(*m.sync, kerr.RebalanceInProgress)
	}
	m.sync = &p
	if g.leads(m) {
		t.completeSync(g, e.Req.GroupAssignment)
	}
}

// checkSync finds the member that sends SyncGroup in its turn.
func (t *turn) checkSync(e Sync) (*group, *member, *kerr.Error) {
	r := e.Req
	if err := checkSyncVersion(e); err != nil {
		return nil, nil, err
	}
	g := t.groups[r.Group]
	if g == nil || g.state == empty {
		return nil, nil, kerr.UnknownMemberID
	}
	m, err := g.check(r.MemberID, r.InstanceID)
	switch {
	case err != nil:
		return nil, nil, err
	case r.Generation != g.generation:
		return nil, nil, kerr.IllegalGeneration
	case differs(r.ProtocolType, &g.protocolType), differs(r.Protocol, g.protocol):
		return nil, nil, kerr.InconsistentGroupProtocol
	case g.state == preparingRebalance:
		return nil, nil, kerr.RebalanceInProgress
	}
	return g, m, nil
}

// checkSyncVersion checks what does not depend on the group.
func checkSyncVersion(e Sync) *kerr.Error {
	switch {
	case e.Version >= syncProtocolSince && (e.Req.ProtocolType == nil || e.Req.Protocol == nil):
		return kerr.InconsistentGroupProtocol
	case e.Req.Group == "":
		return kerr.InvalidGroupID
	}
	return nil
}

// differs reports whether both are given and not equal.
func differs(a, b *string) bool { return a != nil && b != nil && *a != *b }

// completeSync takes the leader's assignment, remembers it and sends it to all.
// Members the leader has left out get nothing.
func (t *turn) completeSync(g *group, assignments []kmsg.SyncGroupRequestGroupAssignment) {
	for _, m := range g.members {
		m.assignment = nil
	}
	for i := range assignments {
		if m := g.byID[assignments[i].MemberID]; m != nil {
			m.assignment = bytes.Clone(assignments[i].MemberAssignment)
		}
	}
	r := groupRecord(t.now, g.id, g.snapshot())
	if !t.fits(r) {
		for _, m := range g.members {
			m.assignment = nil
		}
		t.propagate(g, kerr.UnknownServerError)
		t.prepareRebalance(g)
		return
	}
	t.record(r)
	t.propagate(g, nil)
	g.moveTo(stable, t.now)
}

// fits reports whether the record of a group is small enough to be written.
func (t *turn) fits(r coordinator.Record) bool {
	return len(r.Key)+len(r.Value) <= t.o.MaxRecordBytes
}

// heartbeat handles a Heartbeat request.
func (t *turn) heartbeat(e Heartbeat) *kmsg.HeartbeatResponse {
	r := kmsg.NewPtrHeartbeatResponse()
	r.Version = e.Version
	if err := t.beat(e.Req); err != nil {
		r.ErrorCode = err.Code
	}
	return r
}

// beat keeps a member alive and tells it, by the error, whether it must rejoin.
func (t *turn) beat(r *kmsg.HeartbeatRequest) *kerr.Error {
	if r.Group == "" {
		return kerr.InvalidGroupID
	}
	if c := t.consumers[r.Group]; c != nil {
		return t.beatAsClassic(c, r)
	}
	g := t.groups[r.Group]
	if g == nil {
		return kerr.UnknownMemberID
	}
	m, err := g.check(r.MemberID, r.InstanceID)
	if err != nil {
		return err
	}
	if r.Generation != g.generation {
		return kerr.IllegalGeneration
	}
	t.extend(m)
	if g.state == preparingRebalance {
		return kerr.RebalanceInProgress
	}
	return nil
}

// leavesManySince is the version of LeaveGroup that lets several members go.
const leavesManySince = 3

// leave handles a LeaveGroup request (classicGroupLeaveToClassicGroup).
func (t *turn) leave(e Leave) *kmsg.LeaveGroupResponse {
	r := kmsg.NewPtrLeaveGroupResponse()
	r.Version = e.Version
	if e.Req.Group == "" {
		r.ErrorCode = kerr.InvalidGroupID.Code
		return r
	}
	leaving := e.Req.Members
	if e.Version < leavesManySince {
		leaving = []kmsg.LeaveGroupRequestMember{{MemberID: e.Req.MemberID}}
	}
	g := t.groups[e.Req.Group]
	left := false
	if c := t.consumers[e.Req.Group]; c != nil {
		r.Members = t.leaveAsClassic(c, leaving)
		leaving = nil
	}
	for i := range leaving {
		m := kmsg.NewLeaveGroupResponseMember()
		m.MemberID, m.InstanceID = leaving[i].MemberID, leaving[i].InstanceID
		if err := t.leaveOne(g, m.MemberID, m.InstanceID); err != nil {
			m.ErrorCode = err.Code
		} else {
			left = true
		}
		r.Members = append(r.Members, m)
	}
	if e.Version < leavesManySince {
		r.ErrorCode, r.Members = r.Members[0].ErrorCode, nil
	}
	if left && g.state != empty {
		t.rebalance(g)
	}
	return r
}

// leaveOne removes a member, or an id that nobody has joined with, or, without a
// member id, whoever holds the instance id: so tools remove static members.
func (t *turn) leaveOne(g *group, memberID string, instanceID *string) *kerr.Error {
	if g == nil {
		return kerr.UnknownMemberID
	}
	if memberID == "" && instanceID != nil && g.static[*instanceID] != nil {
		memberID = g.static[*instanceID].id
	}
	if session := g.pending[memberID]; session != nil {
		t.timers.stop(session)
		delete(g.pending, memberID)
		return nil
	}
	m, err := g.check(memberID, instanceID)
	if err != nil {
		return err
	}
	t.remove(g, m)
	return nil
}
