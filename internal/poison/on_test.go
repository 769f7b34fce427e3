//go:build poison

package poison_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/rotpeter/rotpeter/internal/poison"
)

// part and state have fields of every kind that the pools of the project hold.
type part struct {
	name  string
	bytes []byte
	next  *part
}

type state struct {
	own    []byte `poison:"own"`
	borrow []byte
	parts  []part
	id     [4]byte
	n      int16
	f      func()
	m      map[string]int
	whole  any
}

func TestWhatIsReleasedIsNonsense(t *testing.T) {
	var pool poison.Pool[state]
	s := pool.Get()
	others := []byte("others")
	s.own, s.borrow, s.n, s.id = append(make([]byte, 0, 64), "mine"...), others, 7, [4]byte{1, 2, 3, 4}
	s.parts = []part{{name: "a", bytes: others, next: new(part)}, {name: "b"}}
	s.f, s.m, s.whole = func() {}, map[string]int{"x": 1}, "any"
	own, parts := s.own, s.parts
	s.own, s.parts = s.own[:0], s.parts[:0] // as states are given back
	pool.Put(s)

	if want := bytes.Repeat([]byte{poison.Pattern}, 64); !bytes.Equal(own[:64], want) {
		t.Errorf("bytes of its own: %x", own[:64])
	}
	if string(others) != "others" {
		t.Errorf("somebody else's bytes were overwritten: %x", others)
	}
	if p := parts[0]; p.name != "poisoned" || p.next != nil || bytes.Equal(p.bytes, others) {
		t.Errorf("an element of a list: %+v", p)
	}
	if s.f != nil || s.m != nil || s.whole != nil || s.n == 7 || s.id[0] == 1 {
		t.Errorf("fields: %+v", s)
	}
	for range 1000 {
		if pool.Get() == s {
			t.Fatal("it was handed out again")
		}
	}
}

func TestAWriteAfterTheReleaseIsSeen(t *testing.T) {
	for name, write := range map[string]func(*state, []byte, []part){
		"nothing":            func(*state, []byte, []part) {},
		"a byte":             func(_ *state, own []byte, _ []part) { own[3] = 0 },
		"behind the length":  func(_ *state, own []byte, _ []part) { own[:cap(own)][60] = 0 },
		"a number":           func(s *state, _ []byte, _ []part) { s.n++ },
		"a function":         func(s *state, _ []byte, _ []part) { s.f = func() {} },
		"an element of list": func(_ *state, _ []byte, parts []part) { parts[0].name = "late" },
	} {
		t.Run(name, func(t *testing.T) {
			var pool poison.Pool[state]
			s := pool.Get()
			s.own, s.parts = make([]byte, 32, 64), make([]part, 1)
			own, parts := s.own, s.parts
			pool.Put(s)
			write(s, own, parts)
			defer func() {
				said, _ := recover().(string)
				if seen := strings.Contains(said, "was written to after its release"); seen != (name != "nothing") {
					t.Errorf("the pool said %q", said)
				}
			}()
			for range 1000 {
				pool.Put(pool.Get())
			}
		})
	}
}
