package metadata

// TopicRecord creates a topic, so far without partitions. Version 0.
type TopicRecord struct {
	Name    string
	TopicID [16]byte
	Unknown TaggedFields
}

// Type implements Message.
func (*TopicRecord) Type() RecordType { return TypeTopic }

func (m *TopicRecord) appendTo(b []byte, _ int16) []byte {
	return appendTags(append(appendString(b, m.Name), m.TopicID[:]...), m.Unknown)
}

func (m *TopicRecord) decode(r *reader, _ int16) {
	m.Name, m.TopicID = r.string(), r.uuid()
	m.Unknown = r.tags(nil)
}

// RemoveTopicRecord deletes a topic with its partitions and settings. Version 0.
type RemoveTopicRecord struct {
	TopicID [16]byte
	Unknown TaggedFields
}

// Type implements Message.
func (*RemoveTopicRecord) Type() RecordType { return TypeRemoveTopic }

func (m *RemoveTopicRecord) appendTo(b []byte, _ int16) []byte {
	return appendTags(append(b, m.TopicID[:]...), m.Unknown)
}

func (m *RemoveTopicRecord) decode(r *reader, _ int16) {
	m.TopicID = r.uuid()
	m.Unknown = r.tags(nil)
}

// PartitionRecord creates a partition or replaces all that is known of it. Valid
// versions 0 to 2.
type PartitionRecord struct {
	PartitionID            int32
	TopicID                [16]byte
	Replicas               []int32
	Isr                    []int32
	RemovingReplicas       []int32
	AddingReplicas         []int32
	Leader                 int32 // -1 none
	LeaderRecoveryState    int8  // 1: recovering from an unclean election
	LeaderEpoch            int32
	PartitionEpoch         int32
	Directories            [][16]byte // version 1 and later: one for each replica
	EligibleLeaderReplicas []int32    // version 2 and later; nil is null
	LastKnownElr           []int32    // version 2 and later; nil is null
	Unknown                TaggedFields
}

// Type implements Message.
func (*PartitionRecord) Type() RecordType { return TypePartition }

func (m *PartitionRecord) appendTo(b []byte, version int16) []byte {
	b = appendInt32(b, m.PartitionID)
	b = append(b, m.TopicID[:]...)
	b = appendInt32s(b, m.Replicas)
	b = appendInt32s(b, m.Isr)
	b = appendInt32s(b, m.RemovingReplicas)
	b = appendInt32s(b, m.AddingReplicas)
	b = appendInt32(b, m.Leader)
	b = appendInt32(b, m.LeaderEpoch)
	b = appendInt32(b, m.PartitionEpoch)
	if version >= 1 {
		b = appendUUIDs(b, m.Directories)
	}
	var w tagWriter
	if m.LeaderRecoveryState != 0 {
		w.add(0, []byte{byte(m.LeaderRecoveryState)})
	}
	if version >= 2 && m.EligibleLeaderReplicas != nil {
		w.add(1, appendInt32s(nil, m.EligibleLeaderReplicas))
	}
	if version >= 2 && m.LastKnownElr != nil {
		w.add(2, appendInt32s(nil, m.LastKnownElr))
	}
	return w.appendTo(b, m.Unknown)
}

func (m *PartitionRecord) decode(r *reader, version int16) {
	m.PartitionID = r.int32()
	m.TopicID = r.uuid()
	m.Replicas = r.int32s()
	m.Isr = r.int32s()
	m.RemovingReplicas = r.int32s()
	m.AddingReplicas = r.int32s()
	m.Leader = r.int32()
	m.LeaderEpoch = r.int32()
	m.PartitionEpoch = r.int32()
	m.Directories = [][16]byte{}
	if version >= 1 {
		m.Directories = r.uuids()
	}
	m.Unknown = r.tags(func(tag uint32, v *reader) bool {
		switch {
		case tag == 0:
			m.LeaderRecoveryState = v.int8()
		case tag == 1 && version >= 2:
			m.EligibleLeaderReplicas = v.nullableInt32s()
		case tag == 2 && version >= 2:
			m.LastKnownElr = v.nullableInt32s()
		default:
			return false
		}
		return true
	})
}

// NoLeader and NoLeaderChange are special values of PartitionChangeRecord.Leader.
const (
	NoLeader       int32 = -1 // the partition has no leader
	NoLeaderChange int32 = -2 // the leader and its epoch stay
)

// noRecoveryChange is the default of PartitionChangeRecord.LeaderRecoveryState.
const noRecoveryChange int8 = -1

// PartitionChangeRecord changes parts of a partition and raises its partition
// epoch by one. Any leader but NoLeaderChange, the present one too, raises the
// leader epoch by one. Valid versions 0 to 2.
type PartitionChangeRecord struct {
	PartitionID            int32
	TopicID                [16]byte
	Isr                    []int32 // nil is no change, here and below
	Leader                 int32   // or NoLeader, NoLeaderChange
	Replicas               []int32
	RemovingReplicas       []int32
	AddingReplicas         []int32
	LeaderRecoveryState    int8       // -1 is no change
	Directories            [][16]byte // version 1 and later
	EligibleLeaderReplicas []int32    // version 2 and later
	LastKnownElr           []int32    // version 2 and later
	Unknown                TaggedFields
}

// Type implements Message.
func (*PartitionChangeRecord) Type() RecordType { return TypePartitionChange }

func (m *PartitionChangeRecord) appendTo(b []byte, version int16) []byte {
	b = appendInt32(b, m.PartitionID)
	b = append(b, m.TopicID[:]...)
	var w tagWriter
	list := func(tag uint32, v []int32) {
		if v != nil {
			w.add(tag, appendInt32s(nil, v))
		}
	}
	list(0, m.Isr)
	if m.Leader != NoLeaderChange {
		w.add(1, appendInt32(nil, m.Leader))
	}
	list(2, m.Replicas)
	list(3, m.RemovingReplicas)
	list(4, m.AddingReplicas)
	if m.LeaderRecoveryState != noRecoveryChange {
		w.add(5, []byte{byte(m.LeaderRecoveryState)})
	}
	if version >= 2 {
		list(6, m.EligibleLeaderReplicas)
		list(7, m.LastKnownElr)
	}
	if version >= 1 && m.Directories != nil {
		w.add(8, appendUUIDs(nil, m.Directories))
	}
	return w.appendTo(b, m.Unknown)
}

func (m *PartitionChangeRecord) decode(r *reader, version int16) {
	m.PartitionID = r.int32()
	m.TopicID = r.uuid()
	m.Leader = NoLeaderChange
	m.LeaderRecoveryState = noRecoveryChange
	m.Unknown = r.tags(func(tag uint32, v *reader) bool {
		switch {
		case tag == 0:
			m.Isr = v.nullableInt32s()
		case tag == 1:
			m.Leader = v.int32()
		case tag == 2:
			m.Replicas = v.nullableInt32s()
		case tag == 3:
			m.RemovingReplicas = v.nullableInt32s()
		case tag == 4:
			m.AddingReplicas = v.nullableInt32s()
		case tag == 5:
			m.LeaderRecoveryState = v.int8()
		case tag == 6 && version >= 2:
			m.EligibleLeaderReplicas = v.nullableInt32s()
		case tag == 7 && version >= 2:
			m.LastKnownElr = v.nullableInt32s()
		case tag == 8 && version >= 1:
			m.Directories = v.nullableUUIDs()
		default:
			return false
		}
		return true
	})
}

// ConfigRecord sets one dynamic setting of a resource, or removes it. Version 0.
type ConfigRecord struct {
	ResourceType int8 // a ResourceType
	ResourceName string
	Name         string
	Value        *string // nil removes the setting
	Unknown      TaggedFields
}

// Type implements Message.
func (*ConfigRecord) Type() RecordType { return TypeConfig }

func (m *ConfigRecord) appendTo(b []byte, _ int16) []byte {
	b = append(b, byte(m.ResourceType))
	b = appendString(b, m.ResourceName)
	b = appendString(b, m.Name)
	return appendTags(appendNullableString(b, m.Value), m.Unknown)
}

func (m *ConfigRecord) decode(r *reader, _ int16) {
	m.ResourceType = r.int8()
	m.ResourceName = r.string()
	m.Name = r.string()
	m.Value = r.nullableString()
	m.Unknown = r.tags(nil)
}

// ClearElrRecord empties the eligible and last known leader replicas of a topic,
// or of all topics (KIP-966). Version 0.
type ClearElrRecord struct {
	TopicName string // empty: all topics
	Unknown   TaggedFields
}

// Type implements Message.
func (*ClearElrRecord) Type() RecordType { return TypeClearElr }

func (m *ClearElrRecord) appendTo(b []byte, _ int16) []byte {
	return appendTags(appendString(b, m.TopicName), m.Unknown)
}

func (m *ClearElrRecord) decode(r *reader, _ int16) {
	m.TopicName = r.string()
	m.Unknown = r.tags(nil)
}
