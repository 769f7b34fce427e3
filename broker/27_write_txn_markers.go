package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator/txn"
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
		for i := range req.Markers {
			resp.Markers = append(resp.Markers, b.writeMarker(&req.Markers[i], allowed))
		}
		return resp
	})
}

func (b *Broker) writeMarker(from *kmsg.WriteTxnMarkersRequestMarker, allowed bool) kmsg.WriteTxnMarkersResponseMarker {
	to := kmsg.NewWriteTxnMarkersResponseMarker()
	to.ProducerID = from.ProducerID
	var ps []txn.Partition
	for _, t := range from.Topics {
		for _, p := range t.Partitions {
			ps = append(ps, txn.Partition{Topic: t.Topic, Index: p})
		}
	}
	errs := make([]error, len(ps))
	if allowed {
		errs = b.writeMarkers(ps, marker{txn.Producer{ID: from.ProducerID, Epoch: from.ProducerEpoch}, from.Committed, from.CoordinatorEpoch, int16(from.TransactionVersion)})
	}
	for i, p := range ps {
		rp := kmsg.NewWriteTxnMarkersResponseMarkerTopicPartition()
		rp.Partition, rp.ErrorCode = p.Index, codeOf(errs[i])
		switch t := b.image().Topic(p.Topic); {
		case !allowed:
			rp.ErrorCode = kerr.ClusterAuthorizationFailed.Code
		case t == nil || p.Index < 0 || int(p.Index) >= len(t.Partitions):
			rp.ErrorCode = kerr.UnknownTopicOrPartition.Code
		}
		if n := len(to.Topics); n == 0 || to.Topics[n-1].Topic != p.Topic {
			rt := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
			rt.Topic = p.Topic
			to.Topics = append(to.Topics, rt)
		}
		rt := &to.Topics[len(to.Topics)-1]
		rt.Partitions = append(rt.Partitions, rp)
	}
	return to
}
