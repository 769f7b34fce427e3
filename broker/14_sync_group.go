package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator/group"
	"github.com/rotpeter/rotpeter/protocol"
)

// syncGroup answers SyncGroup (14), versions 0-5; v3 brought static members,
// v5 the protocol type and name, which are mandatory then
// (INCONSISTENT_GROUP_PROTOCOL without). The answer comes when the leader's
// assignment is stored. ACL: READ on the group (30).
func (b *Broker) syncGroup(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.SyncGroupRequest)
	failed := func(code int16) *kmsg.SyncGroupResponse {
		resp := kmsg.NewPtrSyncGroupResponse()
		resp.Version, resp.ErrorCode, resp.MemberAssignment = c.Version, code, []byte{}
		return resp
	}
	if c.Version >= 5 && (req.ProtocolType == nil || req.Protocol == nil) {
		return protocol.Now(failed(kerr.InconsistentGroupProtocol.Code))
	}
	if !b.mayGroup(c, OpRead, req.Group) {
		return protocol.Now(failed(kerr.GroupAuthorizationFailed.Code))
	}
	return groupCall(b, req.Group, group.Sync{Req: req, Version: c.Version}, failed)
}
