package protocol

import (
	"sync/atomic"

	"github.com/rotpeter/rotpeter/internal/poison"
)

// The sizes of pooled buffers: 4 KiB to 1 MiB in steps of four, then doubling to
// 16 MiB. Larger ones are made to measure and left to the garbage collector.
const (
	smallestBuffer = 4 << 10
	largestChunk   = 64 << 10 // of a read buffer for several requests
	largestFirst   = 1 << 20  // of what is taken before as much has arrived
	largestProven  = 4 << 20  // the same for a connection that has sent such frames before
	largestPooled  = 16 << 20
	bufferClasses  = 9
)

// bufferClass returns the smallest class that holds n bytes and its size, or -1
// and n if n is too large for the pools.
func bufferClass(n int) (class, size int) {
	size = smallestBuffer
	for class = range bufferClasses {
		if n <= size {
			return class, size
		}
		if size < largestFirst {
			size *= 4
		} else {
			size *= 2
		}
	}
	return -1, n
}

// buffer is a pooled read buffer. Whoever keeps a part of it holds a reference;
// the last one gives it back together with its memory credit.
type buffer struct {
	b      []byte `poison:"own"`
	class  int
	charge int64 // bytes of credit that go back with it
	rest   int64 // of these, taken for the whole of a large frame; 0 = none
	refs   atomic.Int32
	home   *buffers
}

func (b *buffer) retain() *buffer {
	b.refs.Add(1)
	return b
}

func (b *buffer) release() {
	if b.refs.Add(-1) == 0 {
		b.home.put(b)
	}
}

// buffers is the pool of one server.
type buffers struct {
	credit *Credit
	pools  [bufferClasses]poison.Pool[buffer]
}

// get returns a buffer of at least n bytes with one reference. charge is the
// credit that the caller has taken for it.
func (p *buffers) get(n int, charge int64) *buffer {
	class, size := bufferClass(n)
	b := new(buffer)
	if class >= 0 {
		b = p.pools[class].Get()
	}
	if b.b == nil {
		b.b, b.class, b.home = make([]byte, size), class, p
	}
	b.charge = charge
	b.refs.Store(1)
	return b
}

func (p *buffers) put(b *buffer) {
	p.credit.give(b.charge)
	b.charge, b.rest = 0, 0
	if b.class < 0 {
		poison.Bytes(b.b)
		return
	}
	p.pools[b.class].Put(b)
}
