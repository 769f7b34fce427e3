package protocol

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// smallestFrame is a header version 1 with a null client id.
const smallestFrame = 2 + 2 + 4 + 2

// warmTime is how long a connection that was just served waits for its next request with
// a buffer, so that a busy one reads length and request at once. An idle one gives it back.
const warmTime = 10 * time.Millisecond

// input is the reading side of a connection. While it waits for a request for longer than
// warmTime it holds no buffer: the length is read by itself. Then chunk takes what has
// arrived, and its requests are served in it, without copying.
type input struct {
	chunk      *buffer // nil if nothing is buffered
	r, w       int     // chunk.b[r:w] is read from the network and not served
	chunkBytes int     // how large the next chunk should be
	proven     int     // largest frame that came in full
	warm       bool    // the last frame was a small one that has just come
	arrived    time.Time
	length     [4]byte
}

// frame is one request's bytes behind its length, in a buffer that it holds.
type frame struct {
	b    []byte
	body *buffer
}

func (in *input) buffered() int { return in.w - in.r }

func (in *input) dropChunk() {
	if in.chunk != nil {
		in.chunk.release()
	}
	in.chunk, in.r, in.w = nil, 0, 0
}

// readFrame returns the next request. Before it waits for the network it writes
// what is finished.
func (c *conn) readFrame() (frame, *closing) {
	if c.s.waits.Err() != nil {
		return frame{}, &closing{ReasonShutdown, nil}
	}
	n, end := c.readLength()
	if end == nil {
		end = c.checkLength(n)
	}
	if end != nil {
		return frame{}, end
	}
	in := &c.in
	if in.warm = n <= largestChunk; !in.warm {
		return c.readLarge(n)
	}
	if in.buffered() < n {
		if end := c.gather(n); end != nil {
			return frame{}, end
		}
	}
	f := frame{in.chunk.b[in.r : in.r+n : in.r+n], in.chunk}
	if in.r += n; in.r == in.w {
		in.chunk, in.r, in.w = nil, 0, 0 // the frame takes our reference
	} else {
		in.chunk.retain()
	}
	return f, nil
}

// readLength reads a frame's length, out of the chunk if it is there in full.
func (c *conn) readLength() (int, *closing) {
	in := &c.in
	if in.buffered() >= 4 {
		copy(in.length[:], in.chunk.b[in.r:])
		in.r += 4
		return int(int32(binary.BigEndian.Uint32(in.length[:]))), nil
	}
	if end := c.flushIdle(); end != nil {
		return 0, end
	}
	if in.warm && c.pending.Load() == 0 {
		if in.warm = false; c.readWarm() {
			return c.readLength()
		}
	}
	have := 0
	if in.chunk != nil {
		have = copy(in.length[:], in.chunk.b[in.r:in.w])
		in.dropChunk()
	}
	timedOut, deadline := ReasonIdle, time.Now().Add(c.s.limits.IdleTime)
	if have > 0 {
		timedOut, deadline = ReasonSlowRequest, time.Now().Add(c.s.limits.TransferTime)
	}
	for {
		n, end := c.read(in.length[have:], deadline, timedOut)
		if have += n; have == 4 {
			return int(int32(binary.BigEndian.Uint32(in.length[:]))), nil
		}
		if end != nil {
			if end.reason == ReasonReset && end.err == io.EOF && have == 0 {
				end = &closing{ReasonEOF, nil}
			}
			return 0, end
		}
		if have == n { // the first bytes of a frame: from now on it has to hurry
			timedOut, deadline = ReasonSlowRequest, time.Now().Add(c.s.limits.TransferTime)
		}
	}
}

// readWarm waits a moment with a buffer for the next length. Whatever stops it comes again in the read without.
func (c *conn) readWarm() bool {
	in := &c.in
	if in.chunk == nil || len(in.chunk.b)-in.r < 4 {
		_, size := bufferClass(in.chunkBytes)
		if !c.s.credit.trySmall(int64(size)) {
			return false
		}
		chunk := c.s.buffers.get(in.chunkBytes, int64(size))
		have := 0
		if in.chunk != nil {
			have = copy(chunk.b, in.chunk.b[in.r:in.w])
			in.chunk.release()
		}
		in.chunk, in.r, in.w = chunk, 0, have
	}
	deadline := time.Now().Add(warmTime)
	for in.buffered() < 4 {
		m, end := c.read(in.chunk.b[in.w:], deadline, ReasonIdle)
		if end != nil {
			return false
		}
		in.w += m
	}
	in.arrived = time.Now()
	in.adapt()
	return true
}

// read reads once, until deadline, which timedOut names.
func (c *conn) read(b []byte, deadline time.Time, timedOut Reason) (int, *closing) {
	if !c.loggedIn {
		if login := c.opened.Add(c.s.limits.LoginTime); login.Before(deadline) {
			deadline, timedOut = login, ReasonLoginTime
		}
	}
	if err := c.nc.SetReadDeadline(deadline); err != nil {
		return 0, &closing{ReasonReset, err}
	}
	if c.ctx.Err() != nil { // after the deadline was set: wake sets another one
		return 0, &closing{ReasonShutdown, nil}
	}
	n, err := c.nc.Read(b)
	switch {
	case n > 0 || err == nil:
		return n, nil // an error with bytes comes again without
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return 0, &closing{ReasonReset, err}
	case c.ctx.Err() != nil:
		return 0, &closing{ReasonShutdown, nil}
	}
	return 0, &closing{timedOut, nil}
}

// checkLength refuses what no honest frame can have, before anything is allocated.
func (c *conn) checkLength(n int) *closing {
	limit := c.s.limits.FrameBytes
	if !c.loggedIn {
		limit = min(limit, c.s.limits.LoginFrameBytes)
	}
	switch {
	case n < 0:
		return &closing{ReasonNegativeLength, nil}
	case n > limit:
		return &closing{notKafka(c.in.length), fmt.Errorf("a frame of %d bytes, at most %d are allowed", n, limit)}
	case n < smallestFrame:
		return &closing{ReasonMalformedHeader, fmt.Errorf("a frame of %d bytes", n)}
	}
	return nil
}

// gather reads until n bytes, at most largestChunk, are in the chunk.
func (c *conn) gather(n int) *closing {
	in := &c.in
	if in.chunk == nil || len(in.chunk.b)-in.r < n {
		chunk, end := c.take(max(n, in.chunkBytes), true)
		if end != nil {
			return end
		}
		have := 0
		if in.chunk != nil {
			have = copy(chunk.b, in.chunk.b[in.r:in.w])
			in.chunk.release()
		}
		in.chunk, in.r, in.w = chunk, 0, have
	}
	if end := c.flushIdle(); end != nil {
		return end
	}
	deadline := time.Now().Add(c.s.limits.transferTime(n))
	for in.buffered() < n {
		m, end := c.read(in.chunk.b[in.w:], deadline, ReasonSlowRequest)
		if end != nil {
			return end
		}
		in.w += m
	}
	in.arrived = time.Now()
	in.adapt()
	return nil
}

// adapt makes the next chunk larger after a full one, and smaller after one that
// was almost empty, so that one waiting request does not hold a large buffer.
func (in *input) adapt() {
	switch {
	case in.w == len(in.chunk.b):
		in.chunkBytes = min(4*in.chunkBytes, largestChunk)
	case in.w < in.chunkBytes/8:
		in.chunkBytes = max(in.chunkBytes/4, smallestBuffer)
	}
}

// take gets a buffer of at least n bytes with memory credit for it, and waits for
// that no longer than Limits.MemoryWait. small says that it is for requests that will need no more.
func (c *conn) take(n int, small bool) (*buffer, *closing) {
	_, size := bufferClass(n)
	if small && c.s.credit.trySmall(int64(size)) || !small && c.s.credit.tryFirst(int64(size)) {
		return c.s.buffers.get(n, int64(size)), nil
	}
	wait := c.s.credit.waitFirst
	if small {
		wait = c.s.credit.waitSmall
	}
	if end := c.waitCredit(int64(size), wait); end != nil {
		return nil, end
	}
	return c.s.buffers.get(n, int64(size)), nil
}

func (c *conn) waitCredit(n int64, wait func(context.Context, int64) error) *closing {
	if end := c.flushIdle(); end != nil {
		return end
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.s.limits.MemoryWait)
	defer cancel()
	err := wait(ctx, n)
	switch {
	case err == nil:
		return nil
	case c.ctx.Err() != nil:
		return &closing{ReasonShutdown, nil}
	}
	return &closing{ReasonMemory, fmt.Errorf("%d bytes for a request: %w", n, err)}
}

// readLarge reads a frame of n bytes into a buffer of its own. It starts with what
// the connection has shown to be honest about and grows as the bytes arrive.
func (c *conn) readLarge(n int) (frame, *closing) {
	in := &c.in
	if _, whole := bufferClass(n); n > largestFirst && int64(whole) > c.s.credit.largest() {
		return frame{}, &closing{ReasonMemory, fmt.Errorf("a frame of %d bytes: %w", n, errNoCredit)}
	}
	b, end := c.take(min(n, max(largestChunk, min(in.proven, largestProven))), false)
	if end != nil {
		return frame{}, end
	}
	got := 0
	if in.chunk != nil {
		got = copy(b.b, in.chunk.b[in.r:in.w])
		in.dropChunk()
	}
	if end := c.flushIdle(); end != nil {
		b.release()
		return frame{}, end
	}
	deadline := time.Now().Add(c.s.limits.transferTime(n))
	checked := false
	for got < n {
		if got >= smallestFrame && !checked {
			if end := c.checkLarge(b.b, n); end != nil {
				b.release()
				return frame{}, end
			}
			checked = true
		}
		if got == len(b.b) {
			if b, end = c.enlarge(b, n); end != nil {
				return frame{}, end
			}
		}
		m, end := c.read(b.b[got:min(n, len(b.b))], deadline, ReasonSlowRequest)
		if end != nil {
			b.release()
			return frame{}, end
		}
		got += m
	}
	in.arrived = time.Now()
	in.proven = max(in.proven, n)
	return frame{b.b[:n:n], b}, nil
}

// checkLarge looks at the header's beginning: only a pipelined row, Produce, may
// have frames beyond Limits.OtherFrameBytes.
func (c *conn) checkLarge(b []byte, n int) *closing {
	key := int16(binary.BigEndian.Uint16(b))
	row := c.s.row(key)
	if row == nil {
		return &closing{ReasonUnknownAPI, fmt.Errorf("API key %d", key)}
	}
	if limit := c.s.limits.OtherFrameBytes; !row.Pipelined && n > limit {
		return &closing{ReasonFrameTooLarge, fmt.Errorf("a frame of %d bytes for API key %d, at most %d are allowed", n, key, limit)}
	}
	return nil
}

// enlarge moves b's bytes to a buffer four times as large, or large enough for the
// whole frame of n bytes. Beyond largestFirst it first takes the credit for the
// whole frame, so that it never has to wait again. It releases b in any case.
func (c *conn) enlarge(b *buffer, n int) (*buffer, *closing) {
	size := min(n, 4*len(b.b))
	var larger *buffer
	var end *closing
	switch {
	case b.rest > 0:
		larger = c.s.buffers.get(size, 0)
		larger.charge, larger.rest = b.charge, b.rest
		b.charge = 0
	case size <= largestFirst:
		larger, end = c.take(size, false)
	default:
		_, whole := bufferClass(n)
		if end = c.waitCredit(int64(whole), c.s.credit.waitRest); end == nil {
			larger = c.s.buffers.get(size, int64(whole))
			larger.rest = int64(whole)
		}
	}
	if end == nil {
		copy(larger.b, b.b)
	}
	b.release()
	return larger, end
}

// decode makes a request of a frame, which it takes over.
func (c *conn) decode(f frame) (*request, *closing) {
	h, row, body, ok := parseHeader(f.b, c.s.row)
	if end := c.checkHeader(&h, row, ok); end != nil {
		f.body.release()
		return nil, end
	}
	if string(h.clientID) != c.clientID {
		c.clientID = string(h.clientID)
	}
	r := c.s.requests.Get()
	r.row, r.frame, r.body = row, len(f.b)+4, f.body
	r.call = Call{
		Key: h.key, Version: h.version, CorrelationID: h.correlationID,
		ClientID: c.clientID, ClientIDNull: h.clientID == nil, Body: body, Arrived: c.in.arrived,
		Principal: c.principal, Peer: c.peer.Addr(), PeerPort: c.peer.Port(), Listener: c.s.listener,
		SoftwareName: c.software[0], SoftwareVersion: c.software[1], ConnID: c.id,
	}
	if row.Raw && (row.Pipelined || len(body) <= cheapBody) {
		return r, nil
	}
	own := append([]byte(nil), body...)
	r.call.Body = own
	f.body.release()
	r.body = nil
	if row.Raw {
		if end := c.charge(r); end != nil {
			c.recycle(r)
			return nil, end
		}
		return r, nil
	}
	if h.version < row.Min || h.version > row.Max {
		r.call.Body = nil // of an ApiVersions request that nobody here can read (KIP-511)
		return r, nil
	}
	if end := c.decodeCharged(r, own); end != nil {
		c.recycle(r)
		return nil, end
	}
	return r, nil
}

// charge takes memory credit for the most that a request's bytes can become decoded. It waits while the request holds none.
func (c *conn) charge(r *request) *closing {
	body := len(r.call.Body)
	most := min(decodedTimes*int64(body), c.s.credit.first)
	wait := c.s.credit.waitFirst
	if body <= largestChunk {
		wait = c.s.credit.waitSmall
	}
	if end := c.waitCredit(most, wait); end != nil {
		return end
	}
	r.charge = most
	return nil
}

// decodeCharged decodes a request within the memory credit: first there must be enough for the most that its bytes can
// become, since only then it shows what they do become.
func (c *conn) decodeCharged(r *request, body []byte) *closing {
	if len(body) > cheapBody {
		if end := c.charge(r); end != nil {
			return end
		}
	}
	if err := c.decodeBody(r, body); err != nil {
		return &closing{ReasonMalformedRequest, err}
	}
	if r.charge == 0 {
		return nil
	}
	n := decodedBytes(r.call.Req) + int64(len(body))
	if n > int64(c.s.limits.DecodedBytes) {
		return &closing{ReasonMemory, fmt.Errorf("a request of %d bytes takes %d decoded, at most %d are allowed", len(body), n, c.s.limits.DecodedBytes)}
	}
	c.s.credit.give(r.charge - n)
	r.charge = n
	return nil
}

// checkHeader refuses what Kafka closes the connection for.
func (c *conn) checkHeader(h *header, row *Row, ok bool) *closing {
	switch {
	case !ok:
		return &closing{ReasonMalformedHeader, nil}
	case row == nil:
		return &closing{ReasonUnknownAPI, fmt.Errorf("API key %d", h.key)}
	case (h.version < row.Min || h.version > row.Max) && h.key != keyApiVersions:
		return &closing{ReasonUnsupportedVersion, fmt.Errorf("version %d of API key %d", h.version, h.key)}
	case !row.Open && !c.loggedIn:
		return &closing{ReasonLoginRequired, fmt.Errorf("API key %d before login", h.key)}
	}
	return nil
}

// decodeBody decodes a request by kmsg, and notes the client's software.
func (c *conn) decodeBody(r *request, body []byte) error {
	req := kmsg.RequestForKey(r.call.Key)
	req.SetVersion(r.call.Version)
	if err := readRequest(req, body); err != nil {
		return fmt.Errorf("API key %d v%d: %w: %w", r.call.Key, r.call.Version, ErrMalformed, err)
	}
	r.call.Req = req
	if v, ok := req.(*kmsg.ApiVersionsRequest); ok && r.call.Version >= 3 &&
		validSoftware(v.ClientSoftwareName) && validSoftware(v.ClientSoftwareVersion) {
		c.software = [2]string{v.ClientSoftwareName, v.ClientSoftwareVersion}
		r.call.SoftwareName, r.call.SoftwareVersion = v.ClientSoftwareName, v.ClientSoftwareVersion
		c.event(ConnEvent{Kind: ConnIdentified})
	}
	return nil
}

// readRequest is kmsg's decoder with its panics, if it has any, turned into errors.
func readRequest(req kmsg.Request, body []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the decoder panicked: %v", p)
		}
	}()
	return req.ReadFrom(body)
}

// sendFailed says why a write failed.
func (c *conn) sendFailed(err error) *closing {
	switch {
	case errors.Is(err, errShortFile):
		return &closing{ReasonShortFile, err}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &closing{ReasonSlowReader, err}
	}
	return &closing{ReasonReset, err}
}
