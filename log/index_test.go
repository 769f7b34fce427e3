package log

import (
	"bytes"
	"testing"
)

// A lookup in the index of a sealed segment finds what a search of all entries finds, and allocates nothing.
func TestSealedIndexFindsTheFloor(t *testing.T) {
	for _, n := range []int{1, 2, indexStride - 1, indexStride, indexStride + 1, 3*indexStride + 7} {
		entries := make([]indexEntry, n)
		for i := range entries {
			entries[i] = indexEntry{rel: int32(10 * (i + 1)), pos: int32(4096 * (i + 1))}
		}
		file, s := bytes.NewReader(appendIndex(nil, entries)), newSealedIndex(entries)
		var buf indexPiece
		for rel := range int64(10*n + 20) {
			want, wantOK := floorRel(entries, rel)
			got, ok, err := s.floor(file, &buf, func(e indexEntry) bool { return int64(e.rel) > rel })
			if err != nil || ok != wantOK || got != want {
				t.Fatalf("%d entries, offset %d: %+v %v %v, want %+v", n, rel, got, ok, err, want)
			}
		}
		if _, _, err := s.floor(bytes.NewReader(nil), &buf, func(e indexEntry) bool { return false }); err == nil {
			t.Error("no error for a file that ends too early")
		}
		after := func(e indexEntry) bool { return e.rel > 10 }
		if allocs := testing.AllocsPerRun(100, func() { _, _, _ = s.floor(file, &buf, after) }); allocs > 0 {
			t.Errorf("a lookup allocates %v times", allocs)
		}
	}
}
