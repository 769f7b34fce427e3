package checker

import "slices"

// partition is what is known of one log. Slices are indexed by offset.
type partition struct {
	slots []Value // what was read at each offset
	acked []Value // values acknowledged here, not yet judged

	uncommitted int64 // highest offset read with read_uncommitted, plus 1
	audited     int64 // the consumer that audits has read all below: all slots are known
	committed   int64 // likewise the one with read_committed: who is not read below is not to be seen

	floor   Marks // none may be below
	sampled marks // restarts seen by the last samples
}

// at grows the table so that an offset has a slot.
func (p *partition) at(offset int64) *Value {
	for int64(len(p.slots)) <= offset {
		p.slots = append(p.slots, none)
	}
	return &p.slots[offset]
}

// writer is one producer, from its start to its end.
type writer struct {
	client string
	sends  []send   // by number, from 1 on
	last   []uint32 // number of the last value in each partition, as audited
}

// send is one value's life, in 32 bytes: there are millions.
type send struct {
	offset    int64 // acknowledged, -1 unknown
	readAt    int64 // first read, -1 never
	txn       uint32
	partition int8
	outcome   Outcome
	flags     uint8
}

// flags of a send.
const (
	sent             uint8 = 1 << iota // Send was called
	readCommitted                      // by a consumer with read_committed
	finalUncommitted                   // in the final read
	finalCommitted
	reported // a breach was found already
)

func (s *send) has(flag uint8) bool { return s.flags&flag != 0 }

// Writer names the client that a producer belongs to. A producer that was closed or reset is
// followed by another: what one sends comes into a partition in the order in which it was sent.
func (h *History) Writer(w uint32, client string) { h.writer(w).client = client }

func (h *History) writer(w uint32) *writer {
	if h.writers[w] == nil {
		h.writers[w] = &writer{last: make([]uint32, len(h.parts))}
	}
	return h.writers[w]
}

// send answers the entry of a value.
func (h *History) send(v Value) *send {
	w := h.writer(v.Writer())
	for int64(len(w.sends)) < int64(v.Number()) {
		w.sends = append(w.sends, send{offset: -1, readAt: -1})
	}
	return &w.sends[v.Number()-1]
}

func (h *History) client(v Value) string {
	if w := h.writers[v.Writer()]; w != nil {
		return w.client
	}
	return "?"
}

// Send tells that a send begins, in a transaction unless txn is 0.
func (h *History) Send(v Value, partition int32, txn uint32) {
	s := h.send(v)
	s.flags |= sent
	s.partition, s.txn = int8(partition), txn
	if txn != 0 {
		t := h.txn(txn)
		t.values = append(t.values, v)
	}
}

// Sent tells how a send ended; offset is -1 if it is not known.
func (h *History) Sent(v Value, outcome Outcome, offset int64) {
	s := h.send(v)
	s.outcome, s.offset = outcome, offset
	if outcome != OK {
		return
	}
	p := &h.parts[s.partition]
	p.acked = append(p.acked, v)
	p.floor.High = max(p.floor.High, offset+1)
}

// saw takes in that a consumer was given a record.
func (h *History) saw(c *consumer, r Read, now int64) {
	p := &h.parts[r.Partition]
	slot := p.at(r.Offset)
	p.floor.High = max(p.floor.High, r.Offset+1)
	if c.Committed {
		p.floor.Stable = max(p.floor.Stable, r.Offset+1)
	}
	if *slot == none {
		*slot = r.Value
	} else {
		h.fact(TwoValues)
		if *slot != r.Value {
			h.breach(Violation{TwoValues, r.Partition, []int64{r.Offset}, []Value{*slot, r.Value}, []string{c.Name, h.client(*slot), h.client(r.Value)},
				"a consumer reads another value than was read there before"})
		}
	}
	if r.Value == Foreign {
		h.breach(Violation{UnsentRead, r.Partition, []int64{r.Offset}, []Value{r.Value}, []string{c.Name}, "a consumer reads what no client wrote"})
	}
	if r.Value.Writer() == 0 {
		return
	}
	s := h.send(r.Value)
	h.place(c, r, s)
	if c.Committed {
		s.flags |= readCommitted
		h.sawCommitted(c, r, s, now)
	}
	if c.Final && c.Committed {
		s.flags |= finalCommitted
	} else if c.Final {
		s.flags |= finalUncommitted
	}
}

// place holds a record's place against the places of others.
func (h *History) place(c *consumer, r Read, s *send) {
	if c.audits() {
		w := h.writer(r.Value.Writer())
		last := &w.last[r.Partition]
		if *last > 0 {
			h.fact(NonMonotonicSend)
		}
		before := NewValue(r.Value.Writer(), *last)
		if *last > r.Value.Number() && h.send(before).readAt < r.Offset && (s.readAt < 0 || s.readAt == r.Offset) {
			h.breach(Violation{NonMonotonicSend, r.Partition, []int64{h.send(before).readAt, r.Offset}, []Value{before, r.Value}, []string{w.client},
				"a producer's values are in another order than it sent them"})
		}
		*last = max(*last, r.Value.Number())
	}
	if s.readAt < 0 {
		h.fact(Duplicate)
		h.fact(UnsentRead)
		s.readAt = r.Offset
		if !s.has(sent) {
			s.partition = int8(r.Partition) // until Send says so, or checkUnsent that nobody did
		}
	}
	if int32(s.partition) != r.Partition {
		h.breach(Violation{UnsentRead, r.Partition, []int64{r.Offset}, []Value{r.Value}, []string{c.Name, h.client(r.Value)}, "the value was sent to another partition"})
	} else if s.readAt != r.Offset && !s.has(reported) {
		s.flags |= reported
		h.breach(Violation{Duplicate, r.Partition, []int64{s.readAt, r.Offset}, []Value{r.Value}, []string{c.Name, h.client(r.Value)}, "one value is at two offsets"})
	}
}

// checkAcks holds acknowledged values against what was read so far.
func (h *History) checkAcks(final bool) {
	for i := range h.parts {
		p := &h.parts[i]
		p.acked = slices.DeleteFunc(p.acked, func(v Value) bool {
			s := h.send(v)
			switch {
			case s.offset < 0:
				return true // where it is, is not known: left to the final read
			case s.offset == 0 && len(p.slots) > 0 && p.slots[0] != v && p.slots[0] != none && (s.readAt >= 0 || final):
				h.fact(SpuriousZero)
				s.flags |= reported
				h.breach(Violation{SpuriousZero, int32(i), []int64{0}, []Value{v, p.slots[0]}, []string{h.client(v), h.client(p.slots[0])},
					"acknowledged at offset 0, where another value is"})
				return true
			case s.offset >= p.audited && !final || s.offset >= p.uncommitted:
				return false
			}
			h.checkAck(int32(i), v, s)
			return !(s.offset == 0 && p.slots[0] != v) // a value with a spurious offset may yet be read
		})
	}
}

// checkAck judges a value whose offset is below what was read.
func (h *History) checkAck(p int32, v Value, s *send) {
	slot := h.parts[p].at(s.offset)
	h.fact(LostWrite)
	h.fact(TwoValues)
	if s.offset == 0 {
		h.fact(SpuriousZero)
	}
	switch {
	case *slot == v || s.has(reported) || s.offset == 0 && *slot != none:
	case s.readAt >= 0:
		s.flags |= reported
		h.breach(Violation{TwoValues, p, []int64{s.offset, s.readAt}, []Value{v, *slot}, []string{h.client(v)},
			"acknowledged at an offset and read at another one"})
	default:
		s.flags |= reported
		h.breach(Violation{LostWrite, p, []int64{s.offset}, []Value{v, *slot}, []string{h.client(v), h.client(*slot)},
			"acknowledged, the readers went past it, and nobody read it (the other value is what is there)"})
	}
}

// checkUnsent looks for values that were read and never sent, and for failed ones that were read.
func (h *History) checkUnsent() {
	for _, id := range sorted(h.writers) {
		w := h.writers[id]
		for n := range w.sends {
			s, v := &w.sends[n], NewValue(id, uint32(n+1))
			if s.readAt >= 0 && !s.has(sent) {
				h.breach(Violation{UnsentRead, int32(s.partition), []int64{s.readAt}, []Value{v}, []string{w.client}, "a consumer read what was never sent"})
			}
			if s.outcome == Failed {
				h.fact(AbortedRead)
			}
			if s.outcome == Failed && s.readAt >= 0 {
				h.breach(Violation{AbortedRead, int32(s.partition), []int64{s.readAt}, []Value{v}, []string{w.client}, "the send failed for good, and a consumer read it"})
			}
		}
	}
}

// checkFinalRead holds what was acknowledged against what the final readers were given.
func (h *History) checkFinalRead() {
	for _, id := range sorted(h.writers) {
		w := h.writers[id]
		for n := range w.sends {
			s, v := &w.sends[n], NewValue(id, uint32(n+1))
			if s.outcome != OK {
				continue
			}
			h.fact(Unseen)
			missing := ""
			if !s.has(finalUncommitted) {
				missing = "read_uncommitted"
			} else if !s.has(finalCommitted) && (s.txn == 0 || h.txn(s.txn).outcome == OK && !h.txn(s.txn).reported) {
				missing = "read_committed"
			}
			if missing == "" || s.has(reported) {
				continue
			}
			rule := Unseen
			if s.offset >= 0 && s.offset < h.parts[s.partition].uncommitted {
				rule = LostWrite
			}
			h.breach(Violation{rule, int32(s.partition), []int64{s.offset}, []Value{v}, []string{w.client},
				"acknowledged, and not delivered by the final read with " + missing})
		}
	}
}
