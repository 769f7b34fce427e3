package broker

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator/group"
	"github.com/rotpeter/rotpeter/protocol"
)

// consumerProtocol tells whether the consumer group protocol is on: by group.coordinator.rebalance.protocols and by the
// feature group.version.
func (b *Broker) consumerProtocol() bool {
	return slices.Contains(b.conf.Load().Strings("group.coordinator.rebalance.protocols"), "consumer") && b.image().Feature("group.version") >= 1
}

// consumerGroupHeartbeat answers ConsumerGroupHeartbeat (68), versions 0-1 (KIP-848); v1 brought regular expressions, and
// members make their own ids (KIP-1082).
// ACL: READ on the group (30), DESCRIBE on each topic that is subscribed to by name (29).
func (b *Broker) consumerGroupHeartbeat(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.ConsumerGroupHeartbeatRequest)
	failed := func(code int16) *kmsg.ConsumerGroupHeartbeatResponse {
		resp := kmsg.NewPtrConsumerGroupHeartbeatResponse()
		resp.Version, resp.ErrorCode = c.Version, code
		return resp
	}
	switch {
	case !b.consumerProtocol():
		return protocol.Now(failed(kerr.UnsupportedVersion.Code))
	case !b.mayGroup(c, OpRead, req.Group):
		return protocol.Now(failed(kerr.GroupAuthorizationFailed.Code))
	}
	for _, topic := range req.SubscribedTopicNames {
		if !b.mayTopic(c, OpDescribe, topic) {
			return protocol.Now(failed(kerr.TopicAuthorizationFailed.Code))
		}
	}
	if req.MemberEpoch == 0 {
		if e := b.memory.takeOn(); e != nil {
			return protocol.Now(failed(e.Code))
		}
	}
	e := group.ConsumerHeartbeat{Req: req, Version: c.Version, ClientID: c.ClientID, ClientHost: clientHost(c.Peer)}
	if req.SubscribedTopicRegex != nil || req.MemberEpoch > 0 {
		// The call itself is used again once it is answered, and regular expressions are matched after that.
		e.Caller = &protocol.Call{Key: c.Key, Version: c.Version, ClientID: c.ClientID, Principal: c.Principal, Peer: c.Peer, PeerPort: c.PeerPort, Listener: c.Listener}
	}
	return groupCall(b, req.Group, e, failed)
}
