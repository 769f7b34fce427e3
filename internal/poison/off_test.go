//go:build !poison

package poison_test

import (
	"testing"

	"github.com/rotpeter/rotpeter/internal/poison"
)

func TestAPoolIsReadyAndGivesBackWhatItGot(t *testing.T) {
	type state struct{ b []byte }
	var pool poison.Pool[state]
	s := pool.Get()
	if s == nil || s.b != nil {
		t.Fatalf("the first value: %v", s)
	}
	s.b = []byte("kept")
	poison.Bytes(s.b)
	pool.Put(s)
	if string(s.b) != "kept" || poison.On {
		t.Errorf("a normal build has poison: %q", s.b)
	}
}
