package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator/group"
	"github.com/rotpeter/rotpeter/protocol"
)

// heartbeat answers Heartbeat (12), versions 0-4; v3 brought static members.
// ACL: READ on the group (30).
func (b *Broker) heartbeat(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.HeartbeatRequest)
	failed := func(code int16) *kmsg.HeartbeatResponse {
		resp := kmsg.NewPtrHeartbeatResponse()
		resp.Version, resp.ErrorCode = c.Version, code
		if code == kerr.CoordinatorLoadInProgress.Code {
			resp.ErrorCode = 0 // the member must not give up while its group is loaded
		}
		return resp
	}
	if !b.mayGroup(c, OpRead, req.Group) {
		return protocol.Now(failed(kerr.GroupAuthorizationFailed.Code))
	}
	return groupCall(b, req.Group, group.Heartbeat{Req: req, Version: c.Version}, failed)
}
