package checker

import (
	"bytes"
	"fmt"
	"strconv"
)

// Value is a value that is written once: number N of the producer W.
// On the wire it is "W.N." and whatever follows.
type Value uint64

// marker values fill the offsets of control records; no producer has the number 0.
const (
	none Value = iota
	// CommitMarker and AbortMarker stand for the control records that end transactions.
	CommitMarker
	AbortMarker
	// Foreign is a value that none of the clients can have written.
	Foreign
)

// NewValue answers value number n of the producer w; both count from 1.
func NewValue(w, n uint32) Value { return Value(w)<<32 | Value(n) }

// Writer is the number of the producer, 0 for what is none of a producer's values.
func (v Value) Writer() uint32 { return uint32(v >> 32) }

// Number counts the producer's values from 1.
func (v Value) Number() uint32 { return uint32(v) }

func (v Value) String() string {
	switch v {
	case none:
		return "-"
	case CommitMarker:
		return "COMMIT"
	case AbortMarker:
		return "ABORT"
	case Foreign:
		return "FOREIGN"
	}
	return fmt.Sprintf("%d.%d", v.Writer(), v.Number())
}

// ParseValue reads the value at the front of a record's value; Foreign if there is none.
func ParseValue(b []byte) Value {
	w, rest, ok1 := bytes.Cut(b, []byte{'.'})
	n, _, ok2 := bytes.Cut(rest, []byte{'.'})
	if !ok1 || !ok2 || len(w) > 10 || len(n) > 10 {
		return Foreign
	}
	wn, err1 := strconv.ParseUint(string(w), 10, 32)
	nn, err2 := strconv.ParseUint(string(n), 10, 32)
	if err1 != nil || err2 != nil || wn == 0 || nn == 0 {
		return Foreign
	}
	return NewValue(uint32(wn), uint32(nn))
}
