package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/protocol"
)

// Key types of FindCoordinator.
const (
	coordinatorGroup       = 0
	coordinatorTransaction = 1
	coordinatorShare       = 2
)

// findCoordinator answers FindCoordinator (10), versions 0-6; v1 brought the
// key type, v4 several keys (KIP-699), whose messages are empty, but for types that
// do not exist.
//
// The coordinator is always this broker. Its internal topic is created before
// the answer, where Kafka answers COORDINATOR_NOT_AVAILABLE and creates
// meanwhile: clients ask again then.
// ACL: DESCRIBE on the group (30) or transactional id (53).
// Left out: share coordinators (2), whose APIs are not advertised either:
// INVALID_REQUEST, which clients show to their user.
func (b *Broker) findCoordinator(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.FindCoordinatorRequest)
	return protocol.Later(func(ctx context.Context) protocol.Response {
		resp := kmsg.NewPtrFindCoordinatorResponse()
		resp.Version = c.Version
		keys := req.CoordinatorKeys
		if c.Version < 4 {
			keys = []string{req.CoordinatorKey}
		}
		for _, key := range keys {
			one := kmsg.NewFindCoordinatorResponseCoordinator()
			one.Key, one.NodeID, one.Port, one.ErrorMessage = key, -1, -1, new(string)
			if err := b.coordinatorFor(ctx, c, req.CoordinatorType, key); err != nil {
				one.ErrorCode = err.Code
				if c.Version < 4 || err == kerr.InvalidRequest && req.CoordinatorType != coordinatorShare {
					one.ErrorMessage = &err.Description
				}
			} else {
				ep := b.endpoint(c.Listener)
				one.NodeID, one.Host, one.Port = b.nodeID, ep.Host, ep.Port
			}
			resp.Coordinators = append(resp.Coordinators, one)
		}
		if c.Version < 4 {
			one := resp.Coordinators[0]
			resp.Coordinators = nil
			resp.ErrorCode, resp.ErrorMessage = one.ErrorCode, one.ErrorMessage
			resp.NodeID, resp.Host, resp.Port = one.NodeID, one.Host, one.Port
			if one.ErrorCode == 0 {
				none := "NONE" // what Kafka says in these versions
				resp.ErrorMessage = &none
			}
		}
		return resp
	})
}

func (b *Broker) coordinatorFor(ctx context.Context, c *protocol.Call, kind int8, key string) *kerr.Error {
	switch kind {
	case coordinatorGroup:
		if !b.mayGroup(c, OpDescribe, key) {
			return kerr.GroupAuthorizationFailed
		}
		if err := b.ensureTopic(ctx, offsetsTopic); err != nil {
			return err
		}
		if !b.groups.available(key) {
			return kerr.CoordinatorNotAvailable
		}
		return nil
	case coordinatorTransaction:
		if !b.authorizer.Authorize(c, OpDescribe, ResourceTransactionalID, key) {
			return kerr.TransactionalIDAuthorizationFailed
		}
		if err := b.ensureTopic(ctx, transactionsTopic); err != nil {
			return err
		}
		if !b.txns.available(key) {
			return kerr.CoordinatorNotAvailable
		}
		return nil
	}
	return kerr.InvalidRequest
}
