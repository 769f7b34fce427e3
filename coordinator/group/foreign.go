package group

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// foreignKind is a type of group that is not classic, as ListGroups names it. Its
// protocol type has the same name.
type foreignKind string

const (
	consumerKind foreignKind = "consumer"
	shareKind    foreignKind = "share"
	streamsKind  foreignKind = "streams"
)

// foreignRole is what a record says of such a group.
type foreignRole int

const (
	otherRole   foreignRole = iota
	groupRole               // the group and its epoch
	memberRole              // that a member is in
	targetRole              // the epoch of the target assignment
	currentRole             // what a member has of it
)

// foreignRecords are the records of these groups by the type that their keys begin
// with. All keys go on with the group's id, those of members with the member's
// (org.apache.kafka.coordinator.group.generated.CoordinatorRecordType).
var foreignRecords = map[int16]struct {
	kind foreignKind
	role foreignRole
}{
	10:              {shareKind, memberRole},
	shareGroupKey:   {shareKind, groupRole},
	12:              {shareKind, targetRole},
	13:              {shareKind, otherRole}, // target assignment of a member
	14:              {shareKind, currentRole},
	15:              {shareKind, otherRole}, // partitions with share state
	streamsGroupKey: {streamsKind, groupRole},
	18:              {streamsKind, otherRole}, // partition metadata
	19:              {streamsKind, memberRole},
	20:              {streamsKind, targetRole},
	21:              {streamsKind, otherRole}, // target assignment of a member
	22:              {streamsKind, currentRole},
	23:              {streamsKind, otherRole}, // topology
}

// foreignGroup is what is known of a group of another type: what its records say,
// as far as listing it, keeping its offsets and taking an empty one over need it.
type foreignGroup struct {
	kind    foreignKind
	keys    map[string]bool           // of all records that hold
	members map[string]bool           // by the rest of their keys
	current map[string]foreignCurrent // by the same
	epoch   int32
	target  int32 // epoch of the target assignment
}

// foreignCurrent is what a member last told of itself.
type foreignCurrent struct {
	epoch int32
	state int8
}

// applyForeign makes a record of a group of another type true, or its tombstone.
func (s *Shard) applyForeign(key, value []byte) bool {
	id, ok := readGroupKey(key)
	if !ok {
		return false
	}
	known := foreignRecords[keyType(key)]
	rest := string(key[min(len(key), 2+2+len(id)):])
	g := s.foreign[id]
	if value == nil {
		if g == nil || g.kind != known.kind {
			return true
		}
		if known.role == groupRole {
			delete(s.foreign, id) // the last of a group's tombstones
			return true
		}
		g.forget(known.role, string(key), rest)
		return true
	}
	epoch, state, ok := readForeign(value, known.role)
	if !ok {
		return false
	}
	if g == nil || g.kind != known.kind {
		g = &foreignGroup{kind: known.kind, keys: map[string]bool{}, members: map[string]bool{}, current: map[string]foreignCurrent{}}
		s.foreign[id] = g
		s.forget(id)
	}
	g.keys[string(key)] = true
	switch known.role {
	case groupRole:
		g.epoch = epoch
	case targetRole:
		g.target = epoch
	case memberRole:
		g.members[rest] = true
	case currentRole:
		g.current[rest] = foreignCurrent{epoch, state}
	}
	return true
}

func (g *foreignGroup) forget(role foreignRole, key, rest string) {
	delete(g.keys, key)
	switch role {
	case memberRole:
		delete(g.members, rest)
	case currentRole:
		delete(g.current, rest)
	}
}

// readForeign reads what is needed of a value: the schemas of all epochs begin with
// the version and the epoch, those of a member's current assignment go on with the
// epoch before and the state.
func readForeign(value []byte, role foreignRole) (epoch int32, state int8, ok bool) {
	switch role {
	case groupRole, targetRole:
		if len(value) < 2+4 {
			return 0, 0, false
		}
	case currentRole:
		if len(value) < 2+4+4+1 {
			return 0, 0, false
		}
		state = int8(value[10])
	default:
		return 0, 0, true
	}
	return int32(binary.BigEndian.Uint32(value[2:])), state, true
}

// state is the group's state as ListGroups has it (ConsumerGroup, ShareGroup and
// StreamsGroup.maybeUpdateGroupState). Left out: NotReady of streams groups, whose
// topology is not looked at.
func (g *foreignGroup) state() string {
	switch {
	case len(g.members) == 0:
		return "Empty"
	case g.kind == shareKind:
		return "Stable"
	case g.epoch > g.target:
		return "Assigning"
	}
	stable := int8(0)
	if g.kind == streamsKind {
		stable = 1
	}
	for member := range g.members {
		if c := g.current[member]; c.state != stable || c.epoch != g.target {
			return "Reconciling"
		}
	}
	return "Stable"
}

// listed is the group in ListGroups.
func (g *foreignGroup) listed(id string) kmsg.ListGroupsResponseGroup {
	lg := kmsg.NewListGroupsResponseGroup()
	lg.Group, lg.ProtocolType, lg.GroupState, lg.GroupType = id, string(g.kind), g.state(), string(g.kind)
	return lg
}

// checkCommit checks a commit to the group. Its members have a protocol that is not
// served: whoever says to be one is not known (ConsumerGroup and
// ShareGroup.validateOffsetCommit).
func (g *foreignGroup) checkCommit(c committer) *kerr.Error {
	anonymous := c.generation < 0 && c.memberID == "" && c.instanceID == nil
	switch {
	case g.kind == shareKind:
		return kerr.GroupIDNotFound
	case c.generation < 0 && len(g.members) == 0, c.transactional && anonymous:
		return nil
	}
	return kerr.UnknownMemberID
}

// replaceable reports whether a classic group may take the id over: the group is
// empty and not a share group (GroupMetadataManager.classicGroupJoin).
func (g *foreignGroup) replaceable() bool { return g.kind != shareKind && len(g.members) == 0 }

// deleteForeign removes a group of another type with its offsets, if it is empty. Left
// out: share groups, whose state is kept by another coordinator, which is not served.
func (t *turn) deleteForeign(id string) *kerr.Error {
	g := t.foreign[id]
	switch {
	case len(g.members) > 0:
		return kerr.NonEmptyGroup
	case g.kind == shareKind:
		return kerr.UnsupportedVersion
	}
	for _, tp := range t.allOffsets(id) {
		t.tombstone(groupPartition{id, tp})
	}
	t.endForeign(g)
	return nil
}

// endForeign writes the tombstones of all records of a group, that of the group last.
func (t *turn) endForeign(g *foreignGroup) {
	last := ""
	for _, key := range slices.Sorted(maps.Keys(g.keys)) {
		if foreignRecords[keyType([]byte(key))].role == groupRole {
			last = key
			continue
		}
		t.record(tombstone(t.now, []byte(key)))
	}
	if last != "" {
		t.record(tombstone(t.now, []byte(last)))
	}
}
