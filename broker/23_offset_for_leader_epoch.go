package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/protocol"
)

// offsetForLeaderEpoch answers OffsetForLeaderEpoch (23), versions 2-4 (KIP-320).
//
// An epoch newer than all known answers (-1, -1); the current one the log's end;
// an older one the largest known epoch up to it and where that ended.
// ACL: CLUSTER_ACTION, or DESCRIBE on each topic (29).
func (b *Broker) offsetForLeaderEpoch(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.OffsetForLeaderEpochRequest)
	resp := kmsg.NewPtrOffsetForLeaderEpochResponse()
	resp.Version = c.Version
	cluster := b.mayCluster(c, OpClusterAction)
	for _, t := range req.Topics {
		rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
		rt.Topic = t.Topic
		allowed := cluster || b.mayTopic(c, OpDescribe, t.Topic)
		for _, p := range t.Partitions {
			rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
			rp.Partition, rp.LeaderEpoch, rp.EndOffset = p.Partition, -1, -1
			if !allowed {
				rp.ErrorCode = kerr.TopicAuthorizationFailed.Code
			} else if l, found, err := b.partition(t.Topic, p.Partition, p.CurrentLeaderEpoch); err != nil {
				rp.ErrorCode = codeOf(err)
			} else {
				rp.LeaderEpoch, rp.EndOffset = epochEnd(l, found.Partitions[p.Partition].LeaderEpoch, p.LeaderEpoch)
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return protocol.Now(resp)
}
