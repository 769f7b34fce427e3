// Package mutant seeds bugs: mistakes that a broker could make, one at a time, so
// that it can be shown that the tests see them. Without the build tag "mutants"
// On is false at compile time and nothing of them is in the program.
//
// With the tag the environment variable ROTPETER_MUTANT names the bug that is
// on. `make mutants` hunts them all: see package hunt.
package mutant

// Variable is the environment variable that names the bug.
const Variable = "ROTPETER_MUTANT"

// Name names a seeded bug.
type Name string

// Bug is one row of the table of bugs.
type Bug struct {
	Name  Name
	Room  string // the folder of the package whose code has it
	Wrong string // what goes wrong
	// Outside tells that clients see it soon in what a broker answers, so that the
	// workload checker has to find it too.
	Outside bool
}

// Bugs of the log.
const (
	ProducersForgotten  Name = "producers-forgotten"
	StableOneLate       Name = "stable-one-late"
	StableIgnored       Name = "stable-ignored"
	IndexOneBatchLate   Name = "index-one-batch-late"
	LastValueDropped    Name = "last-value-dropped"
	TombstoneEarly      Name = "tombstone-early"
	SyncForgotten       Name = "sync-forgotten"
	OldSegmentNotSynced Name = "old-segment-not-synced"
	AbortedForgotten    Name = "aborted-forgotten"
	StartNotSaved       Name = "start-not-saved"
	OnlyNewestKnown     Name = "only-newest-known"
	SequenceGap         Name = "sequence-gap"
	TornTailKept        Name = "torn-tail-kept"
	OldMarkerAccepted   Name = "old-marker-accepted"
	RetentionTooMuch    Name = "retention-too-much"
	UnverifiedAccepted  Name = "unverified-accepted"
)

// Bugs of the broker.
const (
	AckBeforeWrite     Name = "ack-before-write"
	OffsetZeroOnError  Name = "offset-zero-on-error"
	MarkerSkipped      Name = "marker-skipped"
	SessionTellsTooFew Name = "session-tells-too-few"
	JournalEndsEarly   Name = "journal-ends-early"
	ProducerIDTwice    Name = "producer-id-twice"
)

// Bugs of the coordinators and of the metadata.
const (
	ReplyBeforeDurable   Name = "reply-before-durable"
	OldEpochEnds         Name = "old-epoch-ends"
	TimeoutIgnored       Name = "timeout-ignored"
	PartitionNotAdded    Name = "partition-not-added"
	PendingOffsetsShown  Name = "pending-offsets-shown"
	AbortedOffsetsCount  Name = "aborted-offsets-count"
	OldGenerationCommits Name = "old-generation-commits"
	SnapshotLeavesOut    Name = "snapshot-leaves-out"
)

// Bugs returns the table.
func Bugs() []Bug {
	return []Bug{
		{ProducersForgotten, "log", "a start forgets what producers wrote last", true},
		{StableOneLate, "log", "the last stable offset is one too high", true},
		{StableIgnored, "log", "read_committed reads up to the end", true},
		{IndexOneBatchLate, "log", "index entries point to the batch after theirs", false},
		{LastValueDropped, "log", "compaction drops the last value of a key", false},
		{TombstoneEarly, "log", "compaction drops tombstones at once", false},
		{SyncForgotten, "log", "acks=all is answered before the sync", false},
		{OldSegmentNotSynced, "log", "a sync leaves out all segments but the newest", false},
		{AbortedForgotten, "log", "a read leaves out the last aborted transaction", true},
		{StartNotSaved, "log", "DeleteRecords is answered and not written down", true},
		{OnlyNewestKnown, "log", "only the newest batch of a producer is known again", false},
		{SequenceGap, "log", "a batch may come before the one that it follows", false},
		{TornTailKept, "log", "a recovery does not check what it keeps", false},
		{OldMarkerAccepted, "log", "a marker ends the next transaction of its producer (KIP-1228)", false},
		{RetentionTooMuch, "log", "retention deletes a segment too many", false},
		{UnverifiedAccepted, "log", "a transaction begins that its coordinator does not know (KIP-890)", false},

		{AckBeforeWrite, "broker", "acks=all is answered before the records are written", true},
		{OffsetZeroOnError, "broker", "a refused Produce has base offset 0", false},
		{MarkerSkipped, "broker", "one partition of a transaction gets no marker", true},
		{SessionTellsTooFew, "broker", "a fetch session leaves out partitions without new data whose marks have moved", false},
		{JournalEndsEarly, "broker", "a coordinator loads its journal but for the last record", false},
		{ProducerIDTwice, "broker", "a producer id is handed out twice", false},

		{ReplyBeforeDurable, "coordinator", "coordinators answer before their records are durable", false},
		{OldEpochEnds, "coordinator/txn", "EndTxn is taken with an old epoch", false},
		{TimeoutIgnored, "coordinator/txn", "transactions have no timeout", false},
		{PartitionNotAdded, "coordinator/txn", "only the first partitions are added to a transaction", true},
		{PendingOffsetsShown, "coordinator/group", "offsets of open transactions are no reason to wait", false},
		{AbortedOffsetsCount, "coordinator/group", "offsets of aborted transactions are committed", true},
		{OldGenerationCommits, "coordinator/group", "members of an old generation commit", false},
		{SnapshotLeavesOut, "metadata", "metadata snapshots leave out settings", false},
	}
}
