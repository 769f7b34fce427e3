package vfs

import (
	"errors"
	"sync/atomic"
)

// ErrCrashed is what every call answers after StopAfter has struck.
var ErrCrashed = errors.New("crashed")

// gate stands before and after every call of a tree: it counts the calls that
// changed something, lets a test look in after each, and stops them all.
type gate struct {
	count   atomic.Int64
	last    atomic.Int64 // count at which to stop; 0 = never
	crashed atomic.Bool
	look    atomic.Pointer[func(Op)]
	trace   atomic.Pointer[Sites]
}

func (g *gate) enter() error {
	if g.crashed.Load() {
		return ErrCrashed
	}
	return nil
}

// leave is called after a call that changed something, with no mutex held.
func (g *gate) leave(op Op) {
	n := g.count.Add(1)
	op.Call = int(n)
	if n == g.last.Load() {
		g.crashed.Store(true)
	}
	if look := g.look.Load(); look != nil {
		op.Site = g.trace.Load().here()
		(*look)(op)
	}
}
