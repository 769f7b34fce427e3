package checker

import (
	"slices"
	"testing"
)

// TestUnknown: what may have come of an operation of unknown end, either way.
func TestUnknown(t *testing.T) {
	for _, visible := range []bool{true, false} {
		w := newWorld(t)
		w.Begin(1, "transactional")
		w.write(0, 1, v(2, 1))
		w.write(1, 1, v(2, 2))
		w.Commit(1, "transactional", "g", 0, 2, 1, w.tick())
		w.Ask(1, w.tick())
		w.End(1, Unknown, w.tick())
		w.Send(v(1, 1), 0, 0)
		w.Sent(v(1, 1), Unknown, -1)
		if visible {
			w.lay(0, v(1, 1))
			w.finish()
			w.expect()
		} else {
			w.finish(v(2, 1), v(2, 2))
			w.expect()
		}
	}
}

// TestCommits: what a fetch may show while commits are under way.
func TestCommits(t *testing.T) {
	for _, c := range []struct {
		name  string
		fetch uint32
		want  []Rule
	}{
		{"the last acknowledged", 2, nil},
		{"one of unknown end, which may come late", 3, nil},
		{"one that overlaps with it", 4, nil},
		{"an older one", 1, []Rule{LostCommit}},
		{"one that begins later", 5, []Rule{AbortedRead}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.Commit(1, "m", "g", 0, 1, 0, 10)
			w.Committed(1, OK, 20)
			w.Commit(3, "m", "g", 0, 3, 0, 22)
			w.Committed(3, Unknown, 23)
			w.Commit(4, "n", "g", 0, 4, 0, 30)
			w.Commit(2, "m", "g", 0, 2, 0, 30)
			w.Committed(2, OK, 40)
			w.Committed(4, OK, 41)
			w.Fetched("g", 0, c.fetch, int64(c.fetch), 50, 60)
			w.Commit(5, "m", "g", 0, 5, 0, 70)
			w.finish()
			w.expect(c.want...)
		})
	}
}

// TestForget: commits that nothing can show any more leave the memory, and those of unknown end stay.
func TestForget(t *testing.T) {
	w := newWorld(t)
	for id := range uint32(1000) {
		w.Commit(id+1, "m", "g", 0, int64(id), 0, w.tick())
		if id != 500 {
			w.Committed(id+1, OK, w.tick())
		}
		w.Fetched("g", 0, id+1, int64(id), w.tick(), w.tick())
		w.Check(w.now)
	}
	w.expect()
	if n := len(w.commits); n > 60 {
		t.Errorf("%d of 1000 commits are kept", n)
	}
	if w.findCommit(501) == nil {
		t.Error("the commit of unknown end is forgotten")
	}
}

// TestKeys: what the last value may be after one of unknown end.
func TestKeys(t *testing.T) {
	for _, c := range []struct {
		name string
		puts []put
		kept uint32
		want []Rule
	}{
		{"never written", []put{{outcome: Unknown}}, 0, nil},
		{"unknown after acknowledged", []put{{outcome: OK}, {outcome: Unknown}}, 2, nil},
		{"acknowledged before unknown", []put{{outcome: OK}, {outcome: Unknown}}, 1, nil},
		{"a tombstone of unknown end", []put{{outcome: OK}, {true, Unknown}}, 0, nil},
		{"failed", []put{{outcome: OK}, {outcome: Failed}}, 2, []Rule{LostKey}},
		{"a value that was not written", []put{{outcome: OK}}, 2, []Rule{UnsentRead, LostKey}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			for _, p := range c.puts {
				w.PutDone("k", w.Put("k", p.tombstone), p.outcome)
			}
			w.Kept("k", c.kept)
			w.finish()
			w.expect(c.want...)
		})
	}
}

func TestComponents(t *testing.T) {
	for _, c := range []struct {
		name  string
		edges map[uint32][]uint32
		want  [][]uint32
	}{
		{"none", nil, nil},
		{"a diamond", map[uint32][]uint32{1: {2, 3}, 2: {4}, 3: {4}}, nil},
		{"two circles and what joins them", map[uint32][]uint32{1: {2}, 2: {3}, 3: {1, 4}, 4: {5}, 5: {4, 6}}, [][]uint32{{4, 5}, {1, 2, 3}}},
		{"a circle in a circle", map[uint32][]uint32{1: {2}, 2: {1, 3}, 3: {2}}, [][]uint32{{1, 2, 3}}},
	} {
		got := components(c.edges)
		for _, g := range got {
			slices.Sort(g)
		}
		if !slices.EqualFunc(got, c.want, slices.Equal) {
			t.Errorf("%s: components %v, want %v", c.name, got, c.want)
		}
	}
	long := map[uint32][]uint32{}
	for i := range uint32(100_000) {
		long[i] = []uint32{(i + 1) % 100_000}
	}
	if got := components(long); len(got) != 1 || len(got[0]) != 100_000 {
		t.Errorf("a circle of 100,000 gives %d components", len(got))
	}
}

// TestWriteCycles: transactions that write over each other in a circle are counted, and no violation.
func TestWriteCycles(t *testing.T) {
	w := newWorld(t)
	for id := range uint32(2) {
		w.Begin(id+1, "transactional")
	}
	w.write(0, 1, v(1, 1))
	w.write(0, 2, v(2, 1))
	w.write(1, 2, v(2, 2))
	w.write(1, 1, v(1, 2))
	for id := range uint32(2) {
		w.Ask(id+1, w.tick())
		w.End(id+1, OK, w.tick())
	}
	w.finish()
	w.expect()
	if n := w.WriteCycles(); n != 1 {
		t.Errorf("%d write cycles, want 1", n)
	}
}

func TestValues(t *testing.T) {
	for text, want := range map[string]Value{
		"3.17.xxxx": v(3, 17), "3.17.": v(3, 17), "3.17": Foreign, "": Foreign, "0.1.": Foreign, "1.0.": Foreign, "a.1.": Foreign,
		"99999999999.1.": Foreign, "-1.1.": Foreign,
	} {
		if got := ParseValue([]byte(text)); got != want {
			t.Errorf("ParseValue(%q) = %v, want %v", text, got, want)
		}
	}
}

// TestBound: a broker that breaks rules by the thousand does not fill the memory.
func TestBound(t *testing.T) {
	w := newWorld(t)
	for range 10 * maxViolations {
		w.Settled(0, 1, 2)
	}
	if n := len(w.Violations()); n != maxViolations {
		t.Errorf("%d violations are kept", n)
	}
}
