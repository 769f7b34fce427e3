package broker

import (
	"context"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
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
		a := resourceAsked{kind: r.ResourceType, name: r.ResourceName, replace: true}
		var null []string
		seen := map[string]bool{}
		for _, s := range r.Configs {
			if seen[s.Name] {
				a.refusal = refusal(kerr.InvalidRequest, "Error due to duplicate config keys")
			}
			seen[s.Name] = true
			if s.Value == nil {
				null = append(null, s.Name)
			}
			a.changes = append(a.changes, metadata.ConfigChange{Name: s.Name, Op: metadata.ConfigSet, Value: s.Value})
		}
		if len(null) > 0 && a.refusal.Code == 0 {
			a.refusal = refusal(kerr.InvalidRequest, "Null value not supported for : "+strings.Join(null, ", "))
		}
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
