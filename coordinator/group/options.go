package group

import (
	"time"

	"github.com/rotpeter/rotpeter/coordinator/group/assignor"
)

// Options are the settings of a Shard. Start from DefaultOptions.
type Options struct {
	MinSessionTimeout     time.Duration // group.min.session.timeout.ms
	MaxSessionTimeout     time.Duration // group.max.session.timeout.ms
	InitialRebalanceDelay time.Duration // group.initial.rebalance.delay.ms; 0 means none
	MaxSize               int           // group.max.size: members of one group

	OffsetMetadataMaxChars        int           // offset.metadata.max.bytes, which counts UTF-16 characters
	OffsetsRetention              time.Duration // offsets.retention.minutes
	OffsetsRetentionCheckInterval time.Duration // offsets.retention.check.interval.ms

	ConsumerMaxSize      int                 // group.consumer.max.size
	Assignors            []assignor.Assignor // group.consumer.assignors: the first is the default
	Migration            Migration           // group.consumer.migration.policy
	RegexRefreshInterval time.Duration       // group.consumer.regex.refresh.interval.ms

	// Cluster is what is known of the metadata log when the shard is made; nil: nothing. MetadataChanged tells more.
	Cluster Cluster

	// LoadedAfter is the newest connection that may carry commits to a shard of this partition that was there before this one:
	// over it and older ones a TxnCommit is late, unless the producer has come over it since.
	LoadedAfter uint64

	// NewMemberJoinTimeout bounds how long a member that has never been answered
	// stays in a rebalance: it has no session yet, because it does not know its
	// member id.
	NewMemberJoinTimeout time.Duration

	// MaxRecordBytes bounds the metadata record of one group, so that it fits a
	// batch of __consumer_offsets.
	MaxRecordBytes int

	// NewMemberID returns a member id that was never used before. Its argument is
	// the client id, or the instance id of a static member; Kafka's ids are that, a
	// dash and a random UUID.
	NewMemberID func(clientID string) string

	// NewConsumerMemberID returns an id for a member of a consumer group that comes without one: a random UUID.
	NewConsumerMemberID func() string
}

func (o *Options) cluster() Cluster {
	if o.Cluster == nil {
		return noCluster{}
	}
	return o.Cluster
}

// DefaultOptions returns Kafka's defaults.
func DefaultOptions(newMemberID func(clientID string) string, newConsumerMemberID func() string) Options {
	return Options{
		MinSessionTimeout:             6 * time.Second,
		MaxSessionTimeout:             30 * time.Minute,
		InitialRebalanceDelay:         3 * time.Second,
		MaxSize:                       1<<31 - 1,
		OffsetMetadataMaxChars:        4096,
		OffsetsRetention:              7 * 24 * time.Hour,
		OffsetsRetentionCheckInterval: 10 * time.Minute,
		NewMemberJoinTimeout:          5 * time.Minute,
		MaxRecordBytes:                1<<20 - 4096, // Kafka's max.message.bytes less room for the batch header
		ConsumerMaxSize:               1<<31 - 1,
		Assignors:                     []assignor.Assignor{assignor.Uniform(), assignor.Range()},
		RegexRefreshInterval:          10 * time.Minute,
		NewMemberID:                   newMemberID,
		NewConsumerMemberID:           newConsumerMemberID,
	}
}

// maxRecordString is the longest string, in bytes, that the records' schemas can
// hold: their lengths are int16.
const maxRecordString = 1<<15 - 1

// maxPendingMembers bounds the member ids that a group has given out and that have
// not joined yet. Kafka has no such bound; without one a client that asks for ids
// and never joins would fill the memory until its sessions end.
const maxPendingMembers = 10_000

// rebalanceRetryPause is the least time between two looks at a rebalance that
// cannot complete because nobody rejoined. It matters only where members ask for a
// rebalance timeout near zero.
const rebalanceRetryPause = time.Second
