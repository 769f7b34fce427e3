// Package pipenet is a network in memory: a net.Listener and connections with
// addresses, deadlines and a bounded buffer for each direction, as a kernel has
// them. All its waiting is on condition variables and timers, so that it works
// inside a testing/synctest bubble with fake time.
package pipenet

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// bufferBytes is how much one direction holds before a writer waits, the
	// order of size of a socket's buffers.
	bufferBytes = 64 << 10

	// backlog is how many connections may wait for Accept.
	backlog = 128

	firstPort = 49152 // of the peers' made-up addresses, as a kernel's ephemeral ports
)

// Listener is an in-memory net.Listener.
type Listener struct {
	addr *net.TCPAddr

	mu      sync.Mutex // guards what follows
	changed sync.Cond
	waiting []*conn
	closed  bool
	port    uint16 // of the last peer
}

// Listen returns a listener that calls itself address ("127.0.0.1:9092"). Nothing
// is bound: two listeners may have the same address. It panics if address is not
// an IP address and a port.
func Listen(address string) *Listener {
	l := &Listener{addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address)), port: firstPort - 1}
	l.changed.L = &l.mu
	return l
}

// Accept waits for the next connection. After Close its error is net.ErrClosed.
func (l *Listener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.waiting) == 0 && !l.closed {
		l.changed.Wait()
	}
	if l.closed {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
	}
	c := l.waiting[0]
	l.waiting = l.waiting[1:]
	l.changed.Broadcast()
	return c, nil
}

// Close ends Accept and breaks off the connections that wait for it.
func (l *Listener) Close() error {
	l.mu.Lock()
	waiting, was := l.waiting, l.closed
	l.waiting, l.closed = nil, true
	l.changed.Broadcast()
	l.mu.Unlock()
	for _, c := range waiting {
		c.Close()
	}
	if was {
		return &net.OpError{Op: "close", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
	}
	return nil
}

// Addr returns the address given to Listen.
func (l *Listener) Addr() net.Addr { return l.addr }

// Dial connects from a loopback address with a port of its own.
func (l *Listener) Dial() (net.Conn, error) {
	return l.DialContext(context.Background(), "tcp", "")
}

// DialContext is Dial in the shape that clients ask for. The network and the
// address do not matter.
func (l *Listener) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	l.mu.Lock()
	l.port++
	if l.port < firstPort {
		l.port = firstPort
	}
	from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), l.port)
	l.mu.Unlock()
	return l.DialFrom(ctx, from)
}

// DialFrom connects with the given local address. It waits while the listener's
// backlog is full.
func (l *Listener) DialFrom(ctx context.Context, from netip.AddrPort) (net.Conn, error) {
	stop := context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.changed.Broadcast()
	})
	defer stop()
	local := net.TCPAddrFromAddrPort(from)
	client, server := pipe(local, l.addr)
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.waiting) >= backlog && !l.closed && ctx.Err() == nil {
		l.changed.Wait()
	}
	if l.closed {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Source: local, Addr: l.addr, Err: syscall.ECONNREFUSED}
	}
	if err := ctx.Err(); err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Source: local, Addr: l.addr, Err: err}
	}
	l.waiting = append(l.waiting, server)
	l.changed.Broadcast()
	return client, nil
}

// Pipe returns two connected ends, with the addresses of a client and a server.
func Pipe(client, server netip.AddrPort) (net.Conn, net.Conn) {
	c, s := pipe(net.TCPAddrFromAddrPort(client), net.TCPAddrFromAddrPort(server))
	return c, s
}

func pipe(client, server *net.TCPAddr) (*conn, *conn) {
	up, down := newStream(), newStream()
	return &conn{in: down, out: up, local: client, remote: server}, &conn{in: up, out: down, local: server, remote: client}
}

// conn is one end of a connection.
type conn struct {
	in, out       *stream
	local, remote *net.TCPAddr
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.in.read(b)
	return n, c.wrap("read", err)
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.out.write(b)
	return n, c.wrap("write", err)
}

// wrap gives an error its place. io.EOF stays bare, as the net package does.
func (c *conn) wrap(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

// Close ends both directions: the peer reads what was written and then io.EOF, and
// fails to write.
func (c *conn) Close() error {
	if !c.in.closeReader() {
		return c.wrap("close", net.ErrClosed)
	}
	c.out.closeWriter(net.ErrClosed)
	return nil
}

// CloseWrite ends one direction: the peer reads io.EOF, this end still reads.
func (c *conn) CloseWrite() error {
	c.out.closeWriter(syscall.EPIPE)
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *conn) SetReadDeadline(t time.Time) error {
	return c.wrap("set", c.in.setDeadline(&c.in.reader, t))
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	return c.wrap("set", c.out.setDeadline(&c.out.writer, t))
}

// stream is one direction of a connection.
type stream struct {
	mu      sync.Mutex // guards what follows
	changed sync.Cond
	data    []byte // written and not read
	reader  end
	writer  end
}

// end is what one side of a stream has said about it.
type end struct {
	closed  error // nil while open; what the side's own calls give afterwards
	expired bool
	timer   *time.Timer // of the deadline, nil without one
	set     int         // counts deadlines: an old timer must not expire a new one
}

func newStream() *stream {
	s := &stream{}
	s.changed.L = &s.mu
	return s
}

func (s *stream) read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.reader.closed != nil:
			return 0, s.reader.closed
		case s.reader.expired:
			return 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			return 0, nil
		case len(s.data) > 0:
			n := copy(b, s.data)
			if s.data = s.data[n:]; len(s.data) == 0 {
				s.data = nil
			}
			s.changed.Broadcast()
			return n, nil
		case s.writer.closed != nil:
			return 0, io.EOF
		}
		s.changed.Wait()
	}
}

func (s *stream) write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	written := 0
	for {
		switch {
		case s.writer.closed != nil:
			return written, s.writer.closed
		case s.writer.expired:
			return written, os.ErrDeadlineExceeded
		case s.reader.closed != nil:
			return written, syscall.EPIPE
		case written == len(b):
			return written, nil
		}
		if n := min(bufferBytes-len(s.data), len(b)-written); n > 0 {
			s.data = append(s.data, b[written:written+n]...)
			written += n
			s.changed.Broadcast()
			continue
		}
		s.changed.Wait()
	}
}

// closeReader reports whether the reader was open. What was not read is gone.
func (s *stream) closeReader() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reader.closed != nil {
		return false
	}
	s.reader.closed, s.data = net.ErrClosed, nil
	s.reader.stop()
	s.changed.Broadcast()
	return true
}

func (s *stream) closeWriter(own error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writer.closed = own
	s.writer.stop()
	s.changed.Broadcast()
}

// setDeadline sets one side's deadline; the zero time takes it away.
func (s *stream) setDeadline(e *end, t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.closed != nil {
		return e.closed
	}
	e.stop()
	e.set++
	if e.expired = false; t.IsZero() {
		return nil
	}
	left := time.Until(t)
	if left <= 0 {
		e.expired = true
		s.changed.Broadcast()
		return nil
	}
	set := e.set
	e.timer = time.AfterFunc(left, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if e.set == set {
			e.expired = true
			s.changed.Broadcast()
		}
	})
	return nil
}

func (e *end) stop() {
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
}
