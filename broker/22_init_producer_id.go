package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/protocol"
)

// initProducerID answers InitProducerId (22), versions 0-5, for idempotent
// producers: a new id and epoch 0 each time (KIP-98). v3 brought the id and
// epoch to go on with (KIP-360): one without the other is INVALID_REQUEST.
//
// ACL: WRITE on the transactional id (53); without one, IDEMPOTENT_WRITE on the
// cluster or WRITE on any topic (31).
// Left out: transactional ids. Their coordinator is not served (FindCoordinator
// refuses it), so one that comes here all the same is told so: NOT_COORDINATOR.
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
		return refuse(kerr.NotCoordinator)
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
