package broker

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/coordinator/group"
)

// offsetProducer is a producer with a transactional id that commits offsets of a group.
type offsetProducer struct {
	h     *harness
	cl    *kgo.Client
	id    int64
	epoch int16
}

func (p *offsetProducer) init() {
	p.h.t.Helper()
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = kmsg.StringPtr("t"), 60000
	resp := ask[*kmsg.InitProducerIDResponse](p.h, p.cl, req)
	if resp.ErrorCode != 0 {
		p.h.t.Fatalf("InitProducerId: %d", resp.ErrorCode)
	}
	p.id, p.epoch = resp.ProducerID, resp.ProducerEpoch
}

func (p *offsetProducer) offsetRequest(offset int64) *kmsg.TxnOffsetCommitRequest {
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch = "t", "g", p.id, p.epoch
	rt := kmsg.NewTxnOffsetCommitRequestTopic()
	rt.Topic = "in"
	rp := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	rp.Offset = offset
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return req
}

func (p *offsetProducer) commitOffset(offset int64) {
	p.h.t.Helper()
	resp := ask[*kmsg.TxnOffsetCommitResponse](p.h, p.cl, p.offsetRequest(offset))
	if code := resp.Topics[0].Partitions[0].ErrorCode; code != 0 {
		p.h.t.Fatalf("TxnOffsetCommit of %d: %d", offset, code)
	}
}

func (p *offsetProducer) end(commit bool) {
	p.h.t.Helper()
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = "t", p.id, p.epoch, commit
	resp := ask[*kmsg.EndTxnResponse](p.h, p.cl, req)
	if resp.ErrorCode != 0 {
		p.h.t.Fatalf("EndTxn: %d", resp.ErrorCode)
	}
	p.id, p.epoch = resp.ProducerID, resp.ProducerEpoch
	time.Sleep(time.Second) // the markers are written
}

// offset asks for the stable offset of the group.
func (p *offsetProducer) offset(want int64, code int16) {
	p.h.t.Helper()
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = true
	rg := kmsg.NewOffsetFetchRequestGroup()
	rg.Group = "g"
	rt := kmsg.NewOffsetFetchRequestGroupTopic()
	rt.Topic, rt.Partitions = "in", []int32{0}
	rt.TopicID = p.h.b.image().Topic("in").ID
	rg.Topics = append(rg.Topics, rt)
	req.Groups = append(req.Groups, rg)
	resp := ask[*kmsg.OffsetFetchResponse](p.h, p.cl, req)
	if resp.Groups[0].ErrorCode != 0 {
		p.h.t.Fatalf("OffsetFetch: %d", resp.Groups[0].ErrorCode)
	}
	if got := resp.Groups[0].Topics[0].Partitions[0]; got.Offset != want || got.ErrorCode != code {
		p.h.t.Fatalf("offset %d, code %d, want %d, %d", got.Offset, got.ErrorCode, want, code)
	}
}

// mark writes a marker into the partition of __consumer_offsets that has the group, as another broker would.
func (p *offsetProducer) mark(epoch int16, coordinatorEpoch int32) int16 {
	p.h.t.Helper()
	at, _ := p.h.b.offsetsPartition("g")
	req := kmsg.NewPtrWriteTxnMarkersRequest()
	rm := kmsg.NewWriteTxnMarkersRequestMarker()
	rm.ProducerID, rm.ProducerEpoch, rm.CoordinatorEpoch = p.id, epoch, coordinatorEpoch
	rt := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
	rt.Topic, rt.Partitions = at.Topic, []int32{at.Index}
	rm.Topics = append(rm.Topics, rt)
	req.Markers = append(req.Markers, rm)
	resp := ask[*kmsg.WriteTxnMarkersResponse](p.h, p.cl, req)
	return resp.Markers[0].Topics[0].Partitions[0].ErrorCode
}

func withOffsetProducer(t *testing.T, f func(p *offsetProducer)) {
	t.Helper()
	inBubble(t, func(h *harness) {
		cl := h.client()
		p := &offsetProducer{h: h, cl: cl}
		h.produce(cl, "in", 20)
		p.init()
		f(p)
		p.cl.Close()
	})
}

// Offsets of a transaction count when it commits, and not when it aborts; a restart between changes nothing.
func TestOffsetsInTransactions(t *testing.T) {
	withOffsetProducer(t, func(p *offsetProducer) {
		restart := func() {
			p.cl.Close()
			p.h.restart()
			p.cl = p.h.client()
			time.Sleep(time.Second)
		}
		p.commitOffset(7)
		p.offset(-1, kerr.UnstableOffsetCommit.Code)
		p.end(true)
		p.offset(7, 0)
		p.commitOffset(9)
		p.end(false)
		p.offset(7, 0)
		restart()
		p.offset(7, 0)
		p.commitOffset(11)
		restart()
		p.offset(-1, kerr.UnstableOffsetCommit.Code)
		p.commitOffset(12)
		p.end(true)
		p.offset(12, 0)
		restart()
		p.offset(12, 0)
	})
}

// What the log of __consumer_offsets refuses does not take the group's coordinator down, and a commit that a marker
// overtakes begins no transaction that nobody would end.
func TestLateMarkersAndLateOffsets(t *testing.T) {
	withOffsetProducer(t, func(p *offsetProducer) {
		t := p.h.t // that of the bubble
		p.commitOffset(7)
		guard, err := p.h.b.groups.ask(t.Context(), "g", group.GuardTxn{})
		if err != nil {
			t.Fatal(err)
		}
		old := *p
		p.end(true)
		if got := p.mark(old.epoch, 0); got != kerr.InvalidProducerEpoch.Code {
			t.Errorf("a marker of an epoch before: %d", got)
		}
		p.offset(7, 0)
		if got := p.mark(p.epoch, 5); got != 0 {
			t.Errorf("a marker of a newer coordinator: %d", got)
		}
		if got := p.mark(p.epoch, 4); got != kerr.TransactionCoordinatorFenced.Code {
			t.Errorf("a marker of the coordinator before: %d", got)
		}
		p.offset(7, 0)
		reply, err := p.h.b.groups.ask(t.Context(), "g", group.TxnCommit{Req: p.offsetRequest(9), Version: 5, Guard: guard.(group.TxnGuard)})
		if err != nil {
			t.Fatal(err)
		}
		if code := reply.(*kmsg.TxnOffsetCommitResponse).Topics[0].Partitions[0].ErrorCode; code != kerr.InvalidTxnState.Code {
			t.Errorf("a commit that was verified before the marker: %d", code)
		}
		p.offset(7, 0)
	})
}
