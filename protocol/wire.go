package protocol

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// ErrMalformed is what every error of a decoder is: the bytes are not what the
// API's schema says for their version.
var ErrMalformed = errors.New("malformed request")

// malformed names the message and the field that could not be read.
func malformed(message string, version int16, field string) error {
	return fmt.Errorf("%s v%d: %s: %w", message, version, field, ErrMalformed)
}

// maxNamed is the largest number of topics and partitions together that a
// Produce or a Fetch may name. A broker holds fewer; an empty topic is decoded
// into twenty times its bytes on the wire.
const maxNamed = 200_000

// reader reads Kafka's primitive types from a slice. At the first shortage it
// turns bad and gives zeroes from then on, so that callers check once.
type reader struct {
	b        []byte
	flexible bool
	bad      bool
}

func (r *reader) fail() {
	r.bad, r.b = true, nil
}

func (r *reader) int8() int8 {
	if len(r.b) < 1 {
		r.fail()
		return 0
	}
	v := int8(r.b[0])
	r.b = r.b[1:]
	return v
}

func (r *reader) int16() int16 {
	if len(r.b) < 2 {
		r.fail()
		return 0
	}
	v := int16(binary.BigEndian.Uint16(r.b))
	r.b = r.b[2:]
	return v
}

func (r *reader) int32() int32 {
	if len(r.b) < 4 {
		r.fail()
		return 0
	}
	v := int32(binary.BigEndian.Uint32(r.b))
	r.b = r.b[4:]
	return v
}

func (r *reader) int64() int64 {
	if len(r.b) < 8 {
		r.fail()
		return 0
	}
	v := int64(binary.BigEndian.Uint64(r.b))
	r.b = r.b[8:]
	return v
}

func (r *reader) uuid() (id [16]byte) {
	copy(id[:], r.span(16))
	return id
}

// uvarint reads an unsigned varint of at most 5 bytes (KIP-482).
func (r *reader) uvarint() uint32 {
	if len(r.b) > 0 && r.b[0] < 0x80 {
		v := uint32(r.b[0])
		r.b = r.b[1:]
		return v
	}
	var v uint64
	for i := 0; i < 5 && i < len(r.b); i++ {
		c := r.b[i]
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if v > math.MaxUint32 {
				break
			}
			r.b = r.b[i+1:]
			return uint32(v)
		}
	}
	r.fail()
	return 0
}

// span takes n bytes without copying them.
func (r *reader) span(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail()
		return nil
	}
	s := r.b[:n:n]
	r.b = r.b[n:]
	return s
}

// stringBytes reads a string, compact if the version is flexible; null is -1.
func (r *reader) stringLen() int {
	if r.flexible {
		return int(r.uvarint()) - 1
	}
	return int(r.int16())
}

// string reads a string that may not be null. Where it equals old, old is
// returned, so that decoding the same names again allocates nothing.
func (r *reader) string(old string) string {
	b := r.span(r.stringLen())
	if string(b) == old {
		return old
	}
	return string(b)
}

// nullableString is string for one that may be null.
func (r *reader) nullableString(old string) (s string, null bool) {
	n := r.stringLen()
	if n == -1 && !r.bad {
		return "", true
	}
	b := r.span(n)
	if string(b) == old {
		return old, false
	}
	return string(b), false
}

// nullableBytes reads bytes without copying them; null gives nil.
func (r *reader) nullableBytes() []byte {
	n := 0
	if r.flexible {
		n = int(r.uvarint()) - 1
	} else {
		n = int(r.int32())
	}
	if n == -1 {
		return nil
	}
	return r.span(n)
}

// arrayLen reads the length of an array that may not be null and whose elements
// take at least elementBytes each: a length that cannot be true is refused before
// anything is allocated for it.
func (r *reader) arrayLen(elementBytes int) int {
	n := 0
	if r.flexible {
		n = int(r.uvarint()) - 1
	} else {
		n = int(r.int32())
	}
	if n < 0 || n > len(r.b)/elementBytes {
		r.fail()
		return 0
	}
	return n
}

// skipTags reads over a struct's tagged fields.
func (r *reader) skipTags() {
	if !r.flexible {
		return
	}
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		r.uvarint()
		r.span(r.length())
	}
}

// length reads a varint that is a number of bytes.
func (r *reader) length() int { return int(r.uvarint()) }

// grow returns s with room for n more elements behind its length. What s held is
// not copied: the caller has handed out parts of it and goes on in the new one.
func grow[T any](s []T, n int) []T {
	if cap(s)-len(s) >= n {
		return s
	}
	return make([]T, 0, max(n, 2*cap(s)))
}

// The encoders below append to dst.

func putInt16(dst []byte, v int16) []byte { return binary.BigEndian.AppendUint16(dst, uint16(v)) }
func putInt32(dst []byte, v int32) []byte { return binary.BigEndian.AppendUint32(dst, uint32(v)) }
func putInt64(dst []byte, v int64) []byte { return binary.BigEndian.AppendUint64(dst, uint64(v)) }

func putUvarint(dst []byte, v uint32) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

func uvarintLen(v uint32) int { return (bits.Len32(v|1) + 6) / 7 }

// putString writes a string, cut to what the field's length can say.
func putString(dst []byte, s string, flexible bool) []byte {
	if flexible {
		return append(putUvarint(dst, uint32(len(s))+1), s...)
	}
	s = s[:min(len(s), math.MaxInt16)]
	return append(putInt16(dst, int16(len(s))), s...)
}

func putNullableString(dst []byte, s *string, flexible bool) []byte {
	switch {
	case s != nil:
		return putString(dst, *s, flexible)
	case flexible:
		return append(dst, 0)
	}
	return putInt16(dst, -1)
}

func putArrayLen(dst []byte, n int, flexible bool) []byte {
	if flexible {
		return putUvarint(dst, uint32(n)+1)
	}
	return putInt32(dst, int32(n))
}

func putNullArray(dst []byte, flexible bool) []byte {
	if flexible {
		return append(dst, 0)
	}
	return putInt32(dst, -1)
}

// putNoTags ends a struct that has no tagged field to say.
func putNoTags(dst []byte, flexible bool) []byte {
	if flexible {
		return append(dst, 0)
	}
	return dst
}

// putLeader writes the tagged struct LeaderIdAndEpoch.
func putLeader(dst []byte, tag uint32, l LeaderIDEpoch) []byte {
	dst = putUvarint(dst, tag)
	dst = append(dst, 4+4+1)
	dst = putInt32(dst, l.ID)
	dst = putInt32(dst, l.Epoch)
	return append(dst, 0)
}

// putEndpoints ends a response with its tagged fields: NodeEndpoints at tag 0,
// unless there are none.
func putEndpoints(dst []byte, nodes []NodeEndpoint) []byte {
	if len(nodes) == 0 {
		return append(dst, 0)
	}
	size := uvarintLen(uint32(len(nodes)) + 1)
	for i := range nodes {
		n := &nodes[i]
		size += 4 + uvarintLen(uint32(len(n.Host))+1) + len(n.Host) + 4 + 1 + 1
		if n.Rack != nil {
			size += uvarintLen(uint32(len(*n.Rack))+1) - 1 + len(*n.Rack)
		}
	}
	dst = append(dst, 1, 0)
	dst = putUvarint(dst, uint32(size))
	dst = putArrayLen(dst, len(nodes), true)
	for i := range nodes {
		n := &nodes[i]
		dst = putInt32(dst, n.NodeID)
		dst = putString(dst, n.Host, true)
		dst = putInt32(dst, n.Port)
		dst = putNullableString(dst, n.Rack, true)
		dst = append(dst, 0)
	}
	return dst
}
