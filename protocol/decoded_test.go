package protocol

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// namesNothing is a Metadata request of n empty topic names: two bytes each on the wire, a struct in memory.
func namesNothing(id int32, n int) []byte {
	req := kmsg.NewPtrMetadataRequest()
	req.Version, req.Topics = 1, make([]kmsg.MetadataRequestTopic, n)
	for i := range req.Topics {
		req.Topics[i].Topic = kmsg.StringPtr("")
	}
	return kmsg.NewRequestFormatter().AppendRequest(nil, req, id)
}

// A request that is small on the wire and large in memory holds memory credit until it is answered, and one that would take
// more than is allowed is not served.
func TestDecodedRequestsHoldCredit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Credit: NewCredit(16 << 20), Limits: Limits{DecodedBytes: 8 << 20}}, nil)
		hold := make(chan struct{})
		r.metadata = func(*Call) Answer {
			return Later(func(context.Context) Response { <-hold; return kmsg.NewPtrMetadataResponse() })
		}
		p := r.dial()
		p.send(namesNothing(1, 50_000))
		synctest.Wait()
		if used, least := r.s.Stats().CreditUsed, int64(50_000*32); used < least || used > 10*least {
			t.Errorf("%d bytes of credit are used", used)
		}
		close(hold)
		p.expect(1)
		synctest.Wait()
		if used := r.s.Stats().CreditUsed; used != 0 {
			t.Errorf("%d bytes of credit are used after the answer", used)
		}
		p.send(namesNothing(2, 300_000))
		p.expectClosed()
		synctest.Wait()
		if got := r.reasons(); got[ReasonMemory] != 1 {
			t.Errorf("closed: %v", got)
		}
	})
}

func TestConnectionsAreRefusedWhileMemoryIsShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		short := false
		r := newRig(t, Options{Short: func() bool { return short }}, nil)
		old := r.dial()
		old.send(metadataRequest(1))
		old.expect(1)
		short = true
		r.dial().expectClosed()
		old.send(metadataRequest(2))
		old.expect(2)
		synctest.Wait()
		if got := r.s.Stats().Closed[ReasonMemory]; got != 1 {
			t.Errorf("%d connections were refused for want of memory", got)
		}
	})
}

// A Fetch that names much holds credit, too. A join gives it back before it waits for others, who may take long.
func TestWhoHoldsCreditWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Credit: NewCredit(16 << 20)}, nil)
		hold := make(chan struct{})
		r.fetch = func(c *Call, _ *FetchRequest) Answer {
			version := c.Version
			return Later(func(context.Context) Response { <-hold; return &FetchResponse{Version: version} })
		}
		r.join = func(*Call) Answer {
			return Later(func(context.Context) Response { <-hold; return kmsg.NewPtrJoinGroupResponse() })
		}
		fetch := kmsg.NewPtrFetchRequest()
		fetch.Version = 4
		topic := kmsg.NewFetchRequestTopic()
		topic.Partitions = make([]kmsg.FetchRequestTopicPartition, 2000)
		fetch.Topics = append(fetch.Topics, topic)
		join := kmsg.NewPtrJoinGroupRequest()
		join.Version = 5
		protocol := kmsg.NewJoinGroupRequestProtocol()
		protocol.Metadata = make([]byte, 100<<10)
		join.Protocols = append(join.Protocols, protocol)

		p, q := r.dial(), r.dial()
		p.send(frameOf(1, fetch))
		synctest.Wait()
		held := r.s.Stats().CreditUsed
		if held < 16*2000 {
			t.Errorf("a large fetch holds %d bytes of credit", held)
		}
		q.send(frameOf(1, join))
		synctest.Wait()
		if used := r.s.Stats().CreditUsed; used != held {
			t.Errorf("a join that waits holds %d bytes of credit", used-held)
		}
		close(hold)
		p.expect(1)
		q.expect(1)
	})
}

func TestDecodedBytes(t *testing.T) {
	req := kmsg.NewPtrMetadataRequest()
	empty := decodedBytes(req)
	req.Topics = make([]kmsg.MetadataRequestTopic, 10)
	if grown := decodedBytes(req) - empty; grown < 10*24 {
		t.Errorf("ten elements take %d bytes", grown)
	}
	before := decodedBytes(req)
	req.Topics[3].Topic = kmsg.StringPtr("twelve bytes")
	if grown := decodedBytes(req) - before; grown != 16+12 {
		t.Errorf("a text of twelve bytes takes %d", grown)
	}
}
