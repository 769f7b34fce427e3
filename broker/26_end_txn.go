package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator/txn"
	"github.com/rotpeter/rotpeter/protocol"
)

// endTxn answers EndTxn (26), versions 0-5: the end is decided and durable; markers follow. v2 brought PRODUCER_FENCED, v5
// the producer's next epoch (KIP-890). Below v5 the end of another transaction, delayed on an older connection, is hung up on
// (decision 27).
// ACL: WRITE on the transactional id (53).
func (b *Broker) endTxn(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.EndTxnRequest)
	resp := kmsg.NewPtrEndTxnResponse()
	resp.Version, resp.ProducerID, resp.ProducerEpoch = c.Version, -1, -1
	if !b.mayTransaction(c, OpWrite, req.TransactionalID) {
		resp.ErrorCode = kerr.TransactionalIDAuthorizationFailed.Code
		return protocol.Now(resp)
	}
	e := txn.End{
		TransactionalID: req.TransactionalID, Producer: txn.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch},
		Commit: req.Commit, Version: versionOld, NewID: -1, Conn: txn.Conn(c.ConnID),
	}
	if c.Version >= 5 {
		e.Version = versionNew
	}
	return protocol.Later(func(ctx context.Context) protocol.Response {
		reply, err := b.txns.ask(ctx, e.TransactionalID, e)
		if ended, ok := reply.(txn.Ended); err == nil && ok && ended.NeedsID {
			if e.NewID, err = b.producerIDs.take(ctx); err == nil {
				reply, err = b.txns.ask(ctx, e.TransactionalID, e)
			}
		}
		if err != nil {
			resp.ErrorCode = codeOf(err)
			return resp
		}
		ended := reply.(txn.Ended)
		if ended.Late {
			return b.late(c, e.TransactionalID)
		}
		resp.ErrorCode, resp.ProducerID, resp.ProducerEpoch = oldFenced(ended.Code, c.Version, 2), ended.ID, ended.Epoch
		return resp
	})
}
