package group

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator"
)

// The record types of __consumer_offsets that matter here: the int16 that a key
// begins with. (Kafka's coordinator.group.generated.CoordinatorRecordType.)
const (
	legacyOffsetKey   = 0
	offsetKeyType     = 1
	groupKeyType      = 2
	shareGroupKey     = 11
	streamsGroupKey   = 17
	groupValueVersion = 3
	// An offset with an expiry of its own is written as version 1, the only one that
	// has the field; others as version 4, which has the topic id.
	offsetValueVersion       = 4
	offsetExpireValueVersion = 1
)

// noTime stands for a time that was not recorded, in milliseconds.
const noTime = -1

// offset is one committed offset.
type offset struct {
	offset      int64
	leaderEpoch int32 // -1 unknown
	metadata    string
	committed   int64 // milliseconds since 1970
	expires     int64 // milliseconds since 1970, noTime: by the retention of all offsets
	topicID     [16]byte
	order       uint64 // of the record in the journal
}

// topicPartition names a partition.
type topicPartition struct {
	topic     string
	partition int32
}

// groupMetadata is what a GroupMetadata record says.
type groupMetadata struct {
	protocolType string // "" none
	generation   int32
	protocol     *string
	leader       string // "" none
	since        int64  // when the group came to this state, milliseconds since 1970, or noTime
	members      []memberMetadata
}

// memberMetadata is one member in a GroupMetadata record.
type memberMetadata struct {
	id, clientID, clientHost string
	instanceID               *string
	rebalanceMillis          int32
	sessionMillis            int32
	subscription, assignment []byte
}

// offsetKey encodes the key of an offset.
func offsetKey(group string, tp topicPartition) []byte {
	k := kmsg.NewOffsetCommitKey()
	k.Version, k.Group, k.Topic, k.Partition = offsetKeyType, group, tp.topic, tp.partition
	return k.AppendTo(nil)
}

// offsetRecord encodes a commit.
func offsetRecord(now time.Time, group string, tp topicPartition, o offset) coordinator.Record {
	v := kmsg.NewOffsetCommitValue()
	v.Version = offsetValueVersion
	if o.expires != noTime {
		v.Version = offsetExpireValueVersion
	}
	v.Offset, v.LeaderEpoch, v.Metadata = o.offset, o.leaderEpoch, o.metadata
	v.CommitTimestamp, v.ExpireTimestamp, v.TopicID = o.committed, o.expires, o.topicID
	return coordinator.Record{Key: offsetKey(group, tp), Value: v.AppendTo(nil), Timestamp: now.UnixMilli()}
}

// offsetTombstone encodes the end of a commit.
func offsetTombstone(now time.Time, group string, tp topicPartition) coordinator.Record {
	return tombstone(now, offsetKey(group, tp))
}

// groupKey encodes the key of a group.
func groupKey(group string) []byte {
	k := kmsg.NewGroupMetadataKey()
	k.Version, k.Group = groupKeyType, group
	return k.AppendTo(nil)
}

// groupRecord encodes the metadata of a group.
func groupRecord(now time.Time, group string, m *groupMetadata) coordinator.Record {
	v := kmsg.NewGroupMetadataValue()
	v.Version = groupValueVersion
	v.ProtocolType, v.Generation, v.Protocol = m.protocolType, m.generation, m.protocol
	if m.leader != "" {
		v.Leader = &m.leader
	}
	v.CurrentStateTimestamp = m.since
	for i := range m.members {
		from := &m.members[i]
		to := kmsg.NewGroupMetadataValueMember()
		to.MemberID, to.InstanceID, to.ClientID, to.ClientHost = from.id, from.instanceID, from.clientID, from.clientHost
		to.RebalanceTimeoutMillis, to.SessionTimeoutMillis = from.rebalanceMillis, from.sessionMillis
		to.Subscription, to.Assignment = from.subscription, from.assignment
		v.Members = append(v.Members, to)
	}
	return coordinator.Record{Key: groupKey(group), Value: v.AppendTo(nil), Timestamp: now.UnixMilli()}
}

// groupTombstone encodes the end of a group.
func groupTombstone(now time.Time, group string) coordinator.Record {
	return tombstone(now, groupKey(group))
}

// tombstone encodes the end of what a key stands for.
func tombstone(now time.Time, key []byte) coordinator.Record {
	return coordinator.Record{Key: key, Timestamp: now.UnixMilli()}
}

// keyType returns the record type, -1 if the key is too short to have one.
func keyType(key []byte) int16 {
	if len(key) < 2 {
		return -1
	}
	return int16(binary.BigEndian.Uint16(key))
}

// readOffsetKey decodes the key of an offset.
func readOffsetKey(key []byte) (group string, tp topicPartition, ok bool) {
	k := kmsg.NewOffsetCommitKey()
	if err := k.ReadFrom(key); err != nil {
		return "", topicPartition{}, false
	}
	return k.Group, topicPartition{k.Topic, k.Partition}, true
}

// readOffset decodes a commit, of any version.
func readOffset(value []byte) (offset, bool) {
	v := kmsg.NewOffsetCommitValue()
	if err := v.ReadFrom(value); err != nil || v.Version < 0 || v.Version > offsetValueVersion {
		return offset{}, false
	}
	o := offset{
		offset: v.Offset, leaderEpoch: v.LeaderEpoch, metadata: v.Metadata,
		committed: v.CommitTimestamp, expires: v.ExpireTimestamp, topicID: v.TopicID,
	}
	if v.Version < 3 { // older schemas have no leader epoch
		o.leaderEpoch = -1
	}
	if v.Version != offsetExpireValueVersion {
		o.expires = noTime
	}
	return o, true
}

// readGroupKey decodes the key of a group of any type: they all begin with the
// group's id.
func readGroupKey(key []byte) (string, bool) {
	k := kmsg.NewGroupMetadataKey()
	if err := k.ReadFrom(key); err != nil {
		return "", false
	}
	return k.Group, true
}

// readGroup decodes the metadata of a group, of any version. Nothing in it aliases
// the value.
func readGroup(value []byte) (*groupMetadata, bool) {
	v := kmsg.NewGroupMetadataValue()
	if err := v.ReadFrom(value); err != nil || v.Version < 0 || v.Version > 4 {
		return nil, false
	}
	m := &groupMetadata{protocolType: v.ProtocolType, generation: v.Generation, protocol: v.Protocol, since: noTime}
	if v.Leader != nil {
		m.leader = *v.Leader
	}
	if v.Version >= 2 {
		m.since = v.CurrentStateTimestamp
	}
	for i := range v.Members {
		from := &v.Members[i]
		to := memberMetadata{
			id: from.MemberID, instanceID: from.InstanceID, clientID: from.ClientID, clientHost: from.ClientHost,
			rebalanceMillis: from.RebalanceTimeoutMillis, sessionMillis: from.SessionTimeoutMillis,
			subscription: bytes.Clone(from.Subscription), assignment: bytes.Clone(from.Assignment),
		}
		if v.Version < 1 || to.rebalanceMillis < 0 { // older schemas have no rebalance timeout
			to.rebalanceMillis = to.sessionMillis
		}
		m.members = append(m.members, to)
	}
	return m, true
}
