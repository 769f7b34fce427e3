package broker

import (
	"context"
	"slices"
	"sort"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// describeTopicPartitions answers DescribeTopicPartitions (75), version 0 (KIP-966).
//
// Topics in the order of their names, at most ResponsePartitionLimit partitions
// (at least 1, at most max.request.partition.size.limit), then a cursor. One without
// a leader has no error here, other than in Metadata. An
// empty list of topics means all. The cursor's topic must be in the list and its
// partition not negative; Kafka has no top-level code here and answers each
// topic with INVALID_REQUEST.
// ACL: DESCRIBE on each topic (29, or left out of a list of all). What else the
// caller may do is told of topics that do not exist, too.
func (b *Broker) describeTopicPartitions(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.DescribeTopicPartitionsRequest)
	resp := kmsg.NewPtrDescribeTopicPartitionsResponse()
	resp.Version = c.Version
	from, firstPartition := "", int32(0)
	if req.Cursor != nil {
		from, firstPartition = req.Cursor.Topic, req.Cursor.Partition
	}
	im := b.image()
	names := b.namesFrom(c, req, im, from)
	all := len(req.Topics) == 0
	if req.Cursor != nil && (firstPartition < 0 || !all && !slices.Contains(names, from)) {
		for _, t := range req.Topics {
			resp.Topics = append(resp.Topics, newDescribedTopic(kerr.InvalidRequest, t.Topic))
		}
		return protocol.Now(resp)
	}
	left := max(min(b.partitionLimit, int(req.ResponsePartitionLimit)), 1)
	var denied []kmsg.DescribeTopicPartitionsResponseTopic
	for _, name := range names {
		if !b.mayTopic(c, OpDescribe, name) {
			if !all {
				denied = append(denied, newDescribedTopic(kerr.TopicAuthorizationFailed, name))
			}
			continue
		}
		if left == 0 {
			resp.NextCursor = &kmsg.DescribeTopicPartitionsResponseNextCursor{Topic: name}
			break
		}
		t := im.Topic(name)
		if t == nil {
			if !all {
				code := kerr.UnknownTopicOrPartition
				if metadata.InvalidTopicName(name) != "" {
					code = kerr.InvalidTopicException
				}
				unknown := newDescribedTopic(code, name)
				unknown.AuthorizedOperations = b.authorizedOperations(c, ResourceTopic, name)
				resp.Topics = append(resp.Topics, unknown)
			}
			continue
		}
		start := int32(0)
		if name == from {
			start = firstPartition
		}
		described, next := b.describeTopic(c, t, start, left)
		left -= len(described.Partitions)
		resp.Topics = append(resp.Topics, described)
		if next >= 0 {
			resp.NextCursor = &kmsg.DescribeTopicPartitionsResponseNextCursor{Topic: name, Partition: next}
			break
		}
	}
	resp.Topics = append(resp.Topics, denied...)
	return protocol.Now(resp)
}

// namesFrom lists, sorted and once each, the asked topics that do not come before from.
func (b *Broker) namesFrom(c *protocol.Call, req *kmsg.DescribeTopicPartitionsRequest, im *metadata.Image, from string) []string {
	var names []string
	if len(req.Topics) == 0 {
		for _, t := range im.Topics() {
			if t.Name >= from {
				names = append(names, t.Name)
			}
		}
		return names
	}
	for _, t := range req.Topics {
		if t.Topic >= from {
			names = append(names, t.Topic)
		}
	}
	sort.Strings(names)
	return slices.Compact(names)
}

func newDescribedTopic(code *kerr.Error, name string) kmsg.DescribeTopicPartitionsResponseTopic {
	t := kmsg.NewDescribeTopicPartitionsResponseTopic()
	t.Topic = &name
	t.IsInternal = metadata.Internal(name)
	t.AuthorizedOperations = operationsNotRequested
	if code != nil {
		t.ErrorCode = code.Code
	}
	return t
}

// describeTopic answers up to limit partitions from start on, and where to go on (-1 when done).
func (b *Broker) describeTopic(c *protocol.Call, t *metadata.Topic, start int32, limit int) (kmsg.DescribeTopicPartitionsResponseTopic, int32) {
	im, rt := b.image(), newDescribedTopic(nil, t.Name)
	rt.TopicID = t.ID
	rt.AuthorizedOperations = b.authorizedOperations(c, ResourceTopic, t.Name)
	for i := int(start); i < len(t.Partitions); i++ {
		if len(rt.Partitions) == limit {
			return rt, int32(i)
		}
		p := &t.Partitions[i]
		rp := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
		rp.Partition, rp.LeaderID, rp.LeaderEpoch = p.Index, p.Leader, p.LeaderEpoch
		rp.Replicas, rp.ISR, rp.OfflineReplicas = p.Replicas, p.ISR, offlineReplicas(im, p)
		rp.EligibleLeaderReplicas, rp.LastKnownELR = append([]int32{}, p.ELR...), append([]int32{}, p.LastKnownELR...)
		rt.Partitions = append(rt.Partitions, rp)
	}
	return rt, -1
}
