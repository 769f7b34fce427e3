package batch

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

const (
	// HeaderBytes is the size of a batch without records (RECORD_BATCH_OVERHEAD).
	HeaderBytes = 61
	// Overhead is what comes before the part that the length field counts.
	Overhead = 12
	// Magic is the one record format version there is.
	Magic = 2
	// NoProducerID, NoProducerEpoch and NoSequence mark a batch of a producer
	// without idempotence; NoTimestamp a record without a time, NoLeaderEpoch a
	// batch that no leader has stamped.
	NoProducerID    int64 = -1
	NoProducerEpoch int16 = -1
	NoSequence      int32 = -1
	NoTimestamp     int64 = -1
	NoLeaderEpoch   int32 = -1

	// minBytesAfterOverhead is the smallest body that Kafka takes for a batch of
	// any version (LegacyRecord.RECORD_OVERHEAD_V0).
	minBytesAfterOverhead = 14

	lengthAt          = 8
	leaderEpochAt     = 12
	magicAt           = 16
	crcAt             = 17
	attributesAt      = 21
	lastOffsetDeltaAt = 23
	baseTimestampAt   = 27
	maxTimestampAt    = 35
	producerIDAt      = 43
	producerEpochAt   = 51
	baseSequenceAt    = 53
	countAt           = 57
)

// Attribute bits.
const (
	codecMask         int16 = 0x07
	logAppendTimeBit  int16 = 0x08
	transactionalBit  int16 = 0x10
	controlBit        int16 = 0x20
	deleteHorizonBit  int16 = 0x40
	maxSequence       int32 = 1<<31 - 1
	maxBatchRemainder       = 1<<31 - 1
)

// castagnoli is the polynomial of CRC-32C.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header is the 61 bytes in front of the records.
type Header struct {
	BaseOffset      int64
	Length          int32 // bytes after this field
	LeaderEpoch     int32 // -1: none
	CRC             uint32
	Attributes      int16
	LastOffsetDelta int32
	BaseTimestamp   int64 // milliseconds, or the delete horizon if that is set
	MaxTimestamp    int64
	ProducerID      int64 // -1: none
	ProducerEpoch   int16
	BaseSequence    int32
	Count           int32 // records; may be 0 after compaction
	Old             bool  // a message of format 0 or 1: see Stored
}

// Size is the whole batch in bytes.
func (h *Header) Size() int { return Overhead + int(h.Length) }

// LastOffset is the offset of the last record, even if compaction removed it.
func (h *Header) LastOffset() int64 { return h.BaseOffset + int64(h.LastOffsetDelta) }

// Codec is how the records are compressed.
func (h *Header) Codec() Codec { return Codec(h.Attributes & codecMask) }

// LogAppendTime tells that MaxTimestamp is the time of every record.
func (h *Header) LogAppendTime() bool { return h.Attributes&logAppendTimeBit != 0 }

// Transactional tells that the batch belongs to a transaction.
func (h *Header) Transactional() bool { return h.Attributes&transactionalBit != 0 }

// Control tells that the batch is not data but a marker (see control.go).
func (h *Header) Control() bool { return h.Attributes&controlBit != 0 }

// DeleteHorizon is the time in milliseconds after which the cleaner may drop
// tombstones and markers of this batch.
func (h *Header) DeleteHorizon() (millis int64, ok bool) {
	return h.BaseTimestamp, h.Attributes&deleteHorizonBit != 0
}

// HasProducer tells that an idempotent or transactional producer made the batch.
func (h *Header) HasProducer() bool { return h.ProducerID > NoProducerID }

// LastSequence is the sequence of the last record; it wraps after 2147483647 to 0.
func (h *Header) LastSequence() int32 {
	if h.BaseSequence == NoSequence {
		return NoSequence
	}
	return AddSequence(h.BaseSequence, h.LastOffsetDelta)
}

// AddSequence moves a sequence number forward, from 2147483647 to 0.
func AddSequence(sequence, n int32) int32 {
	if sequence > maxSequence-n {
		return n - (maxSequence - sequence) - 1
	}
	return sequence + n
}

// SubSequence moves a sequence number back, from 0 to 2147483647.
func SubSequence(sequence, n int32) int32 {
	if sequence < n {
		return maxSequence - (n - sequence) + 1
	}
	return sequence - n
}

// ParseHeader reads the header at the start of b; the records need not be there.
// Errors: ErrNone if b is too short, ErrCorrupt, ErrMagic.
func ParseHeader(b []byte) (Header, error) {
	if _, err := bound(b); err != nil {
		return Header{}, err
	}
	if len(b) < HeaderBytes {
		return Header{}, ErrNone
	}
	return decode(b), nil
}

// Parse reads the header of the batch at the start of b and makes sure that the
// whole batch is there: b[:h.Size()]. It does not look at CRC and records.
// Errors: ErrNone if the batch is not complete, ErrCorrupt, ErrMagic.
func Parse(b []byte) (Header, error) {
	size, err := bound(b)
	if err != nil {
		return Header{}, err
	}
	if len(b) < size {
		return Header{}, ErrNone
	}
	return decode(b), nil
}

// bound checks what stands before the CRC and returns the size of the batch.
func bound(b []byte) (size int, err error) {
	size, magic, err := peek(b)
	switch {
	case err != nil:
		return 0, err
	case magic != Magic:
		return 0, fmt.Errorf("%w %d", ErrMagic, magic)
	case size < HeaderBytes:
		return 0, fmt.Errorf("%w: its size %d is smaller than the header", ErrCorrupt, size)
	}
	return size, nil
}

// peek is what Kafka's ByteBufferLogInputStream does before it believes in a batch.
func peek(b []byte) (size int, magic int8, err error) {
	if len(b) < Overhead {
		return 0, 0, ErrNone
	}
	length := int32(binary.BigEndian.Uint32(b[lengthAt:]))
	if length < minBytesAfterOverhead {
		return 0, 0, &UnreadableError{fmt.Sprintf("Record size %d is less than the minimum record overhead (%d)", length, minBytesAfterOverhead)}
	}
	if length > maxBatchRemainder-Overhead {
		return 0, 0, &UnreadableError{fmt.Sprintf("Record size %d exceeds the largest allowable message size (%d).", length, maxBatchRemainder-Overhead)}
	}
	if len(b) <= magicAt {
		return 0, 0, ErrNone
	}
	if magic = int8(b[magicAt]); magic < 0 || magic > Magic {
		return 0, 0, &UnreadableError{fmt.Sprintf("Invalid magic found in record: %d", magic)}
	}
	return Overhead + int(length), magic, nil
}

// decode reads the fields; b holds at least HeaderBytes.
func decode(b []byte) Header {
	b = b[:HeaderBytes]
	return Header{
		BaseOffset:      int64(binary.BigEndian.Uint64(b)),
		Length:          int32(binary.BigEndian.Uint32(b[lengthAt:])),
		LeaderEpoch:     int32(binary.BigEndian.Uint32(b[leaderEpochAt:])),
		CRC:             binary.BigEndian.Uint32(b[crcAt:]),
		Attributes:      int16(binary.BigEndian.Uint16(b[attributesAt:])),
		LastOffsetDelta: int32(binary.BigEndian.Uint32(b[lastOffsetDeltaAt:])),
		BaseTimestamp:   int64(binary.BigEndian.Uint64(b[baseTimestampAt:])),
		MaxTimestamp:    int64(binary.BigEndian.Uint64(b[maxTimestampAt:])),
		ProducerID:      int64(binary.BigEndian.Uint64(b[producerIDAt:])),
		ProducerEpoch:   int16(binary.BigEndian.Uint16(b[producerEpochAt:])),
		BaseSequence:    int32(binary.BigEndian.Uint32(b[baseSequenceAt:])),
		Count:           int32(binary.BigEndian.Uint32(b[countAt:])),
	}
}

// encode writes the fields of h and computes the CRC over b[attributesAt:], which
// must already hold the records. h.Length and h.CRC are ignored.
func encode(b []byte, h *Header) {
	binary.BigEndian.PutUint64(b, uint64(h.BaseOffset))
	binary.BigEndian.PutUint32(b[lengthAt:], uint32(len(b)-Overhead))
	binary.BigEndian.PutUint32(b[leaderEpochAt:], uint32(h.LeaderEpoch))
	b[magicAt] = Magic
	binary.BigEndian.PutUint16(b[attributesAt:], uint16(h.Attributes))
	binary.BigEndian.PutUint32(b[lastOffsetDeltaAt:], uint32(h.LastOffsetDelta))
	binary.BigEndian.PutUint64(b[baseTimestampAt:], uint64(h.BaseTimestamp))
	binary.BigEndian.PutUint64(b[maxTimestampAt:], uint64(h.MaxTimestamp))
	binary.BigEndian.PutUint64(b[producerIDAt:], uint64(h.ProducerID))
	binary.BigEndian.PutUint16(b[producerEpochAt:], uint16(h.ProducerEpoch))
	binary.BigEndian.PutUint32(b[baseSequenceAt:], uint32(h.BaseSequence))
	binary.BigEndian.PutUint32(b[countAt:], uint32(h.Count))
	seal(b)
}

// seal computes the CRC of a whole batch.
func seal(b []byte) {
	binary.BigEndian.PutUint32(b[crcAt:], crc32.Checksum(b[attributesAt:], castagnoli))
}

// CheckCRC compares the stored CRC with that of the batch at the start of b,
// whose header is h. Error: ErrCorrupt.
func CheckCRC(h *Header, b []byte) error {
	if sum := crc32.Checksum(b[attributesAt:h.Size()], castagnoli); sum != h.CRC {
		return fmt.Errorf("%w: stored crc %d, computed crc %d", ErrCorrupt, h.CRC, sum)
	}
	return nil
}

// CheckShape holds the rules between the header's own fields that are true of
// every batch in a log, also after compaction. Error: ErrCorrupt.
func CheckShape(h *Header) error {
	if h.BaseOffset < 0 || h.LastOffsetDelta < 0 || h.Count < 0 || int64(h.Count) > int64(h.LastOffsetDelta)+1 {
		return fmt.Errorf("%w: base offset %d, last offset delta %d, %d records", ErrCorrupt, h.BaseOffset, h.LastOffsetDelta, h.Count)
	}
	return nil
}

// SetBaseOffset numbers the records of the batch at the start of b.
func SetBaseOffset(b []byte, offset int64) { binary.BigEndian.PutUint64(b, uint64(offset)) }

// SetLeaderEpoch stamps the batch at the start of b.
func SetLeaderEpoch(b []byte, epoch int32) {
	binary.BigEndian.PutUint32(b[leaderEpochAt:], uint32(epoch))
}

// SetTimestamp sets the maximum timestamp of the whole batch b and whether it is
// the time of every record. The CRC is computed again only if something changed.
func SetTimestamp(b []byte, maxTimestamp int64, logAppendTime bool) {
	h := decode(b)
	if h.MaxTimestamp == maxTimestamp && h.LogAppendTime() == logAppendTime {
		return
	}
	h.Attributes &^= logAppendTimeBit
	if logAppendTime {
		h.Attributes |= logAppendTimeBit
	}
	binary.BigEndian.PutUint16(b[attributesAt:], uint16(h.Attributes))
	binary.BigEndian.PutUint64(b[maxTimestampAt:], uint64(maxTimestamp))
	seal(b)
}
