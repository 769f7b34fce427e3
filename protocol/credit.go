package protocol

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// Credit is a budget of memory for requests that are being read and served,
// shared by all connections of one or more servers.
//
// A request larger than a read buffer takes its first piece before it knows
// whether it will get the rest. So that requests can never wait for each other's
// pieces, a quarter of the budget is kept for rests: whoever has got the credit
// for its rest needs no more, finishes and gives it back. An eighth is kept for
// small requests, which take all that they need at once: what is small and honest
// must not wait for a few that are large and slow.
type Credit struct {
	total   int64
	first   int64 // how far first pieces may fill the budget
	whole   int64 // how far rests may
	used    atomic.Int64
	waiting atomic.Int32 // length of all queues, so that give need not lock
	hurried atomic.Int32 // length of smalls

	mu     sync.Mutex
	smalls []*creditWaiter // served before rests
	rests  []*creditWaiter // served before firsts
	firsts []*creditWaiter
}

type creditWaiter struct {
	n     int64
	taken chan struct{} // closed, under mu, when n was taken for it
}

var errNoCredit = errors.New("the request memory budget can never hold the request")

// NewCredit returns a budget of total bytes.
func NewCredit(total int64) *Credit {
	return &Credit{total: total, first: total - total/4 - total/8, whole: total - total/8}
}

// Used returns how many bytes are taken. It can exceed the budget for a moment by
// what had to be taken without waiting: long answers, decoded requests.
func (c *Credit) Used() int64 { return c.used.Load() }

// Total returns the budget in bytes.
func (c *Credit) Total() int64 { return c.total }

// largest is the largest request that is sure to get its credit some time.
func (c *Credit) largest() int64 { return c.total / 4 }

// tryFirst takes n bytes for a first piece if they are there and nobody waits.
func (c *Credit) tryFirst(n int64) bool {
	return c.waiting.Load() == 0 && c.take(n, c.first)
}

// waitFirst is tryFirst that waits until ctx ends.
func (c *Credit) waitFirst(ctx context.Context, n int64) error {
	if n > c.first {
		return errNoCredit
	}
	return c.wait(ctx, n, &c.firsts)
}

// trySmall takes n bytes, all that a request needs, if they are there and nobody like it waits.
func (c *Credit) trySmall(n int64) bool {
	return c.hurried.Load() == 0 && c.take(n, c.total)
}

// waitSmall is trySmall that waits until ctx ends.
func (c *Credit) waitSmall(ctx context.Context, n int64) error {
	if n > c.total {
		return errNoCredit
	}
	c.hurried.Add(1)
	defer c.hurried.Add(-1)
	return c.wait(ctx, n, &c.smalls)
}

// waitRest takes n bytes for the rest of a request whose first piece is held.
func (c *Credit) waitRest(ctx context.Context, n int64) error {
	if n > c.largest() {
		return errNoCredit
	}
	return c.wait(ctx, n, &c.rests)
}

// force takes n bytes whether they are there or not; others wait the longer.
func (c *Credit) force(n int64) { c.used.Add(n) }

// give returns n bytes.
func (c *Credit) give(n int64) {
	if n == 0 {
		return
	}
	c.used.Add(-n)
	if c.waiting.Load() > 0 {
		c.mu.Lock()
		c.grantLocked()
		c.mu.Unlock()
	}
}

// take takes n bytes unless that would exceed limit.
func (c *Credit) take(n, limit int64) bool {
	for {
		used := c.used.Load()
		if used+n > limit {
			return false
		}
		if c.used.CompareAndSwap(used, used+n) {
			return true
		}
	}
}

func (c *Credit) wait(ctx context.Context, n int64, queue *[]*creditWaiter) error {
	w := &creditWaiter{n: n, taken: make(chan struct{})}
	c.mu.Lock()
	*queue = append(*queue, w)
	c.waiting.Add(1) // before the look at the budget: a give after it will see us,
	c.grantLocked()  // and one before it has left its bytes for this
	c.mu.Unlock()
	select {
	case <-w.taken:
		return nil
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-w.taken: // in the same moment
		return nil
	default:
	}
	for i, other := range *queue {
		if other == w {
			*queue = append((*queue)[:i], (*queue)[i+1:]...)
			break
		}
	}
	c.waiting.Add(-1)
	c.grantLocked() // a large one that left may have stood in the way of small ones
	return context.Cause(ctx)
}

// grantLocked gives what is there to those that wait, in their order: small ones, rests, first pieces.
func (c *Credit) grantLocked() {
	grant := func(queue *[]*creditWaiter, limit int64) {
		for len(*queue) > 0 && c.take((*queue)[0].n, limit) {
			close((*queue)[0].taken)
			(*queue)[0] = nil
			*queue = (*queue)[1:]
			c.waiting.Add(-1)
		}
	}
	grant(&c.smalls, c.total)
	if len(c.smalls) > 0 {
		return
	}
	if grant(&c.rests, c.whole); len(c.rests) == 0 {
		grant(&c.firsts, c.first)
	}
}
