package log

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rotpeter/rotpeter/internal/vfs"
	"github.com/rotpeter/rotpeter/log/batch"
)

// A marker that comes while a coordinator is asked about a transaction refuses the batch that was asked about: it would
// begin a transaction that nobody ends.
func TestMarkerBetweenQuestionAndAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRig(t, vfs.NewCrash())
		l := b.must("t")
		defer b.s.Close()
		send := func(sequence int32, g TxnGuard) error {
			o := batch.Plain()
			o.ProducerID, o.ProducerEpoch, o.BaseSequence, o.Transactional = 7, 0, sequence, true
			_, err := l.Append(time.Now(), data(o, time.Now().UnixMilli(), 1, 1), AppendOptions{Origin: Client, Verified: true, Guard: g})
			return err
		}
		mark := func(id int64) {
			raw := batch.AppendMarker(nil, id, 0, batch.ControlAbort, 1, time.Now().UnixMilli())
			if _, err := l.Append(time.Now(), raw, AppendOptions{Origin: Coordinator}); err != nil {
				t.Fatal(err)
			}
		}
		g, open, _ := l.TxnGuard(7, 0)
		if err := send(0, g); open || err != nil {
			t.Fatalf("the first batch: open %t, %v", open, err)
		}
		if _, open, _ = l.TxnGuard(7, 0); !open {
			t.Error("the transaction is not open")
		}
		if _, open, _ = l.TxnGuard(7, 1); open {
			t.Error("it is open at another epoch")
		}
		if _, _, err := l.TxnGuard(7, -1); !errors.Is(err, ErrInvalidProducerEpoch) {
			t.Errorf("an epoch before: %v", err)
		}
		g, _, _ = l.TxnGuard(7, 0)
		mark(8) // of somebody else
		if err := send(1, g); err != nil {
			t.Errorf("within the transaction: %v", err)
		}
		mark(7)
		if err := send(2, g); !errors.Is(err, ErrInvalidTxnState) {
			t.Errorf("with a guard from before the marker: %v", err)
		}
		if err := send(1, g); err != nil {
			t.Errorf("a duplicate of what was before the marker: %v", err)
		}
		g, _, _ = l.TxnGuard(7, 0)
		if err := send(2, g); err != nil {
			t.Errorf("with a guard from after the marker: %v", err)
		}
	})
}
