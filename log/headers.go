package log

import (
	"errors"
	"fmt"
	"io"

	"github.com/rotpeter/rotpeter/log/batch"
)

// headers walks the batch headers of a segment through a small window. It jumps over damage that is known.
type headers struct {
	g    *segment
	f    io.ReaderAt
	size int64 // the walk ends here
	pos  int64 // of the next header
	next int64 // lowest offset that it may begin with
	sure bool  // next is where the batch before ended
	// careful has every batch compared with the one that follows, before it is returned. It costs
	// nothing where the walk goes on.
	careful bool
	entry   int64 // what the index says about the last offset of the first batch; -1: nothing
	holes   []damage
	buf     []byte
	wide    []byte // used instead once a window holds several headers
	at      int64  // position of buf[0]
	n       int
	seen    int // headers in the window so far
}

// walk starts at a batch boundary. buf is the window.
func (g *segment) walk(f io.ReaderAt, pos, size int64, buf []byte) headers {
	return headers{g: g, f: f, size: size, pos: pos, next: g.base, sure: pos == 0, entry: -1, holes: g.holes(), buf: buf, at: pos}
}

// skip moves over damage.
func (w *headers) skip() {
	if len(w.holes) > 0 {
		w.pos, w.next = skipHoles(w.holes, w.pos, w.next)
	}
}

// step reads the header at pos and moves on. io.EOF at the end. Offsets go forward:
// what does not is damage (the CRC does not cover the base offset), a brokenAt.
func (w *headers) step() (h batch.Header, pos int64, err error) {
	if was := w.pos; len(w.holes) > 0 {
		if w.skip(); w.pos != was {
			w.entry = -1 // damage begins where the index points to
		}
	}
	pos = w.pos
	if pos >= w.size {
		return h, pos, io.EOF
	}
	b, err := w.load(pos)
	if err == io.ErrUnexpectedEOF {
		return h, pos, &brokenAt{w.g, pos, brokenHeader, err}
	}
	if err != nil {
		return h, pos, err
	}
	h, err = batch.Stored(b)
	if err == nil {
		err = batch.CheckShape(&h)
	}
	if err == nil {
		err = w.follows(&h)
	}
	if err != nil {
		return h, pos, &brokenAt{w.g, pos, brokenHeader, err}
	}
	// An entry of Kafka's before 4.0 may speak of a later batch of one append, never of an earlier one.
	if w.entry >= 0 && w.entry < h.LastOffset() {
		return h, pos, &brokenAt{w.g, pos, brokenIndex, fmt.Errorf("it says that the batch at byte %d ends at offset %d and not at %d", pos, w.entry, h.LastOffset())}
	}
	w.entry = -1
	w.pos, w.next, w.sure = pos+int64(h.Size()), h.LastOffset()+1, true
	return h, pos, nil
}

// load makes the bytes from a position on visible, at least a header's where the segment has them.
func (w *headers) load(pos int64) ([]byte, error) {
	off := int(pos - w.at)
	if off < 0 || off+batch.HeaderBytes > w.n {
		if w.wide != nil && off >= 0 && off <= w.n && w.seen > 1 {
			w.buf, w.wide = w.wide, nil
		}
		w.seen = 0
		want := min(int64(len(w.buf)), w.size-pos)
		n, err := w.f.ReadAt(w.buf[:want], pos)
		w.at, w.n, off = pos, n, 0
		if int64(n) < min(want, batch.HeaderBytes) {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	w.seen++
	return w.buf[off:w.n], nil
}

// follows checks that a batch has its place in the segment.
func (w *headers) follows(h *batch.Header) error {
	end := w.pos + int64(h.Size())
	switch {
	case h.BaseOffset < w.next:
		return fmt.Errorf("base offset %d is below %d", h.BaseOffset, w.next)
	case end > w.size:
		return fmt.Errorf("batch of %d bytes passes the end at %d", h.Size(), w.size)
	case h.LastOffset() >= w.g.limit.Load():
		return fmt.Errorf("last offset %d is not below the next segment's base %d", h.LastOffset(), w.g.limit.Load())
	case !w.careful && (!w.sure || h.BaseOffset == w.next):
		return nil
	}
	if after, known := w.follower(end); known && after <= h.LastOffset() {
		return fmt.Errorf("base offset %d, but the batch after it begins at %d", h.BaseOffset, after)
	}
	return nil
}

// follower is the base offset of the batch at a position; known is false where none begins. It moves the window.
func (w *headers) follower(next int64) (offset int64, known bool) {
	h, known := w.peek(next)
	return h.BaseOffset, known
}

// peek is the header of the batch at a position, like follower.
func (w *headers) peek(next int64) (after batch.Header, known bool) {
	for i := range w.holes {
		if next >= w.holes[i].pos && next <= w.holes[i].end {
			return after, false
		}
	}
	if w.size-next < batch.HeaderBytes {
		return after, false
	}
	b, err := w.load(next)
	if err != nil {
		return after, false
	}
	after, err = batch.Stored(b)
	return after, err == nil && batch.CheckShape(&after) == nil
}
