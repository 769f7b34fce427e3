package log

import (
	"errors"
	"fmt"
	"io"

	"github.com/rotpeter/rotpeter/internal/mutant"
	"github.com/rotpeter/rotpeter/internal/vfs"
)

// Mark says up to where a reader may look.
type Mark int

const (
	// High is the high watermark: what read_uncommitted consumers see.
	High Mark = iota
	// Stable is the last stable offset: what read_committed consumers see.
	Stable
	// End is the log's end: for the broker's own state machines.
	End
)

// At is the offset of a mark.
func (o Offsets) At(m Mark) int64 {
	switch m {
	case Stable:
		if mutant.On(mutant.StableIgnored) {
			return o.High
		}
		return o.Stable
	case End:
		return o.End
	}
	return o.High
}

// Run is a stretch of whole batches: bytes in memory, or a range of a file.
type Run struct {
	Data []byte
	File vfs.File // nil: Data
	Off  int64
	Len  int
}

// Chunk is what one read found. Release must be called once, after the runs have
// been used, also when there are none.
type Chunk struct {
	Offsets Offsets
	Bytes   int
	Aborted []AbortedTxn // with Stable: what a reader of the chunk must skip

	run  [1]Run // if there are bytes
	file *handle
	past bool // the first batch there is lies at or above the limit
}

// Runs are the stretches of the chunk, a part of it.
func (c *Chunk) Runs() []Run {
	if c.Bytes == 0 {
		return nil
	}
	return c.run[:]
}

// Release gives the files back.
func (c *Chunk) Release() {
	if c.file != nil {
		c.file.release()
		c.file = nil
	}
}

// window is a buffer for walking over batch headers.
type window [headerWindowBytes]byte

// Read finds whole batches from the one that holds an offset on: at most maxBytes, but with first always
// one batch if there is any (KIP-74), and nothing at or above the mark. All of
// them lie in one segment, as in Kafka.
//
// Errors: ErrOutOfRange below the log's start and above its end, ErrStorage where the
// disk fails and inside a damaged range, ErrClosed.
func (l *Log) Read(from int64, maxBytes int, upTo Mark, first bool) (Chunk, error) {
	w := l.store.windows.Get()
	defer l.store.windows.Put(w)
	var c Chunk
	err := l.around(func() (err error) {
		if c, err = l.read(from, maxBytes, upTo, first, w[:]); err != nil {
			c.Release()
			c = Chunk{}
		}
		return err
	})
	if err != nil && l.deleted.Load() {
		if to := l.movedTo(); to != nil {
			return to.Read(from, maxBytes, upTo, first)
		}
	}
	return c, l.readError(err)
}

// again calls f until it does not meet a segment that compaction has just replaced. Each
// time the list of segments is another one, so it comes to an end.
func again(f func() error) error {
	for {
		if err := f(); !errors.Is(err, errReplaced) {
			return err
		}
	}
}

func (l *Log) read(from int64, maxBytes int, upTo Mark, first bool, buf []byte) (c Chunk, err error) {
	if l.deleted.Load() {
		return c, ErrClosed
	}
	all := *l.segments.Load()
	at := max(floor(all, from), 0)
	for ; at < len(all); at++ {
		// The size before the marks: an append publishes in the other order, so what is
		// read lies below the marks that are reported with it.
		size := all[at].size.Load()
		c.Offsets = l.marks.load()
		if from < c.Offsets.Start || from > c.Offsets.End || from < all[at].base && at == 0 {
			return c, fmt.Errorf("%w: offset %d of %s, which has %d to %d", ErrOutOfRange, from, l.at, c.Offsets.Start, c.Offsets.End)
		}
		limit := c.Offsets.At(upTo)
		if from >= limit {
			return c, nil
		}
		known := l.damage.Load()
		d := l.damageFrom(from)
		if d != nil {
			if from >= d.from {
				return c, d.err
			}
			limit = min(limit, d.from)
		}
		next := d != nil && limit == d.from // nothing that may be read is between
		found, err := l.readSegment(&c, all[at], size, from, limit, maxBytes, first, buf)
		if err == nil && l.damage.Load() != known { // found on the way: again, with what is known now
			c.Release()
			c = Chunk{}
			at--
			continue
		}
		if err == nil && next && (found && c.past || !found && at+1 == len(all)) {
			return c, d.err
		}
		if err == nil && found && upTo == Stable {
			err = l.addAborted(&c, all[at:], from)
		}
		if err != nil || found {
			return c, err
		}
		if at+1 < len(all) && from < all[at+1].base {
			if lost, err := l.missing(all[at], all[at+1]); lost || err != nil {
				at-- // again: now the range is known
				if err != nil {
					return c, err
				}
			}
		}
	}
	return c, nil
}

// readSegment fills the chunk from one segment. found is false when the segment
// holds nothing from the offset on, so that the next one is to be asked.
func (l *Log) readSegment(c *Chunk, g *segment, size, from, limit int64, maxBytes int, first bool, buf []byte) (found bool, err error) {
	if size == 0 {
		return false, nil
	}
	f, err := g.open()
	if err != nil {
		return false, g.failed("open", err)
	}
	c.file = f
	start, err := g.walkTo(f, from, size, buf)
	if err != nil {
		return false, g.reading(err)
	}
	walk := start
	h, pos, err := walk.find(from)
	if err == io.EOF {
		if err = g.passed(start, size); err == nil {
			c.Release()
			return false, nil
		}
	}
	if err != nil {
		return false, g.reading(err)
	}
	if h.BaseOffset >= c.Offsets.End {
		// The CRC does not cover the base offset. To find nothing here would have the reader
		// ask again for ever.
		return false, &brokenAt{g, pos, brokenHeader, fmt.Errorf("base offset %d is not below the log's end %d", h.BaseOffset, c.Offsets.End)}
	}
	if c.past = h.BaseOffset >= limit; c.past {
		return true, nil
	}
	size = g.untilHole(pos, size)
	end := size
	if limit < c.Offsets.End {
		if end, err = g.positionOf(f, limit, pos, size, buf); err != nil {
			return false, g.reading(err)
		}
	}
	stop := pos + int64(maxBytes)
	if int64(h.Size()) > int64(maxBytes) {
		if !first {
			return true, nil
		}
		stop = pos + int64(h.Size())
	}
	if stop < end {
		if end, err = g.fit(f, pos, stop, size, buf); err != nil {
			return false, g.reading(err)
		}
	}
	if end <= pos { // a batch that crosses the limit is not shown
		return true, nil
	}
	if err := g.verify(start, h.BaseOffset > from, pos, end); err != nil {
		return false, g.reading(err)
	}
	c.Bytes = int(end - pos)
	c.run = [1]Run{{File: f.File, Off: pos, Len: c.Bytes}}
	return true, nil
}

// positionOf is where the first batch begins that holds or follows the offset.
func (g *segment) positionOf(f io.ReaderAt, offset, from, size int64, buf []byte) (int64, error) {
	_, pos, err := g.find(f, offset, size, buf)
	if err == io.EOF {
		return size, nil
	}
	return max(pos, from), err
}

// reading wraps what went wrong with an open segment, unless it says so itself.
func (g *segment) reading(err error) error {
	var bad *brokenAt
	if errors.Is(err, ErrStorage) || errors.Is(err, ErrOutOfRange) || errors.As(err, &bad) {
		return err
	}
	return g.failed("read", err)
}

// addAborted lists the aborted transactions that touch the chunk. The list may
// hold some that begin after it: a reader never meets those.
func (l *Log) addAborted(c *Chunk, segments []*segment, from int64) error {
	if c.Bytes == 0 {
		return nil
	}
	upper := c.Offsets.End
	if len(segments) > 1 {
		upper = segments[1].base
	}
	for _, g := range segments {
		a, err := g.abortedTxns()
		if err != nil {
			return err
		}
		var done bool
		if c.Aborted, done = collectAborted(c.Aborted, a.all(), from, upper); done {
			break
		}
	}
	if n := len(c.Aborted); n > 0 && mutant.On(mutant.AbortedForgotten) {
		c.Aborted = c.Aborted[:n-1]
	}
	return nil
}
