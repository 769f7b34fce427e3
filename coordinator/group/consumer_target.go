package group

import (
	"encoding/binary"
	"iter"
	"maps"
	"slices"
	"time"
	"unicode/utf16"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/zeebo/xxh3"

	"github.com/rotpeter/rotpeter/coordinator/group/assignor"
	"github.com/rotpeter/rotpeter/metadata"
)

// keys returns the keys of a map.
func keys[K comparable, V any](m map[K]V) iter.Seq[K] { return maps.Keys(m) }

func cloneCounts(m map[string]topicCount) map[string]topicCount {
	c := maps.Clone(m)
	if c == nil {
		c = map[string]topicCount{}
	}
	return c
}

// updateEpoch gives the group a new epoch if the member's subscription makes that necessary, or if topics have
// changed. It returns the epoch, and where a target is to be computed, whether all members want the same topics
// (GroupMetadataManager.updateSubscriptionMetadata).
func (t *turn) updateEpoch(g *consumerGroup, was, now *consumerMember, bump bool) (epoch int32, same bool) {
	if !bump && g.fresh && g.epoch >= g.freshFor {
		return g.epoch, g.targetEpoch >= g.epoch || homogeneous(g.regexes, g.topics, len(g.members))
	}
	topics, regexes := g.countsWith(was, now)
	members := len(g.members)
	if g.members[now.id] == nil && g.staticMember(now.instanceID) == nil {
		members++
	}
	epoch = g.epoch
	hash := t.hashTopics(topics)
	if bump || hash != g.hash {
		epoch++
		t.noteEpoch(g.id, epoch, hash)
	}
	g.fresh, g.freshFor = true, epoch
	if g.oldMetadata {
		t.note(consumerKey(consumerPartitionKey, g.id), nil)
	}
	return epoch, homogeneous(regexes, topics, members)
}

// countsWith are the topics and regular expressions of the group after a member has changed.
func (g *consumerGroup) countsWith(was, now *consumerMember) (map[string]topicCount, map[string]int) {
	topics := cloneCounts(g.topics)
	if g.has(was) {
		for _, topic := range was.topics {
			countTopic(topics, topic, -1, 0)
		}
	}
	for _, topic := range now.topics {
		countTopic(topics, topic, 1, 0)
	}
	before, after := was.pattern(), now.pattern()
	if before == after && g.has(was) {
		return topics, g.regexes
	}
	regexes := maps.Clone(g.regexes)
	if before != "" && g.has(was) {
		if countName(regexes, before, -1); regexes[before] == 0 && g.resolved[before] != nil {
			for _, topic := range g.resolved[before].topics {
				countTopic(topics, topic, 0, -1)
			}
		}
	}
	if after != "" {
		countName(regexes, after, 1)
	}
	return topics, regexes
}

// has reports whether the counts of the group contain a member, or the one whose place it takes.
func (g *consumerGroup) has(m *consumerMember) bool {
	return g.members[m.id] != nil || g.staticMember(m.instanceID) != nil
}

// updateTarget computes a new target for all members if the group has an epoch without one, but not more often than
// it is told to. It returns the target of the member, and its epoch
// (GroupMetadataManager.maybeUpdateTargetAssignment).
func (t *turn) updateTarget(g *consumerGroup, epoch int32, was, now *consumerMember, same bool) (partitions, int32, *refusal) {
	if g.targetEpoch >= epoch || t.tooSoon(g) {
		return g.targetOf(now), g.targetEpoch, nil
	}
	spec := t.spec(g, now, same)
	all, err := t.assignor(g, was, now).Assign(spec)
	if err != nil {
		return nil, 0, refuse(kerr.UnknownServerError, "Failed to compute a new target assignment for epoch %d: %v", epoch, err)
	}
	var target partitions
	for i := range spec.Members {
		id := spec.Members[i].ID
		if id == now.id {
			target = all[i]
		}
		if before, ok := g.target[id]; !ok || !before.equal(all[i]) {
			t.noteTarget(g.id, id, all[i])
		}
	}
	t.noteTargetEpoch(g.id, epoch, t.now)
	return target, epoch, nil
}

// tooSoon reports whether the last target is so young that there may be no other yet.
func (t *turn) tooSoon(g *consumerGroup) bool {
	wait := t.settings(g.id).AssignmentInterval
	return g.targetAt != 0 && wait > 0 && t.now.UnixMilli() < g.targetAt+wait.Milliseconds()
}

// spec is the group as an assignor sees it, after a member has changed.
func (t *turn) spec(g *consumerGroup, now *consumerMember, same bool) *assignor.Spec {
	instead := g.staticMember(now.instanceID)
	all := make([]*consumerMember, 0, len(g.members)+1)
	for _, m := range g.members {
		if m.id != now.id && m != instead {
			all = append(all, m)
		}
	}
	all = append(all, now)
	slices.SortFunc(all, func(a, b *consumerMember) int {
		if a.id < b.id {
			return -1
		}
		return 1
	})
	spec := &assignor.Spec{Members: make([]assignor.Member, 0, len(all)), Homogeneous: same}
	spec.Partitions = func(topic assignor.Topic) int32 {
		if known := t.cluster.TopicByID(topic); known != nil {
			return int32(len(known.Partitions))
		}
		return 0
	}
	var names []string
	var ids []assignor.Topic
	for i, m := range all {
		// Most members want the same topics.
		if wanted := g.subscriptions(m); i == 0 || !slices.Equal(wanted, names) {
			names, ids = wanted, t.topicIDs(wanted)
		}
		target := g.target[m.id]
		if m == now {
			target = g.targetOf(now)
		}
		spec.Members = append(spec.Members, assignor.Member{
			ID: m.id, InstanceID: deref(m.instanceID), Topics: ids, Assigned: target,
		})
	}
	return spec
}

// topicIDs returns the ids of those topics that exist, sorted.
func (t *turn) topicIDs(names []string) []assignor.Topic {
	ids := make([]assignor.Topic, 0, len(names))
	for _, name := range names {
		if known := t.cluster.Topic(name); known != nil {
			ids = append(ids, known.ID)
		}
	}
	slices.SortFunc(ids, func(a, b assignor.Topic) int { return slices.Compare(a[:], b[:]) })
	return ids
}

// assignor is the one that most members prefer, after a member has changed; the first of the settings where nobody
// prefers any.
func (t *turn) assignor(g *consumerGroup, was, now *consumerMember) assignor.Assignor {
	counts := maps.Clone(g.assignors)
	if was.assignor != nil && g.has(was) {
		countName(counts, *was.assignor, -1)
	}
	if now.assignor != nil {
		countName(counts, *now.assignor, 1)
	}
	name := preferred(counts, g.assignors, "")
	for _, a := range t.o.Assignors {
		if a.Name() == name {
			return a
		}
	}
	return t.o.Assignors[0]
}

// hashTopics hashes the topics that exist, so that a change of their partitions shows: by Kafka's own function, for
// a group may have been here and there (Utils.computeGroupHash).
func (t *turn) hashTopics(topics map[string]topicCount) int64 {
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(topics)) {
		if known := t.cluster.Topic(name); known != nil {
			b = binary.LittleEndian.AppendUint64(b, t.hashTopic(known))
		}
	}
	if len(b) == 0 {
		return 0
	}
	return int64(xxh3.Hash(b))
}

// hashedTopic is a topic with its hash. Topics do not change: others take their place.
type hashedTopic struct {
	topic *metadata.Topic
	hash  uint64
}

// hashTopic hashes what matters of a topic (Utils.computeTopicHash).
func (s *Shard) hashTopic(topic *metadata.Topic) uint64 {
	if known := s.hashes[topic.Name]; known.topic == topic {
		return known.hash
	}
	b := []byte{0}
	b = binary.LittleEndian.AppendUint64(b, binary.BigEndian.Uint64(topic.ID[:8]))
	b = binary.LittleEndian.AppendUint64(b, binary.BigEndian.Uint64(topic.ID[8:]))
	b = appendJavaString(b, topic.Name)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(topic.Partitions)))
	for i := range topic.Partitions {
		b = binary.LittleEndian.AppendUint32(b, uint32(i))
		racks := s.cluster.Racks(&topic.Partitions[i])
		slices.Sort(racks)
		for _, rack := range racks {
			b = binary.LittleEndian.AppendUint32(b, uint32(utf16Len(rack)))
			b = appendJavaString(b, rack)
		}
	}
	known := hashedTopic{topic, xxh3.Hash(b)}
	s.hashes[topic.Name] = known
	return known.hash
}

// appendJavaString appends the characters as Java has them, and their number.
func appendJavaString(b []byte, s string) []byte {
	chars := utf16.Encode([]rune(s))
	for _, c := range chars {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	return binary.LittleEndian.AppendUint32(b, uint32(len(chars)))
}

// settings are those of a group.
func (s *Shard) settings(group string) GroupSettings { return s.cluster.GroupSettings(group) }

// GroupSettings are the settings that one group may have its own values of.
type GroupSettings struct {
	Session            time.Duration // consumer.session.timeout.ms
	Heartbeat          time.Duration // consumer.heartbeat.interval.ms
	AssignmentInterval time.Duration // consumer.assignment.interval.ms: least time between two targets; 0: none
}

// Cluster is what a shard knows of the metadata log at one offset. It does not change.
type Cluster interface {
	// Topic and TopicByID return nil for a topic that does not exist. Topics that have not changed between two clusters
	// are the same pointer.
	Topic(name string) *metadata.Topic
	TopicByID(id [16]byte) *metadata.Topic
	// Racks returns the racks of a partition's replicas, in a slice of the caller's own. Replicas without rack are left out.
	Racks(p *metadata.Partition) []string
	GroupSettings(group string) GroupSettings
	// Version is the offset.
	Version() int64
}

// noCluster is before anything is known.
type noCluster struct{}

func (noCluster) Topic(string) *metadata.Topic       { return nil }
func (noCluster) TopicByID([16]byte) *metadata.Topic { return nil }
func (noCluster) Racks(*metadata.Partition) []string { return nil }
func (noCluster) GroupSettings(string) GroupSettings { return DefaultGroupSettings() }
func (noCluster) Version() int64                     { return -1 }

// DefaultGroupSettings returns Kafka's defaults.
func DefaultGroupSettings() GroupSettings {
	return GroupSettings{Session: 45 * time.Second, Heartbeat: 5 * time.Second, AssignmentInterval: time.Second}
}

// metadataChanged notes that topics have changed: groups that are subscribed to one of them look again at their next
// heartbeat.
func (t *turn) metadataChanged(e MetadataChanged) {
	t.cluster = e.Cluster
	if e.Created || t.newTopicsAt < 0 {
		t.newTopicsAt = e.Cluster.Version()
	}
	for _, topic := range e.Changed {
		delete(t.hashes, topic)
		for _, g := range t.consumers {
			if _, ok := g.topics[topic]; ok {
				g.fresh = false
			}
		}
	}
}
