package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator/group"
	"github.com/rotpeter/rotpeter/protocol"
)

// joinGroup answers JoinGroup (11), versions 0-9.
//
// v1 rebalance timeout, v4 MEMBER_ID_REQUIRED (KIP-394), v5 static members
// (KIP-345), v7 protocol type, v8 reason, v9 SkipAssignment (KIP-814). The
// answer comes when the group's rebalance completes. ACL: READ on the group (30).
func (b *Broker) joinGroup(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.JoinGroupRequest)
	failed := func(code int16) *kmsg.JoinGroupResponse {
		resp := kmsg.NewPtrJoinGroupResponse()
		resp.Version, resp.ErrorCode, resp.MemberID, resp.Generation = c.Version, code, req.MemberID, -1
		if c.Version < 7 {
			resp.Protocol = new(string)
		}
		return resp
	}
	if !b.mayGroup(c, OpRead, req.Group) {
		return protocol.Now(failed(kerr.GroupAuthorizationFailed.Code))
	}
	if req.MemberID == "" {
		if e := b.memory.takeOn(); e != nil {
			return protocol.Now(failed(e.Code))
		}
	}
	return groupCall(b, req.Group, group.Join{Req: req, Version: c.Version, ClientID: c.ClientID, ClientHost: clientHost(c.Peer)}, failed)
}
