package protocol

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func length(n int32) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

// framed puts the length in front.
func framed(s string) []byte { return append(length(int32(len(s))), s...) }

// Each is sent on a connection of its own, which is closed for the reason at once,
// without an answer, while another one is served as before.
func TestHostileBytesAreRefusedAtOnce(t *testing.T) {
	cases := []struct {
		name   string
		bytes  []byte
		reason Reason
	}{
		{"length 0", length(0), ReasonMalformedHeader},
		{"length 9", length(9), ReasonMalformedHeader},
		{"length -1", length(-1), ReasonNegativeLength},
		{"length -2^31", length(-1 << 31), ReasonNegativeLength},
		{"length 2^31-1", length(1<<31 - 1), ReasonFrameTooLarge},
		{"length above the limit", length(100<<20 + 1), ReasonFrameTooLarge},
		{"large frame of a small API", append(length(50<<20), metadataRequest(1)[4:]...), ReasonFrameTooLarge},
		{"large frame of an unknown API", append(length(50<<20), "\x03\xe7\x00\x00\x00\x00\x00\x01\x00\x00"...), ReasonUnknownAPI},
		{"HTTP GET", []byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), ReasonHTTP},
		{"HTTP POST", []byte("POST /topics HTTP/1.1\r\n\r\n"), ReasonHTTP},
		{"HTTP/2 preface", []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), ReasonHTTP},
		{"TLS hello", []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), ReasonTLS},
		{"unknown API key", framed("\x03\xe7\x00\x00\x00\x00\x00\x01\x00\x00"), ReasonUnknownAPI},
		{"API key without a row", framed("\x00\x04\x00\x00\x00\x00\x00\x01\x00\x00"), ReasonUnknownAPI},
		{"negative API key", framed("\xff\xff\x00\x00\x00\x00\x00\x01\x00\x00"), ReasonUnknownAPI},
		{"Produce v2", framed("\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00"), ReasonUnsupportedVersion},
		{"Produce v14", framed("\x00\x00\x00\x0e\x00\x00\x00\x01\x00\x00\x00"), ReasonUnsupportedVersion},
		{"Metadata v-1", framed("\x00\x03\xff\xff\x00\x00\x00\x01\x00\x00"), ReasonUnsupportedVersion},
		{"Metadata v14", framed("\x00\x03\x00\x0e\x00\x00\x00\x01\x00\x00\x00"), ReasonUnsupportedVersion},
		{"client id behind the end", framed("\x00\x03\x00\x00\x00\x00\x00\x01\x00\x09abc"), ReasonMalformedHeader},
		{"header tags behind the end", framed("\x00\x03\x00\x0c\x00\x00\x00\x01\x00\x00\x01\x01\x7f"), ReasonMalformedHeader},
		{"2^32-1 header tags", framed("\x00\x03\x00\x0c\x00\x00\x00\x01\x00\x00\xff\xff\xff\xff\x0f"), ReasonMalformedHeader},
		{"Metadata without a body", framed("\x00\x03\x00\x01\x00\x00\x00\x01\x00\x00"), ReasonMalformedRequest},
		{"Metadata of 2^31-1 topics", framed("\x00\x03\x00\x01\x00\x00\x00\x01\x00\x00\x7f\xff\xff\xff"), ReasonMalformedRequest},
		{"Metadata with 2^32-1 tags", framed("\x00\x03\x00\x0c\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\x0f"), ReasonMalformedRequest},
		{"Produce without a body", framed("\x00\x00\x00\x03\x00\x00\x00\x01\x00\x00"), ReasonMalformedRequest},
		{"Fetch of 2^31-1 topics", framed("\x00\x01\x00\x04\x00\x00\x00\x01\x00\x00" + "\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x7f\xff\xff\xff"), ReasonMalformedRequest},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Options{}, nil)
				good := r.dial()
				good.send(metadataRequest(1))
				good.expect(1)
				p := r.dial()
				start := time.Now()
				p.send(metadataRequest(7), c.bytes)
				p.expect(7) // what came before is answered
				p.expectClosed()
				if d := time.Since(start); d != 0 {
					t.Errorf("closed after %v", d)
				}
				good.send(metadataRequest(2))
				good.expect(2)
				synctest.Wait()
				if got := r.reasons(); len(got) != 1 || got[c.reason] != 1 {
					t.Errorf("closed: %v, want %s", got, c.reason)
				}
				for _, e := range r.events {
					if e.Kind == ConnClosed && e.Reason != c.reason {
						t.Errorf("event: %+v", e)
					}
				}
			})
		})
	}
}

// Peers that do too little are closed when their time is over, and hold next to no
// memory until then.
func TestSlowPeersAreClosedInTime(t *testing.T) {
	d := DefaultLimits()
	drip := func(frame []byte, pause time.Duration) func(*peer) {
		return func(p *peer) {
			for i := range frame {
				if _, err := p.Write(frame[i : i+1]); err != nil {
					return
				}
				time.Sleep(pause)
			}
		}
	}
	big := produceRequest(1, -1, 20<<20)
	cases := []struct {
		name   string
		do     func(*peer)
		reason Reason
		after  time.Duration
		credit int64 // most that may be held meanwhile
	}{
		{"says nothing", func(*peer) {}, ReasonIdle, d.IdleTime, 0},
		{"half-open after a request", func(p *peer) { p.send(metadataRequest(1)); p.expect(1) }, ReasonIdle, d.IdleTime, 0},
		{"one byte of a length", func(p *peer) { p.send([]byte{0}) }, ReasonSlowRequest, d.TransferTime, 0},
		{"a length and silence", func(p *peer) { p.send(length(1000)) }, ReasonSlowRequest, d.transferTime(1000), smallestBuffer},
		{"100 MiB announced and silence", func(p *peer) { p.send(length(100 << 20)) }, ReasonSlowRequest, d.transferTime(100 << 20), largestChunk},
		{"100 MiB announced, a header and silence", func(p *peer) { p.send(length(100<<20), big[4:100]) }, ReasonSlowRequest, d.transferTime(100 << 20), largestChunk},
		{"half a request and silence", func(p *peer) { p.send(metadataRequest(1), metadataRequest(2)[:20]); p.expect(1) }, ReasonSlowRequest, d.transferTime(len(metadataRequest(2)) - 4), smallestBuffer},
		{"one byte every 10 s", drip(metadataRequest(1), 10*time.Second), ReasonSlowRequest, 30*time.Second + d.transferTime(len(metadataRequest(1))-4), smallestBuffer},
		{"1 KiB/s of a large frame", func(p *peer) {
			for i := 0; i < len(big); i += 1024 {
				if _, err := p.Write(big[i : i+1024]); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}, ReasonSlowRequest, d.transferTime(len(big) - 4), 32 << 20},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Options{}, nil)
				p := r.dial()
				start := time.Now()
				closed := make(chan time.Duration, 1)
				go func() {
					time.Sleep(2 * warmTime) // a connection that was just served has a buffer
					for {
						synctest.Wait()
						if st := r.s.Stats(); st.CreditUsed > c.credit {
							t.Errorf("%d bytes of credit are held", st.CreditUsed)
						} else if len(st.Closed) > 0 {
							closed <- time.Since(start)
							return
						}
						time.Sleep(time.Second)
					}
				}()
				c.do(p)
				p.expectClosed()
				after := <-closed
				if after < c.after || after > c.after+2*time.Second {
					t.Errorf("closed after %v, want %v", after, c.after)
				}
				if got := r.reasons(); len(got) != 1 || got[c.reason] != 1 {
					t.Errorf("closed: %v, want %s", got, c.reason)
				}
			})
		})
	}
}

// 10,000 requests whose answers nobody reads, with and without pipelining.
func TestPipelinedRequestsNeverRead(t *testing.T) {
	for _, acks := range []int16{1, -1} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, Options{}, nil)
			r.produce = func(c *Call, req *ProduceRequest) Answer {
				resp := &ProduceResponse{Version: c.Version, Topics: []ProduceResponseTopic{{Name: string(make([]byte, 1000))}}}
				if req.Acks == 1 {
					return Now(resp)
				}
				return Later(func(context.Context) Response { return resp })
			}
			p := r.dial()
			done := make(chan int32)
			go func() {
				for id := range int32(10_000) {
					if _, err := p.Write(produceRequest(id, acks, 500)); err != nil {
						done <- id
						return
					}
				}
				done <- 10_000
			}()
			synctest.Wait()
			if st := r.s.Stats(); st.CreditUsed > 4<<20 {
				t.Errorf("acks=%d: %d bytes of credit are held", acks, st.CreditUsed)
			}
			if n := len(r.beganSoFar()); n > DefaultLimits().UnansweredRequests+500 {
				t.Errorf("acks=%d: %d requests have begun", acks, n)
			}
			if n := <-done; n == 10_000 {
				t.Errorf("acks=%d: all requests were taken", acks)
			}
			synctest.Wait()
			if got := r.reasons(); got[ReasonSlowReader] != 1 {
				t.Errorf("acks=%d: closed: %v", acks, got)
			}
		})
	}
}

// A reader that never reads a fetch of 50 MiB holds its files for a bounded time
// and hardly any memory.
func TestFetchNeverRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, nil)
		file := ram(make([]byte, 50<<20))
		var released atomic.Int32
		r.fetch = func(c *Call, _ *FetchRequest) Answer {
			return Now(fetched(c.Version, Run{File: file, Len: len(file)}, func() { released.Add(1) }))
		}
		p := r.dial()
		start := time.Now()
		p.send(fetchRequest(1))
		synctest.Wait()
		if st := r.s.Stats(); st.CreditUsed > largestChunk || released.Load() != 0 {
			t.Errorf("%d bytes of credit are held, released %d times", st.CreditUsed, released.Load())
		}
		d := DefaultLimits()
		for range 2 * int(d.TransferTime/time.Second) {
			time.Sleep(time.Second)
			synctest.Wait()
			if len(r.reasons()) > 0 {
				break
			}
		}
		if got := r.reasons(); got[ReasonSlowReader] != 1 || released.Load() != 1 {
			t.Errorf("closed: %v after %v, released %d times", got, time.Since(start), released.Load())
		}
	})
}

func fetched(version int16, run Run, release func()) *FetchResponse {
	n := run.length()
	return &FetchResponse{Version: version, Release: release, Topics: []FetchResponseTopic{{Name: "t", Partitions: []FetchResponsePartition{{
		DivergingEpoch: EpochEndOffset{Epoch: -1}, CurrentLeader: LeaderIDEpoch{ID: -1}, Records: Records{Runs: []Run{run}, Bytes: n},
	}}}}}
}

func TestConnectionLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Limits: Limits{Connections: 5, ConnectionsPerAddress: 3}}, nil)
		from := func(address string) *peer {
			c, err := r.pipe.DialFrom(t.Context(), netip.MustParseAddrPort(address))
			if err != nil {
				t.Fatal(err)
			}
			return &peer{c, t}
		}
		served := func(address string) *peer {
			p := from(address)
			p.send(metadataRequest(1))
			p.expect(1)
			return p
		}
		first := served("10.0.0.1:1")
		served("10.0.0.1:2")
		served("10.0.0.1:3")
		from("10.0.0.1:4").expectClosed() // a fourth of one address
		served("10.0.0.2:1")
		served("10.0.0.3:1")
		from("10.0.0.4:1").expectClosed() // a sixth of all
		first.Close()
		synctest.Wait()
		served("10.0.0.1:5")
		if got := r.reasons(); got[ReasonTooMany] != 2 || got[ReasonEOF] != 1 {
			t.Errorf("closed: %v", got)
		}
	})
}

// Requests that together ask for more memory than there is wait for each other,
// and never for ever.
func TestMemoryCreditIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		credit := NewCredit(16 << 20) // frames up to 4 MiB
		r := newRig(t, Options{Credit: credit}, nil)
		const peers, rounds = 30, 3
		answered := make(chan bool)
		for range peers {
			p := r.dial()
			go func() {
				for id := range int32(rounds) {
					frame := produceRequest(id, -1, 3<<20)
					for len(frame) > 0 { // in pieces, so that all are half-way at once
						n := min(300<<10, len(frame))
						p.send(frame[:n])
						frame = frame[n:]
						time.Sleep(time.Millisecond)
					}
					p.expect(id)
				}
				answered <- true
			}()
		}
		for range peers {
			<-answered
		}
		if got := r.reasons(); len(got) != 0 {
			t.Errorf("closed: %v", got)
		}
		p := r.dial()
		p.send(produceRequest(1, -1, 5<<20)[:1000]) // can never fit
		p.expectClosed()
		synctest.Wait()
		if got := r.reasons(); got[ReasonMemory] != 1 {
			t.Errorf("closed: %v", got)
		}
	})
}

// Where the memory is held by peers that do not go on, the others are told so in time.
func TestMemoryCreditRunsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Credit: NewCredit(1 << 20)}, nil)
		hold := make(chan struct{})
		r.produce = func(c *Call, _ *ProduceRequest) Answer {
			version := c.Version
			return Later(func(context.Context) Response { <-hold; return &ProduceResponse{Version: version} })
		}
		holders := make([]*peer, 16)
		for i := range holders {
			holders[i] = r.dial()
			holders[i].send(produceRequest(1, -1, 60_000))
		}
		synctest.Wait()
		late := r.dial()
		start := time.Now()
		late.send(metadataRequest(1))
		synctest.Wait()
		if n := len(r.beganSoFar()); n != len(holders) {
			t.Fatalf("%d requests have begun", n)
		}
		time.Sleep(time.Second)
		close(hold)
		late.expect(1)
		if d := time.Since(start); d != time.Second {
			t.Errorf("served after %v", d)
		}
		for _, p := range holders {
			p.expect(1)
		}

		time.Sleep(2 * warmTime) // nobody has a buffer any more
		hold = make(chan struct{})
		for _, p := range holders {
			p.send(produceRequest(2, -1, 60_000))
		}
		synctest.Wait()
		start = time.Now()
		late.send(metadataRequest(2))
		late.expectClosed()
		if d := time.Since(start); d != DefaultLimits().MemoryWait {
			t.Errorf("closed after %v", d)
		}
		synctest.Wait()
		if got := r.reasons(); got[ReasonMemory] != 1 {
			t.Errorf("closed: %v", got)
		}
		close(hold)
	})
}

// failing is a listener whose Accept fails a few times, as without descriptors.
type failing struct {
	net.Listener
	left int
	at   []time.Time
}

func (l *failing) Accept() (net.Conn, error) {
	if l.left > 0 {
		l.left--
		l.at = append(l.at, time.Now())
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

func TestAcceptErrorsBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := newRig(t, Options{}, nil)
		l := &failing{Listener: base.pipe, left: 12}
		start := time.Now()
		go base.s.Serve(l) // beside the rig's own loop on the same pipe
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(l.at) != 12 || base.s.Stats().AcceptErrors != 12 {
			t.Fatalf("%d errors, %d counted", len(l.at), base.s.Stats().AcceptErrors)
		}
		if d := l.at[11].Sub(start); d < 4*time.Second || d > 6*time.Second {
			t.Errorf("12 errors in %v", d)
		}
		p := base.dial()
		p.send(metadataRequest(1))
		p.expect(1)
	})
}

// mutate changes a few bytes of valid frames, and sometimes their length.
func mutate(random *rand.Rand, frames []byte) []byte {
	b := bytes.Clone(frames)
	for range 1 + random.IntN(4) {
		switch i := random.IntN(len(b)); random.IntN(5) {
		case 0:
			b[i] ^= 1 << random.IntN(8)
		case 1:
			b[i] = []byte{0, 1, 0x7f, 0x80, 0xff}[random.IntN(5)]
		case 2:
			b = append(b[:i], b[min(len(b), i+1+random.IntN(8)):]...)
		case 3:
			b = append(b[:i], append(make([]byte, random.IntN(8)), b[i:]...)...)
		case 4:
			for j := i; j < min(len(b), i+5); j++ {
				b[j] = byte(random.Uint32())
			}
		}
		if len(b) == 0 {
			return []byte{0}
		}
	}
	if random.IntN(2) == 0 && len(b) >= 4 { // so that more than the length is tried
		binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	}
	return b
}

// Mutated requests are answered or their connection is closed with a reason; the
// server stays up, and its memory within bounds.
func TestMutatedRequests(t *testing.T) {
	rounds := uint64(3000)
	if testing.Short() {
		rounds = 1000
	}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{}, nil)
		random := rand.New(rand.NewPCG(42, 42))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for round := range rounds {
			d := newDice(round)
			var frame []byte
			switch version := int16(d.IntN(9)); round % 5 {
			case 0:
				frame = frameOf(1, d.produceRequest(3+version))
			case 1:
				frame = frameOf(1, d.fetchRequest(4+version))
			case 2:
				frame = joinRequest(1)
			case 3:
				req := kmsg.NewPtrMetadataRequest()
				req.Version = version
				for range d.IntN(5) {
					t := kmsg.NewMetadataRequestTopic()
					name := d.text()
					t.Topic = &name
					req.Topics = append(req.Topics, t)
				}
				frame = frameOf(1, req)
			case 4:
				req := kmsg.NewPtrApiVersionsRequest()
				req.Version = version % 5
				frame = frameOf(1, req)
			}
			p := r.dial()
			p.send(mutate(random, frame))
			p.Conn.(interface{ CloseWrite() error }).CloseWrite()
			buf := make([]byte, 4096)
			for {
				if _, err := p.Read(buf); err != nil {
					break
				}
			}
			p.Close()
		}
		synctest.Wait()
		runtime.ReadMemStats(&after)
		if spent := after.TotalAlloc - before.TotalAlloc; spent > rounds*200<<10 {
			t.Errorf("%d requests took %d bytes each", rounds, spent/rounds)
		}
		total := uint64(0)
		reasons := r.reasons()
		for _, n := range reasons {
			total += n
		}
		if total != rounds || reasons[ReasonMalformedRequest] == 0 || reasons[ReasonEOF] == 0 {
			t.Errorf("closed: %v", reasons)
		}
	})
}

func TestReasonsAreAllListed(t *testing.T) {
	seen := map[Reason]bool{}
	for _, r := range Reasons() {
		if seen[r] || r == "" {
			t.Errorf("%q is listed twice or empty", r)
		}
		seen[r] = true
	}
	if !seen[notKafka([4]byte{'G', 'E', 'T', ' '})] || !seen[notKafka([4]byte{0x16, 3, 1, 0})] {
		t.Error("a guess is not listed")
	}
	if (&closing{ReasonIdle, nil}).Error() != "idle" || (&closing{ReasonHangup, errors.New("x")}).Error() != "hangup: x" {
		t.Error("an ending says something else")
	}
}
