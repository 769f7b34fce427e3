package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator/group"
	"github.com/rotpeter/rotpeter/protocol"
)

// describeGroups answers DescribeGroups (15), versions 0-6.
//
// v3 authorized operations, v4 static members, v6 GROUP_ID_NOT_FOUND with a
// message where older versions answer the state "Dead" (KIP-1043).
// ACL: DESCRIBE on each group (30).
func (b *Broker) describeGroups(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.DescribeGroupsRequest)
	return protocol.Later(func(ctx context.Context) protocol.Response {
		resp := kmsg.NewPtrDescribeGroupsResponse()
		resp.Version = c.Version
		for _, id := range req.Groups {
			resp.Groups = append(resp.Groups, b.describeGroup(ctx, c, id, req.IncludeAuthorizedOperations))
		}
		return resp
	})
}

func (b *Broker) describeGroup(ctx context.Context, c *protocol.Call, id string, operations bool) kmsg.DescribeGroupsResponseGroup {
	failed := func(code int16) kmsg.DescribeGroupsResponseGroup {
		g := kmsg.NewDescribeGroupsResponseGroup()
		g.Group, g.ErrorCode, g.AuthorizedOperations = id, code, operationsNotRequested
		return g
	}
	if !b.mayGroup(c, OpDescribe, id) {
		return failed(kerr.GroupAuthorizationFailed.Code)
	}
	reply, err := b.groups.ask(ctx, id, group.Describe{Group: id, Version: c.Version})
	if err != nil {
		return failed(codeOf(err))
	}
	g := reply.(kmsg.DescribeGroupsResponseGroup)
	g.AuthorizedOperations = operationsNotRequested
	if operations && c.Version >= 3 && g.ErrorCode == 0 {
		g.AuthorizedOperations = b.authorizedOperations(c, ResourceGroup, id)
	}
	return g
}
