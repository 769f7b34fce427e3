package log

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strings"

	"github.com/rotpeter/rotpeter/log/batch"
)

// This file is what the room inspect reads of the formats of this package. It decodes
// entry by entry: whoever looks at a directory that may be broken reads through a
// window, and never a whole file because of its size.

// Sizes of the entries of a partition's files, in bytes.
const (
	IndexEntryBytes     = indexEntryBytes
	TimeEntryBytes      = timeEntryBytes
	AbortedEntryBytes   = abortedBytes
	SnapshotHeaderBytes = snapshotHeaderBytes
	SnapshotEntryBytes  = snapshotEntryBytes
	// MaxReplayed is how many producers a Replay keeps apart.
	MaxReplayed = maxProducers - 1
)

// FileOffset splits the name of a file like 00000000000000004711.log into its offset and
// what follows, ".log". False for other names.
func FileOffset(name string) (offset int64, suffix string, ok bool) {
	offset = leadingOffset(name)
	if offset < 0 {
		return 0, "", false
	}
	return offset, name[strings.IndexByte(name, '.'):], true
}

// PartitionOf reads the name of a partition's directory. False for others, such as those
// that are being deleted.
func PartitionOf(dirName string) (topic string, partition int32, ok bool) {
	p, ok := placeOf(dirName)
	return p.topic, p.partition, ok
}

// DecodeIndexEntry reads an entry of an offset index: a batch's last offset less the
// segment's base, and where the batch begins.
func DecodeIndexEntry(b []byte) (rel, position int32) {
	e := decodeIndexEntry(b)
	return e.rel, e.pos
}

// DecodeTimeEntry reads an entry of a time index: the largest timestamp up to the batch
// whose last offset is rel more than the segment's base.
func DecodeTimeEntry(b []byte) (timestamp int64, rel int32) {
	e := decodeTimeEntry(b)
	return e.timestamp, e.rel
}

// AbortedEntry is an entry of a transaction index.
type AbortedEntry struct {
	Version      int16
	ProducerID   int64
	FirstOffset  int64
	LastOffset   int64 // the marker's
	StableOffset int64 // the last stable offset after the marker
}

// DecodeAborted reads an entry of a transaction index.
func DecodeAborted(b []byte) AbortedEntry {
	e := decodeAborted(b)
	return AbortedEntry{int16(binary.BigEndian.Uint16(b)), e.producerID, e.firstOffset, e.lastOffset, e.stable}
}

// ProducerEntry is what a producer snapshot keeps of one producer.
type ProducerEntry struct {
	ID               int64
	Epoch            int16
	LastSequence     int32 // -1: no batch
	LastOffset       int64 // -1: no batch
	OffsetDelta      int32
	Timestamp        int64 // milliseconds
	CoordinatorEpoch int32
	TxnFirstOffset   int64 // of the open transaction, -1: none
}

// DecodeProducer reads an entry of a producer snapshot.
func DecodeProducer(b []byte) ProducerEntry {
	id, p := decodeProducer(b)
	return p.entry(id)
}

func (p *producer) entry(id int64) ProducerEntry {
	e := ProducerEntry{ID: id, Epoch: p.epoch, LastSequence: batch.NoSequence, LastOffset: -1, Timestamp: p.lastTimestamp, CoordinatorEpoch: p.coordinatorEpoch, TxnFirstOffset: p.txnFirst}
	if p.n > 0 {
		last := p.batches[p.n-1]
		e.LastSequence, e.LastOffset, e.OffsetDelta = last.lastSeq, last.lastOffset, last.delta
	}
	return e
}

// SnapshotHeader reads the first bytes of a producer snapshot. The CRC-32C is of all bytes
// from the count on, SnapshotCRC.
func SnapshotHeader(b []byte) (version int16, crc, count uint32) {
	return int16(binary.BigEndian.Uint16(b)), binary.BigEndian.Uint32(b[2:]), binary.BigEndian.Uint32(b[6:])
}

// SnapshotCRCFrom is the position from which on a snapshot's CRC counts.
const SnapshotCRCFrom = 6

// SnapshotCRC adds bytes to the CRC of a producer snapshot.
func SnapshotCRC(sum uint32, b []byte) uint32 { return crc32.Update(sum, castagnoli, b) }

// PartitionOffset is a line of an offset checkpoint.
type PartitionOffset struct {
	Topic     string
	Partition int32
	Offset    int64
}

// ParseOffsets reads an offset checkpoint, such as recovery-point-offset-checkpoint, by
// topic and partition. A partition that is named twice is an error.
func ParseOffsets(b []byte) ([]PartitionOffset, error) {
	offsets, err := parseOffsets(b)
	if err != nil {
		return nil, err
	}
	if lines := bytes.Count(bytes.TrimSuffix(b, []byte("\n")), []byte("\n")) - 1; lines > len(offsets) {
		return nil, errors.New("checkpoint names a partition twice")
	}
	out := make([]PartitionOffset, 0, len(offsets))
	for _, p := range sortedPlaces(offsets) {
		out = append(out, PartitionOffset{p.topic, p.partition, offsets[p]})
	}
	return out, nil
}

// EpochStart is a line of leader-epoch-checkpoint.
type EpochStart struct {
	Epoch int32
	Start int64
}

// ParseEpochs reads leader-epoch-checkpoint.
func ParseEpochs(b []byte) ([]EpochStart, error) {
	es, err := parseEpochs(b)
	out := make([]EpochStart, len(es))
	for i, e := range es {
		out[i] = EpochStart{e.epoch, e.start}
	}
	return out, err
}

// ParseTopicID reads partition.metadata.
func ParseTopicID(b []byte) (id [16]byte, err error) { return parseMetadata(b) }

// Replay tells what a log's batches make of its producers, by the rules of the log itself.
type Replay struct{ ps *producers }

// NewReplay knows of no producer.
func NewReplay() *Replay { return &Replay{newProducers()} }

// Apply takes in the next batch, whose bytes are b. It returns the entry of the transaction
// index that the batch makes, if it aborts a transaction. Error: what is no marker.
func (r *Replay) Apply(h *batch.Header, b []byte) (*AbortedEntry, error) {
	if !h.HasProducer() {
		return nil, nil
	}
	m, err := markerOf(h, b)
	if err != nil {
		return nil, err
	}
	done := r.ps.apply(h, m)
	if done == nil || !done.aborted {
		return nil, nil
	}
	e := r.ps.abortedBy(done)
	return &AbortedEntry{0, e.producerID, e.firstOffset, e.lastOffset, e.stable}, nil
}

// Len is how many producers there are.
func (r *Replay) Len() int { return len(r.ps.byID) }

// Producer gives what is known of one.
func (r *Replay) Producer(id int64) (ProducerEntry, bool) {
	p := r.ps.byID[id]
	if p == nil {
		return ProducerEntry{}, false
	}
	return p.entry(id), true
}

// InTransaction gives the producers with an open transaction, by its first offset.
func (r *Replay) InTransaction() []int64 {
	ids := make([]int64, 0, len(r.ps.open))
	for _, t := range r.ps.open {
		ids = append(ids, t.producerID)
	}
	return ids
}

// Load takes the state of a producer from an entry of a snapshot, whose bytes are b.
func (r *Replay) Load(b []byte) {
	id, p := decodeProducer(b)
	r.ps.byID[id] = p
	if p.txnFirst >= 0 {
		r.ps.begin(openTxn{p.txnFirst, id})
	}
}

// FirstSequence is the sequence of the first record of the producer's last batch.
func (e *ProducerEntry) FirstSequence() int32 {
	return batch.SubSequence(e.LastSequence, e.OffsetDelta)
}
