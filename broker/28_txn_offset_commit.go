package broker

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator/group"
	"github.com/rotpeter/rotpeter/coordinator/txn"
	"github.com/rotpeter/rotpeter/log/batch"
	"github.com/rotpeter/rotpeter/protocol"
)

// txnOffsetCommit answers TxnOffsetCommit (28), versions 0-5: offsets that count once their transaction commits. v3 brought
// the member (KIP-447), v5 adds the group to the transaction on the way (KIP-890); before, that was asked for and is verified,
// and a commit that was delayed on a connection which its producer has given up is hung up on (decision 27).
// ACL: WRITE on the transactional id (53), READ on the group (30), READ on each topic (29).
func (b *Broker) txnOffsetCommit(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.TxnOffsetCommitRequest)
	resp := kmsg.NewPtrTxnOffsetCommitResponse()
	resp.Version = c.Version
	results := &txnCommitResults{resp, map[string]int{}}
	refuseAll := func(topics []kmsg.TxnOffsetCommitRequestTopic, code int16) {
		for _, t := range topics {
			for _, p := range t.Partitions {
				results.add(t.Topic, p.Partition, code)
			}
		}
	}
	switch {
	case !b.mayTransaction(c, OpWrite, req.TransactionalID):
		refuseAll(req.Topics, kerr.TransactionalIDAuthorizationFailed.Code)
		return protocol.Now(resp)
	case !b.mayGroup(c, OpRead, req.Group):
		refuseAll(req.Topics, kerr.GroupAuthorizationFailed.Code)
		return protocol.Now(resp)
	}
	known := b.knownTxnCommits(c, req, results)
	if len(known.Topics) == 0 {
		return protocol.Now(resp)
	}
	if req.Generation < 0 && req.MemberID == "" {
		if e := b.memory.takeOn(); e != nil {
			refuseAll(known.Topics, loadingCode(e.Code, c.Version))
			return protocol.Now(resp)
		}
	}
	return protocol.Later(func(ctx context.Context) protocol.Response {
		guard, code := b.joinTransaction(ctx, c, req)
		if code != 0 {
			refuseAll(known.Topics, code)
			return resp
		}
		reply, err := b.groups.ask(ctx, req.Group, group.TxnCommit{Req: known, Version: c.Version, Guard: guard, Conn: c.ConnID})
		if err != nil {
			refuseAll(known.Topics, loadingCode(codeOf(err), c.Version))
			return resp
		}
		committed := reply.(*kmsg.TxnOffsetCommitResponse)
		if committed == nil {
			return b.late(c, req.TransactionalID)
		}
		for _, t := range committed.Topics {
			for _, p := range t.Partitions {
				results.add(t.Topic, p.Partition, loadingCode(p.ErrorCode, c.Version))
			}
		}
		return resp
	})
}

// loadingCode is a code as older producers can bear it.
func loadingCode(code, version int16) int16 {
	if code == kerr.CoordinatorLoadInProgress.Code && version < 2 {
		return kerr.CoordinatorNotAvailable.Code
	}
	return code
}

// txnCommitResults gather what is answered about partitions, by topic.
type txnCommitResults struct {
	resp   *kmsg.TxnOffsetCommitResponse
	topics map[string]int
}

func (r *txnCommitResults) add(topic string, partition int32, code int16) {
	i, ok := r.topics[topic]
	if !ok {
		i = len(r.resp.Topics)
		r.topics[topic] = i
		t := kmsg.NewTxnOffsetCommitResponseTopic()
		t.Topic = topic
		r.resp.Topics = append(r.resp.Topics, t)
	}
	r.resp.Topics[i].Partitions = append(r.resp.Topics[i].Partitions, kmsg.TxnOffsetCommitResponseTopicPartition{Partition: partition, ErrorCode: code})
}

// knownTxnCommits keeps the partitions that exist and may be read, and refuses the others.
func (b *Broker) knownTxnCommits(c *protocol.Call, req *kmsg.TxnOffsetCommitRequest, results *txnCommitResults) *kmsg.TxnOffsetCommitRequest {
	known, im := *req, b.image()
	known.Topics = nil
	for _, t := range req.Topics {
		topic, may := im.Topic(t.Topic), b.mayTopic(c, OpRead, t.Topic)
		kept := t
		kept.Partitions = nil
		for _, p := range t.Partitions {
			switch {
			case !may:
				results.add(t.Topic, p.Partition, kerr.TopicAuthorizationFailed.Code)
			case !hasPartition(topic, p.Partition):
				results.add(t.Topic, p.Partition, kerr.UnknownTopicOrPartition.Code)
			default:
				kept.Partitions = append(kept.Partitions, p)
			}
		}
		if len(kept.Partitions) > 0 {
			known.Topics = append(known.Topics, kept)
		}
	}
	return &known
}

// joinTransaction makes sure that the group's partition of __consumer_offsets is in the transaction: newer clients have
// it added, older ones did that themselves. Once a commit of it is there, nobody is asked any more, whatever the
// transactional id (GroupCoordinatorService.commitTransactionalOffsets).
func (b *Broker) joinTransaction(ctx context.Context, c *protocol.Call, req *kmsg.TxnOffsetCommitRequest) (group.TxnGuard, int16) {
	var guard group.TxnGuard
	take := func() error {
		reply, err := b.groups.ask(ctx, req.Group, group.GuardTxn{})
		if err == nil {
			guard = reply.(group.TxnGuard)
		}
		return err
	}
	if err := take(); err != nil {
		return guard, loadingCode(codeOf(err), c.Version)
	}
	p, _ := b.offsetsPartition(req.Group)
	if open, err := b.commitsOffsets(p, req.ProducerID, req.ProducerEpoch); open || err != nil {
		return guard, codeOf(err)
	}
	e := txn.Add{
		TransactionalID: req.TransactionalID, Producer: txn.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch},
		Partitions: []txn.Partition{p}, Version: versionNew, Verify: c.Version < 5,
	}
	if e.Verify && !b.conf.Load().Bool("transaction.partition.verification.enable") {
		return group.TxnGuard{}, 0
	}
	codes := b.addWithPatience(ctx, e, take)
	return guard, joinCode(codes[0], c.Version)
}

// joinCode is a transaction coordinator's code as TxnOffsetCommit has it: what passes is CoordinatorLoadInProgress there.
func joinCode(code, version int16) int16 {
	switch code {
	case kerr.ConcurrentTransactions.Code:
		if version < 5 {
			return kerr.CoordinatorLoadInProgress.Code // which older clients try again
		}
	case kerr.ProducerFenced.Code:
		return kerr.InvalidProducerEpoch.Code // what TxnOffsetCommit has for it
	case kerr.NotCoordinator.Code, kerr.CoordinatorNotAvailable.Code:
		return kerr.CoordinatorLoadInProgress.Code
	case kerr.TransactionAbortable.Code:
		if version < 4 {
			return kerr.InvalidTxnState.Code
		}
	}
	return code
}

// commitsOffsets tells whether a producer has a transaction open in a partition of __consumer_offsets.
func (b *Broker) commitsOffsets(p txn.Partition, id int64, epoch int16) (open bool, err error) {
	t := b.image().Topic(p.Topic)
	if !hasPartition(t, p.Index) {
		return false, nil
	}
	l, err := b.parts.get(t, p.Index)
	if err != nil {
		return false, nil // the group's coordinator says what is wrong
	}
	_, open, err = l.TxnGuard(id, epoch, batch.NoSequence, false)
	return open, err
}

// Bounds of the wait for a transaction that is being ended while the next one of the producer begins: nearly always that
// is a matter of milliseconds (add.partitions.to.txn.retry.backoff.ms, .max.ms). guard takes the guards of
// the caller anew before the coordinator is asked again: a marker of the transaction that ends is no harm to the next one.
func (b *Broker) addWithPatience(ctx context.Context, e txn.Add, guard func() error) (codes []int16) {
	began := time.Now()
	defer func() { b.metrics.transactions.verified(time.Since(began), codes) }()
	c := b.conf.Load()
	pause, until := millis(c.Int("add.partitions.to.txn.retry.backoff.ms")), time.Now().Add(millis(c.Int("add.partitions.to.txn.retry.backoff.max.ms")))
	for {
		codes, _ = b.addPartitions(ctx, e)
		if len(codes) == 0 || codes[0] != kerr.ConcurrentTransactions.Code || !time.Now().Before(until) {
			return codes
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return codes
		}
		if err := guard(); err != nil {
			fill(codes, codeOf(err))
			return codes
		}
	}
}
