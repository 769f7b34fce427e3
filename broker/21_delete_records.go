package broker

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/log"
	"github.com/rotpeter/rotpeter/protocol"
)

// deleteRecords answers DeleteRecords (21), versions 0-2: it makes an offset the
// log's start, -1 the high watermark. The new start is on stable storage when it
// answers; whole segments below it are deleted after that.
//
// A topic that is compacted and nothing else is POLICY_VIOLATION, an internal one
// INVALID_TOPIC_EXCEPTION, an offset below -1 or beyond the high watermark
// OFFSET_OUT_OF_RANGE. An offset below the log's start changes nothing. ACL: DELETE on each topic (29).
func (b *Broker) deleteRecords(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.DeleteRecordsRequest)
	return protocol.Later(func(context.Context) protocol.Response {
		resp := kmsg.NewPtrDeleteRecordsResponse()
		resp.Version = c.Version
		at := map[string]int{} // in the answer: a topic named twice is answered once
		for _, t := range req.Topics {
			if len(t.Partitions) == 0 {
				continue
			}
			if _, ok := at[t.Topic]; !ok {
				at[t.Topic] = len(resp.Topics)
				rt := kmsg.NewDeleteRecordsResponseTopic()
				rt.Topic = t.Topic
				resp.Topics = append(resp.Topics, rt)
			}
			rt := &resp.Topics[at[t.Topic]]
			for _, p := range t.Partitions {
				rp := kmsg.NewDeleteRecordsResponseTopicPartition()
				rp.Partition, rp.LowWatermark = p.Partition, -1
				if start, err := b.deleteBefore(c, t.Topic, p.Partition, p.Offset); err != nil {
					rp.ErrorCode = codeOf(err)
				} else {
					rp.LowWatermark = start
				}
				rt.Partitions = append(rt.Partitions, rp)
			}
		}
		return resp
	})
}

func (b *Broker) deleteBefore(c *protocol.Call, topic string, index int32, offset int64) (start int64, err error) {
	if !b.mayTopic(c, OpDelete, topic) {
		return 0, kerr.TopicAuthorizationFailed
	}
	t := b.image().Topic(topic)
	if t == nil || index < 0 || int(index) >= len(t.Partitions) {
		return 0, kerr.UnknownTopicOrPartition
	}
	if t.Internal {
		return 0, kerr.InvalidTopicException
	}
	l, _, err := b.partition(topic, index, -1)
	if err != nil {
		return 0, err
	}
	if settings := l.Config(); settings.Compact && !settings.Delete {
		return 0, kerr.PolicyViolation
	}
	start, err = l.DeleteBefore(offset)
	if err != nil && !errors.Is(err, log.ErrOutOfRange) {
		b.logStorage("delete records of "+topic, err)
	}
	return start, err
}
