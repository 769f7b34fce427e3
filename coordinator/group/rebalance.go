package group

import "github.com/twmb/franz-go/pkg/kerr"

// rebalance starts a rebalance, or goes on with the one that is on its way
// (maybePrepareRebalanceOrCompleteJoin).
func (t *turn) rebalance(g *group) {
	if g.state == preparingRebalance {
		t.completeIfJoined(g)
		return
	}
	t.prepareRebalance(g)
}

// prepareRebalance waits for all members to join again. Those who wait for an
// assignment are told to. The first rebalance of an Empty group gives others time
// to arrive (KIP-134).
func (t *turn) prepareRebalance(g *group) {
	if g.state == completingRebalance {
		for _, m := range g.members {
			m.assignment = nil
		}
		t.propagate(g, kerr.RebalanceInProgress)
	}
	t.stopSync(g)
	initial := g.state == empty
	g.moveTo(preparingRebalance, t.now)
	switch {
	case initial:
		g.newMemberAdded = false
		g.initialDelay = t.o.InitialRebalanceDelay
		g.initialRemaining = max(g.rebalanceTimeout()-g.initialDelay, 0)
		g.joining.kind = initialTimer
		t.timers.arm(&g.joining, t.now.Add(g.initialDelay))
	case g.allJoined():
		t.completeJoin(g)
	default:
		g.joining.kind = joinTimer
		t.timers.arm(&g.joining, t.now.Add(g.rebalanceTimeout()))
	}
}

// stopSync ends the wait for SyncGroup requests.
func (t *turn) stopSync(g *group) {
	t.timers.stop(&g.syncing)
	for _, m := range g.members {
		g.setUnsynced(m, false)
	}
}

// initialDelayOver ends the initial rebalance, or extends it if more members came,
// up to the rebalance timeout (tryCompleteInitialRebalanceElseSchedule).
func (t *turn) initialDelayOver(g *group) {
	if !g.newMemberAdded || g.initialRemaining == 0 {
		t.completeJoin(g)
		return
	}
	g.newMemberAdded = false
	delay := min(t.o.InitialRebalanceDelay, g.initialRemaining)
	g.initialRemaining = max(g.initialRemaining-g.initialDelay, 0)
	g.initialDelay = delay
	t.timers.arm(&g.joining, t.now.Add(delay))
}

// completeIfJoined completes the rebalance if everybody has joined. An initial
// rebalance waits for its timer all the same (maybeCompleteJoinPhase).
func (t *turn) completeIfJoined(g *group) {
	if g.state == preparingRebalance && g.prev != empty && g.allJoined() {
		t.completeJoin(g)
	}
}

// completeJoin begins the next generation with those who have joined. Dynamic
// members that have not are removed, static ones stay (completeClassicGroupJoin).
func (t *turn) completeJoin(g *group) {
	t.timers.stop(&g.joining)
	t.removeAll(g, func(m *member) bool { return m.join == nil && m.instanceID == nil })
	if !g.electLeader() && len(g.members) > 0 {
		// Only static members are left and none has come back: wait on, until one
		// does or their sessions end.
		g.joining.kind = joinTimer
		t.timers.arm(&g.joining, t.now.Add(max(g.rebalanceTimeout(), rebalanceRetryPause)))
		return
	}
	g.nextGeneration(t.now)
	if g.state == empty {
		t.recordGroup(g)
		return
	}
	for _, m := range g.members {
		if m.join != nil {
			t.reply(m.join.token, g.joinResponse(m, m.join.version))
			m.join = nil
			g.awaitingJoin--
		}
		t.extend(m)
		m.isNew = false
		g.setUnsynced(m, true)
	}
	t.timers.arm(&g.syncing, t.now.Add(g.rebalanceTimeout()))
}

// electLeader makes a member that has joined the leader, unless the leader has. It
// returns false if nobody has.
func (g *group) electLeader() bool {
	if m := g.byID[g.leader]; m != nil && m.join != nil {
		return true
	}
	for _, m := range g.members {
		if m.join != nil {
			g.leader = m.id
			return true
		}
	}
	return false
}

// syncExpired removes the members that have heard of the generation but not sent
// SyncGroup, and rebalances without them (expirePendingSync).
func (t *turn) syncExpired(g *group) {
	if g.pendingSync == 0 {
		return
	}
	t.removeAll(g, func(m *member) bool { return m.unsynced })
	t.prepareRebalance(g)
}

// sessionExpired removes a member that was silent for too long, or an id that
// nobody has joined with (expireClassicGroupMemberHeartbeat).
func (t *turn) sessionExpired(g *group, memberID string) {
	if g.pending[memberID] != nil {
		delete(g.pending, memberID)
		t.completeAfterLoss(g)
		return
	}
	m := g.byID[memberID]
	if m == nil || m.excused() {
		return
	}
	t.remove(g, m)
	if g.state == preparingRebalance {
		t.completeAfterLoss(g)
		return
	}
	t.prepareRebalance(g)
}

// completeAfterLoss completes a rebalance that waited only for somebody who is
// gone. Unlike completeIfJoined it ends an initial rebalance too, as Kafka does.
func (t *turn) completeAfterLoss(g *group) {
	if g.state == preparingRebalance && g.allJoined() {
		t.completeJoin(g)
	}
}

// remove takes a member out of the group. Whatever it waited for is answered with
// UNKNOWN_MEMBER_ID, so that it joins again if it is still there.
func (t *turn) remove(g *group, m *member) {
	t.timers.stop(&m.session)
	if m.join != nil {
		t.refuse(*m.join, "", kerr.UnknownMemberID)
		m.join = nil
		g.awaitingJoin--
	}
	if m.sync != nil {
		t.refuseSync(*m.sync, kerr.UnknownMemberID)
		m.sync = nil
	}
	g.drop(m)
}

// removeAll removes the members that which picks.
func (t *turn) removeAll(g *group, which func(*member) bool) {
	var gone []*member
	for _, m := range g.members {
		if which(m) {
			gone = append(gone, m)
		}
	}
	for _, m := range gone {
		t.remove(g, m)
	}
}
