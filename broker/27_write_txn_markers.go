package broker

import (
	"context"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator/txn"
	"github.com/rotpeter/rotpeter/log/batch"
	"github.com/rotpeter/rotpeter/metadata"
	"github.com/rotpeter/rotpeter/protocol"
)

// writeTxnMarkers answers WriteTxnMarkers (27), versions 1-2: what coordinators send to other brokers, and kafka-transactions
// to abort a transaction that hangs. v2 brought the transaction version (KIP-1228).
// ACL: ALTER or CLUSTER_ACTION on the cluster (31).
func (b *Broker) writeTxnMarkers(_ context.Context, c *protocol.Call) protocol.Answer {
	req := c.Req.(*kmsg.WriteTxnMarkersRequest)
	resp := kmsg.NewPtrWriteTxnMarkersResponse()
	resp.Version = c.Version
	allowed := b.mayCluster(c, OpAlter) || b.mayCluster(c, OpClusterAction)
	return protocol.Later(func(context.Context) protocol.Response {
		results := markerResults{}
		valid := !slices.ContainsFunc(req.Markers, func(m kmsg.WriteTxnMarkersRequestMarker) bool { return b.unwritable(&m) })
		for i := range req.Markers {
			m := &req.Markers[i]
			ps := markerPartitions(m)
			codes := make([]int16, len(ps))
			switch {
			case !allowed:
				fill(codes, kerr.ClusterAuthorizationFailed.Code)
			case !valid:
				fill(codes, kerr.UnknownServerError.Code)
			default:
				b.writeMarker(m, ps, codes)
			}
			results.add(m.ProducerID, ps, codes)
		}
		resp.Markers = results.markers
		return resp
	})
}

// unwritable tells whether Kafka throws an exception over a marker.
func (b *Broker) unwritable(m *kmsg.WriteTxnMarkersRequestMarker) bool {
	return (m.ProducerID == batch.NoProducerID || m.ProducerEpoch == batch.NoProducerEpoch) &&
		slices.ContainsFunc(markerPartitions(m), func(p txn.Partition) bool { return hasPartition(b.image().Topic(p.Topic), p.Index) })
}

func hasPartition(t *metadata.Topic, index int32) bool {
	return t != nil && index >= 0 && int(index) < len(t.Partitions)
}

func markerPartitions(m *kmsg.WriteTxnMarkersRequestMarker) (ps []txn.Partition) {
	for _, t := range m.Topics {
		for _, p := range t.Partitions {
			ps = append(ps, txn.Partition{Topic: t.Topic, Index: p})
		}
	}
	return ps
}

func fill(codes []int16, code int16) {
	for i := range codes {
		codes[i] = code
	}
}

func (b *Broker) writeMarker(m *kmsg.WriteTxnMarkersRequestMarker, ps []txn.Partition, codes []int16) {
	errs := b.writeMarkers(ps, marker{txn.Producer{ID: m.ProducerID, Epoch: m.ProducerEpoch}, m.Committed, m.CoordinatorEpoch, int16(m.TransactionVersion)})
	for i, p := range ps {
		if codes[i] = codeOf(errs[i]); !hasPartition(b.image().Topic(p.Topic), p.Index) {
			codes[i] = kerr.UnknownTopicOrPartition.Code
		}
	}
}

// markerResults are the answer's markers: one for each producer id, whatever the request has, with each partition once.
type markerResults struct {
	markers    []kmsg.WriteTxnMarkersResponseMarker
	producers  map[int64]int
	topics     map[markerTopic]int
	partitions map[markerPartition]int
}

type markerTopic struct {
	producerID int64
	topic      string
}

type markerPartition struct {
	markerTopic
	index int32
}

func (r *markerResults) add(producerID int64, ps []txn.Partition, codes []int16) {
	if r.producers == nil {
		r.producers, r.topics, r.partitions = map[int64]int{}, map[markerTopic]int{}, map[markerPartition]int{}
	}
	for i, p := range ps {
		at, ok := r.producers[producerID]
		if !ok {
			m := kmsg.NewWriteTxnMarkersResponseMarker()
			m.ProducerID, at = producerID, len(r.markers)
			r.markers, r.producers[producerID] = append(r.markers, m), at
		}
		m, topic := &r.markers[at], markerTopic{producerID, p.Topic}
		if at, ok = r.topics[topic]; !ok {
			t := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
			t.Topic, at = p.Topic, len(m.Topics)
			m.Topics, r.topics[topic] = append(m.Topics, t), at
		}
		t, partition := &m.Topics[at], markerPartition{topic, p.Index}
		if at, ok = r.partitions[partition]; !ok {
			at = len(t.Partitions)
			t.Partitions = append(t.Partitions, kmsg.WriteTxnMarkersResponseMarkerTopicPartition{Partition: p.Index})
			r.partitions[partition] = at
		}
		t.Partitions[at].ErrorCode = codes[i]
	}
}
