package checker

import "slices"

// txn is a transaction.
type txn struct {
	client  string
	values  []Value
	commits []uint32 // offsets of groups in it
	reads   []uint32 // transactions of which it read something with read_committed, from the client's polls

	asked    bool  // a commit was asked for
	askedAt  int64 // when
	ended    bool
	outcome  Outcome // of what was asked for, after it ended
	seenAt   int64   // when a value was first read with read_committed, 0 never
	decided  bool    // it was judged
	reported bool
}

func (h *History) txn(id uint32) *txn {
	if h.txns[id] == nil {
		h.txns[id] = &txn{}
	}
	return h.txns[id]
}

// Begin tells that a client begins a transaction.
func (h *History) Begin(id uint32, client string) {
	h.txn(id).client = client
	h.undecided = append(h.undecided, id)
}

// Ask tells that a client is about to ask for the commit of a transaction. One that it does not ask for,
// be it aborted or left alone, can never be committed.
func (h *History) Ask(id uint32, now int64) {
	t := h.txn(id)
	t.asked, t.askedAt = true, now
	for _, c := range t.commits {
		h.askedCommit(c, now)
	}
}

// End tells that a transaction is over for its client. Outcome is that of the commit, if one was asked for.
func (h *History) End(id uint32, outcome Outcome, now int64) {
	t := h.txn(id)
	t.ended, t.outcome = true, outcome
	if !t.asked {
		t.outcome = Failed
	}
	for _, c := range t.commits {
		h.Committed(c, t.outcome, now)
	}
}

// sawCommitted judges a record that a reader with read_committed got.
func (h *History) sawCommitted(c *consumer, r Read, s *send, now int64) {
	if s.txn == 0 {
		return
	}
	h.fact(AbortedRead)
	t := h.txn(s.txn)
	if t.seenAt == 0 || now < t.seenAt {
		t.seenAt = now
	}
	if t.ended && t.outcome == Failed {
		h.aborted(t, r.Partition, r.Offset, r.Value, c.Name, "a reader with read_committed got a value of a transaction that was not committed")
	}
}

func (h *History) aborted(t *txn, p int32, offset int64, v Value, reader, text string) {
	if t.reported {
		return
	}
	t.reported = true
	h.breach(Violation{AbortedRead, p, []int64{offset}, []Value{v}, []string{t.client, reader}, text})
}

// readIn takes in what a transaction reads with read_committed.
func (h *History) readIn(id uint32, c *consumer, r Read) {
	h.fact(OwnRead)
	if r.Value.Writer() == 0 {
		return
	}
	s := h.send(r.Value)
	t := h.txn(id)
	switch {
	case s.txn == id:
		if !t.reported {
			t.reported = true
			h.breach(Violation{OwnRead, r.Partition, []int64{r.Offset}, []Value{r.Value}, []string{c.Name}, "a transaction reads with read_committed what it has written itself"})
		}
	case s.txn != 0 && !slices.Contains(t.reads, s.txn):
		t.reads = append(t.reads, s.txn)
	}
}

// checkTxns judges transactions that are over, and forgets those of which nothing more can be said.
func (h *History) checkTxns(now int64, final bool) {
	h.undecided = slices.DeleteFunc(h.undecided, func(id uint32) bool {
		t := h.txns[id]
		if final && !t.ended {
			h.End(id, Unknown, now)
		}
		if !t.ended {
			return false
		}
		if t.seenAt != 0 && t.asked && t.seenAt < t.askedAt {
			v, s := h.firstSeen(t)
			h.aborted(t, int32(s.partition), s.readAt, v, "a reader with read_committed", "a value was read with read_committed before its commit was asked for")
		}
		t.decided = h.whole(t, now, final)
		return t.decided
	})
}

func (h *History) firstSeen(t *txn) (Value, *send) {
	for _, v := range t.values {
		if s := h.send(v); s.has(readCommitted) {
			return v, s
		}
	}
	return none, &send{}
}

// whole says whether a transaction can be judged, and judges it: all of it is to be seen with
// read_committed, or nothing.
func (h *History) whole(t *txn, now int64, final bool) (decided bool) {
	var visible, missing []Value
	for _, v := range t.values {
		s := h.send(v)
		switch {
		case s.has(readCommitted) && (!final || s.has(finalCommitted)):
			visible = append(visible, v)
		case s.outcome != OK: // it may not be there
		case final || s.offset >= 0 && s.offset < h.parts[s.partition].committed:
			missing = append(missing, v)
		default:
			return false
		}
	}
	if t.outcome == Failed { // readers may still come by: each read is judged by sawCommitted
		if v, s := h.firstSeen(t); v != none {
			h.aborted(t, int32(s.partition), s.readAt, v, "a reader with read_committed", "a value of a transaction that was not committed was read with read_committed")
		}
		return true
	}
	if len(t.values) > 1 {
		h.fact(Torn)
	}
	if len(missing) > 0 && (t.outcome == OK || len(visible) > 0) && !t.reported {
		t.reported = true
		s := h.send(missing[0])
		text := "its commit was answered, and values are not to be seen with read_committed: "
		if t.outcome != OK {
			text = "a part of it is to be seen with read_committed and a part is not; not seen: "
		}
		h.breach(Violation{Torn, int32(s.partition), []int64{s.offset}, append(missing, visible...), []string{t.client}, text + missing[0].String()})
	}
	if t.outcome == Unknown { // what became of it is known now
		for _, c := range t.commits {
			if len(visible) > 0 {
				h.Committed(c, OK, now)
			} else if len(missing) > 0 {
				h.Committed(c, Failed, now)
			}
		}
	}
	return true
}

// Settled tells, when all is over, the last stable offset and the high watermark of a partition.
func (h *History) Settled(partition int32, stable, high int64) {
	h.fact(Hanging)
	if stable != high {
		h.breach(Violation{Hanging, partition, []int64{stable, high}, nil, nil, "all transactions are over, and the last stable offset does not reach the high watermark"})
	}
}
