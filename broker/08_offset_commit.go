package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator/group"
	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// offsetCommit answers OffsetCommit (8), versions 2-10.
//
// v2-4 retention time, v6 leader epoch, v7 static members, v9 member epochs
// (KIP-848), v10 topic ids. Partitions that do not exist or may not be read are
// answered here; the rest goes to the group's coordinator. A topic named twice is
// answered twice, unless some partitions were refused here: then all is merged.
// ACL: READ on the group (30), READ on each topic (29).
func (b *Broker) offsetCommit(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.OffsetCommitRequest)
	resp := kmsg.NewPtrOffsetCommitResponse()
	resp.Version = c.Version
	if !b.mayGroup(c, OpRead, req.Group) {
		for _, t := range req.Topics {
			resp.Topics = append(resp.Topics, refusedCommit(t, kerr.GroupAuthorizationFailed.Code))
		}
		return protocol.Now(resp)
	}
	im := b.image()
	narrowed := *req
	narrowed.Topics = nil
	for _, t := range req.Topics {
		known, refused := b.splitCommit(c, im, t)
		if len(known.Partitions) > 0 {
			narrowed.Topics = append(narrowed.Topics, known)
		}
		if len(refused.Partitions) > 0 {
			mergeCommit(resp, refused)
		}
	}
	if len(narrowed.Topics) == 0 {
		return protocol.Now(resp)
	}
	if req.Generation < 0 && req.MemberID == "" {
		if e := b.memory.takeOn(); e != nil {
			for _, t := range narrowed.Topics {
				mergeCommit(resp, refusedCommit(t, e.Code))
			}
			return protocol.Now(resp)
		}
	}
	return protocol.Later(func(ctx context.Context) protocol.Response {
		reply, err := b.groups.ask(ctx, req.Group, group.Commit{Req: &narrowed, Version: c.Version})
		if err != nil {
			for _, t := range narrowed.Topics {
				mergeCommit(resp, refusedCommit(t, codeOf(err)))
			}
			return resp
		}
		answered := reply.(*kmsg.OffsetCommitResponse).Topics
		if len(resp.Topics) == 0 {
			resp.Topics = answered
			return resp
		}
		for _, t := range answered {
			mergeCommit(resp, t)
		}
		return resp
	})
}

// splitCommit separates the partitions of one topic that exist from those that
// are refused. Known topics leave with their name, and with the id they were asked by.
func (b *Broker) splitCommit(c *protocol.Call, im *metadata.Image, t kmsg.OffsetCommitRequestTopic) (known kmsg.OffsetCommitRequestTopic, refused kmsg.OffsetCommitResponseTopic) {
	topic := im.Topic(t.Topic)
	if c.Version >= 10 {
		if topic = im.TopicByID(t.TopicID); topic == nil {
			return known, refusedCommit(t, kerr.UnknownTopicID.Code)
		}
	}
	name := t.Topic
	if topic != nil {
		name = topic.Name
	}
	if !b.mayTopic(c, OpRead, name) {
		return known, refusedCommit(t, kerr.TopicAuthorizationFailed.Code)
	}
	if topic == nil {
		return known, refusedCommit(t, kerr.UnknownTopicOrPartition.Code)
	}
	known = kmsg.NewOffsetCommitRequestTopic()
	known.Topic, known.TopicID = topic.Name, t.TopicID
	refused = kmsg.NewOffsetCommitResponseTopic()
	refused.Topic, refused.TopicID = t.Topic, t.TopicID
	for _, p := range t.Partitions {
		if p.Partition >= 0 && int(p.Partition) < len(topic.Partitions) {
			known.Partitions = append(known.Partitions, p)
			continue
		}
		rp := kmsg.NewOffsetCommitResponseTopicPartition()
		rp.Partition, rp.ErrorCode = p.Partition, kerr.UnknownTopicOrPartition.Code
		refused.Partitions = append(refused.Partitions, rp)
	}
	return known, refused
}

func refusedCommit(t kmsg.OffsetCommitRequestTopic, code int16) kmsg.OffsetCommitResponseTopic {
	rt := kmsg.NewOffsetCommitResponseTopic()
	rt.Topic, rt.TopicID = t.Topic, t.TopicID
	for _, p := range t.Partitions {
		rp := kmsg.NewOffsetCommitResponseTopicPartition()
		rp.Partition, rp.ErrorCode = p.Partition, code
		rt.Partitions = append(rt.Partitions, rp)
	}
	return rt
}

// mergeCommit adds a topic's answers to those that are there already.
func mergeCommit(resp *kmsg.OffsetCommitResponse, t kmsg.OffsetCommitResponseTopic) {
	for i := range resp.Topics {
		have := &resp.Topics[i]
		if resp.Version >= 10 && have.TopicID == t.TopicID || resp.Version < 10 && have.Topic == t.Topic {
			have.Partitions = append(have.Partitions, t.Partitions...)
			return
		}
	}
	resp.Topics = append(resp.Topics, t)
}
