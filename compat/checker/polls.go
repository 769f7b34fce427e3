package checker

import (
	"cmp"
	"maps"
	"slices"
)

// Consumer is who polls.
type Consumer struct {
	Name      string
	Committed bool // read_committed
	Assigned  bool // reads all partitions from offset 0 on, without a group
	Control   bool // is given control records, too
	Final     bool // began when all was over
}

type consumer struct {
	Consumer
	next []int64 // of each partition, -1 unknown
}

// audits says that it sees everything that is in the logs. The one beside it with read_committed sees all that is committed.
func (c *consumer) audits() bool { return c.Assigned && c.Control && !c.Committed && !c.Final }

// gap is a range of offsets that a consumer passed over.
type gap struct {
	partition int32
	from, to  int64 // to is behind it
	consumer  *consumer
	rule      Rule
}

// Consumer tells of a consumer before its first poll.
func (h *History) Consumer(c Consumer) {
	k := &consumer{Consumer: c, next: make([]int64, len(h.parts))}
	if !c.Assigned {
		for i := range k.next {
			k.next[i] = -1
		}
	}
	h.consumers[c.Name] = k
}

// Next answers where an assigned consumer goes on in a partition.
func (h *History) Next(name string, partition int32) int64 { return h.consumers[name].next[partition] }

// Poll tells what one poll gave, in its order; in a transaction unless txn is 0.
func (h *History) Poll(name string, txn uint32, now int64, rs []Read) {
	c := h.consumers[name]
	inside := make([]bool, len(h.parts))
	for _, r := range rs {
		if r.Partition < 0 || int(r.Partition) >= len(h.parts) || r.Offset < 0 {
			h.breach(Violation{UnsentRead, r.Partition, []int64{r.Offset}, []Value{r.Value}, []string{name}, "there is no such place"})
			continue
		}
		h.step(c, r, inside[r.Partition])
		inside[r.Partition] = true
		h.saw(c, r, now)
		if txn != 0 && c.Committed {
			h.readIn(txn, c, r)
		}
	}
	if !c.Assigned { // its partitions may go and come back between polls
		for i := range c.next {
			c.next[i] = -1
		}
	}
}

// step moves a consumer to a record.
func (h *History) step(c *consumer, r Read, inside bool) {
	skip, back := SkipBetween, BackBetween
	if inside {
		skip, back = SkipInPoll, BackInPoll
	}
	next := &c.next[r.Partition]
	if *next >= 0 {
		h.fact(skip)
		h.fact(back)
		if r.Offset < *next {
			h.breach(Violation{back, r.Partition, []int64{*next, r.Offset}, []Value{r.Value}, []string{c.Name}, "a consumer was at the first offset, and got the second"})
		}
		if r.Offset > *next {
			h.gaps = append(h.gaps, gap{r.Partition, *next, r.Offset, c, skip})
		}
	}
	*next = r.Offset + 1
	if !c.Assigned {
		return
	}
	p := &h.parts[r.Partition]
	switch {
	case c.Committed && c.Control && !c.Final:
		p.committed = max(p.committed, r.Offset+1)
	case !c.Committed:
		p.uncommitted = max(p.uncommitted, r.Offset+1)
	}
	if c.audits() {
		p.audited = max(p.audited, r.Offset+1)
	}
}

// checkGaps judges what consumers passed over: it must be what they do not get to see. The consumer that
// audits sees all, so a gap of its own is one at once.
func (h *History) checkGaps(final bool) {
	h.gaps = slices.DeleteFunc(h.gaps, func(g gap) bool {
		p := &h.parts[g.partition]
		if !g.consumer.audits() && g.to > p.audited && !final {
			return false
		}
		var skipped []int64
		var values []Value
		for o := g.from; o < g.to; o++ {
			wrong, decided := h.passedOver(g.consumer, *p.at(o))
			if !decided && !final {
				return false
			}
			if wrong {
				skipped, values = append(skipped, o), append(values, *p.at(o))
			}
		}
		if len(skipped) > 0 {
			h.breach(Violation{g.rule, g.partition, skipped[:min(len(skipped), 20)], values[:min(len(values), 20)], []string{g.consumer.Name},
				"a consumer went past offsets that it had to be given"})
		}
		return true
	})
}

// passedOver says whether a consumer had to be given what is at an offset, and whether that is decided. What nobody was
// given is another rule's matter.
func (h *History) passedOver(c *consumer, v Value) (wrong, decided bool) {
	switch {
	case v == none:
		return c.Control && !c.Committed, true // offsets of a log that was never compacted are without gaps
	case v == CommitMarker, v == AbortMarker:
		return c.Control, true
	case !c.Committed:
		return true, true
	}
	s := h.send(v)
	if s.has(readCommitted) {
		return s.txn == 0 || !h.txn(s.txn).reported, true
	}
	return false, s.txn == 0 || h.txn(s.txn).decided
}

// sorted are the keys of a map in order.
func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
