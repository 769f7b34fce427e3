package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// createPartitions answers CreatePartitions (37), versions 0-3. A topic named
// twice is INVALID_REQUEST. With a timeout of 0 or less nothing is created:
// REQUEST_TIMED_OUT. ACL: ALTER on each topic (29).
func (b *Broker) createPartitions(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.CreatePartitionsRequest)
	return protocol.Later(func(ctx context.Context) protocol.Response {
		resp := kmsg.NewPtrCreatePartitionsResponse()
		resp.Version = c.Version
		answer := func(name string, code int16, message *string) {
			t := kmsg.NewCreatePartitionsResponseTopic()
			t.Topic, t.ErrorCode, t.ErrorMessage = name, code, message
			resp.Topics = append(resp.Topics, t)
		}
		var more []metadata.MorePartitions
		for _, t := range req.Topics {
			if !b.mayTopic(c, OpAlter, t.Topic) {
				answer(t.Topic, kerr.TopicAuthorizationFailed.Code, nil)
				continue
			}
			m := metadata.MorePartitions{Name: t.Topic, Count: t.Count}
			if t.Assignment != nil {
				m.Assignments = [][]int32{}
			}
			for _, a := range t.Assignment {
				m.Assignments = append(m.Assignments, a.Replicas)
			}
			more = append(more, m)
		}
		if req.TimeoutMillis <= 0 {
			for _, m := range more {
				answer(m.Name, kerr.RequestTimedOut.Code, nil)
			}
			return resp
		}
		var reply any
		err := b.roomToCreate()
		if err == nil {
			reply, err = b.askMetadata(ctx, metadata.CreatePartitions{Topics: more, ValidateOnly: req.ValidateOnly})
		}
		if err != nil {
			for _, m := range more {
				answer(m.Name, codeOf(err), ptr(err.Error()))
			}
			return resp
		}
		for _, r := range reply.(metadata.PartitionsCreated).Topics {
			answer(r.Name, r.Code, r.Message)
		}
		return resp
	})
}
