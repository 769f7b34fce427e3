package group

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/internal/mutant"
)

// compare orders partitions by topic and number.
func (a topicPartition) compare(b topicPartition) int {
	return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.partition, b.partition))
}

// sorted returns the partitions with an offset of the group, in order.
func (s *Shard) sorted(group string) []topicPartition {
	return slices.SortedFunc(maps.Keys(s.offsets[group]), topicPartition.compare)
}

// fetch answers committed offsets. A group that does not exist has none: that is
// not an error (OffsetMetadataManager.fetchOffsets).
func (t *turn) fetch(e Fetch) kmsg.OffsetFetchResponseGroup {
	r := kmsg.NewOffsetFetchResponseGroup()
	r.Group = e.Group.Group
	if err := t.checkFetch(e); err != nil {
		r.ErrorCode = err.Code
		return r
	}
	if e.Group.Topics == nil {
		r.Topics = t.fetchAll(e)
		return r
	}
	for i := range e.Group.Topics {
		topic := &e.Group.Topics[i]
		rt := kmsg.NewOffsetFetchResponseGroupTopic()
		rt.Topic, rt.TopicID = topic.Topic, topic.TopicID
		for _, p := range topic.Partitions {
			rt.Partitions = append(rt.Partitions, t.fetchOne(e, topicPartition{topic.Topic, p}, topic.TopicID))
		}
		r.Topics = append(r.Topics, rt)
	}
	return r
}

// checkFetch checks that a member of a consumer group that says who it is is one, at its epoch
// (ConsumerGroup.validateOffsetFetch).
func (t *turn) checkFetch(e Fetch) *kerr.Error {
	g := t.consumers[e.Group.Group]
	if g == nil || e.Group.MemberID == nil && e.Group.MemberEpoch < 0 {
		return nil
	}
	m := g.members[deref(e.Group.MemberID)]
	switch {
	case m == nil:
		return kerr.UnknownMemberID
	case m.epoch != e.Group.MemberEpoch && m.classic != nil:
		return kerr.IllegalGeneration
	case m.epoch != e.Group.MemberEpoch:
		return kerr.StaleMemberEpoch
	}
	return nil
}

// fetchAll answers every committed offset of the group.
func (t *turn) fetchAll(e Fetch) []kmsg.OffsetFetchResponseGroupTopic {
	var topics []kmsg.OffsetFetchResponseGroupTopic
	if !t.exists(e.Group.Group) {
		return nil
	}
	for _, tp := range t.sorted(e.Group.Group) {
		if len(topics) == 0 || topics[len(topics)-1].Topic != tp.topic {
			rt := kmsg.NewOffsetFetchResponseGroupTopic()
			rt.Topic = tp.topic
			topics = append(topics, rt)
		}
		rt := &topics[len(topics)-1]
		rt.Partitions = append(rt.Partitions, t.fetchOne(e, tp, [16]byte{}))
	}
	return topics
}

// fetchOne answers one offset, -1 where there is none.
func (t *turn) fetchOne(e Fetch, tp topicPartition, topicID [16]byte) kmsg.OffsetFetchResponseGroupTopicPartition {
	r := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	none := ""
	r.Partition, r.Offset, r.LeaderEpoch, r.Metadata = tp.partition, -1, -1, &none
	if e.RequireStable && t.unstable[groupPartition{e.Group.Group, tp}] > 0 && !mutant.On(mutant.PendingOffsetsShown) {
		r.ErrorCode = kerr.UnstableOffsetCommit.Code
		return r
	}
	o, ok := t.offsets[e.Group.Group][tp]
	if !ok || !t.exists(e.Group.Group) || !sameTopic(o.topicID, topicID) {
		return r
	}
	r.Offset, r.LeaderEpoch, r.Metadata = o.offset, o.leaderEpoch, &o.metadata
	return r
}

// exists reports whether there is a group of the id, of any type.
func (s *Shard) exists(group string) bool {
	return s.groups[group] != nil || s.consumers[group] != nil || s.foreign[group] != nil
}

// sameTopic reports whether two topic ids may be of one topic: zero is not known.
func sameTopic(a, b [16]byte) bool { return a == b || a == [16]byte{} || b == [16]byte{} }

// offsetDelete handles an OffsetDelete request (OffsetMetadataManager.deleteOffsets).
func (t *turn) offsetDelete(e OffsetDelete) *kmsg.OffsetDeleteResponse {
	r := kmsg.NewPtrOffsetDeleteResponse()
	r.Version = e.Req.Version
	g, c := t.groups[e.Req.Group], t.consumers[e.Req.Group]
	switch {
	case e.Req.Group == "":
		r.ErrorCode = kerr.InvalidGroupID.Code
		return r
	case c != nil:
	case g == nil:
		r.ErrorCode = kerr.GroupIDNotFound.Code
		return r
	case g.state != empty && g.protocolType != consumerProtocol:
		r.ErrorCode = kerr.NonEmptyGroup.Code
		return r
	}
	for i := range e.Req.Topics {
		topic := &e.Req.Topics[i]
		rt := kmsg.NewOffsetDeleteResponseTopic()
		rt.Topic = topic.Topic
		for j := range topic.Partitions {
			rp := kmsg.NewOffsetDeleteResponseTopicPartition()
			rp.Partition = topic.Partitions[j].Partition
			if c != nil && c.wants(topic.Topic) || g != nil && g.isSubscribed(topic.Topic) {
				rp.ErrorCode = kerr.GroupSubscribedToTopic.Code
			} else {
				t.tombstone(groupPartition{e.Req.Group, topicPartition{topic.Topic, rp.Partition}})
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		r.Topics = append(r.Topics, rt)
	}
	return r
}

// tombstone removes an offset, committed or in a transaction, if there is one.
func (t *turn) tombstone(key groupPartition) bool {
	_, ok := t.offsets[key.group][key.topicPartition]
	if !ok && t.unstable[key] == 0 {
		return false
	}
	t.record(offsetTombstone(t.now, key.group, key.topicPartition))
	return true
}

// allOffsets returns the partitions that the group has committed or has in an open
// transaction, in order.
func (s *Shard) allOffsets(group string) []topicPartition {
	all := s.sorted(group)
	if s.unstableGroup[group] == 0 {
		return all
	}
	for key := range s.unstable {
		if key.group == group {
			all = append(all, key.topicPartition)
		}
	}
	slices.SortFunc(all, topicPartition.compare)
	return slices.Compact(all)
}

// delete removes a group that has no members, with its offsets
// (GroupCoordinatorShard.deleteGroups).
func (t *turn) delete(e Delete) kmsg.DeleteGroupsResponseGroup {
	r := kmsg.NewDeleteGroupsResponseGroup()
	r.Group = e.Group
	g := t.groups[e.Group]
	switch {
	case t.consumers[e.Group] != nil:
		if err := t.deleteConsumerGroup(t.consumers[e.Group]); err != nil {
			r.ErrorCode = err.Code
		}
	case t.foreign[e.Group] != nil:
		if err := t.deleteForeign(e.Group); err != nil {
			r.ErrorCode = err.Code
		}
	case g == nil:
		r.ErrorCode = kerr.GroupIDNotFound.Code
	case g.state != empty:
		r.ErrorCode = kerr.NonEmptyGroup.Code
	default:
		for _, tp := range t.allOffsets(g.id) {
			t.tombstone(groupPartition{g.id, tp})
		}
		t.record(groupTombstone(t.now, g.id))
	}
	return r
}

// deleteConsumerGroup removes a consumer group with its offsets, if it is empty.
func (t *turn) deleteConsumerGroup(g *consumerGroup) *kerr.Error {
	if len(g.members) > 0 {
		return kerr.NonEmptyGroup
	}
	for _, tp := range t.allOffsets(g.id) {
		t.tombstone(groupPartition{g.id, tp})
	}
	t.noteEnd(g, nil)
	return nil
}

// wants reports whether a member is subscribed to the topic.
func (g *consumerGroup) wants(topic string) bool {
	_, ok := g.topics[topic]
	return ok
}

// topicDeleted removes the offsets of a topic from all groups.
func (t *turn) topicDeleted(e TopicDeleted) int {
	var gone []groupPartition
	for group, offsets := range t.offsets {
		for tp, o := range offsets {
			if tp.topic == e.Topic && sameTopic(o.topicID, e.ID) {
				gone = append(gone, groupPartition{group, tp})
			}
		}
	}
	for key := range t.unstable {
		// Transactional offsets carry no topic id. Where a plain commit was made under
		// another id, the topic has been made anew and both stay.
		o, committed := t.offsets[key.group][key.topicPartition]
		if key.topic == e.Topic && (!committed || sameTopic(o.topicID, e.ID)) {
			gone = append(gone, key)
		}
	}
	slices.SortFunc(gone, func(a, b groupPartition) int {
		return cmp.Or(cmp.Compare(a.group, b.group), a.compare(b.topicPartition))
	})
	gone = slices.Compact(gone)
	for _, key := range gone {
		t.tombstone(key)
	}
	return len(gone)
}

// expireOffsets removes the offsets whose time is over, and the groups that have
// nothing left (GroupCoordinatorShard.cleanupGroupMetadata).
func (t *turn) expireOffsets() {
	for _, id := range slices.Sorted(maps.Keys(t.groups)) {
		g := t.groups[id]
		if t.expireGroup(g) && g.state == empty {
			t.record(groupTombstone(t.now, id))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(t.consumers)) {
		g := t.consumers[id]
		if t.expireAll(id, noTime, g.wants) && len(g.members) == 0 {
			t.noteEnd(g, nil)
		}
	}
}

// expireGroup removes the expired offsets of a group and reports whether it has
// none left.
func (t *turn) expireGroup(g *group) bool {
	base, ok := g.retentionBase()
	return t.expireAll(g.id, base, func(topic string) bool { return !ok || g.isSubscribed(topic) })
}

// expireAll removes the expired offsets of topics that are not in use, and reports whether none are left.
func (t *turn) expireAll(group string, base int64, used func(topic string) bool) bool {
	left := t.unstableGroup[group] > 0
	for _, tp := range t.sorted(group) {
		o := t.offsets[group][tp]
		if !used(tp.topic) && t.unstable[groupPartition{group, tp}] == 0 && t.expired(o, base) {
			t.record(offsetTombstone(t.now, group, tp))
		} else {
			left = true
		}
	}
	return !left
}

// retentionBase returns from when on the retention of a group's offsets counts, in
// milliseconds, or noTime: from the commit. It returns false if none may expire
// (ClassicGroup.offsetExpirationCondition).
func (g *group) retentionBase() (int64, bool) {
	switch {
	case g.protocolType == "":
		return noTime, true // nobody tells whether the offsets are in use
	case g.state == empty:
		return g.since, true
	case g.protocolType == consumerProtocol && g.knowsSubscribed && g.state == stable:
		return noTime, true
	}
	return 0, false
}

// expired reports whether an offset's time is over.
func (t *turn) expired(o offset, base int64) bool {
	now := t.now.UnixMilli()
	if o.expires != noTime {
		return now >= o.expires
	}
	if base == noTime {
		base = o.committed
	}
	return now-base >= t.o.OffsetsRetention.Milliseconds()
}

// notFoundMessage is what DescribeGroups says of a group that is not there.
func (s *Shard) notFoundMessage(group string) string {
	if s.foreign[group] != nil || s.consumers[group] != nil {
		return fmt.Sprintf("Group %s is not a classic group.", group)
	}
	return fmt.Sprintf("Group %s not found.", group)
}
