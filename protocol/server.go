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

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rotpeter/rotpeter/internal/poison"
)

// Options says what a Server serves.
type Options struct {
	Rows     []Row
	Listener string // the listener's name, handed on in every Call
	Limits   Limits
	Log      *slog.Logger // slog.Default() if nil

	// Observe, if not nil, is called for every request, from the connection's
	// goroutines: it must not wait.
	Observe func(Observation)

	// ObserveConn, if not nil, is called for every turn in a connection's life.
	ObserveConn func(ConnEvent)

	// Credit is the memory budget, shared with other servers; nil makes one of
	// Limits.RequestMemoryBytes.
	Credit *Credit

	// Short, if not nil, tells that memory is short: new connections are closed. It is called for each of them.
	Short func() bool

	// ConnIDs counts the connections of all servers that have it, for Call.ConnID; nil: this server counts its own.
	ConnIDs *atomic.Uint64

	// RequireLogin refuses rows that are not Open until one of those that are has
	// called Call.Login.
	RequireLogin bool
}

// Server serves the connections of one listener name. It is safe for concurrent
// use.
type Server struct {
	listener     string
	limits       Limits
	log          *slog.Logger
	observe      func(Observation)
	observeConn  func(ConnEvent)
	requireLogin bool
	short        func() bool
	rows         []*Row // by key
	credit       *Credit
	buffers      buffers
	requests     poison.Pool[request]
	outputs      poison.Pool[output]

	waits  context.Context // ends when a shutdown begins
	endAll context.CancelFunc
	force  context.Context // ends when a shutdown has no more time
	abort  context.CancelFunc

	connIDs *atomic.Uint64
	opened  atomic.Uint64
	accepts atomic.Uint64 // failed ones
	running sync.WaitGroup
	stop    sync.Once

	mu        sync.Mutex // guards what follows
	closing   bool
	listeners map[net.Listener]struct{}
	conns     map[*conn]struct{}
	perPeer   map[netip.Addr]int
	closed    map[Reason]uint64
}

// NewServer checks the rows and returns a server that serves nothing yet.
func NewServer(o Options) (*Server, error) {
	s := &Server{
		listener: o.Listener, limits: o.Limits.withDefaults(), log: o.Log,
		observe: o.Observe, observeConn: o.ObserveConn, requireLogin: o.RequireLogin, credit: o.Credit, connIDs: o.ConnIDs, short: o.Short,
		listeners: map[net.Listener]struct{}{}, conns: map[*conn]struct{}{},
		perPeer: map[netip.Addr]int{}, closed: map[Reason]uint64{},
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.connIDs == nil {
		s.connIDs = new(atomic.Uint64)
	}
	if s.credit == nil {
		s.credit = NewCredit(s.limits.RequestMemoryBytes)
	}
	s.buffers.credit = s.credit
	for i := range o.Rows {
		if err := s.addRow(&o.Rows[i]); err != nil {
			return nil, err
		}
	}
	s.waits, s.endAll = context.WithCancel(context.Background())
	s.force, s.abort = context.WithCancel(context.Background())
	return s, nil
}

func (s *Server) addRow(r *Row) error {
	switch {
	case r.Key < 0 || r.Begin == nil || r.Min < 0 || r.Max < r.Min:
		return fmt.Errorf("row of API key %d: it needs a key, a Begin and versions, and has %d to %d", r.Key, r.Min, r.Max)
	case s.row(r.Key) != nil:
		return fmt.Errorf("two rows of API key %d", r.Key)
	}
	if !r.Raw {
		if req := kmsg.RequestForKey(r.Key); req == nil || req.MaxVersion() < r.Max {
			return fmt.Errorf("row of API key %d: requests of version %d cannot be decoded", r.Key, r.Max)
		}
	}
	for len(s.rows) <= int(r.Key) {
		s.rows = append(s.rows, nil)
	}
	own := *r
	s.rows[r.Key] = &own
	return nil
}

// row finds the row of a key, or nil.
func (s *Server) row(key int16) *Row {
	if key < 0 || int(key) >= len(s.rows) {
		return nil
	}
	return s.rows[key]
}

// The pause after a failed Accept, as when the process has no descriptor left:
// doubled from the first to the last, so that the loop does not spin.
const (
	firstAcceptPause = 5 * time.Millisecond
	lastAcceptPause  = time.Second
)

// Serve accepts connections until the listener is closed or the server shuts
// down, which gives nil. It may be called for several listeners at once. It
// closes the listener.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return errors.Join(errServerClosed, l.Close())
	}
	s.listeners[l] = struct{}{}
	s.running.Add(1)
	s.mu.Unlock()
	defer s.running.Done()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
		l.Close()
	}()
	pause := firstAcceptPause
	for {
		nc, err := l.Accept()
		if err == nil {
			pause = firstAcceptPause
			s.start(nc)
			continue
		}
		if errors.Is(err, net.ErrClosed) || s.waits.Err() != nil {
			return nil
		}
		s.accepts.Add(1)
		s.log.Warn("cannot accept a connection", "listener", s.listener, "error", err, "pause", pause)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-s.waits.Done():
		}
		timer.Stop()
		pause = min(2*pause, lastAcceptPause)
	}
}

var errServerClosed = errors.New("the server was shut down")

// start gives a new connection its goroutine, or refuses it.
func (s *Server) start(nc net.Conn) {
	peer := peerOf(nc)
	c := newConn(s, nc, peer)
	short := s.short != nil && s.short()
	s.mu.Lock()
	reason := Reason("")
	switch {
	case s.closing:
		reason = ReasonShutdown
	case len(s.conns) >= s.limits.Connections || s.perPeer[peer.Addr()] >= s.limits.ConnectionsPerAddress:
		reason = ReasonTooMany
	case short:
		reason = ReasonMemory
	default:
		s.conns[c] = struct{}{}
		s.perPeer[peer.Addr()]++
		s.running.Add(1)
	}
	if reason != "" {
		s.closed[reason]++
	}
	s.mu.Unlock()
	if reason != "" {
		s.log.Debug("refused a connection", "listener", s.listener, "peer", peer, "reason", reason)
		nc.Close()
		c.cancel()
		return
	}
	s.opened.Add(1)
	go func() {
		defer s.running.Done()
		c.serve()
	}()
}

// forget takes a closed connection off the books.
func (s *Server) forget(c *conn, reason Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if s.perPeer[c.peer.Addr()]--; s.perPeer[c.peer.Addr()] <= 0 {
		delete(s.perPeer, c.peer.Addr())
	}
	s.closed[reason]++
}

// peerOf returns the peer's address, zero if it has none that is an IP address.
func peerOf(nc net.Conn) netip.AddrPort {
	addr := nc.RemoteAddr()
	if tcp, ok := addr.(*net.TCPAddr); ok {
		ap := tcp.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	if addr == nil {
		return netip.AddrPort{}
	}
	ap, _ := netip.ParseAddrPort(addr.String())
	return ap
}

// Shutdown stops accepting, closes idle connections, lets requests that have
// begun be answered, and returns when all connections are closed. When ctx ends
// before that, it closes the rest by force and returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop.Do(func() {
		s.mu.Lock()
		s.closing = true
		listeners := make([]net.Listener, 0, len(s.listeners))
		for l := range s.listeners {
			listeners = append(listeners, l)
		}
		s.mu.Unlock()
		s.endAll()
		for _, l := range listeners {
			l.Close() // Serve's own Close reports nothing new
		}
		for _, c := range s.open() {
			c.wake()
		}
	})
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.abort()
	for _, c := range s.open() {
		c.fail(&closing{ReasonShutdown, ctx.Err()})
	}
	<-done
	return ctx.Err()
}

func (s *Server) open() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

// Stats is a snapshot of a server's counts.
type Stats struct {
	Open         int               // connections now
	Opened       uint64            // connections ever accepted within their limits
	Closed       map[Reason]uint64 // closed and refused ones, by reason
	AcceptErrors uint64
	CreditUsed   int64 // bytes of request memory in use
	CreditTotal  int64
}

// Stats returns the counts now. The map is the caller's.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	closed := make(map[Reason]uint64, len(s.closed))
	for r, n := range s.closed {
		closed[r] = n
	}
	return Stats{
		Open: len(s.conns), Opened: s.opened.Load(), Closed: closed, AcceptErrors: s.accepts.Load(),
		CreditUsed: s.credit.Used(), CreditTotal: s.credit.Total(),
	}
}
