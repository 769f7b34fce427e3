//go:build !poison

package poison

import "sync"

// On reports whether this is a build with poison.
const On = false

// Pool keeps values of T that are not in use. The zero value is ready; it is safe
// for concurrent use and must not be copied.
type Pool[T any] struct{ pool sync.Pool }

// Get returns a released value as it was given back, or a new zero value.
func (p *Pool[T]) Get() *T {
	if v, _ := p.pool.Get().(*T); v != nil {
		return v
	}
	return new(T)
}

// Put gives a value back. The caller must not use it any more.
func (p *Pool[T]) Put(v *T) { p.pool.Put(v) }

// Bytes says that b, in its whole capacity, is released without a pool.
func Bytes([]byte) {}
