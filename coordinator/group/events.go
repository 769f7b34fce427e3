package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The bodies of the events that a Shard handles. The type of the reply is given
// with each. Requests own their memory: the shard keeps parts of them. Replies
// carry the version of their event. An event about a group must go to the shard of
// that group.

// Join is a JoinGroup request. The reply, *kmsg.JoinGroupResponse, may come a
// rebalance later.
type Join struct {
	Req        *kmsg.JoinGroupRequest
	Version    int16
	ClientID   string
	ClientHost string // as Kafka writes it: "/127.0.0.1"
}

// Sync is a SyncGroup request. The reply, *kmsg.SyncGroupResponse, comes when the
// leader's has come.
type Sync struct {
	Req     *kmsg.SyncGroupRequest
	Version int16
}

// Heartbeat is a Heartbeat request; the reply is *kmsg.HeartbeatResponse.
type Heartbeat struct {
	Req     *kmsg.HeartbeatRequest
	Version int16
}

// Leave is a LeaveGroup request; the reply is *kmsg.LeaveGroupResponse.
type Leave struct {
	Req     *kmsg.LeaveGroupRequest
	Version int16
}

// ConsumerHeartbeat is a ConsumerGroupHeartbeat request (KIP-848); the reply is
// *kmsg.ConsumerGroupHeartbeatResponse. Caller is handed back with ResolveRegexes.
type ConsumerHeartbeat struct {
	Req        *kmsg.ConsumerGroupHeartbeatRequest
	Version    int16
	ClientID   string
	ClientHost string // as Kafka writes it: "/127.0.0.1"
	Caller     any
}

// ConsumerDescribe asks about one consumer group; the reply is kmsg.ConsumerGroupDescribeResponseGroup.
type ConsumerDescribe struct{ Group string }

// MetadataChanged says that topics or settings are others from now on. Nobody waits for it.
type MetadataChanged struct {
	Cluster Cluster
	Changed []string // names of topics that are new or gone or have more partitions
	Created bool     // some of them are new
}

// ResolveRegexes is an errand: match the regular expressions against the topics of the cluster, those that the
// Caller of a heartbeat may not describe left out, and post a RegexesResolved.
type ResolveRegexes struct {
	Group   string
	Regexes []string
	Caller  any
}

// RegexesResolved is what the regular expressions of a group match. Nobody waits for it. It must come for every
// ResolveRegexes, or the group is not looked at again; Matched may be nil if that failed.
type RegexesResolved struct {
	Group   string
	Matched map[string][]string // topics by regular expression, see MatchRegexes
	Version int64               // of the metadata log: the offset that the topics are of
	Asked   time.Time           // when the matching began
}

// Commit is an OffsetCommit request; the reply is *kmsg.OffsetCommitResponse. Each
// topic has its name, whatever the version, and exists; a topic that was named by
// id has its id too, which is then recorded with the offset.
type Commit struct {
	Req     *kmsg.OffsetCommitRequest
	Version int16
}

// TxnCommit is a TxnOffsetCommit request, for topics that exist, by a producer
// that the transaction coordinator has verified; the reply is
// *kmsg.TxnOffsetCommitResponse, nil if the request was late: then its connection
// is to be closed. The offsets count once EndTransaction commits.
type TxnCommit struct {
	Req     *kmsg.TxnOffsetCommitRequest
	Version int16
	// Guard was taken before the transaction coordinator was asked. INVALID_TXN_STATE if a marker has come
	// since, COORDINATOR_LOAD_IN_PROGRESS if that is not known any more.
	Guard TxnGuard
	// Conn is the connection that the request came over: a number that grows, so that a smaller one is older. 0: always
	// believed. Below version 5 a request over an older connection than one that the producer has used since is late.
	Conn uint64
}

// GuardTxn takes a guard for a TxnCommit; the reply is TxnGuard.
type GuardTxn struct{}

// EndTransaction is a transaction marker for this partition; the reply is a Kafka
// error code, int16: 0, or INVALID_PRODUCER_EPOCH if the producer has a
// transaction open at a newer epoch.
type EndTransaction struct {
	ProducerID       int64
	ProducerEpoch    int16
	CoordinatorEpoch int32
	Commit           bool
}

// Fetch asks for committed offsets of one group; the reply is
// kmsg.OffsetFetchResponseGroup. Group.Topics nil means all topics, which are then
// answered by name, sorted. Topics have their names, whatever the version; a topic
// that has its id too hides offsets committed under another id.
type Fetch struct {
	Group         kmsg.OffsetFetchRequestGroup
	Version       int16
	RequireStable bool // answer UNSTABLE_OFFSET_COMMIT where a transaction is open
}

// OffsetDelete is an OffsetDelete request; the reply is *kmsg.OffsetDeleteResponse.
type OffsetDelete struct{ Req *kmsg.OffsetDeleteRequest }

// List asks for the groups of the shard; the reply is []kmsg.ListGroupsResponseGroup,
// sorted. The filters ignore case; an empty one lets all pass.
type List struct{ States, Types []string }

// Describe asks about one group; the reply is kmsg.DescribeGroupsResponseGroup.
type Describe struct {
	Group   string
	Version int16
}

// Delete removes one group and its offsets; the reply is
// kmsg.DeleteGroupsResponseGroup.
type Delete struct{ Group string }

// TopicDeleted removes the offsets of a deleted topic from all groups; the reply is
// the number of them, int. Offsets committed under another id stay, if ID is not
// zero.
type TopicDeleted struct {
	Topic string
	ID    [16]byte
}

// Count asks for the sizes that metrics show; the reply is Counts.
type Count struct{}

// Counts are sizes of a shard, summed over shards for Kafka's group metrics.
type Counts struct {
	Groups              int // all of them
	Empty               int
	PreparingRebalance  int
	CompletingRebalance int
	Stable              int
	Consumer            int // consumer groups, and of them:
	ConsumerEmpty       int
	ConsumerAssigning   int
	ConsumerReconciling int
	ConsumerStable      int
	Offsets             int   // committed
	Skipped             int64 // records met by Apply that could not be understood
}
