package broker

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// oldProducer is a producer of before KIP-890 that commits offsets of group g, request by request over connections of its
// choice.
type oldProducer struct {
	h *harness
	*offsetProducer
}

// say sends a request over a connection and answers the code, or that the broker hung up.
func (p *oldProducer) say(c *rawConn, req kmsg.Request) (code int16, hungUp bool) {
	p.h.t.Helper()
	version := map[kmsg.Key]int16{kmsg.InitProducerID: 5, kmsg.AddPartitionsToTxn: 3, kmsg.AddOffsetsToTxn: 4, kmsg.EndTxn: 4, kmsg.TxnOffsetCommit: 4}
	resp, err := c.call(req, version[kmsg.Key(req.Key())])
	if errors.Is(err, io.EOF) {
		return 0, true
	}
	if err != nil {
		p.h.t.Fatalf("%s: %v", kmsg.NameForKey(req.Key()), err)
	}
	switch r := resp.(type) {
	case *kmsg.InitProducerIDResponse:
		if code = r.ErrorCode; code == 0 {
			p.id, p.epoch = r.ProducerID, r.ProducerEpoch
		}
	case *kmsg.AddPartitionsToTxnResponse:
		code = r.Topics[0].Partitions[0].ErrorCode
	case *kmsg.AddOffsetsToTxnResponse:
		code = r.ErrorCode
	case *kmsg.EndTxnResponse:
		code = r.ErrorCode
	case *kmsg.TxnOffsetCommitResponse:
		code = r.Topics[0].Partitions[0].ErrorCode
	}
	return code, false
}

// works fails the test unless the broker takes a request, at once or when a marker is written.
func (p *oldProducer) works(c *rawConn, req kmsg.Request) {
	p.h.t.Helper()
	synctest.Wait()
	if code, hungUp := p.say(c, req); code != 0 || hungUp {
		p.h.t.Fatalf("%s: code %d, hung up: %t", kmsg.NameForKey(req.Key()), code, hungUp)
	}
	synctest.Wait()
}

// isLate fails the test unless the broker hangs up over a request.
func (p *oldProducer) isLate(c *rawConn, req kmsg.Request) {
	p.h.t.Helper()
	before := p.h.b.metrics.transactions.lateRequests.Load()
	if code, hungUp := p.say(c, req); !hungUp {
		p.h.t.Fatalf("%s over an older connection: code %d", kmsg.NameForKey(req.Key()), code)
	}
	if n := p.h.b.metrics.transactions.lateRequests.Load(); n != before+1 {
		p.h.t.Errorf("%d late requests are counted, %d before", n, before)
	}
}

func (p *oldProducer) initRequest() kmsg.Request {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = kmsg.StringPtr("t"), 60000
	return req
}

func (p *oldProducer) addRequest() kmsg.Request {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = "t", p.id, p.epoch
	rt := kmsg.NewAddPartitionsToTxnRequestTopic()
	rt.Topic, rt.Partitions = "in", []int32{0}
	req.Topics = append(req.Topics, rt)
	return req
}

func (p *oldProducer) addOffsetsRequest() kmsg.Request {
	req := kmsg.NewPtrAddOffsetsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group = "t", p.id, p.epoch, "g"
	return req
}

func (p *oldProducer) endRequest(commit bool) kmsg.Request {
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = "t", p.id, p.epoch, commit
	return req
}

func withOldProducer(t *testing.T, f func(p *oldProducer)) {
	t.Helper()
	inBubble(t, func(h *harness) {
		cl := h.client()
		defer cl.Close()
		h.produce(cl, "in", 20)
		for kind := range int8(2) {
			req := kmsg.NewPtrFindCoordinatorRequest()
			req.CoordinatorType, req.CoordinatorKeys = kind, []string{"t"} // makes the topic
			ask[*kmsg.FindCoordinatorResponse](h, cl, req)
		}
		f(&oldProducer{h, &offsetProducer{h: h, cl: cl}})
	})
}

// What an older client sent over a connection that it has given up has no effect on its next transaction (KAFKA-17754).
func TestLateRequestsOfOldProducers(t *testing.T) {
	for _, late := range []struct {
		name string
		send func(p *oldProducer) kmsg.Request
	}{
		{"commit", func(p *oldProducer) kmsg.Request { return p.endRequest(true) }},
		{"abort", func(p *oldProducer) kmsg.Request { return p.endRequest(false) }},
		{"AddPartitionsToTxn", (*oldProducer).addRequest},
		{"TxnOffsetCommit", func(p *oldProducer) kmsg.Request { return p.offsetRequest(3) }},
		{"InitProducerId", func(p *oldProducer) kmsg.Request {
			req := p.initRequest().(*kmsg.InitProducerIDRequest)
			req.Version, req.ProducerID, req.ProducerEpoch = 3, p.id, p.epoch // it goes on (KIP-360)
			return req
		}},
	} {
		t.Run(late.name, func(t *testing.T) {
			withOldProducer(t, func(p *oldProducer) {
				first, next := p.h.raw(), p.h.raw()
				p.works(first, p.initRequest())
				p.works(first, p.addOffsetsRequest())
				p.works(first, p.offsetRequest(3))
				p.works(next, p.offsetRequest(3))
				p.works(next, p.endRequest(true))
				p.offset(3, 0)
				p.works(next, p.addOffsetsRequest())
				p.works(next, p.offsetRequest(7))
				p.isLate(first, late.send(p))
				p.offset(-1, kerr.UnstableOffsetCommit.Code)
				p.works(next, p.endRequest(true))
				p.offset(7, 0)
			})
		})
	}
}

// One that begins a transaction which nobody would end is no better.
func TestLateRequestsBeginNoTransaction(t *testing.T) {
	for _, send := range []func(*oldProducer) kmsg.Request{(*oldProducer).addRequest, (*oldProducer).addOffsetsRequest} {
		withOldProducer(t, func(p *oldProducer) {
			first, next := p.h.raw(), p.h.raw()
			p.works(first, p.initRequest())
			p.works(first, send(p))
			p.works(next, p.endRequest(false))
			p.isLate(first, send(p))
			req := kmsg.NewPtrDescribeTransactionsRequest()
			req.TransactionalIDs = []string{"t"}
			if s := ask[*kmsg.DescribeTransactionsResponse](p.h, p.cl, req).TransactionStates[0]; s.State != "CompleteAbort" {
				p.h.t.Errorf("the transaction is %s", s.State)
			}
		})
	}
}

// Whoever uses several connections loses one now and then, and goes on.
func TestOldProducersMayUseSeveralConnections(t *testing.T) {
	withOldProducer(t, func(p *oldProducer) {
		a, b := p.h.raw(), p.h.raw()
		p.works(b, p.initRequest())
		patient := func(c **rawConn, req kmsg.Request) {
			p.h.t.Helper()
			synctest.Wait()
			code, hungUp := p.say(*c, req)
			if hungUp {
				*c = p.h.raw()
				code, hungUp = p.say(*c, req)
			}
			if code != 0 || hungUp {
				p.h.t.Fatalf("%s over a new connection: code %d, hung up: %t", kmsg.NameForKey(req.Key()), code, hungUp)
			}
		}
		for n := range int64(5) {
			patient(&a, p.addOffsetsRequest())
			patient(&b, p.offsetRequest(n))
			patient(&a, p.offsetRequest(n))
			patient(&b, p.endRequest(true))
			synctest.Wait()
			p.offset(n, 0)
		}
	})
}

// Once the coordinator has been loaded again while the broker runs, nobody knows what was the newest connection: those of
// before are hung up, each once.
func TestLoadsForgetConnections(t *testing.T) {
	withOldProducer(t, func(p *oldProducer) {
		first, next, unheard := p.h.raw(), p.h.raw(), p.h.raw()
		p.works(first, p.initRequest())
		p.works(next, p.addOffsetsRequest())
		p.works(next, p.offsetRequest(5))
		for _, c := range []*coordinators{p.h.b.txns.coordinators, p.h.b.groups.coordinators} {
			c.end(func(partitionKey) bool { return true })
		}
		p.isLate(first, p.endRequest(true))
		p.isLate(next, p.endRequest(true))
		p.isLate(unheard, p.offsetRequest(4))
		newest := p.h.raw()
		p.works(newest, p.offsetRequest(6))
		p.works(newest, p.endRequest(true))
		p.offset(6, 0)
	})
}
