package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator/txn"
	"github.com/rotpeter/rotpeter/protocol"
)

// addOffsetsToTxn answers AddOffsetsToTxn (25), versions 0-4: the partition of __consumer_offsets that has the group
// belongs to the transaction from now on. Clients of newer transactions do without it. v2 brought PRODUCER_FENCED.
// One that was delayed on a connection which its producer has given up is hung up on (decision 27).
// ACL: WRITE on the transactional id (53), READ on the group (30).
func (b *Broker) addOffsetsToTxn(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.AddOffsetsToTxnRequest)
	resp := kmsg.NewPtrAddOffsetsToTxnResponse()
	resp.Version = c.Version
	switch {
	case !b.mayTransaction(c, OpWrite, req.TransactionalID):
		resp.ErrorCode = kerr.TransactionalIDAuthorizationFailed.Code
		return protocol.Now(resp)
	case !b.mayGroup(c, OpRead, req.Group):
		resp.ErrorCode = kerr.GroupAuthorizationFailed.Code
		return protocol.Now(resp)
	}
	return protocol.Later(func(ctx context.Context) protocol.Response {
		if err := b.ensureTopic(ctx, offsetsTopic); err != nil {
			resp.ErrorCode = err.Code
			return resp
		}
		p, _ := b.offsetsPartition(req.Group)
		codes, late := b.addPartitions(ctx, txn.Add{
			TransactionalID: req.TransactionalID, Producer: txn.Producer{ID: req.ProducerID, Epoch: req.ProducerEpoch},
			Partitions: []txn.Partition{p}, Version: versionOld, Conn: txn.Conn(c.ConnID),
		})
		if late {
			return b.late(c, req.TransactionalID)
		}
		resp.ErrorCode = oldFenced(codes[0], c.Version, 2)
		return resp
	})
}
