package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// alterConfigs answers AlterConfigs (33), versions 0-2: it replaces all settings of a resource,
// which is why clients have turned to IncrementalAlterConfigs, whose rules hold here too.
// ACL: ALTER_CONFIGS on the topic (29), the group (30) or the cluster (31).
func (b *Broker) alterConfigs(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.AlterConfigsRequest)
	var asked []resourceAsked
	for _, r := range req.Resources {
		var settings []metadata.ConfigChange
		for _, s := range r.Configs {
			settings = append(settings, metadata.ConfigChange{Name: s.Name, Op: metadata.ConfigSet, Value: s.Value})
		}
		a := askResource(r.ResourceType, r.ResourceName, settings)
		a.replace = true
		asked = append(asked, a)
	}
	return protocol.Later(func(ctx context.Context) protocol.Response {
		resp := kmsg.NewPtrAlterConfigsResponse()
		resp.Version = c.Version
		for i, f := range b.changeConfigs(ctx, c, asked, req.ValidateOnly) {
			rr := kmsg.NewAlterConfigsResponseResource()
			rr.ResourceType, rr.ResourceName = asked[i].kind, asked[i].name
			rr.ErrorCode, rr.ErrorMessage = f.Code, f.Message
			resp.Resources = append(resp.Resources, rr)
		}
		return resp
	})
}
