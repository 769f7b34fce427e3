package protocol

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// anonymous is the principal of a connection without login, as Kafka names it.
const anonymous = "User:ANONYMOUS"

// conn is one connection. Its goroutine reads, begins requests and, while none is
// pending, writes. While some are pending the flusher owns the output.
type conn struct {
	s      *Server
	nc     net.Conn
	files  *fileSender // nil: runs are copied
	id     uint64
	peer   netip.AddrPort
	opened time.Time
	ctx    context.Context // ends when the server shuts down or the connection fails
	cancel context.CancelFunc

	// What follows belongs to the connection's goroutine.
	principal string
	loggedIn  bool
	software  [2]string // name, version
	clientID  string    // of the last request
	muted     time.Time // nothing is read before; zero = not muted
	in        input

	out *output // nil if empty; of the goroutine if pending is 0, else of the flusher

	pending atomic.Int32 // length of the queue; the flusher takes 1 off after its write
	mu      sync.Mutex   // guards what follows
	changed sync.Cond    // the queue, flusher, ending or failed
	first   *request     // the queue of unanswered requests, linked by next
	last    *request
	flusher bool // runs
	ending  bool // no more requests will enter the queue
	failure *closing
}

// request is one request from its header to its answer.
type request struct {
	call   Call
	row    *Row
	frame  int     // bytes, with the length
	body   *buffer // that call.Body lies in; nil if that is not pooled
	charge int64   // credit for what was decoded
	answer Answer
	begun  time.Time
	ended  time.Time // Begin returned
	waited time.Time // Later returned; zero if it was not that
	next   *request
}

// closing is the error that ends a connection.
type closing struct {
	reason Reason
	err    error // nil if the reason says it all
}

func (e *closing) Error() string {
	if e.err == nil {
		return string(e.reason)
	}
	return fmt.Sprintf("%s: %v", e.reason, e.err)
}

func newConn(s *Server, nc net.Conn, peer netip.AddrPort) *conn {
	c := &conn{s: s, nc: nc, files: newFileSender(nc), id: s.connIDs.Add(1), peer: peer, opened: time.Now(),
		principal: anonymous, loggedIn: !s.requireLogin}
	c.ctx, c.cancel = context.WithCancel(s.waits)
	c.changed.L = &c.mu
	c.in.chunkBytes = smallestBuffer
	return c
}

// serve runs the connection to its end.
func (c *conn) serve() {
	c.event(ConnEvent{Kind: ConnOpened})
	for {
		f, end := c.readFrame()
		if end == nil {
			end = c.handle(f)
		}
		if end == nil && !c.muted.IsZero() {
			end = c.mute()
		}
		if end != nil {
			c.finish(end)
			return
		}
	}
}

// handle begins one request and sees to its answer.
func (c *conn) handle(f frame) *closing {
	r, end := c.decode(f)
	if end != nil {
		return end
	}
	r.begun = time.Now()
	r.answer = r.row.Begin(c.ctx, &r.call)
	r.ended = time.Now()
	if r.answer.throttle > 0 {
		c.muted = r.ended.Add(r.answer.throttle)
	}
	switch r.answer.kind {
	case answerNone:
		if c.s.observe != nil {
			o := r.observation(c.id, 0)
			o.Took = r.ended.Sub(r.call.Arrived)
			c.s.observe(o)
		}
		c.recycle(r)
		return nil
	case answerHangup:
		err := r.answer.err
		c.recycle(r)
		if errors.Is(err, ErrMalformed) {
			return &closing{ReasonMalformedRequest, err}
		}
		return &closing{ReasonHangup, err}
	case answerLater:
		if r.row.Pipelined {
			return c.enqueue(r)
		}
		// What is finished must not wait for this one.
		if end := c.flushIdle(); end != nil {
			c.fail(end)
			c.abandon(r)
			return end
		}
		if r.row.Waits {
			c.s.credit.give(r.charge)
			r.charge = 0
		}
		r.wait(c.ctx)
	}
	if r.call.login != "" {
		c.principal, c.loggedIn = r.call.login, true
	}
	if c.pending.Load() > 0 {
		return c.enqueue(r)
	}
	end = c.encode(r)
	c.recycle(r)
	if end == nil && c.out.size() >= flushBytes {
		end = c.flush()
	}
	return end
}

// wait runs r's Later, once.
func (r *request) wait(ctx context.Context) {
	r.answer.response = r.answer.wait(ctx)
	r.answer.kind = answerNow
	r.waited = time.Now()
}

// encode appends r's answer to the output, which the caller owns.
func (c *conn) encode(r *request) *closing {
	if r.answer.response == nil {
		return &closing{ReasonHangup, errNoResponse}
	}
	if c.out == nil {
		c.out = c.s.outputs.Get()
	}
	n := c.out.answer(&r.call, r.row, r.answer.response)
	c.out.takeCredit(c.s.credit)
	if c.s.observe != nil {
		c.out.answered = append(c.out.answered, answered{r.observation(c.id, n), r.call.Arrived})
	}
	return nil
}

var errNoResponse = errors.New("the request ended without a response")

// flushIdle writes what is finished, unless the flusher does.
func (c *conn) flushIdle() *closing {
	if c.pending.Load() > 0 || c.out == nil {
		return nil
	}
	return c.flush()
}

// flush writes the output, which the caller owns.
func (c *conn) flush() *closing {
	o := c.out
	if o == nil {
		return nil
	}
	c.out = nil
	err := c.send(o)
	if err == nil && len(o.answered) > 0 {
		now := time.Now()
		for i := range o.answered {
			a := &o.answered[i]
			a.Took = now.Sub(a.arrived)
			c.s.observe(a.Observation)
		}
	}
	c.s.dropOutput(o)
	if err != nil {
		return c.sendFailed(err)
	}
	return nil
}

// observation is what is known of r when its answer is encoded.
func (r *request) observation(connID uint64, responseBytes int) Observation {
	o := Observation{
		Key: r.call.Key, Version: r.call.Version, ConnID: connID, RequestBytes: r.frame, ResponseBytes: responseBytes,
		Queued: r.begun.Sub(r.call.Arrived), Local: r.ended.Sub(r.begun),
	}
	if !r.waited.IsZero() {
		o.Remote = r.waited.Sub(r.ended)
	}
	return o
}

// abandon ends a request that will not be answered, on a connection that failed.
// Its Later is run all the same, with an ended context: it may hold something.
func (c *conn) abandon(r *request) {
	if r.answer.kind == answerLater {
		r.wait(c.ctx)
	}
	r.dropResponse()
	c.recycle(r)
}

// dropResponse releases a response that will not be encoded.
func (r *request) dropResponse() {
	if f, ok := r.answer.response.(*FetchResponse); ok && f != nil && f.Release != nil {
		f.Release()
	}
	r.answer.response = nil
}

// recycle gives back what r holds.
func (c *conn) recycle(r *request) {
	if r.body != nil {
		r.body.release()
	}
	c.s.credit.give(r.charge)
	*r = request{}
	c.s.requests.Put(r)
}

// mute stops reading until the throttle time is over (KIP-219).
func (c *conn) mute() *closing {
	if end := c.flushIdle(); end != nil {
		return end
	}
	timer := time.NewTimer(time.Until(c.muted))
	defer timer.Stop()
	c.muted = time.Time{}
	select {
	case <-timer.C:
	case <-c.ctx.Done(): // the next read says why
	}
	return nil
}

// wake ends the blocking read of a connection whose server shuts down.
func (c *conn) wake() {
	c.nc.SetReadDeadline(time.Unix(1, 0)) // fails only if the connection is closed
}

// fail records why the connection ends, unless that is known, and closes it.
func (c *conn) fail(end *closing) {
	c.mu.Lock()
	if c.failure == nil {
		c.failure = end
	}
	c.changed.Broadcast()
	c.mu.Unlock()
	c.cancel()
	c.nc.Close()
}

// failed returns why the connection ends, nil while it lives.
func (c *conn) failed() *closing {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failure
}

// finish lets what has begun be answered, then closes the connection.
func (c *conn) finish(end *closing) {
	c.mu.Lock()
	c.ending = true
	c.changed.Broadcast()
	for c.flusher {
		c.changed.Wait()
	}
	c.mu.Unlock()
	if c.failed() == nil {
		c.flush() // the reason to close stays the first one
	}
	c.fail(end)
	if c.out != nil {
		c.s.dropOutput(c.out)
		c.out = nil
	}
	c.in.dropChunk()
	end = c.failed()
	c.s.forget(c, end.reason)
	level := slog.LevelDebug // the client's doing, or ours at a shutdown
	if end.reason == ReasonShortFile {
		level = slog.LevelError
	}
	c.s.log.Log(context.Background(), level, "connection closed",
		"listener", c.s.listener, "conn", c.id, "peer", c.peer, "client", c.clientID, "reason", end.reason, "error", end.err)
	c.event(ConnEvent{Kind: ConnClosed, Reason: end.reason, Err: end.err})
}

// event reports a turn in the connection's life.
func (c *conn) event(e ConnEvent) {
	if c.s.observeConn == nil {
		return
	}
	e.ConnID, e.Listener, e.Peer, e.Principal = c.id, c.s.listener, c.peer, c.principal
	e.SoftwareName, e.SoftwareVersion = c.software[0], c.software[1]
	c.s.observeConn(e)
}
