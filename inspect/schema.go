package inspect

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/rotpeter/rotpeter/metadata"
)

// kind is the type of a field (Kafka's message schemas).
type kind int8

const (
	tInt8 kind = iota
	tInt16
	tUint16
	tInt32
	tInt64
	tString
	tBytes
	tUUID
	tStruct
	tStrings // []string, and so on
	tInt16s
	tInt32s
	tStructs
)

// field is one field of a record's schema.
type field struct {
	name   string
	kind   kind
	from   int16 // first version that has it
	until  int16 // first version that has it no more, 0: none
	null   bool  // it may be null
	tag    int8  // 1 more than its tag, 0: it is not tagged
	fields []field
}

// schema is the layout of a key or a value. Both begin with an int16: the type of a key,
// the version of a value.
type schema struct {
	name     string
	max      int16 // versions 0 to max are known
	flexible int16 // from this version on lengths are compact and tags follow, -1: never
	fields   []field
}

// errShort: the bytes end before the message does.
var errShort = errors.New("truncated")

// errUnknownRecord: a record type or version that Kafka 4.3 does not write.
var errUnknownRecord = errors.New("unknown record")

// maxDepth bounds structures in structures: the tables have at most four.
const maxDepth = 8

// fieldReader reads a message by its schema, and writes it as JSON unless quiet. The first
// error sticks. What it holds is bounded by the bytes that are there.
type fieldReader struct {
	b        []byte
	err      error
	version  int16
	flexible bool
	quiet    bool
	out      []byte
}

func (r *fieldReader) fail(err error) {
	if r.err == nil {
		r.err, r.b = err, nil
	}
}

func (r *fieldReader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail(errShort)
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *fieldReader) number(n int) int64 {
	b := r.take(n)
	if b == nil {
		return 0
	}
	switch n {
	case 1:
		return int64(int8(b[0]))
	case 2:
		return int64(int16(be16(b)))
	case 4:
		return int64(int32(be32(b)))
	}
	return int64(be64(b))
}

func (r *fieldReader) uvarint() int64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 || n > 5 || v > math.MaxUint32 {
		r.fail(errShort)
		return 0
	}
	r.b = r.b[n:]
	return int64(v)
}

// length reads the length of a string (wide false) or of bytes or an array; -1 is null.
func (r *fieldReader) length(wide bool) int {
	var n int64
	switch {
	case r.flexible:
		n = r.uvarint() - 1
	case wide:
		n = r.number(4)
	default:
		n = r.number(2)
	}
	if n < -1 || n > int64(len(r.b)) {
		r.fail(errShort)
		return 0
	}
	return int(n)
}

func (r *fieldReader) put(s string) {
	if !r.quiet {
		r.out = append(r.out, s...)
	}
}

func (r *fieldReader) putNumber(n int64) {
	if !r.quiet {
		r.out = strconv.AppendInt(r.out, n, 10)
	}
}

func (r *fieldReader) text(n int) {
	b := r.take(n)
	if r.err == nil && !utf8.Valid(b) {
		r.fail(errors.New("a string is not UTF-8"))
	}
	if !r.quiet && r.err == nil {
		r.out = appendQuoted(r.out, string(b))
	}
}

// appendQuoted appends a string as JSON.
func appendQuoted(dst []byte, s string) []byte {
	q, err := json.Marshal(s)
	if err != nil { // strings always marshal
		return append(dst, `""`...)
	}
	return append(dst, q...)
}

// structure reads the fields of a structure.
func (r *fieldReader) structure(fields []field, depth int) {
	if depth > maxDepth {
		r.fail(errors.New("structures are nested too deep"))
		return
	}
	r.put("{")
	first := true
	for i := range fields {
		f := &fields[i]
		if f.tag > 0 || r.version < f.from || f.until > 0 && r.version >= f.until {
			continue
		}
		r.name(f, &first)
		r.value(f, depth)
	}
	if r.flexible {
		r.tags(fields, &first, depth)
	}
	r.put("}")
}

func (r *fieldReader) name(f *field, first *bool) {
	if !*first {
		r.put(",")
	}
	*first = false
	r.put(`"` + f.name + `":`)
}

// tags reads the tagged fields; unknown ones are passed over.
func (r *fieldReader) tags(fields []field, first *bool, depth int) {
	last := int64(-1)
	for n := r.uvarint(); n > 0 && r.err == nil; n-- {
		tag, size := r.uvarint(), r.uvarint()
		if tag <= last || size > int64(len(r.b)) {
			r.fail(errors.New("tagged fields are not in order, or too long"))
			return
		}
		last = tag
		rest := r.b[size:]
		for i := range fields {
			if f := &fields[i]; int64(f.tag) == tag+1 && r.version >= f.from {
				r.b = r.b[:size:size]
				r.name(f, first)
				r.value(f, depth)
				if r.err == nil && len(r.b) > 0 {
					r.fail(fmt.Errorf("%d bytes too many in %s", len(r.b), f.name))
				}
			}
		}
		if r.err == nil {
			r.b = rest
		}
	}
}

// value reads one field.
func (r *fieldReader) value(f *field, depth int) {
	if r.err != nil {
		return
	}
	n := 0
	switch f.kind {
	case tInt8, tInt16, tInt32, tInt64:
		r.putNumber(r.number(map[kind]int{tInt8: 1, tInt16: 2, tInt32: 4, tInt64: 8}[f.kind]))
		return
	case tUint16:
		r.putNumber(r.number(2) & math.MaxUint16)
		return
	case tUUID:
		if b := r.take(16); b != nil && !r.quiet {
			r.out = appendQuoted(r.out, metadata.UUIDString([16]byte(b)))
		}
		return
	case tStruct:
		// Kafka marks null by -1 in a byte, and as a tagged field by 0 in a variable-length number.
		if f.null && (f.tag > 0 && r.uvarint() == 0 || f.tag == 0 && r.number(1) < 0) {
			r.put("null")
			return
		}
		r.structure(f.fields, depth+1)
		return
	case tString:
		n = r.length(false)
	default:
		n = r.length(true)
	}
	if n < 0 {
		if !f.null {
			r.fail(fmt.Errorf("%s is null", f.name))
		}
		r.put("null")
		return
	}
	r.sized(f, n, depth)
}

// sized reads a field of n bytes or elements. Each element takes a byte at least, and length
// has made sure of n bytes.
func (r *fieldReader) sized(f *field, n, depth int) {
	switch f.kind {
	case tString:
		r.text(n)
		return
	case tBytes:
		if b := r.take(n); !r.quiet {
			r.out = append(r.out, '"')
			r.out = base64.StdEncoding.AppendEncode(r.out, b)
			r.out = append(r.out, '"')
		}
		return
	}
	r.put("[")
	for i := 0; i < n && r.err == nil; i++ {
		if i > 0 {
			r.put(",")
		}
		switch f.kind {
		case tStrings:
			r.text(max(r.length(false), 0))
		case tInt16s:
			r.putNumber(r.number(2))
		case tInt32s:
			r.putNumber(r.number(4))
		default:
			r.structure(f.fields, depth+1)
		}
	}
	r.put("]")
}

// read reads a message after its int16, as JSON appended to dst. quiet leaves that out.
func (s *schema) read(dst, b []byte, version int16, quiet bool) ([]byte, error) {
	if version < 0 || version > s.max {
		return dst, fmt.Errorf("%w: %s of version %d", errUnknownRecord, s.name, version)
	}
	r := fieldReader{b: b, version: version, flexible: s.flexible >= 0 && version >= s.flexible, quiet: quiet, out: dst}
	r.structure(s.fields, 0)
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%d bytes of garbage at the end", len(r.b))
	}
	if r.err != nil {
		return dst, fmt.Errorf("%s of version %d: %w", s.name, version, r.err)
	}
	return r.out, nil
}
