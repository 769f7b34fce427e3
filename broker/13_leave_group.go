package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator/group"
	"github.com/rotpeter/rotpeter/protocol"
)

// leaveGroup answers LeaveGroup (13), versions 0-5; v3 brought several members
// a request and static ones (KIP-345), v5 the reason. ACL: READ on the group (30).
func (b *Broker) leaveGroup(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.LeaveGroupRequest)
	failed := func(code int16) *kmsg.LeaveGroupResponse {
		resp := kmsg.NewPtrLeaveGroupResponse()
		resp.Version, resp.ErrorCode = c.Version, code
		return resp
	}
	if !b.mayGroup(c, OpRead, req.Group) {
		return protocol.Now(failed(kerr.GroupAuthorizationFailed.Code))
	}
	return groupCall(b, req.Group, group.Leave{Req: req, Version: c.Version}, failed)
}
