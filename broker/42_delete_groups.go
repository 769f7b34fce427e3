package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator/group"
	"github.com/rotpeter/rotpeter/protocol"
)

// deleteGroups answers DeleteGroups (42), versions 0-2. A group named twice is
// answered once. ACL: DELETE on each group (30).
func (b *Broker) deleteGroups(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.DeleteGroupsRequest)
	return protocol.Later(func(ctx context.Context) protocol.Response {
		resp := kmsg.NewPtrDeleteGroupsResponse()
		resp.Version = c.Version
		seen := map[string]bool{}
		for _, id := range req.Groups {
			if seen[id] {
				continue
			}
			seen[id] = true
			rg := kmsg.NewDeleteGroupsResponseGroup()
			rg.Group = id
			if !b.mayGroup(c, OpDelete, id) {
				rg.ErrorCode = kerr.GroupAuthorizationFailed.Code
			} else if reply, err := b.groups.ask(ctx, id, group.Delete{Group: id}); err != nil {
				rg.ErrorCode = codeOf(err)
			} else {
				rg = reply.(kmsg.DeleteGroupsResponseGroup)
			}
			resp.Groups = append(resp.Groups, rg)
		}
		return resp
	})
}
