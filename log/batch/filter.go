package batch

import (
	"encoding/binary"
	"math"
)

// Filtering says what Filter does with a batch.
type Filtering struct {
	// Limit bounds the decompressed size in bytes.
	Limit int64
	// KeepEmpty asks for the header of a batch of which no record is left: it is the
	// last of its producer, or of what is cleaned.
	KeepEmpty bool
	// Horizon is the delete horizon in milliseconds that a batch gets which has none yet
	// and holds tombstones, or anything if it is of an ended transaction without records;
	// NoTimestamp leaves it without.
	Horizon  int64
	EndedTxn bool
}

// Filtered is what Filter did.
type Filtered struct {
	Kept int  // records
	Same bool // the batch is as it was
}

// kept is one record that stays, without the prefix that is written anew.
type kept struct {
	offsetDelta int32
	timestamp   int64
	rest        []byte // key, value and headers as they were
}

// Filter appends what remains of the batch b (exactly one, with header h) when only
// the records that keep names are left. Offsets, sequences and the last offset stay as
// they were, so gaps are left behind (MemoryRecords.filterTo). Messages of old formats become a batch. Records are valid during
// the call of keep only. Nothing is appended if no record is left, unless KeepEmpty is set.
// Errors: those of Decoder.Records.
func (e *Encoder) Filter(dst []byte, d *Decoder, h *Header, b []byte, f Filtering, keep func(*Record) bool) ([]byte, Filtered, error) {
	if h.Old {
		return e.filterOld(dst, d, h, b, f, keep)
	}
	w, err := d.openWhole(h, b, f.Limit)
	if err != nil {
		return dst, Filtered{}, err
	}
	tombstones, err := e.choose(h, &w, keep)
	if err != nil {
		return dst, Filtered{}, err
	}
	done := Filtered{Kept: len(e.kept)}
	_, has := h.DeleteHorizon()
	setHorizon := (tombstones || f.EndedTxn) && !has && f.Horizon != NoTimestamp
	switch {
	case done.Kept == 0 && !f.KeepEmpty:
		return dst, done, nil
	case done.Kept == 0:
		done.Same = h.Count == 0
		return appendEmpty(dst, h, b), done, nil
	case done.Kept == int(h.Count) && !setHorizon:
		done.Same = true
		return append(dst, b...), done, nil
	}
	out, err := e.rebuild(dst, h, f.Horizon, setHorizon)
	return out, done, err
}

// openWhole starts a walk over records that are decompressed whole, so that what was
// read stays where it is.
func (d *Decoder) openWhole(h *Header, b []byte, limit int64) (walker, error) {
	w, err := d.open(h, b, limit)
	if err != nil || w.in == nil {
		return w, err
	}
	d.whole = d.whole[:0]
	for w.fill() {
		d.whole = append(d.whole, w.buf[:w.w]...)
		w.r = w.w
	}
	return walker{buf: d.whole, w: len(d.whole)}, w.err
}

// choose fills e.kept, and tells whether records without a value are among it.
func (e *Encoder) choose(h *Header, w *walker, keep func(*Record) bool) (tombstones bool, err error) {
	e.kept = e.kept[:0]
	var b Brief
	var headers []RecordHeader
	for range h.Count {
		length, body, ok := w.prefix(&b)
		from := w.r
		rec := Record{Attributes: b.Attributes, TimestampDelta: b.TimestampDelta, OffsetDelta: b.OffsetDelta}
		if !ok || !w.fields(&rec, &headers) {
			return false, w.broken("incorrect declared batch size, premature end")
		}
		if w.pos()-body != int64(length) {
			return false, w.broken("record size does not match its content")
		}
		if !keep(&rec) {
			continue
		}
		timestamp := h.BaseTimestamp + b.TimestampDelta
		if h.LogAppendTime() {
			timestamp = h.MaxTimestamp
		}
		tombstones = tombstones || rec.Value == nil
		e.kept = append(e.kept, kept{b.OffsetDelta, timestamp, w.buf[from:w.r]})
	}
	return tombstones, w.finish()
}

// rebuild appends a batch of e.kept.
func (e *Encoder) rebuild(dst []byte, h *Header, horizon int64, setHorizon bool) ([]byte, error) {
	start := len(dst)
	s, err := e.open(append(dst, make([]byte, HeaderBytes)...), h.Codec(), 0)
	if err != nil {
		return dst, err
	}
	nh := *h
	nh.Count, nh.MaxTimestamp = int32(len(e.kept)), NoTimestamp
	if _, has := h.DeleteHorizon(); setHorizon {
		nh.BaseTimestamp = horizon
		nh.Attributes |= deleteHorizonBit
	} else if !has {
		nh.BaseTimestamp = e.kept[0].timestamp
	}
	for i := range e.kept {
		k := &e.kept[i]
		nh.MaxTimestamp = max(nh.MaxTimestamp, k.timestamp)
		delta := k.timestamp - nh.BaseTimestamp
		n := 1 + varintBytes(delta) + varintBytes(int64(k.offsetDelta)) + len(k.rest)
		s.prefix = binary.AppendVarint(s.prefix[:0], int64(n))
		s.prefix = append(s.prefix, 0)
		s.prefix = binary.AppendVarint(s.prefix, delta)
		s.prefix = binary.AppendVarint(s.prefix, int64(k.offsetDelta))
		if err := s.write(s.prefix); err != nil {
			return dst, err
		}
		if err := s.write(k.rest); err != nil {
			return dst, err
		}
	}
	out, err := s.close()
	if err != nil {
		return dst, err
	}
	if len(out)-start-Overhead > math.MaxInt32 {
		return dst, ErrTooLarge
	}
	encode(out[start:], &nh)
	return out, nil
}

// appendEmpty appends the header of a batch without its records
// (DefaultRecordBatch.writeEmptyHeader).
func appendEmpty(dst []byte, h *Header, b []byte) []byte {
	if h.Count == 0 {
		return append(dst, b...)
	}
	start := len(dst)
	dst = append(dst, make([]byte, HeaderBytes)...)
	nh := *h
	nh.Attributes &= logAppendTimeBit | transactionalBit | controlBit
	nh.BaseTimestamp, nh.Count = h.MaxTimestamp, 0
	encode(dst[start:], &nh)
	return dst
}
