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

// listOffsets answers ListOffsets (2), versions 1-11.
//
// v2 isolation level, v4 leader epochs, v7-v11 one more special timestamp each.
// There are no tiers here: -4 is -2, and -5 and -6 find nothing. A timestamp too
// new for its version is UNSUPPORTED_VERSION, a partition named twice
// INVALID_REQUEST, once. An unknown isolation level fails for all partitions with
// UNKNOWN_SERVER_ERROR. A topic named twice is answered once, one without
// partitions not at all. A replica id other than -1 sees all that is written.
// ACL: DESCRIBE on each topic (29).
func (b *Broker) listOffsets(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.ListOffsetsRequest)
	resp := kmsg.NewPtrListOffsetsResponse()
	resp.Version = c.Version
	type place struct {
		topic string
		index int32
	}
	times := map[place]int{}
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			times[place{t.Topic, p.Partition}]++
		}
	}
	topics := map[string]int{} // places in the answer
	for _, t := range req.Topics {
		for _, p := range t.Partitions {
			at := place{t.Topic, p.Partition}
			if times[at] == 0 {
				continue // answered already
			}
			rp := kmsg.NewListOffsetsResponseTopicPartition()
			rp.Partition, rp.Timestamp, rp.Offset, rp.LeaderEpoch = p.Partition, -1, -1, -1
			var err error
			switch {
			case req.IsolationLevel != readUncommitted && req.IsolationLevel != readCommitted:
				err = kerr.UnknownServerError
			case !b.mayTopic(c, OpDescribe, t.Topic):
				err = kerr.TopicAuthorizationFailed
			case times[at] > 1:
				times[at] = 0
				err = kerr.InvalidRequest
			default:
				err = b.listOffset(req, t.Topic, p, &rp)
			}
			if err != nil {
				rp.ErrorCode, rp.Timestamp, rp.Offset, rp.LeaderEpoch = codeOf(err), -1, -1, -1
			}
			i, ok := topics[t.Topic]
			if !ok {
				i = len(resp.Topics)
				topics[t.Topic] = i
				rt := kmsg.NewListOffsetsResponseTopic()
				rt.Topic = t.Topic
				resp.Topics = append(resp.Topics, rt)
			}
			resp.Topics[i].Partitions = append(resp.Topics[i].Partitions, rp)
		}
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
	epoch := int32(-1)
	if req.Version >= 4 {
		epoch = p.CurrentLeaderEpoch
	}
	l, t, err := b.partition(topic, p.Partition, epoch)
	if err != nil {
		return err
	}
	o := l.Offsets()
	limit := o.High
	switch {
	case req.ReplicaID != -1:
		limit = o.End
	case req.IsolationLevel == readCommitted:
		limit = o.Stable
	}
	current := t.Partitions[p.Partition].LeaderEpoch
	switch p.Timestamp {
	case timestampLatest:
		rp.Offset, rp.LeaderEpoch = limit, current
		return nil
	case timestampEarliest, timestampEarliestLocal:
		rp.Offset, rp.LeaderEpoch = o.Start, l.EpochOf(o.Start)
		if rp.LeaderEpoch < 0 { // nothing was written yet: see epochEnd
			rp.LeaderEpoch = current
		}
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
