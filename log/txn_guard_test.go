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
		g, open, _ := l.TxnGuard(7, 0, batch.NoSequence, false)
		if err := send(0, g); open || err != nil {
			t.Fatalf("the first batch: open %t, %v", open, err)
		}
		if _, open, _ = l.TxnGuard(7, 0, batch.NoSequence, false); !open {
			t.Error("the transaction is not open")
		}
		if _, open, _ = l.TxnGuard(7, 1, batch.NoSequence, false); open {
			t.Error("it is open at another epoch")
		}
		if _, _, err := l.TxnGuard(7, -1, batch.NoSequence, false); !errors.Is(err, ErrInvalidProducerEpoch) {
			t.Errorf("an epoch before: %v", err)
		}
		g, _, _ = l.TxnGuard(7, 0, batch.NoSequence, false)
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
		g, _, _ = l.TxnGuard(7, 0, batch.NoSequence, false)
		if err := send(2, g); err != nil {
			t.Errorf("with a guard from after the marker: %v", err)
		}
	})
}

// While a coordinator is asked about a transaction, batches that begin at a higher sequence than one that was seen are
// refused, until one of the transaction is there, or it is over.
func TestLowestSequenceWhileVerifying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRig(t, vfs.NewCrash())
		l := b.must("t")
		defer b.s.Close()
		send := func(epoch int16, sequence int32) error {
			o := batch.Plain()
			o.ProducerID, o.ProducerEpoch, o.BaseSequence, o.Transactional = 7, epoch, sequence, true
			_, err := l.Append(time.Now(), data(o, time.Now().UnixMilli(), 1, 1), AppendOptions{Origin: Client, Verified: true})
			return err
		}
		mark := func(epoch int16, version int16) {
			t.Helper()
			raw := batch.AppendMarker(nil, 7, epoch, batch.ControlAbort, 1, time.Now().UnixMilli())
			if _, err := l.Append(time.Now(), raw, AppendOptions{Origin: Coordinator, TransactionVersion: version}); err != nil {
				t.Fatal(err)
			}
		}
		verify := func(epoch int16, sequence int32, bumps bool) {
			t.Helper()
			if _, _, err := l.TxnGuard(7, epoch, sequence, bumps); err != nil {
				t.Fatal(err)
			}
		}
		wants := func(want error, what string, err error) {
			t.Helper()
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
		verify(0, 5, false)
		verify(0, 3, false)
		verify(0, 4, false)
		wants(ErrOutOfOrderSequence, "a higher one", send(0, 4))
		wants(nil, "the lowest one", send(0, 3))
		wants(nil, "the next one", send(0, 4))

		mark(0, 0)
		verify(0, 2, false)
		wants(ErrOutOfOrderSequence, "the next one of another transaction, while a lower one is to come", send(0, 5))
		mark(0, 0)
		wants(nil, "after a marker", send(0, 5))

		mark(1, 2)
		verify(1, 7, true)
		verify(2, 9, true)
		verify(1, 0, true)
		wants(ErrOutOfOrderSequence, "of a higher epoch, which counts from anew", send(2, 10))
		verify(2, 0, true)
		mark(2, 2)
		wants(ErrOutOfOrderSequence, "after the marker of the transaction before, at its epoch", send(2, 1))
		wants(nil, "the first one of it", send(2, 0))

		verify(3, 0, true)
		l.mu.Lock()
		l.producers.expire(time.Now().UnixMilli(), 1000)
		l.producers.expire(time.Now().UnixMilli()+999, 1000)
		if len(l.producers.verifying) != 1 {
			t.Error("forgotten too early")
		}
		l.producers.expire(time.Now().UnixMilli()+1000, 1000)
		if len(l.producers.verifying) != 0 {
			t.Error("never forgotten")
		}
		for id := range int64(maxProducers + 10) {
			l.producers.verify(id, 0, 1, false)
		}
		if n := len(l.producers.verifying); n != maxProducers {
			t.Errorf("%d are remembered", n)
		}
		l.mu.Unlock()
	})
}

// A marker of an epoch before the producer's, or of a coordinator before the last, is refused; from transaction version 2
// on one of the same epoch too (KIP-1228): it would end the producer's next transaction.
func TestLateMarkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRig(t, vfs.NewCrash())
		l := b.must("t")
		defer b.s.Close()
		begin := func(epoch int16) {
			o := batch.Plain()
			o.ProducerID, o.ProducerEpoch, o.Transactional = 7, epoch, true
			if p := l.producers.byID[7]; p != nil {
				o.BaseSequence = p.lastSeq() + 1
			} else {
				o.BaseSequence = 0
			}
			if _, err := l.Append(time.Now(), data(o, time.Now().UnixMilli(), 1, 1), AppendOptions{Origin: Client, Verified: true}); err != nil {
				t.Fatal(err)
			}
		}
		begin(4)
		for _, m := range []struct {
			name             string
			epoch            int16
			coordinatorEpoch int32
			version          int16
			err              error
		}{
			{"an old epoch", 3, 2, 0, ErrInvalidProducerEpoch},
			{"an old epoch, version 2", 3, 2, 2, ErrInvalidProducerEpoch},
			{"the same epoch, version 2", 4, 2, 2, ErrInvalidProducerEpoch},
			{"the same epoch, version 1", 4, 2, 1, nil},
			{"an old coordinator", 4, 1, 1, ErrCoordinatorFenced},
			{"a new epoch, version 2", 5, 2, 2, nil},
			{"that one again", 5, 2, 2, ErrInvalidProducerEpoch},
		} {
			if err := l.CheckMarker(7, m.epoch, m.coordinatorEpoch, m.version); !errors.Is(err, m.err) || (err == nil) != (m.err == nil) {
				t.Errorf("%s: the check says %v, want %v", m.name, err, m.err)
			}
			o := AppendOptions{Origin: Coordinator, TransactionVersion: m.version}
			raw := batch.AppendMarker(nil, 7, m.epoch, batch.ControlCommit, m.coordinatorEpoch, time.Now().UnixMilli())
			open := l.producers.byID[7].txnFirst >= 0
			if _, err := l.Append(time.Now(), raw, o); !errors.Is(err, m.err) || (err == nil) != (m.err == nil) {
				t.Errorf("%s: %v, want %v", m.name, err, m.err)
			}
			if is := l.producers.byID[7].txnFirst >= 0; is != (open && m.err != nil) {
				t.Errorf("%s: its transaction is open: %t", m.name, is)
			}
			if m.err == nil {
				begin(m.epoch) // the next transaction
			}
		}
	})
}
