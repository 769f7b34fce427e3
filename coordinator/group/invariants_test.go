package group

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// check fails the test unless the invariants hold: the counters agree with what
// they count, who waits can be answered, every timer can fire, and a shard loaded
// from the journal equals this one.
func (w *world) check() {
	w.t.Helper()
	tokens := map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(w.shard.groups)) {
		if err := w.checkGroup(w.shard.groups[id], tokens); err != nil {
			w.t.Fatalf("group %s: %v\nso far:\n%s", id, err, w.out)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.shard.consumers)) {
		if err := w.checkConsumerGroup(w.shard.consumers[id]); err != nil {
			w.t.Fatalf("consumer group %s: %v\nso far:\n%s", id, err, w.out)
		}
	}
	for token := range w.waiting {
		if !tokens[token] {
			// Within one Handle a reply may still come, but here it is over.
			w.t.Fatalf("%s waits and no member knows of it\nso far:\n%s", token, w.out)
		}
	}
	for i, t := range w.shard.timers.due {
		if t.index != i+1 {
			w.t.Fatalf("timer %d of the heap believes to be %d", i, t.index-1)
		}
	}
	if w.checks++; w.sparse && w.checks%16 != 0 {
		return
	}
	loaded := replay(w.o, w.journal)
	if live, again := hardState(w.shard), hardState(loaded); live != again {
		w.t.Fatalf("live and loaded state differ\nlive:\n%s\nloaded:\n%s", live, again)
	}
	for id, g := range loaded.groups {
		g.restore()
		if err := sameWhenStable(w.shard.groups[id], g); err != nil {
			w.t.Fatalf("group %s after a load: %v", id, err)
		}
	}
}

// checkGroup checks one group and collects the tokens that wait in it.
func (w *world) checkGroup(g *group, tokens map[string]bool) error {
	joins, unsynced := 0, 0
	votes := map[string]int{}
	for _, m := range g.members {
		for _, p := range []*parked{m.join, m.sync} {
			if p == nil {
				continue
			}
			token := p.token.(string)
			if tokens[token] {
				return fmt.Errorf("%s waits twice", token)
			}
			tokens[token] = true
		}
		if m.join != nil {
			joins++
		}
		if m.unsynced {
			unsynced++
		}
		for _, p := range m.protocols {
			votes[p.name]++
		}
		switch {
		case g.byID[m.id] != m, m.instanceID != nil && g.static[*m.instanceID] != m:
			return fmt.Errorf("member %s is not found by its id", m.id)
		case m.session.index == 0 && !m.excused():
			return fmt.Errorf("member %s has no session", m.id)
		case m.join != nil && g.state != preparingRebalance:
			return fmt.Errorf("a JoinGroup of %s waits in state %v", m.id, g.state)
		case m.sync != nil && g.state != completingRebalance:
			return fmt.Errorf("a SyncGroup of %s waits in state %v", m.id, g.state)
		case g.pending[m.id] != nil:
			return fmt.Errorf("member %s is pending too", m.id)
		}
	}
	switch {
	case joins != g.awaitingJoin || unsynced != g.pendingSync:
		return fmt.Errorf("counts %d joins and %d syncs, has %d and %d", g.awaitingJoin, g.pendingSync, joins, unsynced)
	case !maps.Equal(votes, g.votes) && len(votes)+len(g.votes) > 0:
		return fmt.Errorf("counts votes %v, has %v", g.votes, votes)
	case len(g.byID) != len(g.members):
		return fmt.Errorf("%d members, %d ids", len(g.members), len(g.byID))
	case (g.leader == "") != (len(g.members) == 0) || g.leader != "" && g.byID[g.leader] == nil:
		return fmt.Errorf("leader %q of %d members", g.leader, len(g.members))
	case g.state == empty && len(g.members) > 0, (g.state == stable || g.state == completingRebalance) && len(g.members) == 0:
		return fmt.Errorf("%v with %d members", g.state, len(g.members))
	case (g.state == preparingRebalance) != (g.joining.index > 0):
		return fmt.Errorf("%v and the timer of the rebalance runs: %v", g.state, g.joining.index > 0)
	case (g.pendingSync > 0) && g.syncing.index == 0:
		return fmt.Errorf("%d syncs are expected and no timer runs", g.pendingSync)
	case g.syncing.index > 0 && g.state != stable && g.state != completingRebalance:
		return fmt.Errorf("the timer of SyncGroup runs in state %v", g.state)
	case (g.state == stable || g.state == completingRebalance) && (g.protocol == nil || g.votes[*g.protocol] != len(g.members)):
		return fmt.Errorf("not all support the protocol")
	case len(g.members) > w.o.MaxSize && g.state != preparingRebalance:
		return fmt.Errorf("%d members, %d are allowed", len(g.members), w.o.MaxSize)
	}
	for id, session := range g.pending {
		if session.index == 0 || session.member != id {
			return fmt.Errorf("pending member %s has no session", id)
		}
	}
	return nil
}

// sameWhenStable compares what a client sees of a group at rest with what it sees
// after a load.
func sameWhenStable(live, loaded *group) error {
	atRest := live.state == empty || live.state == stable
	if !atRest {
		return nil
	}
	if live.kept == nil {
		return nil
	}
	if live.state != loaded.state || live.generation != loaded.generation || live.leader != loaded.leader || deref(live.protocol) != deref(loaded.protocol) {
		return fmt.Errorf("%v generation %d leader %s became %v generation %d leader %s",
			live.state, live.generation, live.leader, loaded.state, loaded.generation, loaded.leader)
	}
	if live.state == empty && live.since != loaded.since {
		return fmt.Errorf("empty since %d became %d", live.since, loaded.since)
	}
	l, r := live.snapshot(), loaded.snapshot()
	l.since, r.since = 0, 0
	if a, b := showMetadata(l), showMetadata(r); a != b {
		return fmt.Errorf("%s became %s", a, b)
	}
	return nil
}

// hardState writes down everything that records have made true.
func hardState(s *Shard) string {
	var lines []string
	for id, g := range s.groups {
		line := "group " + id
		if g.kept != nil {
			line += fmt.Sprintf(" %s since=%d", showMetadata(g.kept), g.kept.since)
		}
		lines = append(lines, line)
	}
	for id, g := range s.consumers {
		lines = append(lines, g.dump()...)
		_ = id
	}
	for id, g := range s.foreign {
		lines = append(lines, fmt.Sprintf("foreign %s %v", id, *g))
	}
	for id, offsets := range s.offsets {
		for tp, o := range offsets {
			lines = append(lines, fmt.Sprintf("offset %s %v %+v", id, tp, o))
		}
	}
	for pid, txn := range s.open {
		for key, o := range txn.offsets {
			lines = append(lines, fmt.Sprintf("open %d epoch %d %v %+v", pid, txn.epoch, key, o))
		}
	}
	for key, n := range s.unstable {
		lines = append(lines, fmt.Sprintf("unstable %v %d", key, n))
	}
	for id, n := range s.unstableGroup {
		lines = append(lines, fmt.Sprintf("unstable group %s %d", id, n))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
