package protocol

import (
	"encoding/binary"
	"io"
)

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

// AppendTo encodes the response in its Version, 4 to 18, with all records. A
// partition whose records cannot be read becomes one with KAFKA_STORAGE_ERROR
// (NOT_LEADER_OR_FOLLOWER up to version 5) and no records.
//
// A connection does not call it: it leaves long runs out of its output and sends
// them from their files.
func (r *FetchResponse) AppendTo(dst []byte) []byte {
	o := output{buf: dst, copyAll: true}
	r.appendTo(&o)
	return o.buf
}

// Kafka's codes for a partition whose file cannot be read.
const (
	notLeaderOrFollower = 6
	kafkaStorageError   = 56
)

func (r *FetchResponse) appendTo(o *output) {
	flexible := r.Version >= fetchFlexible
	o.buf = putInt32(o.buf, r.ThrottleMillis)
	if r.Version >= 7 {
		o.buf = putInt16(o.buf, r.ErrorCode)
		o.buf = putInt32(o.buf, r.SessionID)
	}
	o.buf = putArrayLen(o.buf, len(r.Topics), flexible)
	for i := range r.Topics {
		t := &r.Topics[i]
		if r.Version >= fetchTopicID {
			o.buf = append(o.buf, t.ID[:]...)
		} else {
			o.buf = putString(o.buf, t.Name, flexible)
		}
		o.buf = putArrayLen(o.buf, len(t.Partitions), flexible)
		for j := range t.Partitions {
			t.Partitions[j].appendTo(o, r.Version, flexible)
		}
		o.buf = putNoTags(o.buf, flexible)
	}
	if r.Version >= 16 {
		o.buf = putEndpoints(o.buf, r.NodeEndpoints)
	} else {
		o.buf = putNoTags(o.buf, flexible)
	}
}

func (p *FetchResponsePartition) appendTo(o *output, version int16, flexible bool) {
	dst := putInt32(o.buf, p.Index)
	errorCodeAt := len(dst)
	dst = putInt16(dst, p.ErrorCode)
	dst = putInt64(dst, p.HighWatermark)
	dst = putInt64(dst, p.LastStableOffset)
	if version >= 5 {
		dst = putInt64(dst, p.LogStartOffset)
	}
	if p.Aborted == nil {
		dst = putNullArray(dst, flexible)
	} else {
		dst = putArrayLen(dst, len(p.Aborted), flexible)
		for _, a := range p.Aborted {
			dst = putInt64(dst, a.ProducerID)
			dst = putInt64(dst, a.FirstOffset)
			dst = putNoTags(dst, flexible)
		}
	}
	if version >= 11 {
		dst = putInt32(dst, p.PreferredReadReplica)
	}
	recordsAt := len(dst)
	o.buf = dst
	if !o.appendRecords(&p.Records, flexible) {
		code := int16(kafkaStorageError)
		if version <= 5 {
			code = notLeaderOrFollower
		}
		binary.BigEndian.PutUint16(o.buf[errorCodeAt:], uint16(code))
		o.buf = putArrayLen(o.buf[:recordsAt], 0, flexible)
	}
	o.buf = p.appendTags(o.buf, flexible)
}

func (p *FetchResponsePartition) appendTags(dst []byte, flexible bool) []byte {
	if !flexible {
		return dst
	}
	tagsAt := len(dst)
	dst = append(dst, 0)
	if p.DivergingEpoch.Epoch != -1 {
		dst[tagsAt]++
		dst = append(dst, 0, 4+8+1)
		dst = putInt32(dst, p.DivergingEpoch.Epoch)
		dst = putInt64(dst, p.DivergingEpoch.EndOffset)
		dst = append(dst, 0)
	}
	if p.CurrentLeader.ID != -1 {
		dst[tagsAt]++
		dst = putLeader(dst, 1, p.CurrentLeader)
	}
	return dst
}
