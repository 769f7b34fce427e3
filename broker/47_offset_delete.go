package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator/group"
	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// offsetDelete answers OffsetDelete (47), version 0 (KIP-496).
//
// Partitions that do not exist or may not be read are answered here; the rest goes to the
// group's coordinator. A topic named twice is answered twice, unless some partitions were
// refused here: then all is merged.
// ACL: DELETE on the group (30), READ on each topic (29).
func (b *Broker) offsetDelete(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.OffsetDeleteRequest)
	resp := kmsg.NewPtrOffsetDeleteResponse()
	resp.Version = c.Version
	if !b.mayGroup(c, OpDelete, req.Group) {
		resp.ErrorCode = kerr.GroupAuthorizationFailed.Code
		return protocol.Now(resp)
	}
	im := b.image()
	narrowed := *req
	narrowed.Topics = nil
	for _, t := range req.Topics {
		known, refused := b.splitDelete(c, im, t)
		if len(known.Partitions) > 0 {
			narrowed.Topics = append(narrowed.Topics, known)
		}
		if len(refused.Partitions) > 0 {
			mergeDelete(resp, refused)
		}
	}
	if len(narrowed.Topics) == 0 {
		return protocol.Now(resp)
	}
	return protocol.Later(func(ctx context.Context) protocol.Response {
		reply, err := b.groups.ask(ctx, req.Group, group.OffsetDelete{Req: &narrowed})
		if err != nil {
			return refusedDelete(c.Version, codeOf(err))
		}
		answer := reply.(*kmsg.OffsetDeleteResponse)
		answer.Version = c.Version
		if answer.ErrorCode != 0 { // of the whole group: nothing is said of partitions
			return refusedDelete(c.Version, answer.ErrorCode)
		}
		if len(resp.Topics) == 0 {
			return answer
		}
		for _, t := range answer.Topics {
			mergeDelete(resp, t)
		}
		return resp
	})
}

func refusedDelete(version, code int16) *kmsg.OffsetDeleteResponse {
	resp := kmsg.NewPtrOffsetDeleteResponse()
	resp.Version, resp.ErrorCode = version, code
	return resp
}

// splitDelete separates the partitions of one topic that exist from those that are refused.
func (b *Broker) splitDelete(c *protocol.Call, im *metadata.Image, t kmsg.OffsetDeleteRequestTopic) (known kmsg.OffsetDeleteRequestTopic, refused kmsg.OffsetDeleteResponseTopic) {
	known, refused = kmsg.NewOffsetDeleteRequestTopic(), kmsg.NewOffsetDeleteResponseTopic()
	known.Topic, refused.Topic = t.Topic, t.Topic
	topic, allowed := im.Topic(t.Topic), b.mayTopic(c, OpRead, t.Topic)
	for _, p := range t.Partitions {
		if allowed && topic != nil && p.Partition >= 0 && int(p.Partition) < len(topic.Partitions) {
			known.Partitions = append(known.Partitions, p)
			continue
		}
		rp := kmsg.NewOffsetDeleteResponseTopicPartition()
		rp.Partition, rp.ErrorCode = p.Partition, kerr.UnknownTopicOrPartition.Code
		if !allowed {
			rp.ErrorCode = kerr.TopicAuthorizationFailed.Code
		}
		refused.Partitions = append(refused.Partitions, rp)
	}
	return known, refused
}

// mergeDelete adds what is answered of a topic.
func mergeDelete(resp *kmsg.OffsetDeleteResponse, t kmsg.OffsetDeleteResponseTopic) {
	for i := range resp.Topics {
		if resp.Topics[i].Topic == t.Topic {
			resp.Topics[i].Partitions = append(resp.Topics[i].Partitions, t.Partitions...)
			return
		}
	}
	resp.Topics = append(resp.Topics, t)
}
