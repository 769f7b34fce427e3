package batch

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// legacyHeaderBytes is what Stored needs of a message: up to the attributes in format
// 0, up to the timestamp in format 1.
const legacyHeaderBytes = magicAt + 2 + 8

// Stored reads the header of what a log holds at the start of b, of which HeaderBytes are
// needed unless the file ends before. A message of format 0 or 1 (see Legacy) looks like a batch
// of one record at its offset, with Old set; the offsets that a wrapper holds before that are
// known to its messages only.
// Errors: ErrNone if b is too short, ErrCorrupt, ErrMagic.
func Stored(b []byte) (Header, error) {
	size, magic, err := peek(b)
	if err != nil || magic == Magic {
		if err == nil && len(b) < HeaderBytes {
			err = ErrNone
		}
		if err == nil && size < HeaderBytes {
			err = fmt.Errorf("%w: its size %d is smaller than the header", ErrCorrupt, size)
		}
		if err != nil {
			return Header{}, err
		}
		return decode(b), nil
	}
	if magic == 1 && size < legacyHeaderBytes+8 {
		return Header{}, fmt.Errorf("%w: a message of format 1 has %d bytes", ErrCorrupt, size)
	}
	if len(b) < min(size, legacyHeaderBytes) {
		return Header{}, ErrNone
	}
	h := Header{
		BaseOffset: int64(binary.BigEndian.Uint64(b)), Length: int32(binary.BigEndian.Uint32(b[lengthAt:])), CRC: binary.BigEndian.Uint32(b[Overhead:]),
		LeaderEpoch: NoLeaderEpoch, Attributes: int16(b[magicAt+1]) & codecMask, BaseTimestamp: NoTimestamp, MaxTimestamp: NoTimestamp,
		ProducerID: NoProducerID, ProducerEpoch: NoProducerEpoch, BaseSequence: NoSequence, Count: 1, Old: true,
	}
	if magic == 1 {
		h.Attributes |= int16(b[magicAt+1]) & logAppendTimeBit
		h.BaseTimestamp = int64(binary.BigEndian.Uint64(b[magicAt+2:]))
		h.MaxTimestamp = h.BaseTimestamp
	}
	return h, nil
}

// CRCFrom is where the bytes begin that the CRC of a stored batch or message covers, and
// how it is computed.
func (h *Header) CRCFrom() (at int64, table *crc32.Table) {
	if h.Old {
		return magicAt, crc32.IEEETable
	}
	return attributesAt, castagnoli
}

// CheckStoredCRC is CheckCRC for what Stored reads.
func CheckStoredCRC(h *Header, b []byte) error {
	at, table := h.CRCFrom()
	if sum := crc32.Checksum(b[at:h.Size()], table); sum != h.CRC {
		return fmt.Errorf("%w: stored crc %d, computed crc %d", ErrCorrupt, h.CRC, sum)
	}
	return nil
}

// StoredRecords is Records for what Stored reads: the batch or message b, with header h.
// Deltas of old messages count from the header's offset and timestamp, and offsets before it are negative.
// Errors: those of Records and LegacyMessages.
func (d *Decoder) StoredRecords(h *Header, b []byte, limit int64, visit func(Record) error) error {
	if !h.Old {
		return d.Records(b, limit, visit)
	}
	l, err := ParseLegacy(b)
	if err != nil {
		return err
	}
	return d.LegacyMessages(&l, limit, func(m Legacy) error {
		return visit(Record{OffsetDelta: int32(m.Offset - h.BaseOffset), TimestampDelta: m.Timestamp - h.BaseTimestamp, Key: m.Key, Value: m.Value})
	})
}

// filterOld is Filter for messages of format 0 or 1: what is left of them becomes a batch.
func (e *Encoder) filterOld(dst []byte, d *Decoder, h *Header, b []byte, f Filtering, keep func(*Record) bool) ([]byte, Filtered, error) {
	e.kept = e.kept[:0]
	nh, tombstones := *h, false
	err := d.StoredRecords(h, b, f.Limit, func(r Record) error {
		if !keep(&r) {
			return nil
		}
		offset := h.BaseOffset + int64(r.OffsetDelta)
		if len(e.kept) == 0 {
			nh.BaseOffset = offset
		}
		nh.LastOffsetDelta = int32(offset - nh.BaseOffset)
		rest := append(appendField(appendField(nil, r.Key), r.Value), 0) // no headers
		e.kept = append(e.kept, kept{nh.LastOffsetDelta, h.BaseTimestamp + r.TimestampDelta, rest})
		tombstones = tombstones || r.Value == nil
		return nil
	})
	if err != nil || len(e.kept) == 0 {
		return dst, Filtered{}, err
	}
	out, err := e.rebuild(dst, &nh, f.Horizon, tombstones && f.Horizon != NoTimestamp)
	return out, Filtered{Kept: len(e.kept)}, err
}
