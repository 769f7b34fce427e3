package assignor

import "cmp"

// Topic is the id of a topic. Topics are ordered as Kafka's Uuid orders them: by the
// first eight bytes as a signed big-endian number, then by the last eight.
type Topic = [16]byte

// Member is what an assignor knows of one member of a group. Kafka has the rack of
// the member here too; no assignor of 4.3.1 reads it.
type Member struct {
	// ID is the member id, different for each member.
	ID string
	// InstanceID is the group.instance.id of a static member, "" for others. Only
	// the range assignor looks at it.
	InstanceID string
	// Topics are the topics that the member subscribes to and that exist, in any
	// order. Members with equal subscriptions should share one slice: that saves
	// comparing them.
	Topics []Topic
	// Assigned is the member's present target assignment: partitions by topic,
	// ascending. Topics that it no longer subscribes to, partitions that do not
	// exist and partitions that another member has too are allowed, and are taken
	// from it. The range assignor only compares its result with it.
	Assigned map[Topic][]int32
}

// Spec is a group to assign (Kafka's GroupSpec and SubscribedTopicDescriber). An
// assignor does not change it.
type Spec struct {
	// Members are the members of the group, in any order: the result does not
	// depend on it.
	Members []Member
	// Partitions gives the number of partitions of a topic, 0 if there is no such
	// topic. It is asked once for each topic.
	Partitions func(Topic) int32
	// Homogeneous says that all members subscribe to the same topics. Then only
	// the Topics of the first member by id are read.
	Homogeneous bool
}

// Assignor is one way to spread partitions over members.
type Assignor interface {
	// Name is what members write into ServerAssignor, and what the settings
	// group.consumer.assignors and the group's metadata call it.
	Name() string
	// Assign gives the new target assignment, parallel to Spec.Members: partitions
	// by topic, ascending, no empty lists. A member whose assignment stays as it
	// was gets its old map back, the same one. The maps and slices of a result may
	// share memory with each other and with the old ones: nobody may change them.
	//
	// The error says that a member subscribes to a topic without partitions (Kafka:
	// PartitionAssignorException, which the member sees as UNKNOWN_SERVER_ERROR), or
	// that all topics together have 2^31 partitions or more.
	Assign(*Spec) ([]map[Topic][]int32, error)
}

// Uniform is the assignor "uniform": sizes differ by at most one where all members
// subscribe to the same topics, and little moves (Kafka's UniformAssignor). It is
// the default of group.consumer.assignors.
//
// For m members and p partitions it takes O(m log m + p) steps where all subscribe to
// the same topics, else up to 16 rounds, each of as many steps as topics have
// subscribers and partitions. Memory is proportional to members, partitions and the
// topics of all different subscriptions.
func Uniform() Assignor { return uniform{} }

// Range is the assignor "range": contiguous ranges of each topic, co-partitioned
// where subscriptions and numbers of partitions are equal (Kafka's RangeAssignor).
//
// For m members and p partitions it takes O(m log m + p) steps, and as many as all
// different subscriptions have topics.
func Range() Assignor { return ranges{} }

// compareJava orders strings as Java's String.compareTo does, by UTF-16 code units.
// That is the order of the bytes, but for characters above U+FFFF: they come before
// those from U+E000 on, whose first byte in UTF-8 is 0xee or 0xef.
func compareJava(a, b string) int {
	for i := range min(len(a), len(b)) {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if x >= 0xee && y >= 0xee && (x >= 0xf0) != (y >= 0xf0) {
			return cmp.Compare(y, x)
		}
		return cmp.Compare(x, y)
	}
	return cmp.Compare(len(a), len(b))
}
