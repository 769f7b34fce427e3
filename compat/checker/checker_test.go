package checker

import (
	"fmt"
	"slices"
	"testing"
)

const second = int64(1e9)

// world is a hand-made history: a log as it is in the broker, which consumers are given in turn.
type world struct {
	*History
	t    *testing.T
	now  int64
	logs [2][]Value
}

func newWorld(t *testing.T) *world {
	w := &world{History: New(2, &ProducerIDs{}), t: t, now: second}
	w.Writer(1, "plain")
	w.Writer(2, "transactional")
	w.Consumer(Consumer{Name: "audit", Assigned: true, Control: true})
	w.Consumer(Consumer{Name: "audit committed", Assigned: true, Control: true, Committed: true})
	w.Consumer(Consumer{Name: "dirty", Assigned: true})
	w.Consumer(Consumer{Name: "clean", Assigned: true, Committed: true})
	w.Consumer(Consumer{Name: "member"})
	return w
}

// tick answers a later time.
func (w *world) tick() int64 {
	w.now += second
	return w.now
}

// lay puts values into a log without a word to the history.
func (w *world) lay(p int32, vs ...Value) { w.logs[p] = append(w.logs[p], vs...) }

// write sends, lays and acknowledges.
func (w *world) write(p int32, txn uint32, vs ...Value) {
	for _, v := range vs {
		w.Send(v, p, txn)
		w.Sent(v, OK, int64(len(w.logs[p])))
		w.lay(p, v)
	}
}

// reads are the records at offsets of a log.
func (w *world) reads(p int32, offsets ...int64) (rs []Read) {
	for _, o := range offsets {
		rs = append(rs, Read{p, o, w.logs[p][o]})
	}
	return rs
}

// poll gives a consumer the records at offsets.
func (w *world) poll(name string, p int32, offsets ...int64) {
	w.Poll(name, 0, w.tick(), w.reads(p, offsets...))
}

// finish lets the audit and the final readers read all, but for what hidden says, and ends the history.
func (w *world) finish(hidden ...Value) {
	w.Consumer(Consumer{Name: "final", Assigned: true, Control: true, Final: true})
	w.Consumer(Consumer{Name: "final committed", Assigned: true, Control: true, Final: true, Committed: true})
	for p := range w.logs {
		for o, v := range w.logs[p] {
			r := []Read{{int32(p), int64(o), v}}
			if next := w.Next("audit", int32(p)); int64(o) >= next {
				w.Poll("audit", 0, w.tick(), r)
			}
			w.Poll("final", 0, w.tick(), r)
			if !slices.Contains(hidden, v) {
				w.Poll("final committed", 0, w.tick(), r)
			}
		}
	}
	w.Finish(w.tick())
}

func (w *world) expect(want ...Rule) {
	w.t.Helper()
	var got []Rule
	for _, v := range w.Violations() {
		got = append(got, v.Rule)
	}
	if !slices.Equal(got, want) {
		w.t.Errorf("violations %v, want %v", w.Violations(), want)
	}
}

func v(writer, number uint32) Value { return NewValue(writer, number) }

// TestClean: all that may happen, and every rule is applied to some of it.
func TestClean(t *testing.T) {
	w := newWorld(t)
	w.write(0, 0, v(1, 1), v(1, 2))
	w.SampleHigh(0, w.Floor(0), 2)
	w.Restarted()
	w.SampleStart(0, w.Floor(0), 0)
	w.SampleHigh(0, w.Floor(0), 2)
	w.SampleStable(0, w.Floor(0), 2)

	w.Begin(1, "transactional")
	w.write(0, 1, v(2, 1))
	w.write(1, 1, v(2, 2))
	w.Commit(1, "transactional", "g", 0, 2, 1, w.tick())
	w.poll("dirty", 0, 0, 1)
	w.poll("dirty", 0, 2)
	w.Ask(1, w.tick())
	w.End(1, OK, w.tick())
	w.lay(0, CommitMarker)
	w.lay(1, CommitMarker)
	w.Restarted()
	w.Fetched("g", 0, 1, 2, w.tick(), w.tick())
	w.poll("clean", 0, 0, 1, 2)
	w.poll("clean", 1, 0)

	w.Begin(2, "transactional")
	w.Poll("clean", 2, w.tick(), w.reads(0)) // nothing new
	w.write(0, 2, v(2, 3))
	w.End(2, Failed, w.tick()) // never asked for
	w.lay(0, AbortMarker)
	w.Begin(3, "transactional")
	w.write(0, 3, v(2, 4))
	w.write(1, 3, v(2, 5))
	w.Send(v(2, 6), 1, 3)
	w.Sent(v(2, 6), Unknown, -1)
	w.Ask(3, w.tick())
	w.End(3, Unknown, w.tick())
	w.lay(0, CommitMarker)
	w.lay(1, CommitMarker)
	w.Consumer(Consumer{Name: "reader", Assigned: true, Committed: true})
	w.Begin(4, "other")
	w.Poll("reader", 4, w.tick(), w.reads(0, 0, 1, 2, 6)) // over the marker, and what was aborted
	w.Ask(4, w.tick())
	w.End(4, OK, w.tick())
	w.Send(v(1, 3), 0, 0)
	w.Sent(v(1, 3), Failed, -1)
	w.poll("member", 0, 1, 2)
	w.poll("member", 0, 0, 1)
	w.ProducerID(1, "plain")
	w.ProducerID(2, "transactional")
	w.ProducerID(2, "transactional")
	for _, tombstone := range []bool{false, false, true} {
		w.PutDone("k", w.Put("k", tombstone), OK)
	}
	w.Kept("k", 0)
	w.Settled(0, 8, 8)
	w.Check(w.tick())
	w.finish(v(2, 3))
	w.expect()
	for _, r := range Rules() {
		if w.Facts()[r] == 0 {
			t.Errorf("the rule %q was applied to nothing", r)
		}
	}
	if n := w.Removed(); n != 2 {
		t.Errorf("%d values were removed, want 2", n)
	}
}

// TestViolations: each history breaks one rule, once.
func TestViolations(t *testing.T) {
	for _, c := range []struct {
		name string
		want Rule
		run  func(w *world)
	}{
		{"acknowledged and not there, in the middle", LostWrite, func(w *world) {
			w.lay(0, CommitMarker)
			w.Send(v(1, 1), 0, 0)
			w.Sent(v(1, 1), OK, 1)
			w.Send(v(1, 2), 0, 0)
			w.lay(0, v(1, 2)) // at its place, and its own answer was lost
			w.Sent(v(1, 2), Unknown, -1)
			w.finish()
		}},
		{"found by a check before the end", LostWrite, func(w *world) {
			w.write(0, 0, v(1, 1))
			w.write(0, 0, v(1, 2), v(1, 3))
			w.logs[0][1] = v(2, 1)
			w.Send(v(2, 1), 0, 0)
			w.poll("audit", 0, 0, 1, 2)
			w.Check(w.tick())
		}},
		{"read and then gone", LostWrite, func(w *world) {
			w.write(0, 0, v(1, 1), v(1, 2))
			w.poll("dirty", 0, 0, 1)
			w.poll("audit", 0, 0, 1)
			w.logs[0] = w.logs[0][:1]
			w.finish()
		}},
		{"acknowledged and not there, at the end", Unseen, func(w *world) {
			w.write(0, 0, v(1, 1), v(1, 2))
			w.logs[0] = w.logs[0][:1]
			w.finish()
		}},
		{"not there with read_committed", LostWrite, func(w *world) {
			w.write(0, 0, v(1, 1), v(1, 2))
			w.finish(v(1, 2))
		}},
		{"one value twice", Duplicate, func(w *world) {
			w.write(0, 0, v(1, 1), v(1, 2))
			w.lay(0, v(1, 1))
			w.finish()
		}},
		{"two readers disagree", TwoValues, func(w *world) {
			w.Send(v(1, 1), 0, 0)
			w.Send(v(1, 2), 0, 0)
			w.lay(0, v(1, 1))
			w.poll("dirty", 0, 0)
			w.logs[0][0] = v(1, 2)
			w.poll("clean", 0, 0)
		}},
		{"acknowledged elsewhere", TwoValues, func(w *world) {
			w.write(0, 0, v(1, 1), v(1, 2))
			w.Send(v(1, 3), 0, 0)
			w.Sent(v(1, 3), OK, 1)
			w.lay(0, v(1, 3))
			w.finish()
		}},
		{"never sent", UnsentRead, func(w *world) {
			w.lay(0, v(1, 1))
			w.finish()
		}},
		{"nobody's", UnsentRead, func(w *world) {
			w.lay(0, Foreign)
			w.poll("dirty", 0, 0)
		}},
		{"sent to another partition", UnsentRead, func(w *world) {
			w.Send(v(1, 1), 0, 0)
			w.lay(1, v(1, 1))
			w.poll("dirty", 1, 0)
		}},
		{"another order", NonMonotonicSend, func(w *world) {
			w.Send(v(1, 1), 0, 0)
			w.write(0, 0, v(1, 2))
			w.Sent(v(1, 1), OK, 1)
			w.lay(0, v(1, 1))
			w.finish()
		}},
		{"at 0, where another is", SpuriousZero, func(w *world) {
			w.write(0, 0, v(1, 1))
			w.Send(v(1, 2), 0, 0)
			w.Sent(v(1, 2), OK, 0)
			w.lay(0, v(1, 2))
			w.poll("audit", 0, 0)
			w.Check(w.tick())
			w.expect()
			w.poll("audit", 0, 1)
			w.Check(w.tick())
			w.finish()
		}},
		{"skip in a poll", SkipInPoll, func(w *world) {
			w.write(0, 0, v(1, 1), v(1, 2), v(1, 3))
			w.poll("dirty", 0, 0, 2)
			w.finish()
		}},
		{"a member skips in a poll", SkipInPoll, func(w *world) {
			w.write(0, 0, v(1, 1), v(1, 2), v(1, 3))
			w.poll("member", 0, 0, 2)
			w.finish()
		}},
		{"skip between polls", SkipBetween, func(w *world) {
			w.write(0, 0, v(1, 1), v(1, 2), v(1, 3))
			w.poll("dirty", 0, 0)
			w.poll("dirty", 0, 2)
			w.Check(w.tick())
			w.expect() // nobody has seen yet what is there
			w.poll("audit", 0, 0, 1, 2)
			w.Check(w.tick())
			w.finish()
		}},
		{"a reader with read_committed skips what is committed", SkipBetween, func(w *world) {
			w.Begin(1, "transactional")
			w.write(0, 1, v(2, 1), v(2, 2))
			w.Ask(1, w.tick())
			w.End(1, OK, w.tick())
			w.poll("clean", 0, 1)
			w.finish()
		}},
		{"a reader of markers misses one", SkipBetween, func(w *world) {
			w.lay(0, CommitMarker)
			w.write(0, 0, v(1, 1))
			w.poll("audit", 0, 1)
			w.poll("dirty", 0, 1)
			w.Check(w.tick())
		}},
		{"back in a poll", BackInPoll, func(w *world) {
			w.write(0, 0, v(1, 1), v(1, 2))
			w.poll("dirty", 0, 0, 1, 0)
			w.finish()
		}},
		{"back between polls", BackBetween, func(w *world) {
			w.write(0, 0, v(1, 1), v(1, 2))
			w.poll("audit", 0, 0, 1)
			w.poll("audit", 0, 0)
			w.finish()
		}},
		{"aborted, then read", AbortedRead, func(w *world) {
			w.Begin(1, "transactional")
			w.write(0, 1, v(2, 1), v(2, 2))
			w.End(1, OK, w.tick())
			w.lay(0, AbortMarker)
			w.poll("clean", 0, 0, 1)
			w.finish(v(2, 1), v(2, 2))
		}},
		{"read, then aborted", AbortedRead, func(w *world) {
			w.Begin(1, "transactional")
			w.write(0, 1, v(2, 1))
			w.poll("clean", 0, 0)
			w.End(1, OK, w.tick())
			w.finish(v(2, 1))
		}},
		{"read before its commit was asked for", AbortedRead, func(w *world) {
			w.Begin(1, "transactional")
			w.write(0, 1, v(2, 1))
			w.poll("clean", 0, 0)
			w.Ask(1, w.tick())
			w.End(1, OK, w.tick())
			w.finish()
		}},
		{"failed, and read", AbortedRead, func(w *world) {
			w.Send(v(1, 1), 0, 0)
			w.Sent(v(1, 1), Failed, -1)
			w.lay(0, v(1, 1))
			w.finish()
		}},
		{"offset of an aborted transaction", AbortedRead, func(w *world) {
			w.Begin(1, "transactional")
			w.Commit(1, "transactional", "g", 0, 2, 1, w.tick())
			w.End(1, OK, w.tick())
			w.Fetched("g", 0, 1, 2, w.tick(), w.tick())
			w.finish()
		}},
		{"own value", OwnRead, func(w *world) {
			w.Begin(1, "transactional")
			w.write(0, 1, v(2, 1))
			w.Poll("clean", 1, w.tick(), w.reads(0, 0))
			w.Ask(1, w.now-second/2) // told late
			w.End(1, OK, w.tick())
			w.finish()
		}},
		{"two read of each other", Cycle, func(w *world) {
			w.Begin(1, "transactional")
			w.Begin(2, "plain")
			w.write(0, 1, v(2, 1))
			w.write(1, 2, v(1, 1))
			w.Ask(1, w.tick())
			w.Ask(2, w.tick())
			w.Poll("clean", 1, w.tick(), w.reads(1, 0))
			w.Poll("clean", 2, w.tick(), w.reads(0, 0))
			w.End(1, OK, w.tick())
			w.End(2, OK, w.tick())
			w.Check(w.tick())
			w.finish()
		}},
		{"committed, and a part is not there", Torn, func(w *world) {
			w.Begin(1, "transactional")
			w.write(0, 1, v(2, 1))
			w.write(1, 1, v(2, 2))
			w.Ask(1, w.tick())
			w.End(1, OK, w.tick())
			w.poll("clean", 0, 0)
			w.finish(v(2, 2))
		}},
		{"found by a check before the end", Torn, func(w *world) {
			w.Begin(1, "transactional")
			w.write(0, 1, v(2, 1), v(2, 2))
			w.Ask(1, w.tick())
			w.End(1, Unknown, w.tick())
			w.poll("audit committed", 0, 1)
			w.Check(w.tick())
		}},
		{"a part of an unknown one", Torn, func(w *world) {
			w.Begin(1, "transactional")
			w.write(0, 1, v(2, 1))
			w.write(1, 1, v(2, 2))
			w.Ask(1, w.tick())
			w.End(1, Unknown, w.tick())
			w.finish(v(2, 1))
		}},
		{"offsets torn from values", LostCommit, func(w *world) {
			w.Begin(1, "transactional")
			w.write(0, 1, v(2, 1), v(2, 2))
			w.Commit(1, "transactional", "g", 0, 2, 1, w.tick())
			w.Ask(1, w.tick())
			w.End(1, Unknown, w.tick())
			w.poll("audit committed", 0, 0, 1)
			w.Check(w.tick()) // so it was committed
			w.Fetched("g", 0, 0, -1, w.tick(), w.tick())
			w.finish()
		}},
		{"never ends", Hanging, func(w *world) { w.Settled(0, 3, 5) }},
		{"the log start", LogStartBack, func(w *world) {
			w.Trimmed(0, 5)
			w.Restarted()
			w.SampleStart(0, w.Floor(0), 0)
		}},
		{"the last stable offset", StableBack, func(w *world) {
			w.SampleStable(0, w.Floor(0), 5)
			w.SampleStable(0, w.Floor(0), 4)
		}},
		{"below what was read", StableBack, func(w *world) {
			w.write(0, 0, v(1, 1), v(1, 2))
			w.poll("clean", 0, 0, 1)
			w.SampleStable(0, w.Floor(0), 1)
		}},
		{"the high watermark", HighWatermarkBack, func(w *world) {
			w.write(0, 0, v(1, 1))
			w.SampleHigh(0, w.Floor(0), 0)
		}},
		{"no offset after a commit", LostCommit, func(w *world) {
			w.Commit(1, "member", "g", 0, 7, 0, w.tick())
			w.Committed(1, OK, w.tick())
			w.Restarted()
			w.Fetched("g", 0, 0, -1, w.tick(), w.tick())
			w.Check(w.tick() + 2*Grace)
		}},
		{"an older offset after a commit", LostCommit, func(w *world) {
			for id := range uint32(2) {
				w.Commit(id+1, "member", "g", 0, int64(id), 0, w.tick())
				w.Committed(id+1, OK, w.tick())
			}
			w.Fetched("g", 0, 1, 0, w.tick(), w.tick())
			w.finish()
		}},
		{"another offset than was committed", LostCommit, func(w *world) {
			w.Commit(1, "member", "g", 0, 7, 0, w.tick())
			w.Fetched("g", 0, 1, 8, w.tick(), w.tick())
			w.finish()
		}},
		{"one id for two", ReusedProducer, func(w *world) {
			w.ProducerID(7, "a")
			w.ProducerID(7, "b")
		}},
		{"an old value is the last", LostKey, func(w *world) {
			w.PutDone("k", w.Put("k", false), OK)
			w.PutDone("k", w.Put("k", false), OK)
			w.Kept("k", 1)
			w.finish()
		}},
		{"a deleted key is back", LostKey, func(w *world) {
			w.PutDone("k", w.Put("k", false), OK)
			w.PutDone("k", w.Put("k", true), OK)
			w.Kept("k", 1)
			w.finish()
		}},
		{"no value is left", LostKey, func(w *world) {
			w.PutDone("k", w.Put("k", false), OK)
			w.PutDone("k", w.Put("k", true), Failed)
			w.finish()
		}},
	} {
		t.Run(fmt.Sprintf("%s/%s", c.want, c.name), func(t *testing.T) {
			w := newWorld(t)
			c.run(w)
			w.expect(c.want)
		})
	}
}
