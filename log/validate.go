package log

import (
	"fmt"
	"math"

	"github.com/rotpeter/rotpeter/log/batch"
)

// tools are what one append may need for a while: pooled.
type tools struct {
	decoder batch.Decoder
	encoder batch.Encoder
	recoded []byte `poison:"own"`
	in      [1]incoming
	check   recordCheck
}

// validate checks a client's batch and brings it into the form that the topic
// wants (UnifiedLog.analyzeAndValidateRecords, LogValidator). Everything but the
// offsets is final afterwards; e.b is b, or a buffer of t.
//
// Kafka decompresses every batch to find lies about counts and timestamps, and so
// do we: what a consumer cannot read must be refused to its producer.
func (l *Log) validate(e *incoming, b []byte, nowMillis int64, c *Config, t *tools) error {
	h, err := batch.Check(b, c.MaxMessageBytes)
	if err != nil {
		return refusal(err)
	}
	e.h, e.b, e.marker = h, b[:h.Size()], nil
	to, level := h.Codec(), 0
	if !c.KeepCompression {
		to, level = c.Compression, c.CompressionLevel
	}
	v := &t.check
	v.begin(l.at, &e.h, c, nowMillis)
	if to == h.Codec() {
		if err := t.decoder.Scan(&e.h, e.b, l.store.o.recordsBytes(), v.visit); err != nil {
			return refusal(err)
		}
	}
	// Kafka numbers the records of a compressed batch anew where it must rewrite it.
	if to != h.Codec() || v.gaps && to != batch.None && v.errors == nil {
		v.begin(l.at, &e.h, c, nowMillis)
		t.recoded, err = t.encoder.Recode(t.recoded[:0], &t.decoder, &e.h, e.b, to, level, l.store.o.recordsBytes(), c.MaxMessageBytes, v.visit)
		if v.errors != nil { // they come before the size
			return v.errors
		}
		if err != nil {
			return refusal(err)
		}
		e.b = t.recoded
	}
	if v.errors != nil {
		return v.errors
	}
	if c.LogAppendTime {
		batch.SetTimestamp(e.b, nowMillis, true)
	} else {
		batch.SetTimestamp(e.b, v.maxTimestamp, false)
	}
	e.h, err = batch.ParseHeader(e.b)
	return refusal(err)
}

func (o *Options) recordsBytes() int64 {
	if o.RecordsBytes > 0 {
		return o.RecordsBytes
	}
	return batch.MaxRecordsBytes
}

// recordCheck holds the rules for single records.
type recordCheck struct {
	at           place
	h            *batch.Header
	c            *Config
	nowMillis    int64
	maxTimestamp int64
	gaps         bool // offset deltas are not 0, 1, 2, ...
	errors       *RecordErrors
}

func (v *recordCheck) begin(at place, h *batch.Header, c *Config, nowMillis int64) {
	*v = recordCheck{at: at, h: h, c: c, nowMillis: nowMillis, maxTimestamp: batch.NoTimestamp}
}

func (v *recordCheck) visit(r batch.Brief) error {
	timestamp := v.h.BaseTimestamp + r.TimestampDelta
	if v.h.LogAppendTime() {
		timestamp = v.h.MaxTimestamp
	}
	switch {
	case v.c.Compact && r.KeyBytes < 0:
		v.refuse(r.Index, ErrInvalidRecord, "Compacted topic cannot accept message without key in topic partition "+v.at.String())
		return nil
	case !v.c.LogAppendTime && timestamp != batch.NoTimestamp:
		if v.tooFar(timestamp) {
			v.refuse(r.Index, ErrInvalidTimestamp, fmt.Sprintf("Timestamp %d of message with offset %d is out of range. The timestamp should be within [%d, %d]",
				timestamp, v.h.BaseOffset+int64(r.OffsetDelta), v.nowMillis-v.c.TimestampBeforeMaxMillis, v.nowMillis+v.c.TimestampAfterMaxMillis))
			return nil
		}
	case v.h.LogAppendTime():
		v.refuse(r.Index, ErrInvalidTimestamp, fmt.Sprintf("Invalid timestamp type in message DefaultRecord(offset=%d, timestamp=%d, key=%d bytes, value=%d bytes). Producer should not set timestamp type to LogAppendTime.",
			v.h.BaseOffset+int64(r.OffsetDelta), timestamp, max(r.KeyBytes, 0), max(r.ValueBytes, 0)))
		return nil
	}
	v.maxTimestamp = max(v.maxTimestamp, timestamp)
	if int(r.OffsetDelta) != r.Index {
		v.gaps = true
	}
	return nil
}

// tooFar holds message.timestamp.before.max.ms and .after.max.ms, safe against
// timestamps at the ends of what 64 bits hold.
func (v *recordCheck) tooFar(timestamp int64) bool {
	age := v.nowMillis - timestamp
	if timestamp < 0 && age < 0 {
		age = math.MaxInt64
	}
	return age > v.c.TimestampBeforeMaxMillis || -age > v.c.TimestampAfterMaxMillis
}

func (v *recordCheck) refuse(index int, kind error, message string) {
	if v.errors == nil {
		v.errors = &RecordErrors{Kind: kind}
	}
	if kind == ErrInvalidTimestamp {
		v.errors.Kind = kind
	}
	if len(v.errors.Records) < maxRecordErrors {
		v.errors.Records = append(v.errors.Records, RecordError{int32(index), message})
	}
}
