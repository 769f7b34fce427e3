package log

import "sync/atomic"

// growing is a list that one goroutine appends to while others read it without a
// lock. What has been read of it stays valid.
type growing[T any] struct {
	items atomic.Pointer[[]T] // len = room; only the first n are valid
	n     atomic.Int64
}

// growingFirst is the room at the first append: small, since most partitions are.
const growingFirst = 4

// add appends one item. Only one goroutine at a time may call it.
func (g *growing[T]) add(item T) {
	n := int(g.n.Load())
	items := g.items.Load()
	if items == nil || n == len(*items) {
		wider := make([]T, max(2*n, growingFirst))
		if items != nil {
			copy(wider, *items)
		}
		items = &wider
		g.items.Store(items)
	}
	(*items)[n] = item
	g.n.Store(int64(n + 1))
}

// all returns the items so far. They must not be changed.
func (g *growing[T]) all() []T {
	n := g.n.Load()
	if n == 0 {
		return nil
	}
	return (*g.items.Load())[:n]
}

// size is how many items there are.
func (g *growing[T]) size() int { return int(g.n.Load()) }
