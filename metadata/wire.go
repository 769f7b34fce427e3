package metadata

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// maxStringBytes is the longest string of a metadata record; Kafka refuses longer
// ones when it reads.
const maxStringBytes = math.MaxInt16

// errShort: the bytes end before the message does.
var errShort = errors.New("truncated")

// reader walks the bytes of one flexible-version message. The first error sticks:
// later reads return zero values, so a decoder checks once, at its end. Nothing
// that it returns aliases the input.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
		r.b = nil
	}
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail(errShort)
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) int8() int8 {
	if v := r.take(1); v != nil {
		return int8(v[0])
	}
	return 0
}

func (r *reader) bool() bool { return r.int8() != 0 }

func (r *reader) int16() int16 {
	if v := r.take(2); v != nil {
		return int16(binary.BigEndian.Uint16(v))
	}
	return 0
}

func (r *reader) int32() int32 {
	if v := r.take(4); v != nil {
		return int32(binary.BigEndian.Uint32(v))
	}
	return 0
}

func (r *reader) int64() int64 {
	if v := r.take(8); v != nil {
		return int64(binary.BigEndian.Uint64(v))
	}
	return 0
}

func (r *reader) float64() float64 { return math.Float64frombits(uint64(r.int64())) }

func (r *reader) uuid() (id [16]byte) {
	copy(id[:], r.take(16))
	return id
}

// uvarint reads an unsigned variable-length number of at most 32 bits.
func (r *reader) uvarint() uint32 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || n > 5 || v > math.MaxUint32 {
		if n == 0 && len(r.b) < 5 {
			r.fail(errShort)
		} else {
			r.fail(errors.New("bad variable-length number"))
		}
		return 0
	}
	r.b = r.b[n:]
	return uint32(v)
}

// length reads a compact length: -1 is null. Each element takes at least size
// bytes, which bounds what a decoder allocates by the bytes that are really there.
func (r *reader) length(size int) int {
	n := int64(r.uvarint()) - 1
	if r.err != nil {
		return 0
	}
	if n > int64(len(r.b)/size) {
		r.fail(errShort)
		return 0
	}
	return int(n)
}

// nullableString returns nil for null.
func (r *reader) nullableString() *string {
	n := r.length(1)
	if n < 0 || r.err != nil {
		return nil
	}
	if n > maxStringBytes {
		r.fail(fmt.Errorf("string of %d bytes, at most %d are allowed", n, maxStringBytes))
		return nil
	}
	s := string(r.take(n))
	return &s
}

func (r *reader) string() string {
	s := r.nullableString()
	if s == nil {
		r.fail(errors.New("null where a string is required"))
		return ""
	}
	return *s
}

func (r *reader) bytes() []byte {
	n := r.length(1)
	if n < 0 {
		r.fail(errors.New("null where bytes are required"))
		return nil
	}
	return append([]byte{}, r.take(n)...)
}

// array calls each for every element of an array of which each takes at least
// size bytes. It reports whether the array was there: false for null.
func (r *reader) array(size int, each func()) bool {
	n := r.length(size)
	for i := 0; i < n && r.err == nil; i++ {
		each()
	}
	return n >= 0
}

// required is array for a field that must not be null.
func (r *reader) required(size int, each func()) {
	if !r.array(size, each) {
		r.fail(errors.New("null where an array is required"))
	}
}

// nullableInt32s returns nil for null, and a non-nil empty slice for an empty one.
func (r *reader) nullableInt32s() []int32 {
	v := []int32{}
	if !r.array(4, func() { v = append(v, r.int32()) }) {
		return nil
	}
	return v
}

func (r *reader) int32s() []int32 {
	v := r.nullableInt32s()
	if v == nil {
		r.fail(errors.New("null where an array is required"))
	}
	return v
}

// nullableUUIDs returns nil for null, and a non-nil empty slice for an empty one.
func (r *reader) nullableUUIDs() [][16]byte {
	v := [][16]byte{}
	if !r.array(16, func() { v = append(v, r.uuid()) }) {
		return nil
	}
	return v
}

func (r *reader) uuids() [][16]byte {
	v := r.nullableUUIDs()
	if v == nil {
		r.fail(errors.New("null where an array is required"))
	}
	return v
}

// TaggedField is a field at the end of a structure that readers may leave out.
type TaggedField struct {
	Tag   uint32
	Value []byte
}

// TaggedFields are those that this version of Kafka's schemas does not know, as they
// were read. They are written back with the structure that they came with.
type TaggedFields []TaggedField

// tags reads the tagged fields that end every structure. known decodes the value
// of a tag and reports false for one that it does not know; those are returned. A
// nil known knows none.
func (r *reader) tags(known func(tag uint32, v *reader) bool) (unknown TaggedFields) {
	n := r.count(2)
	for i := 0; i < n && r.err == nil; i++ {
		tag := r.uvarint()
		size := r.uvarint()
		if int64(size) > int64(len(r.b)) {
			r.fail(errShort)
			return nil
		}
		value := r.take(int(size))
		v := &reader{b: value}
		if known == nil || !known(tag, v) {
			unknown = append(unknown, TaggedField{tag, append([]byte{}, value...)})
			continue
		}
		if v.err != nil {
			r.fail(fmt.Errorf("tagged field %d: %w", tag, v.err))
		} else if len(v.b) > 0 {
			r.fail(fmt.Errorf("tagged field %d: %d bytes too many", tag, len(v.b)))
		}
	}
	return unknown
}

// count reads a plain unsigned count of things of at least size bytes each.
func (r *reader) count(size int) int {
	n := r.uvarint()
	if int64(n) > int64(len(r.b)/size) {
		r.fail(errShort)
		return 0
	}
	return int(n)
}

// end returns the first error, or one if bytes are left over.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%d bytes of garbage at the end", len(r.b))
	}
	return r.err
}

func appendInt16(b []byte, v int16) []byte { return binary.BigEndian.AppendUint16(b, uint16(v)) }
func appendInt32(b []byte, v int32) []byte { return binary.BigEndian.AppendUint32(b, uint32(v)) }
func appendInt64(b []byte, v int64) []byte { return binary.BigEndian.AppendUint64(b, uint64(v)) }

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendFloat64(b []byte, v float64) []byte { return appendInt64(b, int64(math.Float64bits(v))) }

// appendLength writes the compact length of something that is not null.
func appendLength(b []byte, n int) []byte { return binary.AppendUvarint(b, uint64(n)+1) }

func appendString(b []byte, s string) []byte { return append(appendLength(b, len(s)), s...) }

func appendNullableString(b []byte, s *string) []byte {
	if s == nil {
		return append(b, 0)
	}
	return appendString(b, *s)
}

func appendBytes(b, v []byte) []byte { return append(appendLength(b, len(v)), v...) }

func appendInt32s(b []byte, v []int32) []byte {
	b = appendLength(b, len(v))
	for _, x := range v {
		b = appendInt32(b, x)
	}
	return b
}

func appendUUIDs(b []byte, v [][16]byte) []byte {
	b = appendLength(b, len(v))
	for _, x := range v {
		b = append(b, x[:]...)
	}
	return b
}

// tagWriter gathers the tagged fields of one structure. Kafka leaves out a field
// that has its default value; so do the callers.
type tagWriter struct{ fields TaggedFields }

func (w *tagWriter) add(tag uint32, value []byte) {
	w.fields = append(w.fields, TaggedField{tag, value})
}

// appendTo writes the fields that were added and the unknown ones, in rising order
// of tag as Kafka demands. Of a lower version, a tag may be unknown that lies below
// a known one.
func (w *tagWriter) appendTo(b []byte, unknown TaggedFields) []byte {
	all := w.fields
	if len(unknown) > 0 {
		all = slices.Concat(w.fields, unknown)
		slices.SortStableFunc(all, func(a, b TaggedField) int { return cmp.Compare(a.Tag, b.Tag) })
	}
	b = binary.AppendUvarint(b, uint64(len(all)))
	for _, f := range all {
		b = binary.AppendUvarint(b, uint64(f.Tag))
		b = binary.AppendUvarint(b, uint64(len(f.Value)))
		b = append(b, f.Value...)
	}
	return b
}

// appendTags ends a structure that has no tagged fields of its own.
func appendTags(b []byte, unknown TaggedFields) []byte { return new(tagWriter).appendTo(b, unknown) }
