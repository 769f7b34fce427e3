package protocol

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/internal/pipenet"
)

// commits hands out Later answers that end when the test says so.
type commits struct {
	hint  bool // use LaterWhen
	ready map[int32]chan struct{}
}

func (m *commits) answer(c *Call, _ *ProduceRequest) Answer {
	ready := make(chan struct{})
	m.ready[c.CorrelationID] = ready
	version := c.Version
	wait := func(ctx context.Context) Response {
		select {
		case <-ready:
		case <-ctx.Done():
		}
		return &ProduceResponse{Version: version}
	}
	if m.hint {
		return LaterWhen(ready, wait)
	}
	return Later(wait)
}

func TestAnswersKeepTheOrder(t *testing.T) {
	for _, hint := range []bool{false, true} {
		for seed := range uint64(30) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Options{}, nil)
				m := &commits{hint: hint, ready: map[int32]chan struct{}{}}
				r.produce = m.answer
				random := rand.New(rand.NewPCG(seed, 2))
				p := r.dial()
				var want, produces []int32
				for id := range int32(50) {
					want = append(want, id)
					if random.IntN(3) == 0 {
						p.send(metadataRequest(id))
					} else {
						p.send(produceRequest(id, -1, random.IntN(20_000)))
						produces = append(produces, id)
					}
					if random.IntN(5) == 0 {
						synctest.Wait()
					}
				}
				synctest.Wait()
				if began := r.beganSoFar(); !slices.Equal(began, want) {
					t.Fatalf("began in the order %v", began)
				}
				random.Shuffle(len(produces), func(i, j int) { produces[i], produces[j] = produces[j], produces[i] })
				for _, id := range produces {
					close(m.ready[id])
					if random.IntN(3) == 0 {
						synctest.Wait()
					}
				}
				p.expect(want...)
			})
		}
	}
}

// counted counts what a server writes on its connections.
type counted struct {
	net.Listener
	writes atomic.Int64
}

type countedConn struct {
	net.Conn
	l *counted
}

func (l *counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return countedConn{c, l}, err
}

func (c countedConn) Write(b []byte) (int, error) {
	c.l.writes.Add(1)
	return c.Conn.Write(b)
}

func TestAnswersAreJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pipe := pipenet.Listen("127.0.0.1:9092")
		l := &counted{Listener: pipe}
		r := newRig(t, Options{}, l)
		r.pipe = pipe
		var frames [][]byte
		var ids []int32
		for id := range int32(20) {
			frames, ids = append(frames, metadataRequest(id)), append(ids, id)
		}
		p := r.dial()
		p.send(frames...)
		p.expect(ids...)
		if n := l.writes.Swap(0); n != 1 {
			t.Errorf("20 requests in one segment were answered by %d writes", n)
		}

		// One commit for many requests: one write.
		ready := make(chan struct{})
		r.produce = func(c *Call, _ *ProduceRequest) Answer {
			version := c.Version
			return LaterWhen(ready, func(context.Context) Response { <-ready; return &ProduceResponse{Version: version} })
		}
		for id := range int32(20) {
			p.send(produceRequest(id, -1, 100))
		}
		synctest.Wait()
		close(ready)
		p.expect(ids...)
		if n := l.writes.Swap(0); n != 1 {
			t.Errorf("20 requests of one commit were answered by %d writes", n)
		}
	})
}

// What is finished leaves before the connection waits for anything.
func TestFinishedAnswersDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, nil)
		joined, committed := make(chan struct{}), make(chan struct{})
		r.join = func(*Call) Answer {
			return Later(func(context.Context) Response { <-joined; return kmsg.NewPtrJoinGroupResponse() })
		}
		r.produce = func(c *Call, _ *ProduceRequest) Answer {
			version := c.Version
			return Later(func(context.Context) Response { <-committed; return &ProduceResponse{Version: version} })
		}
		p := r.dial()
		p.send(metadataRequest(1), joinRequest(2), metadataRequest(3))
		p.expect(1)
		synctest.Wait()
		if began := r.beganSoFar(); !slices.Equal(began, []int32{1, 2}) {
			t.Errorf("while JoinGroup waits, %v have begun", began)
		}
		close(joined)
		p.expect(2, 3)

		p.send(metadataRequest(4), produceRequest(5, -1, 10), metadataRequest(6), joinRequest(7))
		p.expect(4)
		synctest.Wait()
		if began := r.beganSoFar(); !slices.Equal(began, []int32{1, 2, 3, 4, 5, 6, 7}) {
			t.Errorf("while Produce waits, %v have begun", began)
		}
		close(committed)
		p.expect(5, 6, 7)
	})
}

func TestNoneWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, nil)
		r.produce = func(*Call, *ProduceRequest) Answer { return None() }
		p := r.dial()
		p.send(produceRequest(1, 0, 10), produceRequest(2, 0, 10), metadataRequest(3))
		p.expect(3)
		synctest.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.seen) != 3 || r.seen[0].ResponseBytes != 0 || r.seen[0].Key != 0 || r.seen[2].ResponseBytes == 0 {
			t.Errorf("observed %+v", r.seen)
		}
	})
}

// What came before a hangup is answered.
func TestHangupComesLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, nil)
		committed := make(chan struct{})
		r.produce = func(c *Call, req *ProduceRequest) Answer {
			if req.Acks == 0 {
				return Hangup(errors.New("acks=0 failed"))
			}
			version := c.Version
			return Later(func(context.Context) Response { <-committed; return &ProduceResponse{Version: version} })
		}
		p := r.dial()
		p.send(metadataRequest(1), produceRequest(2, -1, 10), metadataRequest(3), produceRequest(4, 0, 10), metadataRequest(5))
		p.expect(1)
		synctest.Wait()
		close(committed)
		p.expect(2, 3)
		p.expectClosed()
		synctest.Wait()
		if got := r.reasons(); got[ReasonHangup] != 1 {
			t.Errorf("closed: %v", got)
		}
	})
}

func TestLaterWithoutResponseHangsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, nil)
		nothing := Later(func(context.Context) Response { return nil })
		r.join = func(*Call) Answer { return nothing }
		r.produce = func(*Call, *ProduceRequest) Answer { return nothing }
		for _, frame := range [][]byte{joinRequest(2), produceRequest(2, -1, 10)} {
			p := r.dial()
			p.send(metadataRequest(1), frame, metadataRequest(3))
			p.expect(1)
			p.expectClosed()
		}
		synctest.Wait()
		if got := r.reasons(); got[ReasonHangup] != 2 {
			t.Errorf("closed: %v", got)
		}
	})
}

func TestThrottledStopsReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, nil)
		r.metadata = func(*Call) Answer { return Now(kmsg.NewPtrMetadataResponse()).Throttled(3 * time.Second) }
		p := r.dial()
		start := time.Now()
		p.send(metadataRequest(1), joinRequest(2))
		p.expect(1)
		if d := time.Since(start); d != 0 {
			t.Errorf("the throttled answer took %v", d)
		}
		p.expect(2)
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("the next one came after %v", d)
		}
	})
}

// A connection that does not get its answers is not read without end.
func TestUnansweredRequestsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Limits: Limits{UnansweredRequests: 100}}, nil)
		m := &commits{ready: map[int32]chan struct{}{}}
		r.produce = m.answer
		p := r.dial()
		go func() {
			for id := range int32(1000) {
				if _, err := p.Write(produceRequest(id, -1, 10)); err != nil {
					return
				}
			}
		}()
		synctest.Wait()
		if n := len(r.beganSoFar()); n != 101 { // one more has begun and waits for its place
			t.Errorf("%d requests have begun", n)
		}
		for id := range int32(1000) {
			synctest.Wait()
			close(m.ready[id])
			p.expect(id)
		}
	})
}

func TestApiVersionsHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, nil)
		p := r.dial()
		for version := int16(0); version <= 4; version++ {
			req := kmsg.NewPtrApiVersionsRequest()
			req.Version, req.ClientSoftwareName, req.ClientSoftwareVersion = version, "librdkafka", "2.3.0"
			p.send(frameOf(int32(version), req))
			id, body := p.receive()
			resp := kmsg.NewPtrApiVersionsResponse()
			resp.Version = version
			if err := resp.ReadFrom(body); err != nil || id != int32(version) || len(resp.ApiKeys) != 1 || resp.ErrorCode != 0 {
				t.Errorf("v%d: id %d, %+v, error %v", version, id, resp, err)
			}
		}
		// Versions that nobody here knows are answered as version 0 (KIP-511).
		for _, version := range []int16{5, 99, 32767} {
			frame := []byte{0, 0, 0, 0, 0, 18, byte(version >> 8), byte(version), 0, 0, 0, 77, 0, 1, 'c', 0, 0xde, 0xad, 0xbe, 0xef}
			frame[3] = byte(len(frame) - 4)
			p.send(frame)
			id, body := p.receive()
			resp := kmsg.NewPtrApiVersionsResponse()
			if err := resp.ReadFrom(body); err != nil || id != 77 || len(resp.ApiKeys) != 1 || resp.ErrorCode != 35 {
				t.Errorf("v%d: id %d, %+v, error %v", version, id, resp, err)
			}
			if want := resp.AppendTo(nil); len(want) != len(body) {
				t.Errorf("v%d: %d bytes, version 0 has %d", version, len(body), len(want))
			}
		}
		synctest.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		var identified []string
		for _, e := range r.events {
			if e.Kind == ConnIdentified {
				identified = append(identified, e.SoftwareName+" "+e.SoftwareVersion)
			}
		}
		if !slices.Equal(identified, []string{"librdkafka 2.3.0", "librdkafka 2.3.0"}) { // v3 and v4
			t.Errorf("identified: %q", identified)
		}
	})
}

// Servers of one broker count their connections together.
func TestConnIDsOfSeveralServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ids []uint64
		o := Options{ConnIDs: new(atomic.Uint64)}
		rigs := []*rig{newRig(t, o, nil), newRig(t, o, nil)}
		for i := range 4 {
			r := rigs[i%2]
			r.metadata = func(c *Call) Answer {
				ids = append(ids, c.ConnID)
				return Now(kmsg.NewPtrMetadataResponse())
			}
			p := r.dial()
			p.send(metadataRequest(1))
			p.expect(1)
		}
		if !slices.Equal(ids, []uint64{1, 2, 3, 4}) {
			t.Errorf("ids %v", ids)
		}
	})
}

func TestCallSaysWhoAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, nil)
		var calls []string
		r.metadata = func(c *Call) Answer {
			calls = append(calls, fmt.Sprint(c.ClientID, " ", c.ClientIDNull, " ", c.Peer, " ", c.PeerPort > 0, " ", c.Listener, " ", c.Principal,
				" ", c.SoftwareName, " ", c.SoftwareVersion, " ", c.ConnID, " ", c.Version, " ", c.Req.GetVersion(), " ", c.Arrived.Equal(time.Now())))
			return Now(kmsg.NewPtrMetadataResponse())
		}
		p := r.dial()
		versions := kmsg.NewPtrApiVersionsRequest()
		versions.Version, versions.ClientSoftwareName, versions.ClientSoftwareVersion = 3, "apache-kafka-java", "4.3.1"
		metadata := kmsg.NewPtrMetadataRequest()
		metadata.Version = 1
		null := kmsg.NewRequestFormatter().AppendRequest(nil, metadata, 2)
		p.send(metadataRequest(0), frameOf(1, versions), null)
		p.expect(0, 1, 2)
		want := []string{
			"client false 127.0.0.1 true PLAINTEXT User:ANONYMOUS   1 12 12 true",
			" true 127.0.0.1 true PLAINTEXT User:ANONYMOUS apache-kafka-java 4.3.1 1 1 1 true",
		}
		if !slices.Equal(calls, want) {
			t.Errorf("got  %q\nwant %q", calls, want)
		}
	})
}

func TestObservations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, nil)
		r.join = func(*Call) Answer {
			time.Sleep(time.Millisecond)
			return Later(func(context.Context) Response { time.Sleep(time.Second); return kmsg.NewPtrJoinGroupResponse() })
		}
		p := r.dial()
		p.send(joinRequest(1), metadataRequest(2))
		p.receive()
		_, body := p.receive()
		synctest.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		join, metadata := r.seen[0], r.seen[1]
		join.ResponseBytes = 0
		wantJoin := Observation{Key: 11, Version: 9, ConnID: 1, RequestBytes: len(joinRequest(1)), Local: time.Millisecond, Remote: time.Second, Took: time.Second + time.Millisecond}
		if join != wantJoin {
			t.Errorf("got  %+v\nwant %+v", join, wantJoin)
		}
		wantMetadata := Observation{Key: 3, Version: 12, ConnID: 1, RequestBytes: len(metadataRequest(2)), ResponseBytes: len(body) + 8,
			Queued: time.Second + time.Millisecond, Took: time.Second + time.Millisecond}
		if metadata != wantMetadata {
			t.Errorf("got  %+v\nwant %+v", metadata, wantMetadata)
		}
	})
}

// A request that kmsg decoded may be kept: its bytes are not used again.
func TestDecodedRequestsOwnTheirBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, nil)
		var kept []*kmsg.JoinGroupRequest
		r.join = func(c *Call) Answer {
			kept = append(kept, c.Req.(*kmsg.JoinGroupRequest))
			return Now(kmsg.NewPtrJoinGroupResponse())
		}
		p := r.dial()
		for id := range int32(20) {
			req := kmsg.NewPtrJoinGroupRequest()
			req.Version = 9
			proto := kmsg.NewJoinGroupRequestProtocol()
			proto.Name, proto.Metadata = "range", slices.Repeat([]byte{byte(id)}, 1000)
			req.Protocols = append(req.Protocols, proto)
			p.send(frameOf(id, req))
			p.expect(id)
		}
		for id, req := range kept {
			if !slices.Equal(req.Protocols[0].Metadata, slices.Repeat([]byte{byte(id)}, 1000)) {
				t.Errorf("request %d has other bytes now", id)
			}
		}
	})
}

func TestLoginGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{RequireLogin: true}, nil)
		var principals []string
		r.metadata = func(c *Call) Answer {
			principals = append(principals, c.Principal)
			return Now(kmsg.NewPtrMetadataResponse())
		}
		login := kmsg.NewPtrSASLHandshakeRequest()
		login.Mechanism = "alice"
		versions := kmsg.NewPtrApiVersionsRequest()

		p := r.dial()
		p.send(frameOf(1, versions), frameOf(2, login), metadataRequest(3), produceRequest(4, -1, 100_000))
		p.expect(1, 2, 3, 4)
		if !slices.Equal(principals, []string{"User:alice"}) {
			t.Errorf("principals %q", principals)
		}

		for _, frame := range [][]byte{metadataRequest(2), joinRequest(2), fetchRequest(2), produceRequest(2, -1, 10)} {
			p := r.dial()
			p.send(frameOf(1, versions), frame)
			p.expect(1)
			p.expectClosed()
		}
		p = r.dial()
		p.send(produceRequest(1, -1, 100_000)[:100]) // too large before login
		p.expectClosed()
		start := time.Now()
		p = r.dial()
		p.send(frameOf(1, versions))
		p.expect(1)
		p.expectClosed() // never logs in
		if d := time.Since(start); d != DefaultLimits().LoginTime {
			t.Errorf("closed after %v", d)
		}
		synctest.Wait()
		if got := r.reasons(); got[ReasonLoginRequired] != 4 || got[ReasonFrameTooLarge] != 1 || got[ReasonLoginTime] != 1 {
			t.Errorf("closed: %v", got)
		}
	})
}
