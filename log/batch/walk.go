package batch

import (
	"fmt"
	"io"
)

// windowBytes is what a walk over compressed records holds at once.
const windowBytes = 32 << 10

// Record is one record of a batch. Slices point into the batch or into the
// decoder's buffer and are valid during the callback only.
type Record struct {
	Attributes     int8 // unused by Kafka, 0
	TimestampDelta int64
	OffsetDelta    int32
	Key, Value     []byte // nil = null
	Headers        []RecordHeader
}

// RecordHeader is one header of a record. A nil Value is null.
type RecordHeader struct{ Key, Value []byte }

// Brief is what Scan tells of one record.
type Brief struct {
	Index          int // place in the batch, from 0
	Attributes     int8
	TimestampDelta int64
	OffsetDelta    int32
	KeyBytes       int32 // -1: null
	ValueBytes     int32 // -1: null
}

// walker reads records through a window. Everything it is given may be a lie.
type walker struct {
	buf  []byte
	r, w int       // unread: buf[r:w]
	in   io.Reader // nil: buf[:w] is all there is
	left int64     // bytes that in may still give
	base int64     // position of buf[0] in the stream
	err  error     // why nothing more comes, other than the end

	out  *stream // rewriting: what is consumed from mark on is copied here
	mark int
}

// fill drops what was read and gets more; false at the end or on error.
func (w *walker) fill() bool {
	if w.in == nil || w.err != nil {
		return false
	}
	if w.flush(); w.err != nil {
		return false
	}
	w.base += int64(w.r)
	w.r, w.w, w.mark = 0, 0, 0
	for range 100 { // a reader that gives neither bytes nor an error is broken
		n, err := w.in.Read(w.buf)
		w.w = n
		if w.left -= int64(n); w.left < 0 {
			w.err, w.w = ErrExpands, 0
			return false
		}
		if err != nil && err != io.EOF {
			w.err = fmt.Errorf("%w: decompress: %w", ErrRecord, err)
		}
		if n > 0 {
			return true
		}
		if err != nil {
			return false
		}
	}
	w.err = fmt.Errorf("%w: decompress: %w", ErrRecord, io.ErrNoProgress)
	return false
}

// flush copies what was consumed since mark to the output of a rewrite.
func (w *walker) flush() {
	if w.out == nil {
		return
	}
	if err := w.out.write(w.buf[w.mark:w.r]); err != nil && w.err == nil {
		w.err = err
	}
	w.mark = w.r
}

func (w *walker) pos() int64 { return w.base + int64(w.r) }

// broken says why a record could not be read.
func (w *walker) broken(what string) error {
	if w.err != nil {
		return w.err
	}
	return fmt.Errorf("%w: %s", ErrRecord, what)
}

func (w *walker) byte() (byte, bool) {
	if w.r == w.w && !w.fill() {
		return 0, false
	}
	b := w.buf[w.r]
	w.r++
	return b, true
}

// varint reads a zig-zag number of at most five bytes.
func (w *walker) varint() (int32, bool) {
	if w.r < w.w && w.buf[w.r] < 0x80 {
		u := uint32(w.buf[w.r])
		w.r++
		return int32(u>>1) ^ -int32(u&1), true
	}
	var u uint32
	for shift := 0; shift < 35; shift += 7 {
		b, ok := w.byte()
		if !ok {
			return 0, false
		}
		u |= uint32(b&0x7f) << shift
		if b < 0x80 {
			return int32(u>>1) ^ -int32(u&1), true
		}
	}
	return 0, false
}

// varlong reads a zig-zag number of at most ten bytes.
func (w *walker) varlong() (int64, bool) {
	var u uint64
	for shift := 0; shift < 70; shift += 7 {
		b, ok := w.byte()
		if !ok {
			return 0, false
		}
		u |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return int64(u>>1) ^ -int64(u&1), true
		}
	}
	return 0, false
}

// skip passes over n bytes; a negative n is a null and has none.
func (w *walker) skip(n int32) bool {
	for left := int(n); left > 0; {
		if w.r == w.w && !w.fill() {
			return false
		}
		step := min(left, w.w-w.r)
		w.r += step
		left -= step
	}
	return true
}

// take gives the next n bytes, which must all be in the window; nil for a null.
func (w *walker) take(n int32) ([]byte, bool) {
	if n < 0 {
		return nil, true
	}
	if int(n) > w.w-w.r {
		return nil, false
	}
	b := w.buf[w.r : w.r+int(n) : w.r+int(n)]
	w.r += int(n)
	return b, true
}

// prefix reads a record up to its offset delta: the length of its body, the
// position where the body begins, and the fields.
func (w *walker) prefix(b *Brief) (length int32, body int64, ok bool) {
	length, ok = w.varint()
	if !ok || length < 0 {
		return 0, 0, false
	}
	body = w.pos()
	a, ok := w.byte()
	if !ok {
		return 0, 0, false
	}
	b.Attributes = int8(a)
	if b.TimestampDelta, ok = w.varlong(); !ok {
		return 0, 0, false
	}
	b.OffsetDelta, ok = w.varint()
	return length, body, ok
}

// rest passes over key, value and headers.
func (w *walker) rest(b *Brief) bool {
	n, ok := w.varint()
	b.KeyBytes = max(n, -1)
	if !ok || !w.skip(n) {
		return false
	}
	n, ok = w.varint()
	b.ValueBytes = max(n, -1)
	if !ok || !w.skip(n) {
		return false
	}
	headers, ok := w.varint()
	if !ok || headers < 0 {
		return false
	}
	for range headers {
		if n, ok = w.varint(); !ok || n < 0 || !w.skip(n) {
			return false
		}
		if n, ok = w.varint(); !ok || !w.skip(n) {
			return false
		}
	}
	return true
}

// finish makes sure that nothing is left after the last record.
func (w *walker) finish() error {
	if w.r < w.w || w.fill() {
		return w.broken("records remain after the declared number")
	}
	return w.err
}

// scan visits count records.
func (w *walker) scan(count int32, visit func(Brief) error) error {
	var b Brief
	for i := range int(count) {
		b.Index = i
		length, body, ok := w.prefix(&b)
		if !ok || !w.rest(&b) {
			return w.broken("incorrect declared batch size, premature end")
		}
		if w.pos()-body != int64(length) {
			return w.broken("record size does not match its content")
		}
		if err := visit(b); err != nil {
			return err
		}
	}
	return w.finish()
}

// records visits count records with their bytes; the window is the whole input.
func (w *walker) records(count int32, visit func(Record) error) error {
	var b Brief
	var headers []RecordHeader
	for range count {
		length, body, ok := w.prefix(&b)
		rec := Record{Attributes: b.Attributes, TimestampDelta: b.TimestampDelta, OffsetDelta: b.OffsetDelta}
		if !ok || !w.fields(&rec, &headers) {
			return w.broken("incorrect declared batch size, premature end")
		}
		if w.pos()-body != int64(length) {
			return w.broken("record size does not match its content")
		}
		if err := visit(rec); err != nil {
			return err
		}
	}
	return w.finish()
}

// fields reads key, value and headers of rec. The slice of headers is used again.
func (w *walker) fields(rec *Record, headers *[]RecordHeader) bool {
	n, ok := w.varint()
	if !ok {
		return false
	}
	if rec.Key, ok = w.take(n); !ok {
		return false
	}
	if n, ok = w.varint(); !ok {
		return false
	}
	if rec.Value, ok = w.take(n); !ok {
		return false
	}
	count, ok := w.varint()
	if !ok || count < 0 || int(count) > w.w-w.r {
		return false
	}
	*headers = (*headers)[:0]
	for range count {
		var h RecordHeader
		if n, ok = w.varint(); !ok || n < 0 {
			return false
		}
		if h.Key, ok = w.take(n); !ok {
			return false
		}
		if n, ok = w.varint(); !ok {
			return false
		}
		if h.Value, ok = w.take(n); !ok {
			return false
		}
		*headers = append(*headers, h)
	}
	rec.Headers = *headers
	return true
}
