package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator/txn"
	"github.com/rotpeter/rotpeter/protocol"
)

// addPartitionsToTxn answers AddPartitionsToTxn (24), versions 0-5. v2 brought PRODUCER_FENCED; from v4 on (KIP-890) it is
// what brokers ask each other: several transactions, and VerifyOnly.
// ACL: below v4 WRITE on the transactional id (53) and on each topic (29), from there on CLUSTER_ACTION (31).
func (b *Broker) addPartitionsToTxn(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.AddPartitionsToTxnRequest)
	resp := kmsg.NewPtrAddPartitionsToTxnResponse()
	resp.Version = c.Version
	if c.Version >= 4 && !b.mayCluster(c, OpClusterAction) {
		resp.ErrorCode = kerr.ClusterAuthorizationFailed.Code
		return protocol.Now(resp)
	}
	return protocol.Later(func(ctx context.Context) protocol.Response {
		if c.Version < 4 {
			e := txn.Add{TransactionalID: req.TransactionalID, Producer: txn.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch}, Version: versionOld}
			for _, t := range req.Topics {
				for _, p := range t.Partitions {
					e.Partitions = append(e.Partitions, txn.Partition{Topic: t.Topic, Index: p})
				}
			}
			for i, code := range b.addTransaction(ctx, c, e) {
				addResult(&resp.Topics, e.Partitions[i], oldFenced(code, c.Version, 2))
			}
			return resp
		}
		for i := range req.Transactions {
			from := &req.Transactions[i]
			e := txn.Add{
				TransactionalID: from.TransactionalID, Producer: txn.Producer{ID: from.ProducerID, Epoch: from.ProducerEpoch},
				Version: versionNew, Verify: from.VerifyOnly,
			}
			to := kmsg.NewAddPartitionsToTxnResponseTransaction()
			to.TransactionalID = from.TransactionalID
			for _, t := range from.Topics {
				for _, p := range t.Partitions {
					e.Partitions = append(e.Partitions, txn.Partition{Topic: t.Topic, Index: p})
				}
			}
			for i, code := range b.addTransaction(ctx, c, e) {
				addTransactionResult(&to.Topics, e.Partitions[i], code)
			}
			resp.Transactions = append(resp.Transactions, to)
		}
		return resp
	})
}

// addTransaction adds partitions to a transaction if all of them exist and may be written to, else none.
func (b *Broker) addTransaction(ctx context.Context, c *protocol.Call, e txn.Add) []int16 {
	codes := make([]int16, len(e.Partitions))
	if c.Version < 4 && !b.mayTransaction(c, OpWrite, e.TransactionalID) {
		for i := range codes {
			codes[i] = kerr.TransactionalIDAuthorizationFailed.Code
		}
		return codes
	}
	refused := false
	for i, p := range e.Partitions {
		t := b.image().Topic(p.Topic)
		codes[i] = kerr.OperationNotAttempted.Code
		switch {
		case c.Version < 4 && (t != nil && t.Internal || !b.mayTopic(c, OpWrite, p.Topic)):
			codes[i], refused = kerr.TopicAuthorizationFailed.Code, true
		case t == nil || p.Index < 0 || int(p.Index) >= len(t.Partitions):
			codes[i], refused = kerr.UnknownTopicOrPartition.Code, true
		}
	}
	if refused {
		return codes
	}
	return b.addPartitions(ctx, e)
}

func addResult(topics *[]kmsg.AddPartitionsToTxnResponseTopic, p txn.Partition, code int16) {
	if n := len(*topics); n == 0 || (*topics)[n-1].Topic != p.Topic {
		t := kmsg.NewAddPartitionsToTxnResponseTopic()
		t.Topic = p.Topic
		*topics = append(*topics, t)
	}
	t := &(*topics)[len(*topics)-1]
	rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
	rp.Partition, rp.ErrorCode = p.Index, code
	t.Partitions = append(t.Partitions, rp)
}

func addTransactionResult(topics *[]kmsg.AddPartitionsToTxnResponseTransactionTopic, p txn.Partition, code int16) {
	if n := len(*topics); n == 0 || (*topics)[n-1].Topic != p.Topic {
		t := kmsg.NewAddPartitionsToTxnResponseTransactionTopic()
		t.Topic = p.Topic
		*topics = append(*topics, t)
	}
	t := &(*topics)[len(*topics)-1]
	rp := kmsg.NewAddPartitionsToTxnResponseTransactionTopicPartition()
	rp.Partition, rp.ErrorCode = p.Index, code
	t.Partitions = append(t.Partitions, rp)
}
