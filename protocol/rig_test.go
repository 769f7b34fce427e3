package protocol

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/internal/pipenet"
)

// rig is a server with a few rows whose handlers a test can set.
type rig struct {
	t    *testing.T
	s    *Server
	pipe *pipenet.Listener
	net  net.Listener

	mu     sync.Mutex
	events []ConnEvent
	seen   []Observation
	begun  []int32 // correlation ids, as they began

	produce  func(*Call, *ProduceRequest) Answer
	fetch    func(*Call, *FetchRequest) Answer
	metadata func(*Call) Answer
	join     func(*Call) Answer
}

// newRig starts a server over l, or over pipenet if that is nil. At the test's end
// it shuts it down and checks that nothing is left.
func newRig(t *testing.T, o Options, l net.Listener) *rig {
	t.Helper()
	r := &rig{t: t, net: l}
	if l == nil {
		r.pipe = pipenet.Listen("127.0.0.1:9092")
		r.net = r.pipe
	}
	r.metadata = func(*Call) Answer { return Now(kmsg.NewPtrMetadataResponse()) }
	r.join = func(*Call) Answer { return Now(kmsg.NewPtrJoinGroupResponse()) }
	r.produce = func(c *Call, _ *ProduceRequest) Answer { return Now(&ProduceResponse{Version: c.Version}) }
	r.fetch = func(c *Call, _ *FetchRequest) Answer { return Now(&FetchResponse{Version: c.Version}) }
	o.Rows = r.rows()
	o.Listener = "PLAINTEXT"
	o.Log = slog.New(slog.DiscardHandler)
	o.Observe = func(o Observation) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.seen = append(r.seen, o)
	}
	o.ObserveConn = func(e ConnEvent) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events = append(r.events, e)
	}
	s, err := NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	r.s = s
	done := make(chan error, 1)
	go func() { done <- s.Serve(r.net) }()
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if st := s.Stats(); st.Open != 0 || st.CreditUsed != 0 {
			t.Errorf("left over: %d connections, %d bytes of credit", st.Open, st.CreditUsed)
		}
	})
	return r
}

func (r *rig) rows() []Row {
	begin := func(f func(*Call) Answer) func(context.Context, *Call) Answer {
		return func(_ context.Context, c *Call) Answer {
			r.mu.Lock()
			r.begun = append(r.begun, c.CorrelationID)
			r.mu.Unlock()
			return f(c)
		}
	}
	return []Row{
		{Key: 0, Min: 3, Max: 13, FlexibleFrom: 9, Pipelined: true, Raw: true, Begin: begin(func(c *Call) Answer {
			var req ProduceRequest
			if err := req.Decode(c.Version, c.Body); err != nil {
				return Hangup(err)
			}
			return r.produce(c, &req)
		})},
		{Key: 1, Min: 4, Max: 18, FlexibleFrom: 12, Raw: true, Begin: begin(func(c *Call) Answer {
			var req FetchRequest
			if err := req.Decode(c.Version, c.Body); err != nil {
				return Hangup(err)
			}
			return r.fetch(c, &req)
		})},
		{Key: 3, Min: 0, Max: 13, FlexibleFrom: 9, Begin: begin(func(c *Call) Answer { return r.metadata(c) })},
		{Key: 11, Min: 0, Max: 9, FlexibleFrom: 6, Waits: true, Begin: begin(func(c *Call) Answer { return r.join(c) })},
		{Key: 17, Min: 0, Max: 1, FlexibleFrom: -1, Open: true, Begin: begin(func(c *Call) Answer {
			c.Login("User:" + c.Req.(*kmsg.SASLHandshakeRequest).Mechanism)
			return Now(kmsg.NewPtrSASLHandshakeResponse())
		})},
		{Key: 18, Min: 0, Max: 4, FlexibleFrom: 3, Open: true, Begin: begin(func(c *Call) Answer {
			resp := kmsg.NewPtrApiVersionsResponse()
			if c.Req == nil {
				resp.ErrorCode = 35
			}
			resp.ApiKeys = []kmsg.ApiVersionsResponseApiKey{{ApiKey: 18, MaxVersion: 4}}
			return Now(resp)
		})},
	}
}

// reasons counts the connections that were closed, but for those that the test
// itself closes in the end.
func (r *rig) reasons() map[Reason]uint64 {
	m := r.s.Stats().Closed
	delete(m, ReasonShutdown)
	return m
}

func (r *rig) beganSoFar() []int32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]int32(nil), r.begun...)
}

// peer is a client that speaks frames.
type peer struct {
	net.Conn
	t *testing.T
}

func (r *rig) dial() *peer {
	r.t.Helper()
	var c net.Conn
	var err error
	if r.pipe != nil {
		c, err = r.pipe.Dial()
	} else {
		c, err = net.Dial("tcp", r.net.Addr().String())
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return &peer{c, r.t}
}

// frameOf is the frame of a request as kmsg writes it.
func frameOf(correlationID int32, req kmsg.Request) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("client")).AppendRequest(nil, req, correlationID)
}

func metadataRequest(id int32) []byte {
	req := kmsg.NewPtrMetadataRequest()
	req.Version = 12
	return frameOf(id, req)
}

func joinRequest(id int32) []byte {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Version = 9
	return frameOf(id, req)
}

func produceRequest(id int32, acks int16, records int) []byte {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks = 12, acks
	t, p := kmsg.NewProduceRequestTopic(), kmsg.NewProduceRequestTopicPartition()
	t.Topic, p.Records = "t", make([]byte, records)
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	return frameOf(id, req)
}

func fetchRequest(id int32) []byte {
	req := kmsg.NewPtrFetchRequest()
	req.Version = 12
	return frameOf(id, req)
}

func (p *peer) send(frames ...[]byte) {
	p.t.Helper()
	var all []byte
	for _, f := range frames {
		all = append(all, f...)
	}
	if _, err := p.Write(all); err != nil {
		p.t.Fatalf("send: %v", err)
	}
}

// receive reads one answer: its correlation id and what follows that.
func (p *peer) receive() (int32, []byte) {
	p.t.Helper()
	var head [8]byte
	if _, err := io.ReadFull(p, head[:]); err != nil {
		p.t.Fatalf("receive: %v", err)
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:])-4)
	if _, err := io.ReadFull(p, body); err != nil {
		p.t.Fatalf("receive: %v", err)
	}
	return int32(binary.BigEndian.Uint32(head[4:])), body
}

// expect reads answers with these correlation ids.
func (p *peer) expect(ids ...int32) {
	p.t.Helper()
	for _, want := range ids {
		if got, _ := p.receive(); got != want {
			p.t.Fatalf("the answer to %d came, want %d", got, want)
		}
	}
}

// expectClosed reads to the end of the connection and wants nothing before it.
func (p *peer) expectClosed() {
	p.t.Helper()
	rest, err := io.ReadAll(p)
	if len(rest) > 0 {
		p.t.Fatalf("%d bytes came before the end", len(rest))
	}
	if err != nil && !errors.Is(err, io.EOF) {
		p.t.Logf("the connection ended with %v", err)
	}
}
