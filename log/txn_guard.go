package log

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/rotpeter/rotpeter/log/batch"
)

// TxnGuard is what a log knew of its transactions before a transaction coordinator was asked about one of them. Until the
// coordinator has answered, a marker may end that transaction: then a batch that the coordinator still had in it would
// begin another one, which nobody ends (KIP-890, Kafka's VerificationGuard).
type TxnGuard struct {
	of    *producers
	marks int64
}

// TxnGuard takes a guard for a batch of a producer, for AppendOptions.Guard. open tells that the producer's transaction is
// open in this log at that epoch: then nobody needs to be asked. An epoch that the log has seen the end of is
// ErrInvalidProducerEpoch: nobody needs to be asked about that either (UnifiedLog.maybeStartTransactionVerification).
//
// sequence is the batch's first, batch.NoSequence if it has none or nobody will be asked. Until a batch of the transaction
// is appended those that begin at a higher one are refused: if the coordinator could not be asked about the first batch,
// the second must not overtake it. bumps: the producer has an epoch for each transaction (transaction version 2).
func (l *Log) TxnGuard(producerID int64, epoch int16, sequence int32, bumps bool) (g TxnGuard, open bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.producers.byID[producerID]
	if p != nil && epoch < p.epoch {
		return TxnGuard{}, false, staleEpoch(producerID, epoch, p.epoch)
	}
	open = p != nil && p.txnFirst >= 0 && p.epoch == epoch
	if !open && sequence != batch.NoSequence {
		l.producers.verify(producerID, epoch, sequence, bumps)
	}
	return TxnGuard{l.producers, l.producers.marks}, open, nil
}

// verification is what is known of a producer's batches while a coordinator is asked about their transaction
// (VerificationStateEntry).
type verification struct {
	epoch  int16
	lowest int32 // first sequence seen
	bumps  bool
	since  int64 // milliseconds since 1970 when the janitor saw it first, 0: not yet
}

// verify notes a batch whose transaction a coordinator is asked about. There is no more of these than of producers;
// beyond that nothing is noted.
func (ps *producers) verify(id int64, epoch int16, sequence int32, bumps bool) {
	v := ps.verifying[id]
	switch {
	case v == nil:
		if len(ps.verifying) >= maxProducers {
			return
		}
		if ps.verifying == nil {
			ps.verifying = map[int64]*verification{}
		}
		ps.verifying[id] = &verification{epoch: epoch, lowest: sequence, bumps: bumps}
	case epoch > v.epoch:
		v.epoch, v.lowest = epoch, sequence
	case epoch == v.epoch:
		v.lowest = min(v.lowest, sequence)
	}
}

// verified forgets that, once a batch of the producer's transaction is there, or the marker of it; but for the marker of
// the transaction before, which the next one's epoch tells apart (UnifiedLog.updateProducers).
func (ps *producers) verified(h *batch.Header, m *marker) {
	v := ps.verifying[h.ProducerID]
	if v != nil && h.Transactional() && (m == nil || !v.bumps || v.epoch != h.ProducerEpoch) {
		delete(ps.verifying, h.ProducerID)
	}
}

// expireVerifications forgets those that never came to an end.
func (ps *producers) expireVerifications(nowMillis, expirationMillis int64) {
	for id, v := range ps.verifying {
		switch {
		case v.since == 0:
			v.since = nowMillis
		case nowMillis-v.since >= expirationMillis:
			delete(ps.verifying, id)
		}
	}
}

func staleEpoch(producerID int64, epoch, last int16) error {
	return fmt.Errorf("%w: epoch of producer %d is %d, which is smaller than the last seen epoch %d", ErrInvalidProducerEpoch, producerID, epoch, last)
}

// passed tells that a marker of the producer came after the guard was taken, or that the log was opened again.
func (g TxnGuard) passed(ps *producers, p *producer) bool {
	return g.of != nil && (g.of != ps || p.markedAt > g.marks)
}

// CheckMarker tells whether a marker may be appended: ErrInvalidProducerEpoch if it is late, ErrCoordinatorFenced if a newer
// coordinator has written one.
func (l *Log) CheckMarker(producerID int64, epoch int16, coordinatorEpoch int32, transactionVersion int16) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.producers.byID[producerID]
	if p == nil {
		return nil
	}
	h := batch.Header{ProducerID: producerID, ProducerEpoch: epoch}
	return p.checkMarker(&h, &marker{coordinatorEpoch: coordinatorEpoch}, &AppendOptions{TransactionVersion: transactionVersion})
}

// ProducerStats tells how many producers the log knows, and when the one whose transaction is open for the longest time wrote
// last: milliseconds since 1970, -1 if none is open (ProducerStateManager.hasLateTransaction).
func (l *Log) ProducerStats() (known int, oldestOpen int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	oldestOpen = -1
	if len(l.producers.open) > 0 {
		if p := l.producers.byID[l.producers.open[0].producerID]; p != nil {
			oldestOpen = p.lastTimestamp
		}
	}
	return len(l.producers.byID), oldestOpen
}

// Producer is what a log knows of an idempotent or transactional producer.
type Producer struct {
	ID               int64
	Epoch            int16
	LastSequence     int32 // -1: none
	LastTimestamp    int64 // milliseconds since 1970, -1: none
	CoordinatorEpoch int32 // of the last marker, -1: none
	TransactionStart int64 // first offset of its open transaction, -1: none is open
}

// Producers lists the producers of the log, by id.
func (l *Log) Producers() []Producer {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]Producer, 0, len(l.producers.byID))
	for id, p := range l.producers.byID {
		all = append(all, Producer{id, p.epoch, p.lastSeq(), p.lastTimestamp, p.coordinatorEpoch, p.txnFirst})
	}
	slices.SortFunc(all, func(a, b Producer) int { return cmp.Compare(a.ID, b.ID) })
	return all
}
