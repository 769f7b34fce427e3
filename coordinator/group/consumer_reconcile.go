package group

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator/group/assignor"
)

// reconcile moves a member towards its target and writes down where it is then
// (GroupMetadataManager.maybeReconcile).
func (t *turn) reconcile(g *consumerGroup, m *consumerMember, target partitions, targetEpoch int32, changed bool, has []kmsg.ConsumerGroupHeartbeatRequestTopic) (*consumerMember, *refusal) {
	if !changed && m.reconciled(targetEpoch) {
		return m, nil
	}
	r := reconciler{g: g, m: m, target: target, targetEpoch: targetEpoch, changed: changed, has: has, topics: map[assignor.Topic]bool{}}
	for _, id := range t.topicIDs(g.subscriptions(m)) {
		r.topics[id] = true
	}
	now, no := r.next()
	if no != nil || now.sameCurrent(m) {
		return m, no
	}
	t.noteCurrent(g.id, now)
	if now.classic != nil {
		return now, nil // it has timers of its own
	}
	if now.state == memberUnrevoked {
		t.armFor(consumerRebalanceTimer, g.id, now.id, time.Duration(now.rebalanceMillis)*time.Millisecond).epoch = now.epoch
	} else {
		t.stopFor(consumerRebalanceTimer, g.id, now.id)
	}
	return now, nil
}

// reconciler finds out what a member may have next (Kafka's CurrentAssignmentBuilder).
type reconciler struct {
	g           *consumerGroup
	m           *consumerMember
	target      partitions
	targetEpoch int32
	topics      map[assignor.Topic]bool // that the member is subscribed to
	changed     bool                    // its subscription has changed with this heartbeat
	has         []kmsg.ConsumerGroupHeartbeatRequestTopic
}

func (r *reconciler) next() (*consumerMember, *refusal) {
	switch r.m.state {
	case memberStable:
		switch {
		case r.m.epoch != r.targetEpoch:
			return r.advance(r.m.epoch), nil
		case r.changed:
			return r.shrink(), nil
		}
		return r.m, nil
	case memberUnrevoked:
		switch {
		case !r.stillHas(r.m.revoking):
			return r.advance(r.m.epoch), nil
		case r.changed:
			return r.shrink(), nil
		}
		return r.m, nil
	case memberUnreleased:
		return r.advance(r.m.epoch), nil
	}
	// A newer Kafka has written this. The member begins anew.
	if r.has == nil || len(r.has) > 0 {
		return nil, refuse(kerr.FencedMemberEpoch, "The consumer group member is in a unknown state. The member must abandon all its partitions and rejoin.")
	}
	return r.advance(r.targetEpoch), nil
}

// stillHas reports whether the member still has one of the partitions, as far as it told. Not to tell is to have them.
func (r *reconciler) stillHas(o owned) bool {
	for i := range r.has {
		for _, p := range r.has[i].Partitions {
			if o.has(r.has[i].TopicID, p) {
				return true
			}
		}
	}
	return r.has == nil
}

// shrink takes away the topics that the member is not subscribed to any more, before there is a target that does.
func (r *reconciler) shrink() *consumerMember {
	kept, revoking := owned{}, owned{}
	for topic, ps := range r.m.revoking {
		revoking[topic] = ps
	}
	for topic, ps := range r.m.assigned {
		if r.topics[topic] {
			kept[topic] = ps
			continue
		}
		all := slices.Clone(revoking[topic])
		for _, p := range ps {
			all = insert(all, p)
		}
		revoking[topic] = all
	}
	if len(kept) == len(r.m.assigned) {
		return r.m
	}
	now := *r.m
	now.assigned = kept
	now.advance(r.m.epoch)
	if len(revoking) > 0 && r.stillHas(revoking) {
		now.state, now.revoking = memberUnrevoked, revoking
	}
	return &now
}

// insert puts a partition into a sorted list, in the place of one of the same number.
func insert(ps []ownedPartition, p ownedPartition) []ownedPartition {
	i, found := slices.BinarySearchFunc(ps, p.partition, func(a ownedPartition, n int32) int { return int(a.partition) - int(n) })
	if found {
		ps[i] = p
		return ps
	}
	return slices.Insert(ps, i, p)
}

// advance compares what the member has with its target. What it must give up it keeps until it says that it has; then it
// gets what others have given up.
func (r *reconciler) advance(epoch int32) *consumerMember {
	kept, revoking, free := owned{}, owned{}, partitions{}
	waits := false
	for topic, ps := range r.m.assigned {
		for _, p := range ps {
			if _, wanted := slices.BinarySearch(r.target[topic], p.partition); wanted && r.topics[topic] {
				kept[topic] = append(kept[topic], p)
			} else {
				revoking[topic] = append(revoking[topic], p)
			}
		}
	}
	for topic, ps := range r.target {
		if !r.topics[topic] {
			continue
		}
		for _, p := range ps {
			switch {
			case kept.has(topic, p):
			case r.g.isHeld(topic, p) && !r.m.revoking.has(topic, p):
				waits = true
			default:
				free[topic] = append(free[topic], p)
			}
		}
	}
	now := *r.m
	now.assigned = kept
	if len(revoking) > 0 && r.stillHas(revoking) {
		now.advance(epoch)
		now.state, now.revoking = memberUnrevoked, revoking
		return &now
	}
	for topic, ps := range free {
		all := slices.Clone(kept[topic])
		for _, p := range ps {
			all = insert(all, ownedPartition{p, r.targetEpoch})
		}
		kept[topic] = all
	}
	now.advance(r.targetEpoch)
	now.revoking = owned{}
	if now.state = memberStable; waits {
		now.state = memberUnreleased
	}
	return &now
}
