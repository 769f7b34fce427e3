package log

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/rotpeter/rotpeter/log/batch"
)

// scanBytes is what recovery reads at once: large sequential reads, every byte
// checked, cost least (performance.md).
const scanBytes = 1 << 20

// scanner reads the batches of a segment from a position on, and checks their CRCs
// and that their offsets go forward.
type scanner struct {
	g      *segment
	f      io.ReaderAt
	pos    int64 // of the next batch
	at     int64 // of the batch returned last
	size   int64
	expect int64
	// gapless asks that each batch begins where the one before ended: true of what
	// was never compacted.
	gapless bool

	buf []byte
	off int64 // position of buf[0]
	n   int
}

func newScanner(g *segment, f io.ReaderAt, pos, size int64) *scanner {
	return &scanner{g: g, f: f, pos: pos, size: size, expect: -1, buf: make([]byte, min(scanBytes, max(size-pos, batch.HeaderBytes)))}
}

// peek makes n bytes at a position visible; n is at most len(s.buf).
func (s *scanner) peek(pos int64, n int) ([]byte, error) {
	if pos < s.off || pos+int64(n) > s.off+int64(s.n) {
		want := min(int64(len(s.buf)), s.size-pos)
		got, err := s.f.ReadAt(s.buf[:want], pos)
		s.off, s.n = pos, got
		if got < n {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return s.buf[pos-s.off:][:n], nil
}

// next returns the next batch's header. Errors: io.EOF at the end, errTorn for what
// is no batch, or the disk's.
func (s *scanner) next() (h batch.Header, pos int64, err error) {
	pos = s.pos
	left := s.size - pos
	if left == 0 {
		return h, pos, io.EOF
	}
	if left < batch.HeaderBytes {
		return h, pos, fmt.Errorf("%w: %d bytes are left", errTorn, left)
	}
	b, err := s.peek(pos, batch.HeaderBytes)
	if err != nil {
		return h, pos, err
	}
	if h, err = batch.ParseHeader(b); err == nil {
		err = batch.CheckShape(&h)
	}
	switch {
	case err != nil:
	case int64(h.Size()) > left:
		err = fmt.Errorf("it has %d bytes of %d", left, h.Size())
	case s.expect >= 0 && (h.BaseOffset < s.expect || s.gapless && h.BaseOffset != s.expect), h.BaseOffset < s.g.base:
		err = fmt.Errorf("its base offset is %d, the batch before ended at %d", h.BaseOffset, s.expect)
	case h.LastOffset()-s.g.base > maxRelativeOffset:
		err = fmt.Errorf("its offset %d is too far from the segment's base", h.LastOffset())
	}
	if err != nil {
		return h, pos, fmt.Errorf("%w: %w", errTorn, err)
	}
	if err := s.checkCRC(&h, pos); err != nil {
		return h, pos, err
	}
	s.at, s.pos, s.expect = pos, pos+int64(h.Size()), h.LastOffset()+1
	return h, pos, nil
}

// errTorn is what is not a whole batch.
var errTorn = errors.New("not a whole batch")

// crcFrom is where the bytes begin that a batch's CRC covers.
const crcFrom = 21

// checkCRC reads the batch piece by piece: it may be larger than the buffer.
func (s *scanner) checkCRC(h *batch.Header, pos int64) error {
	sum := uint32(0)
	for at, end := pos+crcFrom, pos+int64(h.Size()); at < end; {
		n := int(min(end-at, int64(len(s.buf))))
		b, err := s.peek(at, n)
		if err != nil {
			return err
		}
		sum = crc32.Update(sum, castagnoli, b)
		at += int64(n)
	}
	if sum != h.CRC {
		return fmt.Errorf("%w: wrong crc", errTorn)
	}
	return nil
}

// recover opens a log after a crash: everything from the segment of the recovery
// point on is read, its indexes are made again, and what is torn is cut off.
func (r *loading) recover() error {
	l := r.l
	first := max(floor(r.segments, r.point), 0)
	if err := r.readEpochs(r.segments[:first]); err != nil {
		return err
	}
	if err := r.readProducers(r.segments[first].base); err != nil {
		return err
	}
	r.epochs = r.epochs.until(r.segments[first].base)
	for _, g := range r.segments[first:] {
		g.finished = false
	}
	l.durable, l.recovery = r.point, min(r.point, r.segments[first].base)
	if r.s.suspect {
		l.durable = min(r.point, r.segments[first].base)
	}
	l.names, l.rootUnsafe, l.idUnsafe = 1, true, true // the names of what is found may not be durable
	for i := first; i < len(r.segments); i++ {
		whole, err := r.rescan(i)
		if err != nil {
			return err
		}
		if !whole {
			break
		}
	}
	if r.next < r.point && r.start < r.point && l.damage.Load() == nil {
		r.damage(r.active(), r.active().size.Load(), errors.New("the file ends"))
	}
	end := r.next
	if l.damage.Load() != nil { // what was there once keeps its offsets
		end = max(end, r.point, r.high, r.active().base)
		r.active().end = end
	}
	if end < r.start { // nothing that may be read is left
		return r.startOver()
	}
	r.publish(end)
	l.epochsSafe = nil
	l.store.kick(l)
	return nil
}

// startOver replaces segments that end below the log's start (LogLoader).
func (r *loading) startOver() error {
	l := r.l
	for _, g := range r.segments {
		if err := r.discard(g); err != nil {
			return err
		}
	}
	// They must not come back: the recovery point will be at the start, and what is in them
	// would be damage below it.
	if err := r.s.syncDir(l.path()); err != nil {
		return err
	}
	r.segments = nil
	l.producers = newProducers()
	l.begin(r.start, r.now)
	r.epochs, r.next = nil, r.start
	r.publish(r.start)
	l.epochsSafe = nil
	return nil
}

// rescan reads one segment whole and makes its indexes again. It is false if the log ends in it.
func (r *loading) rescan(i int) (whole bool, err error) {
	l, g := r.l, r.segments[i]
	f, err := g.open()
	if err != nil {
		return false, worldly("open segment "+offsetName(g.base), err)
	}
	defer f.release()
	if r.s.suspect {
		if err := rewriteBytes(f, g.size.Load()); err != nil {
			return false, worldly("write segment "+offsetName(g.base)+" again", err)
		}
	}
	m, interval := new(memIndex), r.c.IndexIntervalBytes
	g.mem.Store(m)
	g.aborted.Store(new(growing[abortedTxn]))
	g.timesKnown, g.maxTimestamp, g.maxTimestampAt, g.sinceIndex = true, batch.NoTimestamp, g.base, 0
	g.end = g.base
	s := newScanner(g, f, 0, g.size.Load())
	s.gapless = !r.c.Compact
	for {
		h, pos, err := s.next()
		if err == io.EOF {
			break
		}
		var mark *marker
		if err == nil {
			if mark, err = readMarker(f, &h, pos); err != nil && !errors.Is(err, errUnread) {
				err = fmt.Errorf("%w: %w", errTorn, err)
			}
		}
		if errors.Is(err, errTorn) {
			return false, r.cut(i, f, pos, err)
		}
		if err != nil {
			return false, worldly("read segment "+offsetName(g.base), err)
		}
		g.index(m, &h, pos, interval)
		g.end = h.LastOffset() + 1
		r.epochs, _ = r.epochs.assign(h.LeaderEpoch, h.BaseOffset)
		l.applyLocked(g, &h, mark)
	}
	r.next = max(g.end, r.next)
	if i+1 < len(r.segments) {
		if next := r.segments[i+1].base; next < g.end || s.gapless && next != g.end {
			return false, r.cut(i, f, g.size.Load(), fmt.Errorf("%w: the segment ends at %d, the next begins at %d", errTorn, g.end, next))
		}
		g.sealLocked()
		l.snapshots = append(l.snapshots, pendingSnapshot{r.segments[i+1].base, l.producers.snapshot()})
	}
	return true, nil
}

// rewriteBytes writes what is read back, so that a sync covers it.
func rewriteBytes(f *handle, size int64) error {
	buf := make([]byte, min(size, scanBytes))
	for at := int64(0); at < size; {
		b := buf[:min(int64(len(buf)), size-at)]
		if n, err := f.ReadAt(b, at); n < len(b) {
			return err
		}
		if _, err := f.WriteAt(b, at); err != nil {
			return err
		}
		at += int64(len(b))
	}
	return nil
}

// cut ends the log at a position of a segment, where something else than a batch
// begins. Above the recovery point that is a torn tail. Below it the bytes were
// durable once: damage, which is kept for the operator to see.
func (r *loading) cut(i int, f *handle, pos int64, why error) error {
	l, g := r.l, r.segments[i]
	r.next = max(g.end, g.base)
	if r.next < r.point {
		r.damage(g, pos, why)
		return nil
	}
	lost := g.size.Load() - pos
	for _, later := range r.segments[i+1:] {
		lost += later.size.Load()
	}
	l.store.slog.Warn("a torn tail is cut off", "log", l.at.String(), "offset", r.next, "bytes", lost, "reason", why)
	// The last first, so that a crash in between leaves no hole.
	for j := len(r.segments) - 1; j > i; j-- {
		if err := r.discard(r.segments[j]); err != nil {
			return err
		}
	}
	r.segments = r.segments[:i+1]
	l.setSegments(r.segments)
	if err := f.Truncate(pos); err != nil {
		return worldly("cut off a torn tail", err)
	}
	g.size.Store(pos)
	return nil
}

// damage takes the log out of service from the next offset on. The bytes stay as
// they are, and are not looked at.
func (r *loading) damage(g *segment, pos int64, why error) {
	l := r.l
	err := fmt.Errorf("%w: %s is damaged at byte %d, offset %d: %w; restore the file, or delete the topic", ErrStorage, g.path(logSuffix), pos, r.next, why)
	l.damage.Store(&damage{from: r.next, err: err})
	g.size.Store(pos)
	r.s.slog.Error("durable data is damaged; the partition is readable up to it and takes no appends", "log", l.at.String(), "offset", r.next, "err", err)
}

// discard removes the files of a segment that holds nothing that was promised.
func (r *loading) discard(g *segment) error {
	g.close()
	for _, suffix := range []string{indexSuffix, timeIndexSuffix, txnIndexSuffix, snapshotSuffix, logSuffix} {
		if err := r.s.fs.Remove(g.path(suffix)); err != nil && !missing(err) {
			return worldly("remove a torn segment", err)
		}
	}
	return nil
}
