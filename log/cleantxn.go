package log

import (
	"slices"

	"github.com/rotpeter/rotpeter/log/batch"
)

// cleanedTxns follows the transactions while a log is walked over from its start, so
// that the cleaner knows which data was aborted and which markers have nothing left
// that they end (CleanedTransactionMetadata).
type cleanedTxns struct {
	coming    []abortedTxn // by first offset, not reached yet
	aborted   map[int64]*abortedData
	committed map[int64]struct{} // producers with data of a transaction whose marker is to come
}

// abortedData is an aborted transaction whose marker is to come.
type abortedData struct {
	abortedTxn
	seen bool // a batch of it was met
}

func newCleanedTxns() *cleanedTxns {
	return &cleanedTxns{aborted: map[int64]*abortedData{}, committed: map[int64]struct{}{}}
}

// expect adds the aborted transactions of the next stretch. Those that are known already do no harm.
func (c *cleanedTxns) expect(txns []abortedTxn) {
	for _, t := range txns {
		i, known := slices.BinarySearchFunc(c.coming, t, func(a, b abortedTxn) int {
			if a.firstOffset != b.firstOffset {
				return int(min(max(a.firstOffset-b.firstOffset, -1), 1))
			}
			return int(min(max(a.producerID-b.producerID, -1), 1))
		})
		if !known {
			c.coming = slices.Insert(c.coming, i, t)
		}
	}
}

// reach makes those transactions current that began up to an offset.
func (c *cleanedTxns) reach(offset int64) {
	n := 0
	for n < len(c.coming) && c.coming[n].firstOffset <= offset {
		if t := c.coming[n]; c.aborted[t.producerID] == nil {
			c.aborted[t.producerID] = &abortedData{abortedTxn: t}
		}
		n++
	}
	c.coming = c.coming[n:]
}

// data takes in a batch that is no control batch. It tells whether the batch was aborted.
func (c *cleanedTxns) data(h *batch.Header) (discard bool) {
	c.reach(h.LastOffset())
	if !h.Transactional() {
		return false
	}
	if a := c.aborted[h.ProducerID]; a != nil {
		a.seen = true
		return true
	}
	c.committed[h.ProducerID] = struct{}{}
	return false
}

// control takes in a control batch and its marker, nil if it holds none any more. It
// tells whether nothing is left of what the marker ends, and otherwise, for an abort,
// what belongs into the transaction index of the segment that keeps the marker.
func (c *cleanedTxns) control(h *batch.Header, m *marker) (discard bool, keep *abortedTxn) {
	c.reach(h.LastOffset())
	switch {
	case m == nil:
		return true, nil
	case m.commit:
		_, left := c.committed[h.ProducerID]
		delete(c.committed, h.ProducerID)
		return !left, nil
	}
	a := c.aborted[h.ProducerID]
	delete(c.aborted, h.ProducerID)
	if a == nil || !a.seen {
		return true, nil
	}
	return false, &a.abortedTxn
}
