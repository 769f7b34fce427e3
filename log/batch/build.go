package batch

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Message is one record to write.
type Message struct {
	Timestamp  int64 // milliseconds, -1: none
	Key, Value []byte
	Headers    []RecordHeader
}

// Options are the header fields of a batch to build. The zero value is not
// useful: ProducerID, ProducerEpoch and BaseSequence are -1 for plain batches, as
// Plain sets them.
type Options struct {
	BaseOffset    int64
	LeaderEpoch   int32
	ProducerID    int64
	ProducerEpoch int16
	BaseSequence  int32
	Transactional bool
	Control       bool
	Codec         Codec
	Level         int // compression level of the codec, 0: its default

	// LogAppendTime marks the batch so; AppendTime is then its timestamp.
	LogAppendTime bool
	AppendTime    int64
}

// Plain returns the options of a batch without a producer id.
func Plain() Options {
	return Options{LeaderEpoch: NoLeaderEpoch, ProducerID: NoProducerID, ProducerEpoch: NoProducerEpoch, BaseSequence: NoSequence}
}

// Append appends an uncompressed batch of the messages, of which there is at
// least one. o.Codec must be None.
func Append(dst []byte, o Options, messages []Message) []byte {
	o.Codec = None
	return appendPlain(dst, &o, messages)
}

func appendPlain(dst []byte, o *Options, messages []Message) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, HeaderBytes)...)
	for i := range messages {
		dst = appendRecord(dst, int32(i), messages[i].Timestamp-messages[0].Timestamp, &messages[i])
	}
	h := o.header(messages)
	encode(dst[start:], &h)
	return dst
}

// header makes the header of a batch of the messages.
func (o *Options) header(messages []Message) Header {
	h := Header{
		BaseOffset: o.BaseOffset, LeaderEpoch: o.LeaderEpoch, Attributes: int16(o.Codec),
		BaseTimestamp: NoTimestamp, MaxTimestamp: NoTimestamp, LastOffsetDelta: int32(max(len(messages)-1, 0)),
		ProducerID: o.ProducerID, ProducerEpoch: o.ProducerEpoch, BaseSequence: o.BaseSequence, Count: int32(len(messages)),
	}
	for i := range messages {
		h.MaxTimestamp = max(h.MaxTimestamp, messages[i].Timestamp)
	}
	if len(messages) > 0 {
		h.BaseTimestamp = messages[0].Timestamp
	}
	if o.LogAppendTime {
		h.Attributes |= logAppendTimeBit
		h.MaxTimestamp = o.AppendTime
	}
	if o.Transactional {
		h.Attributes |= transactionalBit
	}
	if o.Control {
		h.Attributes |= controlBit
	}
	return h
}

// Append appends a batch of the messages, compressed as o says.
// The error is that of a wrong codec or level.
func (e *Encoder) Append(dst []byte, o Options, messages []Message) ([]byte, error) {
	if o.Codec == None {
		return appendPlain(dst, &o, messages), nil
	}
	var records []byte
	for i := range messages {
		records = appendRecord(records, int32(i), messages[i].Timestamp-messages[0].Timestamp, &messages[i])
	}
	start := len(dst)
	dst = append(dst, make([]byte, HeaderBytes)...)
	dst, err := e.compress(dst, o.Codec, o.Level, records)
	if err != nil {
		return dst[:start], err
	}
	h := o.header(messages)
	encode(dst[start:], &h)
	return dst, nil
}

// RecordBytes is the size of a record in an uncompressed batch.
func RecordBytes(offsetDelta int32, timestampDelta int64, m *Message) int {
	body := bodyBytes(offsetDelta, timestampDelta, m)
	return varintBytes(int64(body)) + body
}

func bodyBytes(offsetDelta int32, timestampDelta int64, m *Message) int {
	n := 1 + varintBytes(timestampDelta) + varintBytes(int64(offsetDelta)) +
		fieldBytes(m.Key) + fieldBytes(m.Value) + varintBytes(int64(len(m.Headers)))
	for i := range m.Headers {
		n += varintBytes(int64(len(m.Headers[i].Key))) + len(m.Headers[i].Key) + fieldBytes(m.Headers[i].Value)
	}
	return n
}

func fieldBytes(b []byte) int {
	if b == nil {
		return 1
	}
	return varintBytes(int64(len(b))) + len(b)
}

func varintBytes(v int64) int {
	n := 1
	for u := uint64(v<<1) ^ uint64(v>>63); u >= 0x80; u >>= 7 {
		n++
	}
	return n
}

func appendRecord(dst []byte, offsetDelta int32, timestampDelta int64, m *Message) []byte {
	n := bodyBytes(offsetDelta, timestampDelta, m)
	dst = slices.Grow(dst, n+binary.MaxVarintLen32)
	dst = binary.AppendVarint(dst, int64(n))
	dst = append(dst, 0)
	dst = binary.AppendVarint(dst, timestampDelta)
	dst = binary.AppendVarint(dst, int64(offsetDelta))
	dst = appendField(dst, m.Key)
	dst = appendField(dst, m.Value)
	dst = binary.AppendVarint(dst, int64(len(m.Headers)))
	for i := range m.Headers {
		dst = binary.AppendVarint(dst, int64(len(m.Headers[i].Key)))
		dst = append(dst, m.Headers[i].Key...)
		dst = appendField(dst, m.Headers[i].Value)
	}
	return dst
}

func appendField(dst, b []byte) []byte {
	if b == nil {
		return append(dst, 1) // -1
	}
	dst = binary.AppendVarint(dst, int64(len(b)))
	return append(dst, b...)
}

// Recode appends the batch b (exactly one, with header h) with its records
// compressed by another codec and numbered from 0 without gaps; everything else
// stays. The records are visited on the way. limit bounds the decompressed size,
// maxBytes the result: both in bytes. Nothing is appended on an error.
// Errors: those of Scan, ErrTooLarge.
func (e *Encoder) Recode(dst []byte, d *Decoder, h *Header, b []byte, to Codec, level int, limit int64, maxBytes int, visit func(Brief) error) ([]byte, error) {
	w, err := d.open(h, b, limit)
	if err != nil {
		return dst, err
	}
	start := len(dst)
	s, err := e.open(append(dst, make([]byte, HeaderBytes)...), to, level)
	if err != nil {
		return dst, err
	}
	s.end = start + maxBytes
	if err := s.rewrite(&w, h.Count, visit); err != nil {
		return dst, err
	}
	out, err := s.close()
	if err != nil {
		return dst, err
	}
	if len(out)-start > maxBytes {
		return dst, fmt.Errorf("%w: at most %d bytes", ErrTooLarge, maxBytes)
	}
	nh := *h
	nh.Attributes = h.Attributes&^codecMask | int16(to)
	nh.LastOffsetDelta = max(h.Count-1, 0)
	encode(out[start:], &nh)
	return out, nil
}

// rewrite copies the records, numbered anew, from w to the stream.
func (s *stream) rewrite(w *walker, count int32, visit func(Brief) error) error {
	var b Brief
	for i := range int(count) {
		b.Index = i
		w.out = nil // the old prefix is not copied
		length, body, ok := w.prefix(&b)
		if !ok {
			return w.broken("incorrect declared batch size, premature end")
		}
		was := int(w.pos() - body)
		now := 1 + varintBytes(b.TimestampDelta) + varintBytes(int64(i))
		s.prefix = binary.AppendVarint(s.prefix[:0], int64(int(length)-was+now))
		s.prefix = append(s.prefix, byte(b.Attributes))
		s.prefix = binary.AppendVarint(s.prefix, b.TimestampDelta)
		s.prefix = binary.AppendVarint(s.prefix, int64(i))
		if err := s.write(s.prefix); err != nil {
			return err
		}
		w.out, w.mark = s, w.r
		if !w.rest(&b) {
			return w.broken("incorrect declared batch size, premature end")
		}
		if w.pos()-body != int64(length) {
			return w.broken("record size does not match its content")
		}
		if w.flush(); w.err != nil {
			return w.err
		}
		if err := visit(b); err != nil {
			return err
		}
	}
	w.out = nil
	return w.finish()
}
