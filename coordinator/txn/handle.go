package txn

import (
	"math"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rotpeter/rotpeter/internal/mutant"
)

// noTimeout is the timeout of a transaction that somebody else decides about (two-phase commit): it never times out.
const noTimeout = math.MaxInt32

// init handles InitProducerId with a transactional id (TransactionCoordinator.handleInitProducerId).
func (t *turn) init(e Init) Initialized {
	failed := func(err *kerr.Error) Initialized {
		return Initialized{Code: err.Code, Producer: Producer{noID, noEpoch}}
	}
	switch {
	case e.TransactionalID == "":
		return failed(kerr.InvalidRequest)
	case e.TimeoutMillis <= 0 || int64(e.TimeoutMillis) > t.o.MaxTimeout.Milliseconds():
		return failed(kerr.InvalidTransactionTimeout)
	}
	x := t.all[e.TransactionalID]
	if x == nil {
		if e.NewID < 0 {
			return Initialized{NeedsID: true}
		}
		x = &transaction{id: e.TransactionalID, producerID: e.NewID, previousID: noID, nextID: noID, epoch: noEpoch, previousEpoch: noEpoch, started: noTime, heard: e.Conn}
	}
	switch {
	case x.state.preparing(): // first of all, whoever asks
		return failed(kerr.ConcurrentTransactions)
	case !x.expects(e.Expected):
		return failed(kerr.ProducerFenced)
	case e.Expected != nil && t.late(x, e.Conn): // of one that has gone on already
		return Initialized{Late: true}
	case e.Expected == nil: // a producer that begins, maybe over an older connection than the one that it takes over from
		x = t.over(x, e.Conn)
	default:
		x = t.spoke(x, e.Conn)
	}
	switch {
	case x.state == Ongoing:
		// The producer before this one may still write: its epoch ends, and its transaction. The client asks again until
		// that is done, and then gets an epoch of its own.
		t.fence(x)
		return failed(kerr.ConcurrentTransactions)
	case x.exhausted() && (e.Expected == nil || e.Expected.Epoch == x.epoch):
		if e.NewID < 0 {
			return Initialized{NeedsID: true}
		}
		previous := int16(noEpoch)
		if e.Expected != nil {
			previous = x.epoch
		}
		x = x.initialized(e.NewID, 0, previous, e.TimeoutMillis, t.millis())
	default:
		epoch, previous, err := x.nextEpoch(e.Expected)
		if err != nil {
			return failed(err)
		}
		x = x.initialized(x.producerID, epoch, previous, e.TimeoutMillis, t.millis())
	}
	t.change(x)
	return Initialized{Producer: Producer{x.producerID, x.epoch}}
}

// late tells whether the producer has come over a newer connection since, or may have, before the load.
func (t *turn) late(x *transaction, c Conn) bool {
	if x.heard == NoConn {
		return c != NoConn && c <= t.o.LoadedAfter
	}
	return c != NoConn && c < x.heard
}

// spoke remembers over which connection a producer came, if that is not late, and answers the transaction that knows it.
func (t *turn) spoke(x *transaction, c Conn) *transaction {
	if c <= x.heard || t.late(x, c) {
		return x
	}
	return t.over(x, c)
}

// over is the transaction of a producer that was heard over a connection.
func (t *turn) over(x *transaction, c Conn) *transaction {
	n := *x
	n.heard = c
	if t.all[x.id] == x {
		t.all[x.id] = &n
	}
	return &n
}

// expects tells whether a producer that goes on may have what it says it has: the id that counts, or the one before it
// if its epochs were used up and the answer with the new one was lost.
func (x *transaction) expects(p *Producer) bool {
	return p == nil || x.epoch == noEpoch || p.ID == x.producerID || p.ID == x.previousID && p.Epoch >= lastEpoch
}

// nextEpoch is what a producer gets that begins (no expectation), or goes on with the epoch that it says it has
// (TransactionMetadata.prepareIncrementProducerEpoch, KIP-360).
func (x *transaction) nextEpoch(p *Producer) (epoch, previous int16, err *kerr.Error) {
	switch {
	case x.exhausted(): // of a producer that is late
		return 0, 0, kerr.ProducerFenced
	case p == nil:
		return x.epoch + 1, noEpoch, nil
	case x.epoch == noEpoch || p.Epoch == x.epoch:
		return x.epoch + 1, x.epoch, nil
	case p.Epoch == x.previousEpoch: // again: the answer was lost
		return x.epoch, x.previousEpoch, nil
	}
	return 0, 0, kerr.ProducerFenced
}

// fence aborts an open transaction in place of its producer, whose epoch ends with it. Nobody is told of the new one.
func (t *turn) fence(x *transaction) {
	version := t.o.Level
	n := x.ending(PrepareAbort, true, version, noID, t.millis())
	if version < epochBumpSince {
		n.previousEpoch, n.version = noEpoch, 0
	}
	t.change(n)
	t.markers(n)
}

// markers asks for the markers of a transaction that is decided.
func (t *turn) markers(x *transaction) {
	t.asked[x.id] = x
	t.out.Errands = append(t.out.Errands, WriteMarkers{
		TransactionalID: x.id, Producer: Producer{x.producerID, x.epoch}, Commit: x.state == PrepareCommit, Partitions: x.list(), Version: x.version, of: x,
	})
}

// check finds the transaction of a request.
func (t *turn) check(id string, p Producer) (*transaction, *kerr.Error) {
	x := t.all[id]
	switch {
	case id == "":
		return nil, kerr.InvalidRequest
	case x == nil, x.producerID != p.ID:
		return nil, kerr.InvalidProducerIDMapping
	case x.epoch != p.Epoch, p.Epoch > lastEpoch:
		return nil, kerr.ProducerFenced
	case x.state.preparing():
		return nil, kerr.ConcurrentTransactions
	}
	return x, nil
}

// add handles AddPartitionsToTxn (handleAddPartitionsToTransaction, handleVerifyPartitionsInTransaction).
func (t *turn) add(e Add) Added {
	x, err := t.check(e.TransactionalID, e.Producer)
	if known := t.all[e.TransactionalID]; known != nil && known.state.preparing() && !e.Verify {
		err = kerr.ConcurrentTransactions // first of all, as the next producer id may be one to come
	}
	switch {
	case err != nil:
		return Added{Code: err.Code}
	case e.Verify:
		codes := make([]int16, len(e.Partitions))
		for i, p := range e.Partitions {
			if !x.partitions[p] {
				codes[i] = kerr.TransactionAbortable.Code
			}
		}
		return Added{Codes: codes}
	case x.state == Ongoing && (x.hasAll(e.Partitions) || mutant.On(mutant.PartitionNotAdded)):
		t.spoke(x, e.Conn)
		return Added{}
	case t.late(x, e.Conn):
		return Added{Late: true}
	}
	x = t.spoke(x, e.Conn)
	t.change(x.with(e.Partitions, e.Version, t.millis()))
	return Added{}
}

// end handles EndTxn.
func (t *turn) end(e End) Ended {
	failed := func(err *kerr.Error) Ended { return Ended{Code: err.Code, Producer: Producer{noID, noEpoch}} }
	x := t.all[e.TransactionalID]
	switch {
	case e.TransactionalID == "":
		return failed(kerr.InvalidRequest)
	case x == nil:
		return failed(kerr.InvalidProducerIDMapping)
	case x.state.preparing() && e.Version >= epochBumpSince:
		return failed(kerr.ConcurrentTransactions) // as in add
	case e.ID == x.producerID && e.Epoch > lastEpoch:
		return failed(kerr.ProducerFenced)
	}
	if x.producerID == e.ID && mutant.On(mutant.OldEpochEnds) {
		e.Epoch = x.epoch
	}
	decide := t.decideOld
	if e.Version >= epochBumpSince {
		decide = t.decideNew
	}
	next, err := decide(x, e)
	switch {
	case err != nil:
		return failed(err)
	case next != Empty && e.Version < epochBumpSince && t.late(x, e.Conn): // the end of another transaction
		return Ended{Late: true}
	}
	x = t.spoke(x, e.Conn)
	switch {
	case next == Empty && x.epoch > lastEpoch: // aborted in its place, with the last epoch used up: Kafka would give it away
		return failed(kerr.ProducerFenced)
	case next == Empty && e.Version < epochBumpSince: // it has ended that way already
		return Ended{Producer: Producer{noID, noEpoch}}
	case next == Empty:
		return Ended{Producer: Producer{x.producerID, x.epoch}}
	}
	bump, nextID := e.Version >= epochBumpSince, int64(noID)
	if bump && x.exhausted() {
		if e.NewID < 0 {
			return Ended{NeedsID: true}
		}
		nextID = e.NewID
	}
	version := e.Version
	if !bump {
		version = 0 // Kafka writes no other down
	}
	n := x.ending(next, bump, version, nextID, t.millis())
	t.change(n)
	t.markers(n)
	if !bump {
		return Ended{Producer: Producer{noID, noEpoch}}
	}
	after := n.ended(t.millis())
	return Ended{Producer: Producer{after.producerID, after.epoch}}
}

// aim is the state to which a decision leads, and the one that it ends in.
func aim(commit bool) (prepare, complete State) {
	if commit {
		return PrepareCommit, CompleteCommit
	}
	return PrepareAbort, CompleteAbort
}

// decideOld is how a transaction of version 0 or 1 goes on: to a state, or, Empty, not at all, because it has ended that
// way (TransactionCoordinator.endTransactionWithTV1).
func (t *turn) decideOld(x *transaction, e End) (State, *kerr.Error) {
	prepare, complete := aim(e.Commit)
	switch {
	case x.producerID != e.ID:
		return 0, kerr.InvalidProducerIDMapping
	case x.epoch != e.Epoch:
		return 0, kerr.ProducerFenced
	case x.state == Ongoing:
		return prepare, nil
	case x.state == complete:
		return Empty, nil
	case x.state.preparing(): // either way
		return 0, kerr.ConcurrentTransactions
	}
	return 0, kerr.InvalidTxnState
}

// decideNew is the same from version 2 on, of one that is not being ended, where a client that did not hear the answer comes with the epoch before
// (TransactionCoordinator.endTransaction, which has a table of this).
func (t *turn) decideNew(x *transaction, e End) (State, *kerr.Error) {
	prepare, complete := aim(e.Commit)
	overflow := x.previousID == e.ID && e.Epoch == lastEpoch && x.epoch == 0
	// A retry comes to a transaction of its own version: one of an older version has not moved the epoch, so that whoever has
	// the one before was fenced. Kafka would tell it the epoch of the other.
	retry := overflow || x.epoch == e.Epoch+1 && x.version >= epochBumpSince
	switch {
	case x.producerID != e.ID && !overflow:
		return 0, kerr.InvalidProducerIDMapping
	case (x.state == Ongoing || x.state == Empty) && x.epoch != e.Epoch,
		x.state.resting() && x.state != Empty && !retry && x.epoch != e.Epoch:
		return 0, kerr.ProducerFenced
	case x.state == Ongoing:
		return prepare, nil
	case x.state == complete && retry:
		return Empty, nil
	case x.state.resting() && !retry && !e.Commit:
		return PrepareAbort, nil // of nothing: the client wants another epoch
	}
	return 0, kerr.InvalidTxnState
}

// markersWritten completes a transaction. What comes late, of a transaction that is complete, changes nothing.
func (t *turn) markersWritten(e MarkersWritten) {
	x := t.all[e.TransactionalID]
	if x != nil && x.state.preparing() && e.of != nil && t.asked[x.id] == e.of {
		delete(t.asked, x.id)
		t.change(x.ended(t.millis()))
	}
}
