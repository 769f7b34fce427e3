package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator/group"
	"github.com/rotpeter/rotpeter/protocol"
)

// consumerGroupDescribe answers ConsumerGroupDescribe (69), versions 0-1 (KIP-848); v1 tells which protocol a member
// speaks (KIP-1099).
// ACL: DESCRIBE on each group (30), and on each topic of its members (29).
func (b *Broker) consumerGroupDescribe(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.ConsumerGroupDescribeRequest)
	return protocol.Later(func(ctx context.Context) protocol.Response {
		resp := kmsg.NewPtrConsumerGroupDescribeResponse()
		resp.Version = c.Version
		for _, id := range req.Groups {
			g := b.describeConsumerGroup(ctx, c, id)
			g.AuthorizedOperations = operationsNotRequested
			if req.IncludeAuthorizedOperations && g.ErrorCode == 0 {
				g.AuthorizedOperations = b.authorizedOperations(c, ResourceGroup, id)
			}
			resp.Groups = append(resp.Groups, g)
		}
		return resp
	})
}

func (b *Broker) describeConsumerGroup(ctx context.Context, c *protocol.Call, id string) kmsg.ConsumerGroupDescribeResponseGroup {
	failed := func(code int16) kmsg.ConsumerGroupDescribeResponseGroup {
		g := kmsg.NewConsumerGroupDescribeResponseGroup()
		g.Group, g.ErrorCode = id, code
		return g
	}
	switch {
	case !b.consumerProtocol():
		return failed(kerr.UnsupportedVersion.Code)
	case !b.mayGroup(c, OpDescribe, id):
		return failed(kerr.GroupAuthorizationFailed.Code)
	case id == "":
		return failed(kerr.InvalidGroupID.Code)
	}
	reply, err := b.groups.ask(ctx, id, group.ConsumerDescribe{Group: id})
	if err != nil {
		return failed(codeOf(err))
	}
	g := reply.(kmsg.ConsumerGroupDescribeResponseGroup)
	if !b.mayDescribeMembers(c, &g) {
		g = failed(kerr.TopicAuthorizationFailed.Code)
		message := "The group has described topic(s) that the client is not authorized to describe."
		g.ErrorMessage = &message
	}
	return g
}

// mayDescribeMembers tells whether the caller may see all topics of a group's members.
func (b *Broker) mayDescribeMembers(c *protocol.Call, g *kmsg.ConsumerGroupDescribeResponseGroup) bool {
	seen := map[string]bool{}
	may := func(topic string) bool {
		ok, known := seen[topic]
		if !known {
			ok = b.mayTopic(c, OpDescribe, topic)
			seen[topic] = ok
		}
		return ok
	}
	for i := range g.Members {
		m := &g.Members[i]
		for _, topic := range m.SubscribedTopics {
			if !may(topic) {
				return false
			}
		}
		for _, a := range []kmsg.Assignment{m.Assignment, m.TargetAssignment} {
			for _, t := range a.TopicPartitions {
				if !may(t.Topic) {
					return false
				}
			}
		}
	}
	return true
}
