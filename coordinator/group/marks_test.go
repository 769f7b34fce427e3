package group

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rotpeter/rotpeter/coordinator"
)

// A guard is passed by markers of its producer, by none of others, and by so many of others that its own may be forgotten.
func TestTxnGuard(t *testing.T) {
	s := New(DefaultOptions(func(string) string { return "m" }, func() string { return "i" }))
	mark := func(producerID int64) {
		s.Apply(coordinator.Record{ProducerID: producerID, Transactional: true, Control: coordinator.Commit})
	}
	take := func() TxnGuard {
		turn := turn{Shard: s}
		return turn.guardTxn()
	}
	check := func(g TxnGuard, producerID int64, want *kerr.Error) {
		t.Helper()
		if got := g.refusal(s, producerID); got != want {
			t.Errorf("%v, want %v, after %d markers", got, want, s.marks.count)
		}
	}
	mark(0)
	g := take()
	check(g, 0, nil)
	mark(1)
	check(g, 0, nil)
	mark(0)
	check(g, 0, kerr.InvalidTxnState)
	check(take(), 0, nil)
	check(TxnGuard{}, 0, nil)
	check(TxnGuard{of: New(DefaultOptions(func(string) string { return "m" }, func() string { return "i" }))}, 0, kerr.CoordinatorLoadInProgress)

	g = take()
	for range keptMarks {
		mark(1)
	}
	check(g, 7, nil)
	mark(1)
	check(g, 7, kerr.CoordinatorLoadInProgress)
	for i := range int64(3 * keptMarks) {
		mark(i)
	}
	if n := len(s.marks.last); n > keptMarks {
		t.Errorf("%d markers are kept", n)
	}
	g = take()
	mark(9_999)
	check(g, 9_999, kerr.InvalidTxnState)
}
