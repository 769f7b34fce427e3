package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator/txn"
	"github.com/rotpeter/rotpeter/protocol"
)

// initProducerID answers InitProducerId (22), versions 0-5: a new id and epoch 0 each time for
// idempotent producers, and what their coordinator says for transactional ones (KIP-98). v3 brought the id and
// epoch to go on with (KIP-360): one without the other is INVALID_REQUEST. v4 brought PRODUCER_FENCED.
// One of a producer that goes on and was delayed on a connection which it has given up is hung up on (decision 27).
//
// ACL: WRITE on the transactional id (53); without one, IDEMPOTENT_WRITE on the
// cluster or WRITE on any topic (31).
func (b *Broker) initProducerID(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.InitProducerIDRequest)
	resp := kmsg.NewPtrInitProducerIDResponse()
	resp.Version = c.Version
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	refuse := func(e *kerr.Error) protocol.Answer {
		resp.ErrorCode = e.Code
		return protocol.Now(resp)
	}
	switch {
	case req.TransactionalID != nil && !b.authorizer.Authorize(c, OpWrite, ResourceTransactionalID, *req.TransactionalID):
		return refuse(kerr.TransactionalIDAuthorizationFailed)
	case req.TransactionalID == nil && !b.mayIdempotentWrite(c):
		return refuse(kerr.ClusterAuthorizationFailed)
	case c.Version >= 3 && (req.ProducerID == -1) != (req.ProducerEpoch == -1):
		return refuse(kerr.InvalidRequest)
	case req.TransactionalID != nil && *req.TransactionalID == "":
		return refuse(kerr.InvalidRequest)
	case req.TransactionalID != nil:
		if e := b.memory.takeOn(); e != nil {
			return refuse(e)
		}
		return protocol.Later(func(ctx context.Context) protocol.Response {
			if late := b.initTransactional(ctx, req, resp, c.ConnID); late {
				return b.late(c, *req.TransactionalID)
			}
			return resp
		})
	}
	return protocol.Later(func(ctx context.Context) protocol.Response {
		id, err := b.producerIDs.take(ctx)
		if err != nil {
			resp.ErrorCode = codeOf(err)
			return resp
		}
		resp.ProducerID, resp.ProducerEpoch = id, 0
		return resp
	})
}

// initTransactional asks the coordinator of a transactional id.
func (b *Broker) initTransactional(ctx context.Context, req *kmsg.InitProducerIDRequest, resp *kmsg.InitProducerIDResponse, conn uint64) (late bool) {
	e := txn.Init{TransactionalID: *req.TransactionalID, TimeoutMillis: req.TransactionTimeoutMillis, NewID: -1, Conn: txn.Conn(conn)}
	if req.ProducerID != -1 && req.Version >= 3 {
		e.Expected = &txn.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch}
	}
	reply, err := b.txns.ask(ctx, e.TransactionalID, e)
	if got, ok := reply.(txn.Initialized); err == nil && ok && got.NeedsID {
		if e.NewID, err = b.producerIDs.take(ctx); err == nil {
			reply, err = b.txns.ask(ctx, e.TransactionalID, e)
		}
	}
	if err != nil {
		resp.ErrorCode = codeOf(err)
		return false
	}
	got := reply.(txn.Initialized)
	resp.ErrorCode, resp.ProducerID, resp.ProducerEpoch = oldFenced(got.Code, resp.Version, 4), got.ID, got.Epoch
	return got.Late
}
