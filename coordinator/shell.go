package coordinator

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultInboxSize is how many events of callers may wait for one shard when
// ShellOptions.InboxSize is 0. An event is one request, so this bounds the memory
// of a shard whose disk hangs to that of so many requests; beyond it callers wait.
const DefaultInboxSize = 4096

// Bounds of the pause before a shard whose journal failed is loaded again. It
// doubles with each failure and starts over once an append has succeeded.
const (
	minReloadPause = 100 * time.Millisecond
	maxReloadPause = 10 * time.Second
)

// ShellOptions says what a Shell runs.
type ShellOptions struct {
	Name    string       // for logs, for example "__consumer_offsets-7"
	New     func() Shard // makes an empty shard; called once for each load
	Journal Journal

	// Errands is handed what shards ask of others, after the replies. It runs in
	// the shell's goroutine, so it must not block; it may Post. May be nil when the
	// shard has no errands.
	Errands func([]Errand)

	// Committed is called after each load and after each durable batch of records,
	// before the replies: whoever hears of a change finds it published. It runs in
	// the shell's goroutine and must not keep the shard. May be nil.
	Committed func(Shard)

	Log       *slog.Logger
	InboxSize int // events of Do that may wait; 0 means DefaultInboxSize
}

// Shell runs one shard over its journal in one goroutine of its own. It gathers
// the events that have arrived, handles them, appends their records once, waits
// until they are durable and then sends all replies. While one append is on its
// way the next events gather: that is all the batching there is, there is no
// linger.
type Shell struct {
	o       ShellOptions
	slots   chan struct{} // one for each event of Do in the queue
	wake    chan struct{} // capacity 1: the queue is not empty
	closing chan struct{}
	done    chan struct{} // closed when the goroutine has ended
	loading atomic.Bool

	mu     sync.Mutex
	queue  []item               // in order of arrival
	asked  map[*waiter]struct{} // handed to the shard and not answered yet
	closed bool

	// Only the shell's goroutine uses these.
	shard    Shard
	failures int // journal failures since the last successful append
}

// item is one event in the queue.
type item struct {
	w    *waiter // nil for Post
	body any
}

// waiter is the Token of an event of Do.
type waiter struct {
	answer chan any // capacity 1: a reply, or a shellError
	left   bool     // the caller's context has ended; guarded by Shell.mu
}

// NewShell starts the goroutine that loads a shard and runs it. Events wait while
// it loads. The caller must Close the shell.
func NewShell(o ShellOptions) *Shell {
	if o.InboxSize <= 0 {
		o.InboxSize = DefaultInboxSize
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Shell{
		o:       o,
		slots:   make(chan struct{}, o.InboxSize),
		wake:    make(chan struct{}, 1),
		closing: make(chan struct{}),
		done:    make(chan struct{}),
		asked:   make(map[*waiter]struct{}),
	}
	s.loading.Store(true)
	go s.run()
	return s
}

// Do hands an event to the shard and waits for its reply, however long the shard
// keeps it. It returns ErrNotCoordinator if the journal failed before the reply
// was durable, ErrLoading if so many events wait for a load that the inbox is
// full, ErrClosed after Close, and the context's error when that ends first. In
// the last case the event may still be handled: body must stay valid and
// unchanged after Do has returned.
func (s *Shell) Do(ctx context.Context, body any) (any, error) {
	w := &waiter{answer: make(chan any, 1)}
	if err := s.takeSlot(ctx); err != nil {
		return nil, err
	}
	if !s.enqueue(item{w: w, body: body}) {
		<-s.slots
		return nil, ErrClosed
	}
	select {
	case a := <-w.answer:
		if err, ok := a.(shellError); ok {
			return nil, err.error
		}
		return a, nil
	case <-ctx.Done():
		s.mu.Lock()
		w.left = true
		delete(s.asked, w)
		s.mu.Unlock()
		return nil, ctx.Err()
	}
}

// shellError sets the shell's own errors apart from replies that are errors.
type shellError struct{ error }

// takeSlot waits for room in the inbox.
func (s *Shell) takeSlot(ctx context.Context) error {
	select {
	case s.slots <- struct{}{}:
		return nil
	default:
	}
	if s.loading.Load() {
		return ErrLoading
	}
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closing:
		return ErrClosed
	}
}

// Post hands an event to the shard and does not wait. It never blocks, so it may
// be called from Errands and Committed; the project's own code posts a bounded
// number of events, nothing from outside goes this way. The event is lost when
// the shell is closed or when the records made of it cannot be kept; where that
// matters, Do tells.
func (s *Shell) Post(body any) { s.enqueue(item{body: body}) }

// enqueue adds an event; false means the shell is closed.
func (s *Shell) enqueue(it item) bool {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false
	}
	s.queue = append(s.queue, it)
	s.mu.Unlock()
	s.poke()
	return true
}

// poke makes the shell's goroutine look at the queue.
func (s *Shell) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Loading reports whether the journal is being read or has failed, so that events
// are not handled at the moment. It may change at any time.
func (s *Shell) Loading() bool { return s.loading.Load() }

// Close ends the shell. Everybody who waits gets ErrClosed, except those whose
// records are already durable. It returns when the goroutine has ended, which may
// have to wait for Journal.Append or for one record of Journal.Load. It always
// returns nil and may be called more than once.
func (s *Shell) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.closing)
	}
	s.mu.Unlock()
	<-s.done
	return nil
}

// isClosing reports whether Close was called.
func (s *Shell) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// gather takes everything in the queue, with who waits for it registered.
func (s *Shell) gather() []item {
	s.mu.Lock()
	items := s.queue
	s.queue = nil
	n := 0
	for _, it := range items {
		if it.w == nil {
			continue
		}
		n++
		if !it.w.left {
			s.asked[it.w] = struct{}{}
		}
	}
	s.mu.Unlock()
	for range n {
		<-s.slots
	}
	return items
}

// reply answers one waiter, unless it has left or was answered.
func (s *Shell) reply(w *waiter, body any) {
	s.mu.Lock()
	_, waits := s.asked[w]
	delete(s.asked, w)
	s.mu.Unlock()
	if waits {
		w.answer <- body
	}
}

// refuse answers everybody with an error: those in the queue and those the shard
// kept. Posted events stay in the queue for the next shard.
func (s *Shell) refuse(err error) {
	var posted []item
	for _, it := range s.gather() {
		if it.w == nil {
			posted = append(posted, it)
		}
	}
	s.mu.Lock()
	s.queue = append(posted, s.queue...)
	asked := s.asked
	s.asked = make(map[*waiter]struct{})
	s.mu.Unlock()
	for w := range asked {
		w.answer <- shellError{err}
	}
}
