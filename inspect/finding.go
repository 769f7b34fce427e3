package inspect

import (
	"fmt"
	"strings"
)

// Grade says how bad a finding is.
type Grade int8

// From harmless to bad.
const (
	// Notice is worth knowing and needs nothing done.
	Notice Grade = iota
	// Derived is a file that is wrong and can be made again from the batches.
	Derived
	// Damage is data that is lost or cannot be read.
	Damage
)

var gradeNames = [...]string{"notice", "derived", "damage"}

// String is the word that is printed.
func (g Grade) String() string { return gradeNames[g] }

// MarshalText makes the grade a word in JSON.
func (g Grade) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// none stands for a position or an offset that a finding does not have.
const none = -1

// Finding is one thing that is not as it should be.
type Finding struct {
	Grade    Grade  `json:"grade"`
	File     string `json:"file"`
	Position int64  `json:"position"` // byte in the file, -1: the whole file
	Offset   int64  `json:"offset"`   // in the log, -1: none
	What     string `json:"what"`
	Do       string `json:"do,omitempty"` // empty: nothing
}

// String is the finding on one line.
func (f Finding) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-7s %s", f.Grade, f.File)
	if f.Position >= 0 {
		fmt.Fprintf(&b, " byte %d", f.Position)
	}
	if f.Offset >= 0 {
		fmt.Fprintf(&b, " offset %d", f.Offset)
	}
	fmt.Fprintf(&b, ": %s", f.What)
	if f.Do != "" {
		fmt.Fprintf(&b, "; %s", f.Do)
	}
	return b.String()
}

// Summary counts what was looked at.
type Summary struct {
	Directories int   `json:"directories"`
	Partitions  int64 `json:"partitions"`
	Segments    int64 `json:"segments"`
	Batches     int64 `json:"batches"`
	Records     int64 `json:"records"`
	Bytes       int64 `json:"bytes"` // of segments
	Damage      int64 `json:"damage"`
	Derived     int64 `json:"derived"`
	Notices     int64 `json:"notices"`
	Unread      int64 `json:"unread"` // files that the system did not let us read
	InUse       bool  `json:"inUse"`  // a broker has a directory open
}

// Sound tells that nothing is damaged and nothing has to be made again.
func (s *Summary) Sound() bool { return s.Damage == 0 && s.Derived == 0 }

func (s *Summary) count(g Grade) {
	switch g {
	case Damage:
		s.Damage++
	case Derived:
		s.Derived++
	default:
		s.Notices++
	}
}

// maxFindings bounds what is said about one file: a segment of small batches can have a
// million wrong ones.
const maxFindings = 20

// notes gathers the findings of one partition or directory, in their order.
type notes struct {
	list []Finding
	of   map[string]int // findings by file
	more map[string]*Finding
}

func newNotes() *notes { return &notes{of: map[string]int{}, more: map[string]*Finding{}} }

// add takes a finding, or counts it if there are too many about the file.
func (n *notes) add(f Finding) {
	n.of[f.File]++
	if n.of[f.File] <= maxFindings {
		n.list = append(n.list, f)
		return
	}
	m := n.more[f.File]
	if m == nil {
		m = &Finding{Grade: f.Grade, File: f.File, Position: none, Offset: none}
		n.more[f.File] = m
	}
	m.Grade = max(m.Grade, f.Grade)
	m.What = fmt.Sprintf("%d more findings about this file are not listed", n.of[f.File]-maxFindings)
}

// all gives the findings, those that were only counted at the end of their file's.
func (n *notes) all() []Finding {
	out := make([]Finding, 0, len(n.list))
	for i, f := range n.list {
		out = append(out, f)
		last := i+1 == len(n.list) || n.list[i+1].File != f.File
		if m := n.more[f.File]; m != nil && last {
			out = append(out, *m)
			delete(n.more, f.File)
		}
	}
	return out
}
