package group

import (
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"

	"github.com/rotpeter/rotpeter/coordinator"
	"github.com/rotpeter/rotpeter/coordinator/group/assignor"
)

// The record types of consumer groups: the int16 that a key begins with
// (Kafka's coordinator.group.generated.CoordinatorRecordType). The values have the version 0.
const (
	consumerGroupKey     = 3  // ConsumerGroupMetadata: the epoch
	consumerPartitionKey = 4  // ConsumerGroupPartitionMetadata: written before Kafka 4.1
	consumerMemberKey    = 5  // ConsumerGroupMemberMetadata
	consumerTargetKey    = 6  // ConsumerGroupTargetAssignmentMetadata: the epoch of the target
	consumerMemberTarget = 7  // ConsumerGroupTargetAssignmentMember
	consumerCurrentKey   = 8  // ConsumerGroupCurrentMemberAssignment
	consumerRegexKey     = 16 // ConsumerGroupRegularExpression
)

// isConsumerRecord tells the records of consumer groups by the type of their key.
func isConsumerRecord(kind int16) bool {
	return kind >= consumerGroupKey && kind <= consumerCurrentKey || kind == consumerRegexKey
}

// consumerKey encodes a key: the group's id and, where the record is of a part of it, that part's name.
func consumerKey(kind int16, group string, part ...string) []byte {
	b := kbin.AppendString(kbin.AppendInt16(nil, kind), group)
	for _, p := range part {
		b = kbin.AppendString(b, p)
	}
	return b
}

// readConsumerKey decodes a key.
func readConsumerKey(key []byte) (kind int16, group, part string, ok bool) {
	r := kbin.Reader{Src: key}
	kind, group = r.Int16(), r.String()
	switch kind {
	case consumerMemberKey, consumerMemberTarget, consumerCurrentKey, consumerRegexKey:
		part = r.String()
	}
	return kind, group, part, r.Ok()
}

// tagged appends tagged fields of which there is at most the first.
func tagged(b, field []byte) []byte {
	if field == nil {
		return kbin.AppendUvarint(b, 0)
	}
	b = kbin.AppendUvarint(kbin.AppendUvarint(b, 1), 0)
	return append(kbin.AppendUvarint(b, uint32(len(field))), field...)
}

// readTagged finds the tagged field 0, nil if it is not there.
func readTagged(r *kbin.Reader) (field []byte) {
	for n := r.Uvarint(); n > 0 && r.Ok(); n-- {
		tag, size := r.Uvarint(), r.Uvarint()
		if int(size) > len(r.Src) {
			size = uint32(len(r.Src)) + 1 // which makes the reader fail
		}
		if b := r.Span(int(size)); tag == 0 {
			field = b
		}
	}
	return field
}

// consumerValue begins a value, with its version.
func consumerValue() []byte { return kbin.AppendInt16(nil, 0) }

// readConsumerValue begins to read a value. Versions that are not known are not read.
func readConsumerValue(value []byte) (*kbin.Reader, bool) {
	r := &kbin.Reader{Src: value}
	return r, r.Int16() == 0 && r.Ok()
}

// note makes a record of a consumer group.
func (t *turn) note(key, value []byte) {
	t.record(coordinator.Record{Key: key, Value: value, Timestamp: t.now.UnixMilli()})
}

// epochValue encodes an epoch with a number in the tagged field 0, which is left out where it is 0.
func epochValue(epoch int32, number int64) []byte {
	var field []byte
	if number != 0 {
		field = kbin.AppendInt64(nil, number)
	}
	return tagged(kbin.AppendInt32(consumerValue(), epoch), field)
}

func readEpoch(value []byte) (epoch int32, number int64, ok bool) {
	r, ok := readConsumerValue(value)
	if !ok {
		return 0, 0, false
	}
	epoch = r.Int32()
	if field := readTagged(r); len(field) == 8 {
		number = (&kbin.Reader{Src: field}).Int64()
	}
	return epoch, number, r.Ok()
}

// memberValue encodes the metadata of a member.
func memberValue(m *consumerMember) []byte {
	b := kbin.AppendCompactNullableString(consumerValue(), m.instanceID)
	b = kbin.AppendCompactNullableString(b, m.rackID)
	b = kbin.AppendCompactString(kbin.AppendCompactString(b, m.clientID), m.clientHost)
	b = kbin.AppendCompactArrayLen(b, len(m.topics))
	for _, topic := range m.topics {
		b = kbin.AppendCompactString(b, topic)
	}
	b = kbin.AppendCompactNullableString(b, m.regex)
	b = kbin.AppendInt32(b, m.rebalanceMillis)
	b = kbin.AppendCompactNullableString(b, m.assignor)
	return tagged(b, classicField(m.classic))
}

// classicField is the tagged field of members that speak the classic protocol. Kafka writes it for others too, as null.
func classicField(c *classicMetadata) []byte {
	if c == nil {
		return kbin.AppendUvarint(nil, 0)
	}
	b := kbin.AppendInt32(kbin.AppendUvarint(nil, 1), c.sessionMillis)
	b = kbin.AppendCompactArrayLen(b, len(c.protocols))
	for i := range c.protocols {
		b = kbin.AppendCompactBytes(kbin.AppendCompactString(b, c.protocols[i].name), c.protocols[i].metadata)
		b = kbin.AppendUvarint(b, 0)
	}
	return kbin.AppendUvarint(b, 0)
}

func readClassicField(field []byte) (*classicMetadata, bool) {
	if field == nil {
		return nil, true
	}
	r := &kbin.Reader{Src: field}
	if r.Uvarint() == 0 {
		return nil, r.Ok()
	}
	c := &classicMetadata{sessionMillis: r.Int32()}
	for n := r.CompactArrayLen(); n > 0 && r.Ok(); n-- {
		c.protocols = append(c.protocols, protocol{r.CompactString(), slices.Clone(r.CompactBytes())})
		readTagged(r)
	}
	return c, r.Ok() && len(c.protocols) > 0
}

// readMember puts the metadata of a record into a member.
func readMember(value []byte, m *consumerMember) bool {
	r, ok := readConsumerValue(value)
	if !ok {
		return false
	}
	m.instanceID, m.rackID = r.CompactNullableString(), r.CompactNullableString()
	m.clientID, m.clientHost = r.CompactString(), r.CompactString()
	m.topics = readNames(r)
	m.regex, m.rebalanceMillis, m.assignor = r.CompactNullableString(), r.Int32(), r.CompactNullableString()
	m.classic, ok = readClassicField(readTagged(r))
	return ok && r.Ok()
}

// readNames reads a list of names, which is then sorted and without repetitions.
func readNames(r *kbin.Reader) []string {
	var names []string
	for n := r.CompactArrayLen(); n > 0 && r.Ok(); n-- {
		names = append(names, r.CompactString())
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// appendPartitions encodes partitions, by topic id.
func targetValue(p partitions) []byte {
	b := kbin.AppendCompactArrayLen(consumerValue(), len(p))
	for _, topic := range sortedTopics(p) {
		b = kbin.AppendCompactArrayLen(kbin.AppendUuid(b, topic), len(p[topic]))
		for _, n := range p[topic] {
			b = kbin.AppendInt32(b, n)
		}
		b = kbin.AppendUvarint(b, 0)
	}
	return kbin.AppendUvarint(b, 0)
}

// sortedTopics returns the topic ids, sorted.
func sortedTopics[P any](p map[assignor.Topic]P) []assignor.Topic {
	return slices.SortedFunc(maps.Keys(p), func(a, b assignor.Topic) int { return slices.Compare(a[:], b[:]) })
}

func readTarget(value []byte) (partitions, bool) {
	r, ok := readConsumerValue(value)
	if !ok {
		return nil, false
	}
	p := partitions{}
	for n := r.CompactArrayLen(); n > 0 && r.Ok(); n-- {
		topic := r.Uuid()
		if ps := readInts(r); len(ps) > 0 {
			slices.Sort(ps)
			p[topic] = slices.Compact(ps)
		}
		readTagged(r)
	}
	readTagged(r)
	return p, r.Ok()
}

// readInts reads a list of numbers.
func readInts(r *kbin.Reader) []int32 {
	var all []int32
	for n := r.CompactArrayLen(); n > 0 && r.Ok(); n-- {
		all = append(all, r.Int32())
	}
	return all
}

// currentValue encodes what a member has.
func currentValue(m *consumerMember) []byte {
	b := kbin.AppendInt32(kbin.AppendInt32(consumerValue(), m.epoch), m.previousEpoch)
	b = kbin.AppendInt8(b, int8(m.state))
	return kbin.AppendUvarint(appendOwned(appendOwned(b, m.assigned), m.revoking), 0)
}

func appendOwned(b []byte, o owned) []byte {
	b = kbin.AppendCompactArrayLen(b, len(o))
	for _, topic := range sortedTopics(o) {
		b = kbin.AppendCompactArrayLen(kbin.AppendUuid(b, topic), len(o[topic]))
		epochs := kbin.AppendCompactArrayLen(nil, len(o[topic]))
		for _, p := range o[topic] {
			b, epochs = kbin.AppendInt32(b, p.partition), kbin.AppendInt32(epochs, p.epoch)
		}
		b = tagged(b, epochs)
	}
	return b
}

// readCurrent puts what a record says that a member has into the member.
func readCurrent(value []byte, m *consumerMember) bool {
	r, ok := readConsumerValue(value)
	if !ok {
		return false
	}
	m.epoch, m.previousEpoch, m.state = r.Int32(), r.Int32(), memberState(r.Int8())
	m.assigned = readOwned(r, max(m.epoch, 0))
	m.revoking = readOwned(r, max(m.epoch, 0))
	readTagged(r)
	return r.Ok()
}

// readOwned reads partitions with their epochs, which records before Kafka 4.3 do not have: then they are of
// the epoch given.
func readOwned(r *kbin.Reader, epoch int32) owned {
	o := owned{}
	for n := r.CompactArrayLen(); n > 0 && r.Ok(); n-- {
		topic, numbers := r.Uuid(), readInts(r)
		epochs := readInts(&kbin.Reader{Src: readTagged(r)})
		var ps []ownedPartition
		for i, number := range numbers {
			p := ownedPartition{number, epoch}
			if len(epochs) == len(numbers) {
				p.epoch = epochs[i]
			}
			ps = append(ps, p)
		}
		if len(ps) > 0 {
			slices.SortFunc(ps, func(a, b ownedPartition) int { return int(a.partition) - int(b.partition) })
			o[topic] = slices.CompactFunc(ps, func(a, b ownedPartition) bool { return a.partition == b.partition })
		}
	}
	return o
}

// regexValue encodes what a regular expression matched.
func regexValue(x *resolvedRegex) []byte {
	b := kbin.AppendCompactArrayLen(consumerValue(), len(x.topics))
	for _, topic := range x.topics {
		b = kbin.AppendCompactString(b, topic)
	}
	return kbin.AppendUvarint(kbin.AppendInt64(kbin.AppendInt64(b, x.version), x.at), 0)
}

func readRegex(value []byte) (*resolvedRegex, bool) {
	r, ok := readConsumerValue(value)
	if !ok {
		return nil, false
	}
	x := &resolvedRegex{topics: readNames(r)}
	x.version, x.at = r.Int64(), r.Int64()
	readTagged(r)
	return x, r.Ok()
}

// readPartitionMetadata reports whether a value is what Kafka wrote of topics before 4.1: the ids, names, numbers of
// partitions and the racks of each. None of it matters any more.
func readPartitionMetadata(value []byte) bool {
	r, ok := readConsumerValue(value)
	if !ok {
		return false
	}
	for n := r.CompactArrayLen(); n > 0 && r.Ok(); n-- {
		r.Uuid()
		r.CompactString()
		r.Int32()
		for n := r.CompactArrayLen(); n > 0 && r.Ok(); n-- {
			r.Int32()
			readNames(r)
			readTagged(r)
		}
		readTagged(r)
	}
	readTagged(r)
	return r.Ok()
}

// The records that a turn writes about a consumer group.

func (t *turn) noteEpoch(group string, epoch int32, hash int64) {
	t.note(consumerKey(consumerGroupKey, group), epochValue(epoch, hash))
}

func (t *turn) noteTargetEpoch(group string, epoch int32, at time.Time) {
	number := int64(0)
	if !at.IsZero() {
		number = at.UnixMilli()
	}
	t.note(consumerKey(consumerTargetKey, group), epochValue(epoch, number))
}

func (t *turn) noteMember(group string, m *consumerMember) {
	t.note(consumerKey(consumerMemberKey, group, m.id), memberValue(m))
}

func (t *turn) noteTarget(group, member string, p partitions) {
	t.note(consumerKey(consumerMemberTarget, group, member), targetValue(p))
}

func (t *turn) noteCurrent(group string, m *consumerMember) {
	t.note(consumerKey(consumerCurrentKey, group, m.id), currentValue(m))
}

// noteGone writes the tombstones of a member.
func (t *turn) noteGone(group, member string) {
	for _, kind := range []int16{consumerCurrentKey, consumerMemberTarget, consumerMemberKey} {
		t.note(consumerKey(kind, group, member), nil)
	}
}

// noteEnd writes the tombstones of a group with members of the given ids. Tombstones of what is not there do
// no harm.
func (t *turn) noteEnd(g *consumerGroup, members []string) {
	for _, kind := range []int16{consumerCurrentKey, consumerMemberTarget} {
		for _, id := range members {
			t.note(consumerKey(kind, g.id, id), nil)
		}
	}
	t.note(consumerKey(consumerTargetKey, g.id), nil)
	for _, id := range members {
		t.note(consumerKey(consumerMemberKey, g.id, id), nil)
	}
	for _, regex := range slices.Sorted(maps.Keys(g.resolved)) {
		t.note(consumerKey(consumerRegexKey, g.id, regex), nil)
	}
	t.note(consumerKey(consumerPartitionKey, g.id), nil)
	t.note(consumerKey(consumerGroupKey, g.id), nil)
}

// applyConsumer makes a record of a consumer group true, or its tombstone.
func (s *Shard) applyConsumer(r coordinator.Record) bool {
	kind, id, part, ok := readConsumerKey(r.Key)
	if !ok {
		return false
	}
	g := s.consumers[id]
	if r.Value == nil {
		if g != nil {
			s.applyConsumerGone(g, kind, part)
		}
		return true
	}
	made := g == nil
	if made {
		g = newConsumerGroup(id)
	}
	if !g.apply(kind, part, r.Value) {
		return false
	}
	if made {
		s.consumers[id] = g
		if c := s.groups[id]; c != nil && len(c.members) == 0 {
			s.forget(id) // a group that only offsets have made; one with members is what this group is on its way to be
		}
		delete(s.foreign, id)
	}
	return true
}

// apply makes a record true that is no tombstone.
func (g *consumerGroup) apply(kind int16, part string, value []byte) bool {
	switch kind {
	case consumerGroupKey:
		epoch, hash, ok := readEpoch(value)
		if ok {
			g.epoch, g.hash = epoch, hash
		}
		return ok
	case consumerPartitionKey:
		ok := readPartitionMetadata(value)
		g.oldMetadata = g.oldMetadata || ok
		return ok
	case consumerTargetKey:
		epoch, at, ok := readEpoch(value)
		if ok {
			g.targetEpoch, g.targetAt = epoch, at
		}
		return ok
	case consumerMemberTarget:
		p, ok := readTarget(value)
		if ok {
			g.target[part] = p
		}
		return ok
	case consumerRegexKey:
		x, ok := readRegex(value)
		if ok {
			g.resolve(part, x)
		}
		return ok
	default:
		m := newConsumerMember(part)
		if old := g.members[part]; old != nil {
			*m = *old
		}
		read := readMember
		if kind == consumerCurrentKey {
			read = readCurrent
		}
		if !read(value, m) {
			return false
		}
		g.put(m)
	}
	return true
}

// applyConsumerGone makes a tombstone true.
func (s *Shard) applyConsumerGone(g *consumerGroup, kind int16, part string) {
	switch kind {
	case consumerGroupKey:
		delete(s.consumers, g.id) // the last of a group's tombstones
	case consumerPartitionKey:
		g.oldMetadata = false
	case consumerMemberKey:
		g.drop(part)
	case consumerTargetKey:
		g.targetEpoch, g.targetAt = -1, 0
	case consumerMemberTarget:
		delete(g.target, part)
	case consumerRegexKey:
		g.resolve(part, nil)
	case consumerCurrentKey:
		old := g.members[part]
		if old == nil {
			return
		}
		m := *old
		m.epoch, m.previousEpoch, m.assigned, m.revoking = leaveEpoch, leaveEpoch, owned{}, owned{}
		g.put(&m)
	}
}
