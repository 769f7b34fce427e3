package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator/txn"
	"github.com/rotpeter/rotpeter/protocol"
)

// addPartitionsToTxn answers AddPartitionsToTxn (24), versions 0-5. v2 brought PRODUCER_FENCED; from v4 on (KIP-890) it is
// what brokers ask each other: several transactions, and VerifyOnly. Below v4 one that was delayed on a connection which its
// producer has given up is hung up on (decision 27).
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
			a := &additions{
				Add: txn.Add{
					TransactionalID: req.TransactionalID, Producer: txn.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch},
					Version: versionOld, Conn: txn.Conn(c.ConnID),
				},
				topics: req.Topics, results: &resp.Topics,
			}
			if late := b.addTransaction(ctx, c, a); late {
				return b.late(c, req.TransactionalID)
			}
			return resp
		}
		for i := range req.Transactions {
			from := &req.Transactions[i]
			to := kmsg.NewAddPartitionsToTxnResponseTransaction()
			to.TransactionalID = from.TransactionalID
			a := additions{
				Add: txn.Add{
					TransactionalID: from.TransactionalID, Producer: txn.Producer{ID: from.ProducerID, Epoch: from.ProducerEpoch},
					Version: versionNew, Verify: from.VerifyOnly,
				},
				results: &[]kmsg.AddPartitionsToTxnResponseTopic{},
			}
			for _, t := range from.Topics {
				a.topics = append(a.topics, kmsg.AddPartitionsToTxnRequestTopic(t))
			}
			b.addTransaction(ctx, c, &a)
			for _, t := range *a.results {
				rt := kmsg.NewAddPartitionsToTxnResponseTransactionTopic()
				rt.Topic = t.Topic
				for _, p := range t.Partitions {
					rt.Partitions = append(rt.Partitions, kmsg.AddPartitionsToTxnResponseTransactionTopicPartition(p))
				}
				to.Topics = append(to.Topics, rt)
			}
			resp.Transactions = append(resp.Transactions, to)
		}
		return resp
	})
}

// additions are the partitions of one transaction in a request, with what is answered about them.
type additions struct {
	txn.Add
	topics  []kmsg.AddPartitionsToTxnRequestTopic
	results *[]kmsg.AddPartitionsToTxnResponseTopic
}

// addTransaction adds partitions to a transaction if all of them exist and may be written to, else none. It tells whether
// the request was late.
func (b *Broker) addTransaction(ctx context.Context, c *protocol.Call, a *additions) (late bool) {
	if c.Version < 4 && !b.mayTransaction(c, OpWrite, a.TransactionalID) {
		a.all(kerr.TransactionalIDAuthorizationFailed.Code)
		return false
	}
	seen := map[txn.Partition]bool{}
	for _, t := range a.topics {
		for _, p := range t.Partitions {
			if at := (txn.Partition{Topic: t.Topic, Index: p}); !seen[at] {
				seen[at] = true
				a.Partitions = append(a.Partitions, at)
			}
		}
	}
	codes, refused := make([]int16, len(a.Partitions)), false
	for i, p := range a.Partitions {
		t := b.image().Topic(p.Topic)
		codes[i] = kerr.OperationNotAttempted.Code
		switch {
		case c.Version < 4 && (t != nil && t.Internal || !b.mayTopic(c, OpWrite, p.Topic)):
			codes[i], refused = kerr.TopicAuthorizationFailed.Code, true
		case !hasPartition(t, p.Index):
			codes[i], refused = kerr.UnknownTopicOrPartition.Code, true
		}
	}
	if refused {
		a.each(codes)
		return false
	}
	reply, err := b.txns.ask(ctx, a.TransactionalID, a.Add)
	if err != nil {
		a.all(codeOf(err))
		return false
	}
	added := reply.(txn.Added)
	if added.Code == 0 && a.Verify {
		a.each(added.Codes)
	} else {
		a.all(oldFenced(added.Code, c.Version, 2))
	}
	return added.Late
}

// all answers with the topics and partitions as they were asked for.
func (a *additions) all(code int16) {
	for _, t := range a.topics {
		rt := kmsg.NewAddPartitionsToTxnResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rt.Partitions = append(rt.Partitions, kmsg.AddPartitionsToTxnResponseTopicPartition{Partition: p, ErrorCode: code})
		}
		*a.results = append(*a.results, rt)
	}
}

// each answers with a code for each of the partitions, once.
func (a *additions) each(codes []int16) {
	index := map[string]int{}
	for i, p := range a.Partitions {
		at, ok := index[p.Topic]
		if !ok {
			rt := kmsg.NewAddPartitionsToTxnResponseTopic()
			rt.Topic, at = p.Topic, len(*a.results)
			*a.results, index[p.Topic] = append(*a.results, rt), at
		}
		rt := &(*a.results)[at]
		rt.Partitions = append(rt.Partitions, kmsg.AddPartitionsToTxnResponseTopicPartition{Partition: p.Index, ErrorCode: codes[i]})
	}
}
