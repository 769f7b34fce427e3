// Package invariant states what must be true whatever clients and disks do. A
// violation is our own mistake: it panics, and the restart goes through recovery.
package invariant

import (
	"fmt"
	"strings"
	"testing"
)

// Violation is the value That and Checked panic with.
type Violation struct {
	Sentence string // what should have been true
	Facts    string // "key=value" pairs, blank separated
}

// Error returns the sentence and the facts.
func (v *Violation) Error() string {
	if v.Facts == "" {
		return "invariant violated: " + v.Sentence
	}
	return "invariant violated: " + v.Sentence + ": " + v.Facts
}

// That panics with a *Violation unless ok holds. The sentence is a constant that
// says what is true; kv are the facts, as alternating keys and values.
//
// The facts are boxed even when ok holds. Where that shows in a profile, write
// if !ok { invariant.That(false, ...) } instead.
func That(ok bool, sentence string, kv ...any) {
	if !ok {
		panic(&Violation{Sentence: sentence, Facts: facts(kv)})
	}
}

// Checked runs a check that is too slow for a server, in test binaries only. It
// panics with a *Violation if the check returns an error.
func Checked(check func() error) {
	if !testing.Testing() {
		return
	}
	if err := check(); err != nil {
		panic(&Violation{Sentence: err.Error()})
	}
}

// facts joins kv to "a=1 b=2". A key without a value is printed alone.
func facts(kv []any) string {
	var b strings.Builder
	for i := 0; i < len(kv); i += 2 {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%v", kv[i])
		if i+1 < len(kv) {
			fmt.Fprintf(&b, "=%v", kv[i+1])
		}
	}
	return b.String()
}
