package broker

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/protocol"
)

// Special timestamps of ListOffsets, with the version that brought them.
const (
	timestampLatest        = -1 // v1
	timestampEarliest      = -2 // v1
	timestampMax           = -3 // v7, KIP-734
	timestampEarliestLocal = -4 // v8, KIP-405
	timestampLatestTiered  = -5 // v9, KIP-1005
	timestampPendingUpload = -6 // v11, KIP-1023
)

// debugReplica is the replica id of Kafka's replica verification tool.
const debugReplica = -2

// listOffsets answers ListOffsets (2), versions 1-11.
//
// v2 isolation level, v4 leader epochs, v7-v11 one more special timestamp each.
// There are no tiers here: -4 is -2, and -5 and -6 find nothing. A timestamp too
// new for its version is UNSUPPORTED_VERSION, a partition named twice
// INVALID_REQUEST. ACL: DESCRIBE on each topic (29).
func (b *Broker) listOffsets(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.ListOffsetsRequest)
	resp := kmsg.NewPtrListOffsetsResponse()
	resp.Version = c.Version
	type place struct {
		topic string
		index int32
	}
	seen := map[place]int{}
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			seen[place{t.Topic, p.Partition}]++
		}
	}
	for _, t := range req.Topics {
		rt := kmsg.NewListOffsetsResponseTopic()
		rt.Topic = t.Topic
		for _, p := range t.Partitions {
			rp := kmsg.NewListOffsetsResponseTopicPartition()
			rp.Partition, rp.Timestamp, rp.Offset, rp.LeaderEpoch = p.Partition, -1, -1, -1
			var err error
			switch {
			case !b.mayTopic(c, OpDescribe, t.Topic):
				err = kerr.TopicAuthorizationFailed
			case seen[place{t.Topic, p.Partition}] > 1:
				err = kerr.InvalidRequest
			default:
				err = b.listOffset(req, t.Topic, p, &rp)
			}
			if err != nil {
				rp.ErrorCode, rp.Timestamp, rp.Offset, rp.LeaderEpoch = codeOf(err), -1, -1, -1
			}
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return protocol.Now(resp)
}

// oldestVersionOf tells the version that brought a special timestamp, or a
// version that never comes.
func oldestVersionOf(timestamp int64) int16 {
	switch timestamp {
	case timestampLatest, timestampEarliest:
		return 1
	case timestampMax:
		return 7
	case timestampEarliestLocal:
		return 8
	case timestampLatestTiered:
		return 9
	case timestampPendingUpload:
		return 11
	}
	return 1<<15 - 1
}

func (b *Broker) listOffset(req *kmsg.ListOffsetsRequest, topic string, p kmsg.ListOffsetsRequestTopicPartition, rp *kmsg.ListOffsetsResponseTopicPartition) error {
	if p.Timestamp < 0 && req.Version < oldestVersionOf(p.Timestamp) {
		return kerr.UnsupportedVersion
	}
	if req.ReplicaID >= 0 || req.ReplicaID < debugReplica {
		return kerr.NotLeaderForPartition // no follower is assigned to any partition
	}
	epoch := int32(-1)
	if req.Version >= 4 {
		epoch = p.CurrentLeaderEpoch
	}
	l, _, err := b.partition(topic, p.Partition, epoch)
	if err != nil {
		return err
	}
	o := l.Offsets()
	limit := o.High
	if req.IsolationLevel == 1 {
		limit = o.Stable
	}
	switch p.Timestamp {
	case timestampLatest:
		rp.Offset, rp.LeaderEpoch = limit, o.LeaderEpoch
		return nil
	case timestampEarliest, timestampEarliestLocal:
		rp.Offset, rp.LeaderEpoch = o.Start, l.EpochOf(o.Start)
		return nil
	case timestampLatestTiered, timestampPendingUpload:
		return nil
	}
	var found log.Timed
	if p.Timestamp == timestampMax {
		found, err = l.MaxTimestamp()
	} else {
		found, err = l.OffsetFor(p.Timestamp)
	}
	if err != nil {
		if !errors.Is(err, log.ErrOutOfRange) {
			b.logStorage("look up a timestamp", err)
		}
		return err
	}
	if found.Offset >= 0 && found.Offset < limit {
		rp.Offset, rp.Timestamp, rp.LeaderEpoch = found.Offset, found.Timestamp, found.LeaderEpoch
	}
	return nil
}
