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
func (l *Log) TxnGuard(producerID int64, epoch int16) (g TxnGuard, open bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.producers.byID[producerID]
	if p != nil && epoch < p.epoch {
		return TxnGuard{}, false, staleEpoch(producerID, epoch, p.epoch)
	}
	return TxnGuard{l.producers, l.producers.marks}, p != nil && p.txnFirst >= 0 && p.epoch == epoch, nil
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
