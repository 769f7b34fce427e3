package log

import (
	"fmt"
	"testing"
)

// A map of keys knows the last offset of each, and says when it is full.
func TestKeyMap(t *testing.T) {
	m := newKeyMap(100*keyEntryBytes, 1_000_000, 0.9)
	if len(m.entries) != 100 || m.most != 90 {
		t.Fatalf("%d places for %d keys", len(m.entries), m.most)
	}
	for i := range 200 {
		if !m.put(fmt.Appendf(nil, "%d", i%90), int64(i)) {
			t.Fatalf("key %d found no room", i)
		}
	}
	if m.put([]byte("one more"), 200) || m.last != 199 {
		t.Errorf("a full map took a key; it ends at %d", m.last)
	}
	if !m.put([]byte("5"), 201) || m.last != 201 {
		t.Error("a full map did not take a key that it knows")
	}
	for i := range 90 {
		want := int64(i + 90)
		if i < 20 {
			want = int64(i + 180)
		}
		if i == 5 {
			want = 201
		}
		if got := m.offset(fmt.Appendf(nil, "%d", i)); got != want {
			t.Errorf("key %d is at %d, want %d", i, got, want)
		}
	}
	if got := m.offset([]byte("one more")); got != -1 {
		t.Errorf("a key that is not there is at %d", got)
	}
	for _, load := range []float64{-1, 0, 1, 50} { // whatever the user says, a search ends
		m := newKeyMap(10*keyEntryBytes, 1000, load)
		for i := range 20 {
			m.put(fmt.Appendf(nil, "%d", i), int64(i))
		}
		if m.offset([]byte("none")) != -1 || m.used == 0 || m.used >= len(m.entries) {
			t.Errorf("load factor %v: %d of %d places are used", load, m.used, len(m.entries))
		}
	}
	if m := newKeyMap(1<<40, 7, 0.9); len(m.entries) > 12 {
		t.Errorf("%d places for 7 keys", len(m.entries))
	}
}
