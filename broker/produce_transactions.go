package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/rotpeter/rotpeter/coordinator/txn"
	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/log/batch"
	"github.com/rotpeter/rotpeter/metadata"
)

// implicitSince is the version of Produce whose clients leave it to the broker to add partitions to their transaction
// (KIP-890); abortableSince the one whose clients know TRANSACTION_ABORTABLE.
const (
	implicitSince  = 12
	abortableSince = 11
)

// batchAt is the place of a batch in a request: the index of its topic, and that of its partition there.
type batchAt struct{ topic, partition int }

// transactional is what is known of a batch that belongs to a transaction.
type transactional struct {
	err      error
	verified bool // the coordinator has the partition in the transaction
	guard    log.TxnGuard
	version  int16
}

// question is a batch that its coordinator is asked about.
type question struct {
	at        batchAt
	partition txn.Partition
	log       *log.Log
}

// askTransactions asks the coordinator of the transaction about those partitions where the batch is the first of it: newer
// clients have them added, older ones have added them and that is verified
// (ReplicaManager.maybeSendPartitionsToTransactionCoordinator). The error refuses the whole request.
func (p *produceState) askTransactions(ctx context.Context, im *metadata.Image) error {
	version := int16(versionOld)
	if p.call.Version >= implicitSince {
		version = versionNew
	}
	asks := version == versionNew || p.verifies()
	var first []question
	var who *txn.Producer
	for ti := range p.req.Topics {
		t, refusal := p.topic(im, &p.req.Topics[ti])
		for pi := range p.req.Topics[ti].Partitions {
			in := &p.req.Topics[ti].Partitions[pi]
			h, err := batch.Parse(in.Records)
			if err != nil || !h.Transactional() || h.ProducerID < 0 || refusal != nil || int(in.Index) >= len(t.Partitions) || in.Index < 0 {
				continue // refused later, or none of this
			}
			is := txn.Producer{ID: h.ProducerID, Epoch: h.ProducerEpoch}
			if who != nil && *who != is {
				return toldError{kerr.InvalidProducerIDMapping, "Transactional records contained more than one producer ID"}
			}
			who = &is
			x := transactional{version: version}
			l, err := p.b.parts.get(t, in.Index)
			if err != nil {
				continue
			}
			sequence := batch.NoSequence
			if asks {
				sequence = h.BaseSequence
			}
			var open bool
			if x.guard, open, x.err = l.TxnGuard(is.ID, is.Epoch, sequence, version == versionNew); !open && x.err == nil {
				first = append(first, question{batchAt{ti, pi}, txn.Partition{Topic: t.Name, Index: in.Index}, l})
			}
			if p.transactional == nil {
				p.transactional = map[batchAt]transactional{}
			}
			p.transactional[batchAt{ti, pi}] = x
		}
	}
	if len(first) > 0 {
		p.ask(ctx, *who, version, first)
	}
	return nil
}

// verifies tells whether the batches of older clients are verified.
func (p *produceState) verifies() bool {
	return p.b.conf.Load().Bool("transaction.partition.verification.enable")
}

// ask asks the coordinator and notes what it says of each batch.
func (p *produceState) ask(ctx context.Context, who txn.Producer, version int16, first []question) {
	e := txn.Add{TransactionalID: *p.req.TransactionalID, Producer: who, Version: version, Verify: version < versionNew}
	for _, a := range first {
		e.Partitions = append(e.Partitions, a.partition)
	}
	codes := make([]int16, len(first))
	if !e.Verify || p.verifies() {
		codes = p.b.addWithPatience(ctx, e, func() error {
			for _, a := range first {
				x := p.transactional[a.at]
				x.guard, _, _ = a.log.TxnGuard(who.ID, who.Epoch, batch.NoSequence, false) // the append tells what is wrong by then
				p.transactional[a.at] = x
			}
			return nil
		})
	}
	for i, a := range first {
		x := p.transactional[a.at]
		if x.verified = codes[i] == 0; !x.verified {
			x.err = p.verificationError(codes[i])
		}
		p.transactional[a.at] = x
	}
}

// verificationError is a coordinator's code as producers understand it: what passes has older ones try again
// (ReplicaManager.handleProduceAppend, AddPartitionsToTxnManager).
func (p *produceState) verificationError(code int16) error {
	again := func(code *kerr.Error) error {
		return toldError{kerr.NotEnoughReplicas, "Unable to verify the partition has been added to the transaction. Underlying error: " + code.Message}
	}
	switch code {
	case kerr.CoordinatorLoadInProgress.Code, kerr.CoordinatorNotAvailable.Code, kerr.NotCoordinator.Code, kerr.RequestTimedOut.Code:
		return again(kerr.TypedErrorForCode(code))
	case kerr.ConcurrentTransactions.Code:
		if p.call.Version < implicitSince {
			return again(kerr.ConcurrentTransactions)
		}
	case kerr.TransactionAbortable.Code:
		if p.call.Version < abortableSince {
			return toldError{kerr.InvalidTxnState, "Partition was not added to the transaction"}
		}
	case kerr.ProducerFenced.Code:
		return kerr.InvalidProducerEpoch // what Produce has for it
	}
	return kerr.ErrorForCode(code)
}
