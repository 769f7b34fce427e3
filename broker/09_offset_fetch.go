package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator/group"
	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// offsetFetch answers OffsetFetch (9), versions 1-10.
//
// v2 all topics and a top-level error, v5 leader epochs, v7 RequireStable, v8
// several groups (KIP-709), v9 member id and epoch, v10 topic ids. A partition
// without a commit answers -1 and no error, for a group that does not exist too.
// ACL: DESCRIBE on the group (30), DESCRIBE on each topic (29, or left out when
// all were asked for).
func (b *Broker) offsetFetch(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.OffsetFetchRequest)
	return protocol.Later(func(ctx context.Context) protocol.Response {
		resp := kmsg.NewPtrOffsetFetchResponse()
		resp.Version = c.Version
		if c.Version >= 8 {
			for _, g := range req.Groups {
				resp.Groups = append(resp.Groups, b.fetchGroupOffsets(ctx, c, g, req.RequireStable))
			}
			return resp
		}
		old := b.fetchGroupOffsets(ctx, c, oneGroup(req), req.RequireStable)
		addOldOffsets(resp, req, old)
		return resp
	})
}

// oneGroup writes a request of the time before v8 as one of today.
func oneGroup(req *kmsg.OffsetFetchRequest) kmsg.OffsetFetchRequestGroup {
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = req.Group
	if req.Topics != nil || req.Version < 2 {
		g.Topics = []kmsg.OffsetFetchRequestGroupTopic{}
	}
	for _, t := range req.Topics {
		gt := kmsg.NewOffsetFetchRequestGroupTopic()
		gt.Topic, gt.Partitions = t.Topic, t.Partitions
		g.Topics = append(g.Topics, gt)
	}
	return g
}

// addOldOffsets writes an answer of today as one of the time before v8. Below
// v2 there was no top-level error: each partition carries it.
func addOldOffsets(resp *kmsg.OffsetFetchResponse, req *kmsg.OffsetFetchRequest, g kmsg.OffsetFetchResponseGroup) {
	resp.ErrorCode = g.ErrorCode
	if g.ErrorCode != 0 && resp.Version < 2 {
		for _, t := range req.Topics {
			gt := kmsg.NewOffsetFetchResponseGroupTopic()
			gt.Topic = t.Topic
			for _, p := range t.Partitions {
				gt.Partitions = append(gt.Partitions, noOffset(p, g.ErrorCode))
			}
			g.Topics = append(g.Topics, gt)
		}
	}
	for _, t := range g.Topics {
		rt := kmsg.NewOffsetFetchResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetFetchResponseTopicPartition()
			rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata, rp.ErrorCode = p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
}

func noOffset(partition int32, code int16) kmsg.OffsetFetchResponseGroupTopicPartition {
	p := kmsg.NewOffsetFetchResponseGroupTopicPartition()
	p.Partition, p.Offset, p.LeaderEpoch, p.Metadata, p.ErrorCode = partition, -1, -1, new(string), code
	return p
}

func (b *Broker) fetchGroupOffsets(ctx context.Context, c *protocol.Call, g kmsg.OffsetFetchRequestGroup, stable bool) kmsg.OffsetFetchResponseGroup {
	failed := func(code int16) kmsg.OffsetFetchResponseGroup {
		rg := kmsg.NewOffsetFetchResponseGroup()
		rg.Group, rg.ErrorCode = g.Group, code
		return rg
	}
	if !b.mayGroup(c, OpDescribe, g.Group) {
		return failed(kerr.GroupAuthorizationFailed.Code)
	}
	im := b.image()
	asked, refused := b.splitOffsetFetch(c, im, g)
	reply, err := b.groups.ask(ctx, g.Group, group.Fetch{Group: asked, Version: c.Version, RequireStable: stable})
	if err != nil {
		return failed(codeOf(err))
	}
	rg := reply.(kmsg.OffsetFetchResponseGroup)
	if rg.ErrorCode != 0 {
		return rg
	}
	if g.Topics == nil {
		rg.Topics = b.visibleOffsets(c, im, rg.Topics)
	}
	rg.Topics = append(rg.Topics, refused...)
	return rg
}

// splitOffsetFetch names the topics that were asked by id, and answers those
// that are unknown by id or not the caller's to see.
func (b *Broker) splitOffsetFetch(c *protocol.Call, im *metadata.Image, g kmsg.OffsetFetchRequestGroup) (kmsg.OffsetFetchRequestGroup, []kmsg.OffsetFetchResponseGroupTopic) {
	if g.Topics == nil {
		return g, nil
	}
	var refused []kmsg.OffsetFetchResponseGroupTopic
	asked := g
	asked.Topics = []kmsg.OffsetFetchRequestGroupTopic{}
	for _, t := range g.Topics {
		known := im.Topic(t.Topic)
		if c.Version >= 10 {
			known = im.TopicByID(t.TopicID)
		}
		named := t
		if known != nil {
			named.Topic = known.Name
		}
		var code int16
		switch {
		case c.Version >= 10 && known == nil:
			code = kerr.UnknownTopicID.Code
		case !b.mayTopic(c, OpDescribe, named.Topic):
			code = kerr.TopicAuthorizationFailed.Code
		default:
			asked.Topics = append(asked.Topics, named)
			continue
		}
		rt := kmsg.NewOffsetFetchResponseGroupTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rt.Partitions = append(rt.Partitions, noOffset(p, code))
		}
		refused = append(refused, rt)
	}
	return asked, refused
}

// visibleOffsets keeps, of all a group's offsets, those of topics the caller may
// see and, where ids are spoken, whose id is known.
func (b *Broker) visibleOffsets(c *protocol.Call, im *metadata.Image, topics []kmsg.OffsetFetchResponseGroupTopic) []kmsg.OffsetFetchResponseGroupTopic {
	kept := topics[:0]
	for _, t := range topics {
		if !b.mayTopic(c, OpDescribe, t.Topic) {
			continue
		}
		if t.TopicID == [16]byte{} {
			if known := im.Topic(t.Topic); known != nil {
				t.TopicID = known.ID
			}
		}
		if c.Version >= 10 && t.TopicID == [16]byte{} {
			continue
		}
		kept = append(kept, t)
	}
	return kept
}
