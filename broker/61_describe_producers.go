package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// describeProducers answers DescribeProducers (61), version 0 (KIP-664): what a partition knows of its idempotent and
// transactional producers.
// ACL: READ on each topic (29).
func (b *Broker) describeProducers(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.DescribeProducersRequest)
	return protocol.Later(func(context.Context) protocol.Response {
		resp := kmsg.NewPtrDescribeProducersResponse()
		resp.Version = c.Version
		for _, t := range req.Topics {
			rt := kmsg.NewDescribeProducersResponseTopic()
			rt.Topic = t.Topic
			topic := b.image().Topic(t.Topic)
			for _, index := range t.Partitions {
				rp := kmsg.NewDescribeProducersResponseTopicPartition()
				rp.Partition = index
				refuse := func(err *kerr.Error, why string) { rp.ErrorCode, rp.ErrorMessage = err.Code, &why }
				switch why := metadata.InvalidTopicName(t.Topic); {
				case why != "":
					refuse(kerr.InvalidTopicException, why)
				case !b.mayTopic(c, OpRead, t.Topic):
					refuse(kerr.TopicAuthorizationFailed, kerr.TopicAuthorizationFailed.Description)
				case topic == nil:
					refuse(kerr.UnknownTopicOrPartition, kerr.UnknownTopicOrPartition.Description)
				case !hasPartition(topic, index):
					rp.ErrorCode = kerr.UnknownTopicOrPartition.Code
				default:
					b.activeProducers(topic, index, &rp)
				}
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp
	})
}

// activeProducers lists the producers of a partition.
func (b *Broker) activeProducers(t *metadata.Topic, index int32, rp *kmsg.DescribeProducersResponseTopicPartition) {
	l, err := b.parts.get(t, index)
	if err != nil {
		b.logStorage("describe producers", err)
		rp.ErrorCode = codeOf(err)
		return
	}
	for _, p := range l.Producers() {
		ap := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
		ap.ProducerID, ap.ProducerEpoch, ap.LastSequence, ap.LastTimestamp = p.ID, int32(p.Epoch), p.LastSequence, p.LastTimestamp
		ap.CoordinatorEpoch, ap.CurrentTxnStartOffset = p.CoordinatorEpoch, p.TransactionStart
		rp.ActiveProducers = append(rp.ActiveProducers, ap)
	}
}
