package group

import "github.com/twmb/franz-go/pkg/kerr"

// keptMarks is how many of its newest markers a shard remembers.
const keptMarks = 4096

// marks are the transaction markers that a shard has applied: how many, and which the last of them was of each producer.
type marks struct {
	count  int64
	last   map[int64]int64 // by producer id: the number of its last marker, if that is kept
	recent []int64         // producers of the markers kept, the next one to be forgotten at count % keptMarks
}

func (m *marks) add(producerID int64) {
	if m.last == nil {
		m.last, m.recent = map[int64]int64{}, make([]int64, keptMarks)
	}
	at := m.count % keptMarks
	if old := m.recent[at]; m.last[old] == m.count-keptMarks+1 {
		delete(m.last, old)
	}
	m.count++
	m.recent[at], m.last[producerID] = producerID, m.count
}

// TxnGuard is what a shard knew of a producer before its transaction coordinator was asked about it. Until the coordinator
// has answered, a marker may end that transaction: then a commit that the coordinator still had in it would begin another
// one, which nobody ends (KIP-890, Kafka's VerificationGuard). The zero value guards nothing.
type TxnGuard struct {
	of    *Shard
	marks int64
}

// guardTxn handles a GuardTxn event.
func (t *turn) guardTxn() TxnGuard { return TxnGuard{t.Shard, t.marks.count} }

// refusal tells why a commit of the producer may not begin a transaction: a marker has come since the guard was taken, or
// that is not known any more, and the client is to ask again.
func (g TxnGuard) refusal(s *Shard, producerID int64) *kerr.Error {
	switch {
	case g.of == nil:
		return nil
	case g.of != s, g.marks < s.marks.count-keptMarks:
		return kerr.CoordinatorLoadInProgress
	case s.marks.last[producerID] > g.marks:
		return kerr.InvalidTxnState
	}
	return nil
}
