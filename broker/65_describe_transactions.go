package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator/txn"
	"github.com/rotpeter/rotpeter/protocol"
)

// describeTransactions answers DescribeTransactions (65), version 0 (KIP-664).
// ACL: DESCRIBE on each transactional id (53); topics without DESCRIBE (29) are left out.
func (b *Broker) describeTransactions(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.DescribeTransactionsRequest)
	return protocol.Later(func(ctx context.Context) protocol.Response {
		resp := kmsg.NewPtrDescribeTransactionsResponse()
		resp.Version = c.Version
		for _, id := range req.TransactionalIDs {
			resp.TransactionStates = append(resp.TransactionStates, b.describeTransaction(ctx, c, id))
		}
		return resp
	})
}

func (b *Broker) describeTransaction(ctx context.Context, c *protocol.Call, id string) kmsg.DescribeTransactionsResponseTransactionState {
	s := kmsg.NewDescribeTransactionsResponseTransactionState()
	s.TransactionalID = id
	if !b.mayTransaction(c, OpDescribe, id) {
		s.ErrorCode = kerr.TransactionalIDAuthorizationFailed.Code
		return s
	}
	reply, err := b.txns.ask(ctx, id, txn.Describe{TransactionalID: id})
	if err != nil {
		s.ErrorCode = codeOf(err)
		return s
	}
	d := reply.(txn.Description)
	if s.ErrorCode = d.Code; d.Code != 0 {
		return s
	}
	s.State, s.TimeoutMillis, s.StartTimestamp, s.ProducerID, s.ProducerEpoch = d.State.String(), d.TimeoutMillis, d.Started, d.ID, d.Epoch
	for _, p := range d.Partitions {
		if !b.mayTopic(c, OpDescribe, p.Topic) {
			continue
		}
		if n := len(s.Topics); n == 0 || s.Topics[n-1].Topic != p.Topic {
			t := kmsg.NewDescribeTransactionsResponseTransactionStateTopic()
			t.Topic = p.Topic
			s.Topics = append(s.Topics, t)
		}
		t := &s.Topics[len(s.Topics)-1]
		t.Partitions = append(t.Partitions, p.Index)
	}
	return s
}
