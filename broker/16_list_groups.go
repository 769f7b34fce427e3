package broker

import (
	"context"
	"sort"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator/group"
	"github.com/rotpeter/rotpeter/protocol"
)

// listGroups answers ListGroups (16), versions 0-5; v4 brought the filter by
// state (KIP-518), v5 by type (KIP-848). Unknown filter values match nothing.
// ACL: DESCRIBE on the cluster shows all; else only groups with DESCRIBE.
func (b *Broker) listGroups(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.ListGroupsRequest)
	return protocol.Later(func(ctx context.Context) protocol.Response {
		resp := kmsg.NewPtrListGroupsResponse()
		resp.Version = c.Version
		shells, err := b.groups.all()
		if err != nil {
			b.logStorage("list groups", err)
			resp.ErrorCode = codeOf(err)
			return resp
		}
		everything := b.mayCluster(c, OpDescribe)
		for _, s := range shells {
			reply, err := s.Do(ctx, group.List{States: req.StatesFilter, Types: req.TypesFilter})
			if err != nil {
				resp.Groups, resp.ErrorCode = nil, codeOf(err)
				return resp
			}
			for _, g := range reply.([]kmsg.ListGroupsResponseGroup) {
				if everything || b.mayGroup(c, OpDescribe, g.Group) {
					resp.Groups = append(resp.Groups, g)
				}
			}
		}
		sort.Slice(resp.Groups, func(i, j int) bool { return resp.Groups[i].Group < resp.Groups[j].Group })
		return resp
	})
}
