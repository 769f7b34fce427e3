package protocol

import "io"

// FetchRequest is Fetch (1), versions 4 to 18. Decode reuses the slices of the
// value it is called on.
type FetchRequest struct {
	ReplicaID     int32 // -1 for a consumer; from version 15 out of ReplicaState
	MaxWaitMillis int32
	MinBytes      int32
	MaxBytes      int32
	Isolation     int8  // 0 read_uncommitted, 1 read_committed
	SessionID     int32 // 0 before version 7
	SessionEpoch  int32 // -1 before version 7: no session
	Topics        []FetchTopic
	Forgotten     []ForgottenTopic
	Rack          string // from version 11
}

// FetchTopic is one topic of a FetchRequest: by Name up to version 12, by ID from 13.
type FetchTopic struct {
	Name       string
	ID         [16]byte
	Partitions []FetchPartition
}

// FetchPartition is where to read in one partition.
type FetchPartition struct {
	Index, CurrentLeaderEpoch int32 // epoch -1: no check (before version 9)
	FetchOffset               int64
	LastFetchedEpoch          int32 // -1: none (before version 12)
	LogStartOffset            int64 // of a follower; -1 else
	MaxBytes                  int32
}

// ForgottenTopic names partitions that leave the fetch session (KIP-227).
type ForgottenTopic struct {
	Name       string
	ID         [16]byte
	Partitions []int32
}

// FetchResponse is Fetch's answer, versions 4 to 18.
type FetchResponse struct {
	Version        int16
	ThrottleMillis int32
	ErrorCode      int16 // from version 7
	SessionID      int32 // from version 7
	Topics         []FetchResponseTopic
	NodeEndpoints  []NodeEndpoint // from version 16; left out if empty

	// Release, if not nil, is called exactly once by the connection, when the
	// bytes are sent or dropped. Until then the runs must stay readable.
	Release func()
}

// FetchResponseTopic is one topic: by Name up to version 12, by ID from 13.
type FetchResponseTopic struct {
	Name       string
	ID         [16]byte
	Partitions []FetchResponsePartition
}

// FetchResponsePartition is what was read from one partition.
type FetchResponsePartition struct {
	Index                int32
	ErrorCode            int16
	HighWatermark        int64
	LastStableOffset     int64
	LogStartOffset       int64                // from version 5
	DivergingEpoch       EpochEndOffset       // from version 12; Epoch -1 = absent
	CurrentLeader        LeaderIDEpoch        // from version 12; ID -1 = absent
	Aborted              []AbortedTransaction // nil = null, as read_uncommitted needs it
	PreferredReadReplica int32                // from version 11; -1 = none
	Records              Records
}

// EpochEndOffset is the largest common epoch and its end (KIP-595).
type EpochEndOffset struct {
	Epoch     int32
	EndOffset int64
}

// AbortedTransaction is one entry of a read_committed answer.
type AbortedTransaction struct{ ProducerID, FirstOffset int64 }

// Records is what a partition gives: the runs one after the other. No runs are
// sent as zero bytes, never as null: some clients would stumble.
type Records struct {
	Runs  []Run
	Bytes int // sum of the runs
}

// Run is a range of whole batches: Data, or Len bytes of File at Off.
type Run struct {
	Data []byte
	File File
	Off  int64
	Len  int
}

// File is an open file that a run lies in. Fd is its descriptor for sendfile(2),
// 0 if it has none.
type File interface {
	io.ReaderAt
	Fd() uintptr
}
